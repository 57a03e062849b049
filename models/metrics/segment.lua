-- Which class each pixel of a picture shows: the network by which drawings are compared with the sketches that they were drawn
-- of (`nuwa score --segment`): detected pixel accuracy.  A small U-Net (Ronneberger, Fischer, Brox, 2015), with batch norm.

local nn, optim = require "nn", require "optim"

local o = options {
  size = 64, colours = 3, classes = 49,
  channels = 16,            -- of the first level, doubled by each
  levels = 3,
  lr = 2e-3, warmup = 0.1, weight_decay = 0.01,
}

if o.size % (1 << (o.levels - 1)) ~= 0 then error("size " .. o.size .. " must be a multiple of " .. (1 << (o.levels - 1))) end

local picture, map = f32(batch, o.size, o.size, o.colours), i32(batch, o.size, o.size)

local function layer(name, x, channels)
  return relu(nn.batch_norm(name .. ".norm", nn.conv(name .. ".conv", x, channels, { bias = false })))
end

local function logits(x)
  local kept = {}
  for i = 0, o.levels - 1 do
    if i > 0 then x = nn.max_pool2d(x, 2) end
    x = layer("down." .. i .. ".1", layer("down." .. i .. ".0", x, o.channels << i), o.channels << i)
    kept[i] = x
  end
  for i = o.levels - 2, 0, -1 do
    x = concat({ nn.upsample("up." .. i .. ".upsample", x), kept[i] }, 3)
    x = layer("up." .. i .. ".0", x, o.channels << i)
  end
  return nn.conv("labels", x, o.classes, { size = 1 })
end

local loss = fn({ image = picture, labels = map }, function(x)
  local scores = logits(x.image)
  return { loss = nn.cross_entropy(scores, x.labels), accuracy = mean(cast(eq(argmax(scores), x.labels), f32)) }
end)

return module {
  size = o.size, classes = o.classes,

  segment = fn({ image = picture }, function(x) return { labels = argmax(logits(x.image)) } end),

  evaluate = loss,
  train = { { "main", optim.adamw(loss, { lr = optim.cosine(o.lr, o.warmup), weight_decay = o.weight_decay }) } },
}
