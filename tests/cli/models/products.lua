-- Products of which some are cuBLASLt's: with a bias; with more behind it and a long k; with more behind a short k.
local function weight(name, rows, columns) return param(name, f32(rows, columns), { normal = 0.1 }) end
local function row(name, n, like) return broadcast(param(name, f32(n), { normal = 0.1 }), like.shape) end

return module {
  layers = fn({ x = f32(batch, 6, 64) }, function(a)
    local wide = matmul(a.x, weight("wide", 64, 256))
    wide = wide + row("bias", 256, wide)
    local narrow = gelu(matmul(wide, weight("narrow", 256, 64)))
    return { y = gelu(matmul(narrow, weight("last", 64, 32))) }
  end),
}
