-- What a caption would say of a picture or clip: features by which drawings are compared with the data (`nuwa score
-- --features`), learned by telling which words the captions have.  Convolutions with batch norm, pooled over places, and of
-- clips over frames, of whose differences the network sees, too.

local nn, optim = require "nn", require "optim"

local o = options {
  size = 64, colours = 3,
  frames = 1,               -- of a clip; 1: pictures
  channels = 16,            -- of the first convolution, doubled by each
  levels = 4,
  features = 64,
  vocab = 1024, text_tokens = 32,
  lr = 2e-3, warmup = 0.1, weight_decay = 0.02,
}

local is_clip = o.frames > 1
local picture = is_clip and f32(batch, o.frames, o.size, o.size, o.colours) or f32(batch, o.size, o.size, o.colours)
local name = is_clip and "video" or "image"

local function block(i, x)
  x = nn.conv("conv." .. i, x, o.channels << i, { stride = 2, bias = false })
  return relu(nn.batch_norm("norm." .. i, x))
end

-- [b, frames, size, size, colours] -> [b, features]
local function features(x)
  local b = x.shape[1]
  if is_clip then   -- beside each frame what changes to the next
    local next = slice(x, 1, 1, o.frames)
    local change = concat({ next - slice(x, 1, 0, o.frames - 1), fill(0, f32(b, 1, o.size, o.size, o.colours)) }, 1)
    x = concat({ x, change }, 4)
  end
  x = reshape(x, b * o.frames, o.size, o.size, is_clip and 2 * o.colours or o.colours)
  for i = 0, o.levels - 1 do x = block(i, x) end
  local h, c = x.shape[2], x.shape[4]
  local places = reshape(x, b, o.frames * h * h, c)
  if is_clip then   -- where it is in each frame says how it moves
    local lines = reshape(mean(reshape(x, b, o.frames, h, h, c), 2), b, -1)
    local rows = reshape(mean(reshape(x, b, o.frames, h, h, c), 3), b, -1)
    places = concat({ mean(places, 1), nn.linear("lines", concat({ lines, rows }, 1), c) }, 1)
  else
    places = concat({ mean(places, 1), nn.linear("lines", reshape(x, b, -1), c) }, 1)
  end
  return nn.linear("hidden", relu(places), o.features)
end

-- Whether each word of the vocabulary is in a caption: f32 [b, vocab]
local function words_of(text)
  local hits = 0
  for i = 0, o.text_tokens - 1 do hits = maximum(hits, one_hot(reshape(slice(text, 1, i, i + 1), -1), o.vocab)) end
  return hits
end

local loss = fn({ [name] = picture, text = i32(batch, o.text_tokens) }, function(x)
  local scores = nn.linear("words", relu(features(x[name])), o.vocab)
  local words = words_of(x.text)
  local error = sum(softplus(scores) - words * scores, 1)   -- cross-entropy of each word's being there
  local right = mean(cast(eq(cast(lt(0.0, scores), f32), words), f32))
  return { loss = mean(error), accuracy = right }
end)

return module {
  size = o.size, vocab = o.vocab, text_tokens = o.text_tokens,

  features = fn({ [name] = picture }, function(x) return { features = features(x[name]) } end),

  evaluate = loss,
  train = { { "main", optim.adamw(loss, { lr = optim.cosine(o.lr, o.warmup), weight_decay = o.weight_decay }) } },
}
