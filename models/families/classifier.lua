-- A classifier of small pictures: three convolutions with batch norm, each followed by pooling, and a hidden layer whose
-- values are the features by which drawings are judged (`nuwa score --features`).
-- Ioffe, Szegedy: Batch Normalization, 2015;  Srivastava et al.: Dropout, 2014;  Szegedy et al., 2016: label smoothing.
-- Fashion-MNIST, 3000 steps of 100: 92.55 % of the test pictures.

local nn, optim, perceptual = require "nn", require "optim", require "perceptual"

local o = options {
  size = 28, colours = 1, classes = 10,
  channels = 32,            -- of the first convolution, doubled by each
  features = 128,
  dropout = 0.3,            -- of the features
  smoothing = 0.1,          -- share of a target that is spread over all classes
  flip = true,              -- half of the pictures that training sees are mirrored
  lr = 2e-3, warmup = 0.1, weight_decay = 0.05,
}

local picture, labels = f32(batch, o.size, o.size, o.colours), i32(batch)

local function features(x)
  local last = nn.max_pool2d(perceptual.maps(x, { channels = o.channels })[3], 2)
  return relu(nn.linear("hidden", reshape(last, last.shape[1], -1), o.features))
end

local function logits(x) return nn.linear("class", nn.dropout("dropout", features(x), o.dropout), o.classes) end

local function mirrored(x)
  if not is_training() or not o.flip then return x end
  return select(lt(uniform(f32(batch, 1, 1, 1), "flip"), 0.5), reverse(x, 2), x)
end

local function accuracy(scores, class) return mean(cast(eq(argmax(scores), class), f32)) end

local loss = fn({ image = picture, class = labels }, function(x)
  local scores = logits(mirrored(x.image))
  local share = is_training() and o.smoothing or 0
  local error = nn.cross_entropy(scores, x.class)
  return { loss = (1 - share) * error - share * mean(log_softmax(scores)), accuracy = accuracy(scores, x.class) }
end)

return module {
  size = o.size, classes = o.classes,

  classify = fn({ image = picture }, function(x)
    local scores = logits(x.image)
    return { logits = scores, class = argmax(scores) }
  end),

  features = fn({ image = picture }, function(x) return { features = features(x.image) } end),

  evaluate = loss,
  train = { { "main", optim.adamw(loss, { lr = optim.cosine(o.lr, o.warmup), weight_decay = o.weight_decay }) } },
}
