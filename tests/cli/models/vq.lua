-- A tiny autoencoder.
local nn = require 'nn'
local book = param('book', f32(16, 4), { uniform = 0.1 })
local function encode(x)
  return tanh(nn.conv('latent', x, 4, { stride = 2, padding = { 0, 1, 0, 1 } }))
end
local function decode(q) return tanh(nn.conv('out', nn.repeat2(q), 3)) end
return module {
  encode = fn({ image = f32(batch, 32, 32, 3) }, function(a)
    local codes = nn.nearest_code(encode(a.image), book)
    return { codes = reshape(codes, codes.shape[1], 1, 16, 16) }
  end),
  decode = fn({ codes = i32(batch, 1, 16, 16) }, function(a)
    return { image = decode(gather(book, reshape(a.codes, a.codes.shape[1], 16, 16))) }
  end),
  loss = fn({ image = f32(batch, 32, 32, 3) }, function(a)
    local z = encode(a.image)
    local q = gather(book, nn.nearest_code(z, book))
    local e, c = decode(z + detach(q - z)) - a.image, q - detach(z)
    return { loss = mean(e * e) + mean(c * c) }
  end),
}
