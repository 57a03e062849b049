-- NUWA (Wu et al., arXiv 2111.12417): a 3D encoder-decoder with 3D Nearby Attention.  Text goes through the encoder, the
-- decoder generates a grid of VQ-GAN codes:
--   C(l) = 3DNA(C(l-1), C(l-1))        Y(l) = 3DNA(Y(l-1), Y(l-1)) + 3DNA(Y(l-1), C(L))
-- The defaults are the paper's video model; grid_s = 1 makes pictures.

local nn, optim = require "nn", require "optim"

local o = options {
  encoder = one_of { "nearby", "full", "axis", "block" },
  decoder = one_of { "nearby", "full", "axis", "block" },   -- self- and cross-attention
  extent_s = 3.0, extent_h = 3.0, extent_w = 3.0,           -- widths, inf: the whole axis; of kind block: the block
  grid_s = 10, grid_h = 21, grid_w = 21,
  stencil = one_of { "local", "left", "raster" },
  causal = one_of { "raster", "past" },
  dim = 1280, heads = 20,
  encoder_layers = 12, decoder_layers = 24,
  codebook = 12288,
  text_tokens = 77, vocab = 49408,
  text_mask = true,                                         -- nothing attends to what a caption is filled up with
  -- How it is trained.
  lr = 1e-3, schedule = one_of { "cosine", "constant" }, warmup = 0.05, clip = 1.0, weight_decay = 0.0,
  null_text = 0.0,         -- share of examples that go without their caption, for guidance
  noise = 0.0,             -- of each example's tokens, a share drawn from [0, noise) is read as random ones
}

local small = { normal = 0.02 }
local out_init = { normal = 0.02 / math.sqrt(2 * o.decoder_layers) }   -- what is added to the residual stream

local function attend_options(kind, extent, causal, mask)
  return { heads = o.heads, kind = kind, extent = extent, causal = causal, mask = mask, init = small, out_init = out_init }
end

-- Text is a line of words: its extent is (inf, 1, 1), the whole of it; as a block, all of it.
local words = { s = math.huge, h = 1, w = 1 }
local function word_extent(kind)
  if kind == "block" then return { s = o.text_tokens, h = 1, w = 1 } end
  return words
end

-- Captions of a batch: text i32 [b, words], text_mask u8 [b, words], 1 for words and 0 for what is behind their end; without
-- the option, no mask.
local text, text_mask = i32(batch, o.text_tokens), o.text_mask and u8(batch, o.text_tokens) or nil

-- As attention takes a mask: u8 [b, words, 1, 1].
local function word_mask(caption)
  return o.text_mask and reshape(caption.text_mask, batch, o.text_tokens, 1, 1) or nil
end

-- -> [b, words, 1, 1, dim]
local function encode(caption)
  return nn.scope("encoder", function()
    local x = nn.embedding("embedding", caption.text, o.vocab, o.dim, small)
    x = reshape(x, x.shape[1], o.text_tokens, 1, 1, o.dim)
    x = nn.positions("position", x, small)
    local self = attend_options(o.encoder, word_extent(o.encoder), nil, word_mask(caption))
    for i = 0, o.encoder_layers - 1 do
      x = nn.block("layer." .. i, x, nil, { self = self, init = small, out_init = out_init })
    end
    return nn.layer_norm("norm", x)
  end)
end

-- The tokens a position is predicted from; entries along an axis of length 1 would only ever be off the grid.
local stencils = {
  ["local"] = { { "left", { s = 0, h = 0, w = -1 } }, { "above", { s = 0, h = -1, w = 0 } }, { "before", { s = -1, h = 0, w = 0 } } },
  left = { { "left", { s = 0, h = 0, w = -1 } } },
  raster = { { "previous", "raster" } },
}

local function is_useful(delta)
  if delta == "raster" then return true end
  return (delta.s == 0 or o.grid_s > 1) and (delta.h == 0 or o.grid_h > 1) and (delta.w == 0 or o.grid_w > 1)
end

-- i32 [b, s, h, w] -> [b, s, h, w, dim]; each entry of the stencil has its own table and start vector.
local function input(tokens)
  local x
  for _, entry in ipairs(stencils[o.stencil]) do
    local name, delta = entry[1], entry[2]
    if is_useful(delta) then
      local seen = shift(nn.embedding("embedding." .. name, tokens, o.codebook, o.dim, small), delta,
                         nn.param("start." .. name, f32(o.dim), small))
      x = x and x + seen or seen
    end
  end
  return nn.positions("position", x, small)
end

local extent = { s = o.extent_s, h = o.extent_h, w = o.extent_w }

local function decoder(tokens, caption)
  local condition = encode(caption)
  return nn.scope("decoder", function()
    local x = input(tokens)
    local cross = attend_options(o.decoder, word_extent(o.decoder), nil, word_mask(caption))
    for i = 0, o.decoder_layers - 1 do
      x = nn.block("layer." .. i, x, condition, {
        self = attend_options(o.decoder, extent, o.causal), cross = cross,
        init = small, out_init = out_init })
    end
    return nn.linear("logits", nn.layer_norm("norm", x), o.codebook, { init = small })
  end)
end

local inputs = { text = text, text_mask = text_mask, tokens = i32(batch, o.grid_s, o.grid_h, o.grid_w) }

local generate = fn(inputs, function(x) return { logits = decoder(x.tokens, x) } end)

-- ---- training ----

-- The caption without words: the start, the end, which is the token after it, and nothing.
local function without_words(caption)
  local start = slice(caption.text, 1, 0, 1)
  local rest = { lo = { 0, 0 }, hi = { 0, o.text_tokens - 2 } }
  return { text = pad(concat({ start, start + 1 }, 1), rest),
           text_mask = pad(fill(1, u8(batch, 2)), rest) }
end

-- Some examples lose their caption: the decoder learns what is likely without one.
local function drop(caption)
  if o.null_text == 0 then return caption end
  local lost, empty = lt(uniform(f32(batch, 1), "null_text"), o.null_text), without_words(caption)
  return { text = select(lost, empty.text, caption.text),
           text_mask = o.text_mask and select(lost, empty.text_mask, caption.text_mask) }
end

-- What the decoder reads has errors in it: one that cannot trust what was drawn so far looks at the condition for every
-- token, not for the first few of a thing only.
local function disturb(tokens)
  if o.noise == 0 then return tokens end
  local share = uniform(f32(batch, 1, 1, 1), "noise.share") * o.noise
  local code = uniform(f32(batch, o.grid_s, o.grid_h, o.grid_w), "noise.code") * o.codebook
  return select(lt(uniform(f32(batch, o.grid_s, o.grid_h, o.grid_w), "noise.place"), share), cast(floor(code), i32), tokens)
end

local loss = fn(inputs, function(x)
  local seen, caption = x.tokens, x
  if is_training() then seen, caption = disturb(seen), drop(caption) end
  return { loss = nn.cross_entropy(decoder(seen, caption), x.tokens) }
end)

local rate = o.schedule == "cosine" and optim.cosine(o.lr, o.warmup, 0.1) or optim.constant(o.lr, o.warmup)

return module {
  grid = { o.grid_s, o.grid_h, o.grid_w }, codebook = o.codebook, text_tokens = o.text_tokens, vocab = o.vocab,

  decode = decode(generate, { tokens = "tokens", logits = "logits" }),
  loss = loss,
  evaluate = loss,
  train = { { "main", optim.adamw(loss, { lr = rate, clip = o.clip, weight_decay = o.weight_decay }) } },
}
