-- I3D as pytorch-i3d has it, whose outputs the Frechet video distance compares (Carreira, Zisserman: Quo Vadis, Action
-- Recognition?, 2017; Unterthiner et al.: Towards Accurate Generative Models of Video, 2018).  Names are those of its file
-- rgb_imagenet.  Padding is TensorFlow's SAME: what an odd sum leaves over is behind.  docs/metrics.md says where the
-- weights are from.

local nn = require "nn"

local o = options {
  s = 16,                   -- frames; 8 become one
  size = 224,               -- pixels on a side of the clips
  resize = 224,             -- that the network sees, resized as F.interpolate(mode = "bilinear") does
  classes = 400,
  eps = 1e-3,               -- of batch norm
}

-- Convolution, batch norm, ReLU: x [b, s, h, w, c] -> [b, s', h', w', out]
local function unit(name, x, out, size, stride)
  return nn.scope(name, function()
    local y = nn.conv3d("conv3d", nn.pad_same(x, size, stride), out, { size = size, stride = stride, padding = 0, bias = false })
    return relu(nn.batch_norm("bn", y, { eps = o.eps, running = true }))
  end)
end

-- The largest element of a cube; nothing is below 0 here, which is what the padding counts as.
local function max_pool(x, size, stride) return nn.max_pool3d(nn.pad_same(x, size, stride), size, { stride = stride }) end

-- The same of 3 x 3 of each frame, whose sides it halves.
local function halve(x)
  local b, s, h, w, c = table.unpack(x.shape)
  local y = nn.max_pool2d(nn.pad_same(reshape(x, b * s, h, w, c), 3, 2), 3, { stride = 2 })
  return reshape(y, b, s, y.shape[2], y.shape[3], c)
end

-- n: channels of the branches' units.
local function mixed(name, x, n)
  return nn.scope(name, function()
    return concat {
      unit("b0", x, n[1], 1, 1),
      unit("b1b", unit("b1a", x, n[2], 1, 1), n[3], 3, 1),
      unit("b2b", unit("b2a", x, n[4], 1, 1), n[5], 3, 1),
      unit("b3b", max_pool(x, 3, 1), n[6], 1, 1),
    }
  end)
end

-- [b, s, size, size, 3] in [-1, 1] -> [b, 1024]: means over a frame and over two of them, and over all such pairs.
local function features(x)
  if o.size ~= o.resize then
    x = reshape(nn.resize(reshape(x, batch * o.s, o.size, o.size, 3), o.resize), batch, o.s, o.resize, o.resize, 3)
  end
  x = halve(unit("Conv3d_1a_7x7", x, 64, 7, 2))
  x = halve(unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x, 64, 1, 1), 192, 3, 1))
  x = mixed("Mixed_3b", x, { 64, 96, 128, 16, 32, 32 })
  x = mixed("Mixed_3c", x, { 128, 128, 192, 32, 96, 64 })
  x = max_pool(x, 3, 2)
  x = mixed("Mixed_4b", x, { 192, 96, 208, 16, 48, 64 })
  x = mixed("Mixed_4c", x, { 160, 112, 224, 24, 64, 64 })
  x = mixed("Mixed_4d", x, { 128, 128, 256, 24, 64, 64 })
  x = mixed("Mixed_4e", x, { 112, 144, 288, 32, 64, 64 })
  x = mixed("Mixed_4f", x, { 256, 160, 320, 32, 128, 128 })
  x = max_pool(x, 2, 2)
  x = mixed("Mixed_5b", x, { 256, 160, 320, 32, 128, 128 })
  x = mixed("Mixed_5c", x, { 384, 192, 384, 48, 128, 128 })
  x = mean(x, { 2, 3 })
  local frames = x.shape[2]
  if frames > 1 then x = (slice(x, 1, 0, frames - 1) + slice(x, 1, 1, frames)) * 0.5 end
  return mean(x, 1)
end

-- A convolution of 1 x 1 x 1, after the mean over frames instead of before: [b, 1024] -> [b, classes]
local function logits(x)
  return nn.scope("logits", function()
    return reshape(nn.conv3d("conv3d", reshape(x, batch, 1, 1, 1, 1024), o.classes, { size = 1 }), batch, o.classes)
  end)
end

local clip = f32(batch, o.s, o.size, o.size, 3)

return module {
  size = o.size, classes = o.classes,

  features = fn({ video = clip }, function(x) return { features = features(x.video) } end),
  logits = fn({ video = clip }, function(x) return { logits = logits(features(x.video)) } end),
}
