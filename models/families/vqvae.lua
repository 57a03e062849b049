-- An autoencoder whose codes are entries of a table (van den Oord, Vinyals, Kavukcuoglu: Neural Discrete Representation
-- Learning, 2017).  With z_e what the encoder gives and e the nearest entry, the loss is
--   |x - decoder(z_e + sg[e - z_e])|^2 + commitment |z_e - sg[e]|^2,
-- and entries follow averages of the vectors that use them (their appendix A.1).  What draws its codes is prior.lua or
-- nuwa.lua, trained on them by --vq-weights.  Fashion-MNIST, 2000 steps of 64: 21.3 dB on the test pictures, and codes of a
-- perplexity of 88.

local nn, optim = require "nn", require "optim"

local o = options {
  size = 28, colours = 1,
  channels = 48,            -- at a quarter of the size, where codes stand; half as many at the half
  blocks = 2,               -- residual blocks of encoder and decoder
  codebook = 128, width = 32,
  commitment = 0.25, decay = 0.99,
  window = 100,             -- steps after which entries without use are put on vectors of the batch
  lr = 1e-3, warmup = 0.02,
}

if o.size % 4 ~= 0 then error("size " .. o.size .. " must be a multiple of 4") end
local grid = o.size // 4
local picture, codes = f32(batch, o.size, o.size, o.colours), i32(batch, 1, grid, grid)

local function blocks(x)
  for i = 1, o.blocks do
    local inner = relu(nn.conv("block." .. i .. ".1", relu(x), o.channels // 2))
    x = x + nn.conv("block." .. i .. ".2", inner, o.channels, { size = 1 })
  end
  return relu(x)
end

local function encoder(x)
  local down = { size = 4, stride = 2, padding = 1 }
  return nn.scope("encoder", function()
    x = relu(nn.conv("down.1", x, o.channels // 2, down))
    x = blocks(nn.conv("down.2", x, o.channels, down))
    return nn.conv("out", x, o.width, { size = 1 })
  end)
end

local function decoder(z)
  return nn.scope("decoder", function()
    local x = blocks(nn.conv("in", z, o.channels))
    x = relu(nn.conv_transpose2d("up.1", x, o.channels // 2))
    return nn.conv_transpose2d("up.2", x, o.colours)
  end)
end

local codebook = param("codebook", f32(o.codebook, o.width), { uniform = 1 / o.codebook })

local function mean_square(x) return mean(x * x) end

-- exp of the entropy of how often the entries are used: o.codebook where all are alike.
local function perplexity(found)
  local uses = scatter_add(reshape(found, -1), cast(reshape(found, -1) * 0 + 1, f32), o.codebook)
  local share = uses / sum(uses)
  return exp(-sum(share * log(share + 1e-10)))
end

local loss = fn({ image = picture }, function(x)
  local z = encoder(x.image)
  local found = nn.nearest_code(z, codebook)
  local quantised = detach(gather(codebook, found))
  local error_of_picture = mean_square(decoder(z + detach(quantised - z)) - x.image)
  if is_training() then nn.average_codes("codebook", codebook, z, found, { decay = o.decay, window = o.window }) end
  return { loss = error_of_picture + o.commitment * mean_square(z - quantised), mse = error_of_picture,
           perplexity = perplexity(found) }
end)

local function as_grid(found) return reshape(found, found.shape[1], 1, grid, grid) end

return module {
  size = o.size, grid = grid, codebook = o.codebook,

  encode = fn({ image = picture }, function(x) return { codes = as_grid(nn.nearest_code(encoder(x.image), codebook)) } end),

  decode = fn({ codes = codes }, function(x)
    return { image = decoder(gather(codebook, reshape(x.codes, x.codes.shape[1], grid, grid))) }
  end),

  reconstruct = fn({ image = picture }, function(x)
    local found = nn.nearest_code(encoder(x.image), codebook)
    return { codes = as_grid(found), image = decoder(gather(codebook, found)) }
  end),

  loss = loss,
  evaluate = loss,
  train = { { "main", optim.adam(loss, { params = { "^encoder%.", "^decoder%." }, lr = optim.cosine(o.lr, o.warmup, 0.05) }) } },
}
