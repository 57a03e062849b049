-- CLIP (Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, 2021): a tower for pictures
-- and one for captions, whose features of a pair are alike.  Names are those of OpenAI's checkpoints, and the defaults are
-- ViT-B/32, so that one converted to safetensors loads, strictly (docs/metrics.md); smaller ones can be trained here.

local nn, optim = require "nn", require "optim"

local o = options {
  size = 224, patch = 32,             -- pixels on a side of a picture and of what becomes one token
  width = 768, heads = 12, layers = 12,
  text_width = 512, text_heads = 8, text_layers = 12,
  vocab = 49408,                      -- the last of which, the largest id of a caption, ends it
  text_tokens = 77,
  embed = 512,                        -- width of the features
  -- How it is trained.
  most_pairs = 256,                   -- that a batch may have: each picture is compared with this many captions
  lr = 5e-4, schedule = one_of { "cosine", "constant" }, warmup = 0.05, clip = 1.0, weight_decay = 0.0,
}

if o.size % o.patch ~= 0 then error("size " .. o.size .. " must be a multiple of patch, " .. o.patch) end
local side = o.size // o.patch

-- ---- both towers ----

-- Queries, keys and values are one product with in_proj_weight, as in PyTorch's MultiheadAttention.  x [b, n, d]
local function attention(x, heads, layers, causal)
  local b, n, d = table.unpack(x.shape)
  local weight = nn.param("in_proj_weight", f32(3 * d, d), { normal = d ^ -0.5 })
  local all = matmul(x, weight, { trans_b = true }) + nn.param("in_proj_bias", f32(3 * d), "zeros")
  local function part(i) return reshape(slice(all, 2, i * d, (i + 1) * d), b, n, 1, 1, d) end
  local y = attend(part(0), part(1), part(2), { heads = heads, kind = "full", causal = causal })
  return nn.linear("out_proj", reshape(y, b, n, d), d, { init = { normal = (2 * layers * d) ^ -0.5 } })
end

local function feed_forward(x, layers)
  local d = x.shape[3]
  local y = nn.quick_gelu(nn.linear("c_fc", x, 4 * d, { init = { normal = (2 * d) ^ -0.5 } }))
  return nn.linear("c_proj", y, d, { init = { normal = (2 * layers * d) ^ -0.5 } })
end

local function transformer(x, heads, layers, causal)
  for i = 0, layers - 1 do
    nn.scope("transformer.resblocks." .. i, function()
      x = x + nn.scope("attn", attention, nn.layer_norm("ln_1", x), heads, layers, causal)
      x = x + nn.scope("mlp", feed_forward, nn.layer_norm("ln_2", x), layers)
    end)
  end
  return x
end

-- [b, d] -> unit vectors [b, embed]
local function projected(x, name)
  local d = x.shape[2]
  local y = matmul(x, nn.param(name, f32(d, o.embed), { normal = d ^ -0.5 }))
  return y / sqrt(sum(y * y, { -1, keep = true }))
end

-- ---- pictures ----

-- x [..., 3] in [-1, 1] by the mean and deviation of the pictures that CLIP was trained on, which it saw in [0, 1].
local function scaled(x)
  local function channels(a, b, c) return concat { fill(a, f32(1)), fill(b, f32(1)), fill(c, f32(1)) } end
  return (x * 0.5 + 0.5 - channels(0.48145466, 0.4578275, 0.40821073)) / channels(0.26862954, 0.26130258, 0.27577711)
end

-- [b, size, size, 3] -> [b, embed]: what the token of the class has become.
local function image_features(image)
  return nn.scope("visual", function()
    local b, d, init = image.shape[1], o.width, { normal = o.width ^ -0.5 }
    local x = nn.conv("conv1", scaled(image), d, { size = o.patch, stride = o.patch, padding = 0, bias = false })
    local class = broadcast(nn.param("class_embedding", f32(d), init), b, 1, d)
    x = concat({ class, reshape(x, b, side * side, d) }, 1)
    x = x + nn.param("positional_embedding", f32(side * side + 1, d), init)
    x = transformer(nn.layer_norm("ln_pre", x), o.heads, o.layers)
    return projected(nn.layer_norm("ln_post", reshape(slice(x, 1, 0, 1), b, d)), "proj")
  end)
end

-- ---- captions ----

-- i32 [b, text_tokens] -> [b, embed]: what the token that ends it has become, which has seen all before.
local function text_features(text)
  local b, n, d = text.shape[1], o.text_tokens, o.text_width
  local x = nn.embedding("token_embedding", text, o.vocab, d, { normal = 0.02 })
  x = x + nn.param("positional_embedding", f32(n, d), { normal = 0.01 })
  x = nn.layer_norm("ln_final", transformer(x, o.text_heads, o.text_layers, "raster"))
  return projected(sum(x * reshape(one_hot(argmax(text), n), b, n, 1), 1), "text_projection")
end

-- ---- training ----

local logit_scale = param("logit_scale", f32(), "ones")

-- The logits of each row of x [b, embed] with all rows of y: [b, most_pairs], since no size is the square of a batch.  What
-- is beyond the batch has none; a batch that is larger has NaN, which ends the training.
local function logits(x, y)
  local count, place = sum(fill(1, f32(batch))), iota(i32(o.most_pairs), 0)
  local scale = minimum(exp(logit_scale), 100)
  local rows = scatter_add(iota(i32(batch), 0), y, o.most_pairs)
  local all = matmul(x * select(le(count, o.most_pairs), scale, 0 / 0), rows, { trans_b = true })
  return select(lt(cast(place, f32), count), all, -math.huge)
end

-- The share of rows whose own place has the largest of the logits, maybe beside an equal one: captions may be the same.
local function accuracy(logits)
  local is_own = eq(iota(i32(o.most_pairs), 0), iota(i32(batch, 1), 0))
  return mean(cast(le(max(logits, -1), max(select(is_own, logits, -math.huge), -1)), f32))
end

local picture, text = f32(batch, o.size, o.size, 3), i32(batch, o.text_tokens)

local loss = fn({ image = picture, text = text }, function(x)
  local image, words, own = image_features(x.image), text_features(x.text), iota(i32(batch), 0)
  local of_image, of_text = logits(image, words), logits(words, image)
  return { loss = (nn.cross_entropy(of_image, own) + nn.cross_entropy(of_text, own)) * 0.5, accuracy = accuracy(of_image) }
end)

-- Initial values are random, 0 or 1; the scale begins at 1 / 0.07, unless weights are given.
local start = fn({}, function()
  update(logit_scale, select(eq(logit_scale, 1), math.log(1 / 0.07), logit_scale))
  return {}
end)

local rate = o.schedule == "cosine" and optim.cosine(o.lr, o.warmup, 0.1) or optim.constant(o.lr, o.warmup)

return module {
  size = o.size, text_tokens = o.text_tokens, vocab = o.vocab,

  image_features = fn({ image = picture }, function(x) return { features = image_features(x.image) } end),
  text_features = fn({ text = text }, function(x) return { features = text_features(x.text) } end),
  loss = loss,
  evaluate = loss,
  train = {
    { "start", start, to = 1 },
    { "main", optim.adamw(loss, { lr = rate, clip = o.clip, weight_decay = o.weight_decay }) },
  },
}
