-- A tiny autoencoder.
local nn, optim = require 'nn', require 'optim'
local o = options { lr = 1e-3, schedule = one_of { 'cosine', 'constant' }, warmup = 0.05 }
local book = param('book', f32(16, 4), { uniform = 0.1 })
local function encode(x)
  return tanh(nn.conv('latent', x, 4, { stride = 2, padding = { 0, 1, 0, 1 } }))
end
local function decode(q) return tanh(nn.conv('out', nn.repeat2(q), 3)) end
local loss = fn({ image = f32(batch, 32, 32, 3) }, function(a)
  local z = encode(a.image)
  local q = gather(book, nn.nearest_code(z, book))
  local e, c = decode(z + detach(q - z)) - a.image, q - detach(z)
  return { loss = mean(e * e) + mean(c * c) }
end)
local rate = o.schedule == 'cosine' and optim.cosine(o.lr, o.warmup, 0.1) or optim.constant(o.lr, o.warmup)
return module {
  encode = fn({ image = f32(batch, 32, 32, 3) }, function(a)
    local codes = nn.nearest_code(encode(a.image), book)
    return { codes = reshape(codes, codes.shape[1], 1, 16, 16) }
  end),
  decode = fn({ codes = i32(batch, 1, 16, 16) }, function(a)
    return { image = decode(gather(book, reshape(a.codes, a.codes.shape[1], 16, 16))) }
  end),
  loss = loss, evaluate = loss,
  train = { { 'main', optim.adam(loss, { lr = rate, clip = 1 }) } },
}
