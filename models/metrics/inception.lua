-- Inception v3 as pytorch-fid has it, whose features the Frechet inception distance compares (Szegedy et al.: Rethinking
-- the Inception Architecture, 2016; Heusel et al.: GANs Trained by a Two Time-Scale Update Rule, 2017).  Names are those of
-- its file pt_inception-2015-12-05.  What differs from torchvision's network is what blocks A, C and E pool: means do not
-- count the padding, and the last block takes the largest element.  docs/metrics.md says where the weights are from.

local nn = require "nn"

local o = options {
  size = 299,               -- pixels on a side of the pictures
  resize = 299,             -- that the network sees, resized as F.interpolate(mode = "bilinear") does
  classes = 1008,
}

-- Convolution, batch norm, ReLU.  Those that halve a picture have no padding, nor have three of the first ones.
local function unit(name, x, out, size, options)
  options = options or {}
  return nn.scope(name, function()
    local y = nn.conv("conv", x, out, { size = size, stride = options.stride, padding = options.padding, bias = false })
    return relu(nn.batch_norm("bn", y, { eps = 1e-3, running = true }))
  end)
end

local halved, valid = { stride = 2, padding = 0 }, { padding = 0 }
local row, column = { 1, 7 }, { 7, 1 }

local function mean_pool(x) return nn.avg_pool2d(x, 3, { stride = 1, padding = 1, count_pad = false }) end
local function max_pool(x) return nn.max_pool2d(x, 3, { stride = 1, padding = 1 }) end
local function halve(x) return nn.max_pool2d(x, 3, { stride = 2 }) end

-- A branch: units one after the other, each { name, channels, size, options }.
local function chain(x, units)
  for _, u in ipairs(units) do x = unit(u[1], x, u[2], u[3], u[4]) end
  return x
end

-- 35 x 35
local function block_a(x, pooled)
  return concat {
    unit("branch1x1", x, 64, 1),
    chain(x, { { "branch5x5_1", 48, 1 }, { "branch5x5_2", 64, 5 } }),
    chain(x, { { "branch3x3dbl_1", 64, 1 }, { "branch3x3dbl_2", 96, 3 }, { "branch3x3dbl_3", 96, 3 } }),
    unit("branch_pool", mean_pool(x), pooled, 1),
  }
end

-- 35 x 35 -> 17 x 17
local function block_b(x)
  return concat {
    unit("branch3x3", x, 384, 3, halved),
    chain(x, { { "branch3x3dbl_1", 64, 1 }, { "branch3x3dbl_2", 96, 3 }, { "branch3x3dbl_3", 96, 3, halved } }),
    halve(x),
  }
end

-- 17 x 17
local function block_c(x, c)
  return concat {
    unit("branch1x1", x, 192, 1),
    chain(x, { { "branch7x7_1", c, 1 }, { "branch7x7_2", c, row }, { "branch7x7_3", 192, column } }),
    chain(x, { { "branch7x7dbl_1", c, 1 }, { "branch7x7dbl_2", c, column }, { "branch7x7dbl_3", c, row },
               { "branch7x7dbl_4", c, column }, { "branch7x7dbl_5", 192, row } }),
    unit("branch_pool", mean_pool(x), 192, 1),
  }
end

-- 17 x 17 -> 8 x 8
local function block_d(x)
  return concat {
    chain(x, { { "branch3x3_1", 192, 1 }, { "branch3x3_2", 320, 3, halved } }),
    chain(x, { { "branch7x7x3_1", 192, 1 }, { "branch7x7x3_2", 192, row }, { "branch7x7x3_3", 192, column },
               { "branch7x7x3_4", 192, 3, halved } }),
    halve(x),
  }
end

-- 8 x 8
local function block_e(x, pool)
  local function both(name, x) return unit(name .. "a", x, 384, { 1, 3 }), unit(name .. "b", x, 384, { 3, 1 }) end
  local a, b = both("branch3x3_2", unit("branch3x3_1", x, 384, 1))
  local c, d = both("branch3x3dbl_3", chain(x, { { "branch3x3dbl_1", 448, 1 }, { "branch3x3dbl_2", 384, 3 } }))
  return concat { unit("branch1x1", x, 320, 1), a, b, c, d, unit("branch_pool", pool(x), 192, 1) }
end

-- [b, size, size, 3] in [-1, 1] -> [b, 2048]
local function features(x)
  if o.size ~= o.resize then x = nn.resize(x, o.resize) end
  x = chain(x, { { "Conv2d_1a_3x3", 32, 3, halved }, { "Conv2d_2a_3x3", 32, 3, valid }, { "Conv2d_2b_3x3", 64, 3 } })
  x = halve(chain(halve(x), { { "Conv2d_3b_1x1", 80, 1 }, { "Conv2d_4a_3x3", 192, 3, valid } }))
  x = nn.scope("Mixed_5b", block_a, x, 32)
  x = nn.scope("Mixed_5c", block_a, x, 64)
  x = nn.scope("Mixed_5d", block_a, x, 64)
  x = nn.scope("Mixed_6a", block_b, x)
  x = nn.scope("Mixed_6b", block_c, x, 128)
  x = nn.scope("Mixed_6c", block_c, x, 160)
  x = nn.scope("Mixed_6d", block_c, x, 160)
  x = nn.scope("Mixed_6e", block_c, x, 192)
  x = nn.scope("Mixed_7a", block_d, x)
  x = nn.scope("Mixed_7b", block_e, x, mean_pool)
  x = nn.scope("Mixed_7c", block_e, x, max_pool)
  return mean(x, { 1, 2 })
end

local picture = f32(batch, o.size, o.size, 3)

return module {
  size = o.size, classes = o.classes,

  features = fn({ image = picture }, function(x) return { features = features(x.image) } end),
  logits = fn({ image = picture }, function(x) return { logits = nn.linear("fc", features(x.image), o.classes) } end),
}
