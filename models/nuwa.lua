-- NUWA (Wu et al., arXiv 2111.12417): a 3D encoder-decoder with 3D Nearby Attention.  A condition goes through the encoder,
-- the decoder generates a grid of tokens:
--   C(l) = 3DNA(C(l-1), C(l-1))        Y(l) = 3DNA(Y(l-1), Y(l-1)) + 3DNA(Y(l-1), C(L))
-- The defaults are the paper's video model; grid_s = 1 makes pictures.  `tasks` says of what it draws what: all tasks share
-- encoder and decoder, and each kind of grid has its own embeddings and position tables.

local nn, optim = require "nn", require "optim"

local o = options {
  tasks = "",              -- of text_image, sketch_image, none_image, text_video, sketch_video, none_video, image_text,
                           -- video_text, with commas between, the first is `decode`; "": text_video, of pictures text_image
  task_weights = "",       -- of their losses, in that order; "": each 1; 0: drawn, but not trained
  encoder = one_of { "nearby", "full", "axis", "block" },
  decoder = one_of { "nearby", "full", "axis", "block" },   -- self- and cross-attention
  extent_s = 3.0, extent_h = 3.0, extent_w = 3.0,           -- widths, inf: the whole axis; of kind block: the block
  grid_s = 10, grid_h = 21, grid_w = 21,                    -- of clips; pictures are one frame
  sketch_h = 0, sketch_w = 0,                               -- of sketches, as many frames as what is drawn; 0: as grid_h, grid_w
  stencil = one_of { "local", "left", "raster" },
  causal = one_of { "raster", "past" },
  copy = false,            -- of clips: how likely a code is also follows from where it was, around the place, a frame before
  dim = 1280, heads = 20,
  encoder_layers = 12, decoder_layers = 24,
  codebook = 12288, sketch_codebook = 0,                    -- 0: as codebook
  text_tokens = 77, vocab = 49408,                          -- the last of the vocabulary ends a caption
  text_mask = true,                                         -- nothing attends to what a caption is filled up with
  -- How it is trained.
  lr = 1e-3, schedule = one_of { "cosine", "constant" }, warmup = 0.05, clip = 1.0, weight_decay = 0.0,
  null_text = 0.0,         -- share of examples that go without their condition, text or sketch, for guidance
  noise = 0.0,             -- of every other example's codes, a share drawn from [0, noise) is read as random ones, by the
                           -- decoder and by the encoder of what is described
  describe = one_of { "all", "still" },   -- which first frames of clips image_text learns the captions of: a caption that
                                          -- says what moves is not that of a picture; still: where all frames have the same codes
}

local small = { normal = 0.02 }
local out_init = { normal = 0.02 / math.sqrt(2 * o.decoder_layers) }   -- what is added to the residual stream
local sketch_h, sketch_w = o.sketch_h > 0 and o.sketch_h or o.grid_h, o.sketch_w > 0 and o.sketch_w or o.grid_w
local sketch_codebook = o.sketch_codebook > 0 and o.sketch_codebook or o.codebook

-- ---- tasks ----

local conditions, targets = { text = true, sketch = true, none = true, image = true, video = true }, { image = true, video = true, text = true }

-- "text_video" -> { name, condition = "text", target = "video" }
local function task_of(name)
  local condition, target = name:match("^(%l+)_(%l+)$")
  local known = conditions[condition] and targets[target]
  local is_inverse = condition == "image" or condition == "video"
  if not known or is_inverse ~= (target == "text") then
    error('tasks: "' .. name .. '" is none of text_image, sketch_image, none_image, text_video, sketch_video, none_video, image_text, video_text')
  end
  if o.grid_s == 1 and (condition == "video" or target == "video") then
    error('tasks: "' .. name .. '" is of clips, and grid_s = 1 makes pictures')
  end
  return { name = name, condition = condition, target = target }
end

