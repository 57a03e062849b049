-- Distances of pictures by what networks trained for other things see in them (Zhang et al.: The Unreasonable
-- Effectiveness of Deep Features as a Perceptual Metric, 2018).  Their params are no optimiser's: `nuwa train
-- --weights-of NAME=FILE` gives them values.

local nn = require "nn"

local perceptual = {}

-- Maps [b, h, w, c] of x and y by unit vectors of each place: the squared differences, channels weighed by
-- `weigh(difference, i)` -> [b, h, w, 1] or a sum over them, averaged over places and added -> [b].
local function distance(maps_x, maps_y, weigh)
  local function unit(v) return v / (sqrt(sum(v * v, { -1, keep = true }) + 1e-20) + 1e-10) end
  local total
  for i, x in ipairs(maps_x) do
    local apart = unit(x) - unit(maps_y[i])
    local d = mean(weigh(apart * apart, i), { 1, 2, 3 })
    total = total and total + d or d
  end
  return total
end

-- ---- LPIPS of VGG16 ----

local slices = { { 64, 64 }, { 128, 128 }, { 256, 256, 256 }, { 512, 512, 512 }, { 512, 512, 512 } }

-- The outputs of VGG16's five blocks; names are torchvision's numbers in LPIPS's slices.
local function vgg16(x)
  local maps, place = {}, 0
  for k, slice in ipairs(slices) do
    if k > 1 then
      x = nn.max_pool2d(x, 2)
      place = place + 1
    end
    for _, channels in ipairs(slice) do
      x = relu(nn.conv("net.slice" .. k .. "." .. place, x, channels))
      place = place + 2
    end
    maps[k] = x
  end
  return maps
end

-- x [..., 3] in [-1, 1] as VGG16 was trained to read it.
local function scaled(x)
  local function channels(a, b, c) return concat { fill(a, f32(1)), fill(b, f32(1)), fill(c, f32(1)) } end
  return (x - channels(-0.030, -0.088, -0.188)) / channels(0.458, 0.448, 0.450)
end

-- x, y [b, h, w, 3] of at least 16 pixels a side -> [b].  Names are those of taming's LPIPS.
function perceptual.lpips(name, x, y)
  return nn.scope(name, function()
    return distance(vgg16(scaled(x)), vgg16(scaled(y)), function(apart, i)
      return nn.conv("lin" .. i - 1 .. ".model.1", apart, 1, { size = 1, bias = false })
    end)
  end)
end

-- ---- a classifier's convolutions ----

-- Three convolutions with batch norm, their outputs before each is halved.  options: channels (32) of the first, doubled by
-- each; running: batch norm by its running averages though the model trains.
function perceptual.maps(x, options)
  local maps = {}
  for i = 0, 2 do
    x = nn.conv("conv." .. i, i == 0 and x or nn.max_pool2d(x, 2), (options.channels or 32) << i, { bias = false })
    x = relu(nn.batch_norm("norm." .. i, x, { running = options.running }))
    maps[i + 1] = x
  end
  return maps
end

-- The same distance by the convolutions of models/families/classifier.lua, all channels alike: x, y [b, h, w, c] -> [b].
function perceptual.classifier(name, x, y, options)
  return nn.scope(name, function()
    local o = { channels = options.channels, running = true }
    return distance(perceptual.maps(x, o), perceptual.maps(y, o), function(apart) return sum(apart, { -1, keep = true }) end)
  end)
end

return perceptual