local tasks = {}
for name in (o.tasks ~= "" and o.tasks or o.grid_s > 1 and "text_video" or "text_image"):gmatch("[^,%s]+") do
  for _, other in ipairs(tasks) do
    if other.name == name then error('tasks: "' .. name .. '" is said twice') end
  end
  tasks[#tasks + 1] = task_of(name)
end
if #tasks == 0 then error("tasks: names none") end

local function is_of(condition)
  for _, task in ipairs(tasks) do
    if task.condition == condition then return true end
  end
  return false
end

local weights, trained, reads = {}, {}, {}   -- of what is trained, which conditions and targets
for number in o.task_weights:gmatch("[^,%s]+") do weights[#weights + 1] = tonumber(number) or error('task_weights: "' .. number .. '" is no number') end
if #weights ~= 0 and #weights ~= #tasks then error("task_weights: " .. #weights .. " numbers for " .. #tasks .. " tasks") end
for i, task in ipairs(tasks) do
  task.weight = weights[i] or 1
  if task.weight < 0 then error("task_weights: " .. task.weight .. " is below 0") end
  if task.weight > 0 then trained[#trained + 1], reads[task.condition], reads[task.target] = task, true, true end
end
if #trained == 0 then error("task_weights: all are 0, and nothing is trained") end

-- ---- grids ----

local function frames_of(target) return target == "video" and o.grid_s or 1 end

-- What the inputs of a condition are: text i32 [b, words] and text_mask u8 [b, words], 1 for words and 0 for what is behind
-- their end (without the option, no mask); codes of a sketch, of a picture or of a clip i32 [b, s, h, w].
local text, text_mask = i32(batch, o.text_tokens), o.text_mask and u8(batch, o.text_tokens) or nil
local function codes(s) return i32(batch, s, o.grid_h, o.grid_w) end
local function sketch_codes(s) return i32(batch, s, sketch_h, sketch_w) end

local words = { s = math.huge, h = 1, w = 1 }          -- text is a line of words, and each sees all of them
local extent = { s = o.extent_s, h = o.extent_h, w = o.extent_w }

local function attend_options(kind, extent, causal, mask)
  return { heads = o.heads, kind = kind, extent = extent, causal = causal, mask = mask, init = small, out_init = out_init }
end

local function word_options(kind, mask)
  return attend_options(kind, kind == "block" and { s = o.text_tokens, h = 1, w = 1 } or words, nil, mask)
end

-- ---- encoder ----

-- x [b, s, h, w, dim], the embedded condition, without that of the samples where is_null u8 [b, 1] is 1: all their places
-- hold the token "none" then, and so does each after any layer, as if it were alone.
local function layers(x, self, is_null)
  local none = nn.param("none", f32(o.dim), small)
  if is_null then x = select(reshape(is_null, batch, 1, 1, 1, 1), none, x) end
  for i = 0, o.encoder_layers - 1 do
    x = nn.block("layer." .. i, x, nil, { self = self, init = small, out_init = out_init })
  end
  return nn.layer_norm("norm", x)
end

-- Which samples have no condition: those of the ids below, which captions and codes do not begin with.
local null_word, null_code = 0, -1
local function first_of(ids) return slice(reshape(ids, batch, -1), 1, 0, 1) end

-- As attention takes a mask: u8 [b, words, 1, 1].
local function word_mask(x)
  return o.text_mask and reshape(x.text_mask, batch, o.text_tokens, 1, 1) or nil
end

local encoders = {
  text = function(x)
    local y = nn.embedding("embedding", x.text, o.vocab, o.dim, small)
    y = nn.positions("position", reshape(y, batch, o.text_tokens, 1, 1, o.dim), small)
    return layers(y, word_options(o.encoder, word_mask(x)), eq(first_of(x.text), null_word))
  end,
  sketch = function(x)
    local y = nn.embedding("sketch.embedding", maximum(x.labels_tokens, 0), sketch_codebook, o.dim, small)
    y = nn.positions("sketch.position", y, small)
    return layers(y, attend_options(o.encoder, extent), eq(first_of(x.labels_tokens), null_code))
  end,
  none = function()
    local none = nn.param("none", f32(o.dim), small)
    return layers(reshape(none, 1, 1, 1, 1, o.dim) + fill(0, f32(batch, 1, 1, 1, o.dim)), attend_options("full"))
  end,
}

local function encode_codes(tokens)
  local y = nn.positions("codes.position", nn.embedding("codes.embedding", tokens, o.codebook, o.dim, small), small)
  return layers(y, attend_options(o.encoder, extent))
end
encoders.image = function(x) return encode_codes(x.image_tokens) end
encoders.video = function(x) return encode_codes(x.video_tokens) end

-- How the decoder sees it: text and none whole; a sketch around the token's own place and time; for words, all of it.
local function cross_options(condition, x)
  if condition == "sketch" then return attend_options(o.decoder, extent) end
  if condition == "text" then return word_options(o.decoder, word_mask(x)) end
  return attend_options("full")
end

-- ---- decoder ----

-- The tokens a position is predicted from; entries along an axis of length 1 would only ever be off the grid.
local stencils = {
  ["local"] = { { "left", { s = 0, h = 0, w = -1 } }, { "above", { s = 0, h = -1, w = 0 } }, { "before", { s = -1, h = 0, w = 0 } } },
  left = { { "left", { s = 0, h = 0, w = -1 } } },
  raster = { { "previous", "raster" } },
}

local function is_useful(delta, frames)
  if delta == "raster" then return true end
  return (delta.s == 0 or frames > 1) and (delta.h == 0 or o.grid_h > 1) and (delta.w == 0 or o.grid_w > 1)
end

-- i32 [b, s, h, w] -> [b, s, h, w, dim]; each entry of the stencil has its own table and start vector.
local function code_input(tokens)
  local x
  for _, entry in ipairs(stencils[o.stencil]) do
    local name, delta = entry[1], entry[2]
    if is_useful(delta, tokens.shape[2]) then
      local seen = shift(nn.embedding("embedding." .. name, tokens, o.codebook, o.dim, small), delta,
                         nn.param("start." .. name, f32(o.dim), small))
      x = x and x + seen or seen
    end
  end
  return nn.positions("position", x, small)
end

-- ---- what moves ----

-- A thing that moves is its codes of the frame before at another place.  Attention learns such copies slowly; as in pointer
-- networks (See et al. 2017) they are said outright: each of the places around, a frame before, has a gate, which is added
-- to the logit of the code there; and beside its tokens a place reads which of the ways what it was predicted from went.

local ways = {}   -- offsets to the places around, a frame before
for h = -1, 1 do
  for w = -1, 1 do ways[#ways + 1] = { s = -1, h = h, w = w } end
end

-- i32 [b, s, h, w] -> [b, s, h, w, 1]: the code at another place; off the grid `outside`, which no code is.
local function code_at(tokens, delta, outside)
  local b, s, h, w = table.unpack(tokens.shape)
  return shift(reshape(tokens, b, s, h, w, 1), delta, fill(outside, i32(1)))
end

-- -> f32 [b, s, h, w, 3 * #ways]: whether the token on the left came each of the ways, that above, and what would come now.
local function ways_gone(tokens)
  local gone = {}
  local function came(from, way)
    local before = { s = from.s + way.s, h = from.h + way.h, w = from.w + way.w }
    gone[#gone + 1] = cast(eq(code_at(tokens, from, -1), code_at(tokens, before, -2)), f32)
  end
  for _, way in ipairs(ways) do
    came({ s = 0, h = 0, w = -1 }, way)
    came({ s = 0, h = -1, w = 0 }, way)
    came(way, way)
  end
  return concat(gone, 4)
end

-- logits [b, s, h, w, codebook], of y [b, s, h, w, dim], with the gates of the codes that may be copied.  These are tens where
-- one way is sure, and are to be learned as fast as what is about 1.
local function with_copies(logits, y, gone, tokens)
  local gates = 10 * nn.linear("copy.gates", concat({ y, gone }, 4), #ways, { init = "zeros" })
  local codes = iota(i32(o.codebook), 0)
  for i, way in ipairs(ways) do
    logits = logits + select(eq(code_at(tokens, way, -1), codes), slice(gates, 4, i - 1, i), 0)
  end
  return logits
end

-- A caption is drawn word by word: i32 [b, words, 1, 1] -> [b, words, 1, 1, dim]
local function word_input(tokens)
  local seen = shift(nn.embedding("words.embedding", tokens, o.vocab, o.dim, small), { s = -1, h = 0, w = 0 },
                     nn.param("words.start", f32(o.dim), small))
  return nn.positions("words.position", seen, small)
end

-- -> logits of what task.target is made of.
local function decoder(task, tokens, x)
  local condition = nn.scope("encoder", function() return encoders[task.condition](x) end)
  local is_text = task.target == "text"
  return nn.scope("decoder", function()
    local y = is_text and word_input(tokens) or code_input(tokens)
    local copies = o.copy and not is_text and tokens.shape[2] > 1
    local gone = copies and ways_gone(tokens)
    if copies then y = y + nn.linear("copy.ways", gone, o.dim) end
    local self = is_text and attend_options("full", nil, "raster") or attend_options(o.decoder, extent, o.causal)
    for i = 0, o.decoder_layers - 1 do
      y = nn.block("layer." .. i, y, condition, {
        self = self, cross = cross_options(task.condition, x), init = small, out_init = out_init })
    end
    y = nn.layer_norm("norm", y)
    if is_text then return nn.linear("words.logits", y, o.vocab, { init = small }) end
    local logits = nn.linear("logits", y, o.codebook, { init = small })
    return copies and with_copies(logits, y, gone, tokens) or logits
  end)
end

-- ---- what is drawn ----

local function condition_inputs(task)
  if task.condition == "text" then return { text = text, text_mask = text_mask } end
  if task.condition == "sketch" then return { labels_tokens = sketch_codes(frames_of(task.target)) } end
  if task.condition == "image" then return { image_tokens = codes(1) } end
  if task.condition == "video" then return { video_tokens = codes(o.grid_s) } end
  return {}
end

-- `tokens` is the grid that is generated.
local function generate(task)
  local inputs = condition_inputs(task)
  inputs.tokens = task.target == "text" and i32(batch, o.text_tokens - 1, 1, 1) or codes(frames_of(task.target))
  return fn(inputs, function(x) return { logits = decoder(task, x.tokens, x) } end)
end

local drawn = {}
for _, task in ipairs(tasks) do
  drawn[task.name] = decode(generate(task), {
    tokens = "tokens", logits = "logits", stop = task.target == "text" and o.vocab - 1 or nil })
end

-- ---- training ----

-- What all tasks together are trained on: pictures are the first frames of clips, where there are clips.
local function training_inputs()
  local frames = reads.video and o.grid_s or 1
  return {
    text = reads.text and text or nil, text_mask = reads.text and text_mask or nil,
    video_tokens = reads.video and codes(o.grid_s) or nil,
    image_tokens = not reads.video and reads.image and codes(1) or nil,
    labels_tokens = reads.sketch and sketch_codes(frames) or nil,
  }
end

local function first_frame(clip) return clip and slice(clip, 1, 0, 1) end

-- What of an example a task reads.
local function example_of(task, x)
  local is_picture = task.condition == "image" or task.target == "image"
  return { text = x.text, text_mask = x.text_mask, video_tokens = x.video_tokens,
           image_tokens = x.image_tokens or first_frame(x.video_tokens),
           labels_tokens = is_picture and first_frame(x.labels_tokens) or x.labels_tokens }
end

-- u8 [b, 1]: which examples lose their condition; the decoder learns what is likely without one.
local function is_dropped(task)
  if task.condition == "none" then return fill(1, u8(batch, 1)) end
  if o.null_text == 0 then return nil end
  return lt(uniform(f32(batch, 1), "null." .. task.name), o.null_text)
end

local function drop(task, x, dropped)
  if task.condition == "sketch" then x.labels_tokens = select(reshape(dropped, batch, 1, 1, 1), null_code, x.labels_tokens) end
  if task.condition == "text" then
    x.text = select(dropped, null_word, x.text)
    x.text_mask = x.text_mask and select(dropped, fill(1, u8()), x.text_mask)
  end
  return x
end

-- What is read has errors in it: a decoder that cannot always trust what was drawn so far looks at the condition for every
-- token, not for the first few of a thing only; one who describes tells a thing from all of its codes. Half of the examples
-- have none, and none has where the condition is dropped: what is there is all that tells then what comes.
local function disturb(task, tokens, dropped)
  if o.noise == 0 then return tokens end
  local name, shape = "noise." .. task.name, tokens.shape
  local share = maximum(2 * uniform(f32(batch, 1, 1, 1), name .. ".share") - 1, 0) * o.noise
  if dropped then share = select(reshape(dropped, batch, 1, 1, 1), 0, share) end
  local code = uniform(f32(shape), name .. ".code") * o.codebook
  return select(lt(uniform(f32(shape), name .. ".place"), share), cast(floor(code), i32), tokens)
end

-- The caption behind its start, and which of that counts: the words and the end.
local function word_targets(x)
  local function rest(ids) return reshape(slice(ids, 1, 1, o.text_tokens), batch, o.text_tokens - 1, 1, 1) end
  local tokens = rest(x.text)
  return tokens, cast(o.text_mask and rest(x.text_mask) or ne(tokens, 0), f32)
end

-- f32 [b, 1, 1, 1], 1 for clips whose frames are all alike.
local function is_still(clip)
  local moves = ne(slice(clip, 1, 1, o.grid_s), slice(clip, 1, 0, o.grid_s - 1))
  return 1 - max(cast(moves, f32), { 1, 2, 3, keep = true })
end

local function task_loss(task, x)
  x = example_of(task, x)
  if task.target == "text" then
    local tokens, counts = word_targets(x)
    if o.describe == "still" and task.condition == "image" and x.video_tokens then counts = counts * is_still(x.video_tokens) end
    if is_training() then
      local read = task.condition .. "_tokens"
      x[read] = disturb(task, x[read])
    end
    return sum(cross_entropy(decoder(task, tokens, x), tokens) * counts) / maximum(sum(counts), 1)
  end
  local tokens = task.target == "video" and x.video_tokens or x.image_tokens
  local seen = tokens
  if is_training() then
    local dropped = is_dropped(task)
    seen = disturb(task, tokens, dropped)
    if dropped then x = drop(task, x, dropped) end
  end
  return nn.cross_entropy(decoder(task, seen, x), tokens)
end

-- The weighted sum, and each task's own where there are several.
local inputs = training_inputs()
local loss = fn(inputs, function(x)
  local fed, out = {}, {}
  for name in pairs(inputs) do fed[name] = x[name] end
  for _, task in ipairs(trained) do
    local error = task_loss(task, fed)
    local weighted = error * task.weight
    out.loss = out.loss and out.loss + weighted or weighted
    if #trained > 1 then out[task.name] = error end
  end
  return out
end)

local rate = o.schedule == "cosine" and optim.cosine(o.lr, o.warmup, 0.1) or optim.constant(o.lr, o.warmup)

return module {
  grid = { o.grid_s, o.grid_h, o.grid_w }, codebook = o.codebook, text_tokens = o.text_tokens, vocab = o.vocab,
  labels_codebook = is_of("sketch") and sketch_codebook or nil,
  null_condition = "token",   -- a caption of zeros, under a mask of ones, and a sketch of -1 are none

  decode = drawn[tasks[1].name],
  tasks = drawn,
  loss = loss,
  evaluate = loss,
  train = { { "main", optim.adamw(loss, { lr = rate, clip = o.clip, weight_decay = o.weight_decay }) } },
}
