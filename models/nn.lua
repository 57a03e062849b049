-- Layers.  Every layer takes its name first: the names of its parameters are NAME.weight, NAME.bias and so on,
-- with the layouts PyTorch uses (linear [out, in]; convolution [out, in, kh, kw]; norms and biases [n]), so that
-- converted checkpoints load.  nn.scope puts a prefix before all names that are made inside of it.
--
-- Tensors: tokens [..., d]; grids [b?, s, h, w, d]; pictures [b, h, w, c].  Axes count from 0.

local nn = {}

-- NAME with the scopes around it.
local function full(name)
  if type(name) ~= "string" or name == "" then
    error("a layer needs a name, not " .. tostring(name), 3)
  end
  return scoped(name)
end

-- body(...) with "NAME." before the names of all parameters made inside; gives what body returns.
nn.scope = scope

function nn.param(name, type, init)
  return param(full(name), type, init)
end

-- What a constant size is for: parameters cannot grow with the batch.
local function constant(size, what)
  if math.type(size) ~= "integer" then
    error(what .. " must be a constant, not " .. tostring(size), 3)
  end
  return size
end

-- The numbers of a list that is an option: "1,2,4" -> { 1, 2, 4 }; "" is none.
function nn.whole_numbers(name, text)
  local list = {}
  if text == "" then return list end
  for part in string.gmatch(text .. ",", "([^,]*),") do
    local n = string.find(part, "^%d+$") and math.tointeger(tonumber(part))
    if not n then
      error(name .. ' = "' .. text .. '": "' .. part .. '" is no whole number; needs numbers with commas between, as 1,2,4', 2)
    end
    list[#list + 1] = n
  end
  return list
end

local function last(x) return x.shape[x.rank] end

-- ---- products and norms ----

-- x [..., m, n] -> [..., m, out].  options: bias (true), init ({ uniform = 1 / sqrt(n) }).
function nn.linear(name, x, out, options)
  name = full(name)
  options = options or {}
  local n = constant(last(x), "linear: the width of x")
  local init = options.init or { uniform = 1 / math.sqrt(n) }
  local w = param(name .. ".weight", f32(out, n), init)
  -- Of rows, heads and grids alike, only the last axis is mixed: one product over all rows.
  local y = matmul(x, w, { trans_b = true })
  if options.bias == false then return y end
  return y + param(name .. ".bias", f32(out), "zeros")
end

function nn.layer_norm(name, x, eps)
  name = full(name)
  local d = constant(last(x), "layer_norm: the width of x")
  local gain, bias = param(name .. ".weight", f32(d), "ones"), param(name .. ".bias", f32(d), "zeros")
  return layer_norm(x, gain, bias, { eps = eps or 1e-5 })
end

-- x [b, h, w, c]
function nn.group_norm(name, x, groups, eps)
  name = full(name)
  local c = constant(last(x), "group_norm: the channels of x")
  local gain, bias = param(name .. ".weight", f32(c), "ones"), param(name .. ".bias", f32(c), "zeros")
  return group_norm(x, gain, bias, { groups = groups or 32, eps = eps or 1e-6 })
end

-- x [b, h, w, c]: group_norm, or with options.norm = "place" the norm of each place over its channels.
function nn.picture_norm(name, x, options)
  if options.norm == "place" then return nn.layer_norm(name, x, 1e-6) end
  return nn.group_norm(name, x, options.groups)
end

-- tokens i32 [...] -> [..., d]
function nn.embedding(name, tokens, count, d, init)
  name = full(name)
  return gather(param(name .. ".weight", f32(count, d), init or { normal = 0.02 }), tokens)
end

-- A learned vector per place of each axis, summed: x [b?, s, h, w, d] -> the same.  Tables NAME.s, NAME.h, NAME.w;
-- an axis of length 1 has none.
function nn.positions(name, x, init)
  name = full(name)
  local first = x.rank - 4
  if first ~= 0 and first ~= 1 then error("positions: x must be [b?, s, h, w, d], not " .. tostring(x), 2) end
  local d = constant(last(x), "positions: the width of x")
  for i, axis in ipairs { "s", "h", "w" } do
    local n = x.shape[first + i]
    if n ~= 1 then
      local table_of = param(name .. "." .. axis, f32(n, d), init or { normal = 0.02 })
      local places = { 1, 1, 1, d }
      places[i] = n
      x = x + reshape(table_of, places)
    end
  end
  return x
end

-- d -> inner -> d with GELU between; inner is 4d unless given.
function nn.feed_forward(name, x, options)
  options = options or {}
  local d = constant(last(x), "feed_forward: the width of x")
  return nn.scope(name, function()
    local hidden = gelu(nn.linear("fc1", x, options.inner or 4 * d, { init = options.init }))
    return nn.linear("fc2", hidden, d, { init = options.out_init or options.init })
  end)
end

-- ---- attention ----

-- x [b?, s, h, w, d] sees `context` (x itself when nil).  options: those of attend, and width (of queries, keys
-- and values together over all heads; d), init, out_init, bias.
function nn.attention(name, x, context, options)
  context = context or x
  local d = constant(last(x), "attention: the width of x")
  local width = options.width or d
  local layer = { init = options.init, bias = options.bias }
  return nn.scope(name, function()
    local q = nn.linear("q", x, width, layer)
    local k = nn.linear("k", context, width, layer)
    local v = nn.linear("v", context, width, layer)
    local y = attend(q, k, v, { heads = options.heads, kind = options.kind, extent = options.extent,
                                causal = options.causal, edge = options.edge })
    return nn.linear("out", y, d, { init = options.out_init or options.init, bias = options.bias })
  end)
end

-- One layer of an encoder or decoder with norms before: self-attention, plus cross-attention to `context` when
-- there is one (both on the normed input and added, as in NUWA's Y(l)), then feed-forward.  options: self, cross
-- (tables for nn.attention), inner, init, out_init.
function nn.block(name, x, context, options)
  return nn.scope(name, function()
    local normed = nn.layer_norm("norm1", x)
    local mixed = nn.attention("self", normed, nil, options.self)
    if context then mixed = mixed + nn.attention("cross", normed, context, options.cross) end
    x = x + mixed
    return x + nn.feed_forward("mlp", nn.layer_norm("norm2", x), options)
  end)
end

-- ---- pictures [b, h, w, c] ----

-- A square convolution.  options: size (3), stride (1), padding (same on all sides: (size - 1) / 2, or a table {
-- top, bottom, left, right }), bias (true), init.
function nn.conv(name, x, out, options)
  name = full(name)
  options = options or {}
  local size, stride = options.size or 3, options.stride or 1
  if x.rank ~= 4 then error("conv: x must be [b, h, w, c], not " .. tostring(x), 2) end
  local c = constant(last(x), "conv: the channels of x")
  local p = options.padding or (size - 1) // 2
  if type(p) == "number" then p = { p, p, p, p } end
  local init = options.init or { uniform = 1 / math.sqrt(c * size * size) }
  local w = param(name .. ".weight", f32(out, c, size, size), init)
  if p[1] ~= 0 or p[2] ~= 0 or p[3] ~= 0 or p[4] ~= 0 then
    x = pad(x, { lo = { 0, p[1], p[3], 0 }, hi = { 0, p[2], p[4], 0 } })
  end
  local y = conv2d(x, transpose(w, 2, 3, 1, 0), { stride = stride })
  if options.bias == false then return y end
  return y + param(name .. ".bias", f32(out), "zeros")
end

-- Twice the rows and columns, each element four times: [b, h, w, c] -> [b, 2h, 2w, c].
function nn.repeat2(x)
  if x.rank ~= 4 then error("repeat2: x must be [b, h, w, c], not " .. tostring(x), 2) end
  local b, h, w, c = table.unpack(x.shape)
  local wide = broadcast(reshape(x, b, h, 1, w, 1, c), b, h, 2, w, 2, c)
  return reshape(wide, b, 2 * h, 2 * w, c)
end

-- Nearest neighbours, then a convolution NAME.conv.
function nn.upsample(name, x)
  return nn.conv(name .. ".conv", nn.repeat2(x), constant(last(x), "upsample: the channels of x"))
end

-- A convolution NAME.conv of stride 2: half the rows and columns.  3 x 3, padded below and to the right; or with
-- `apart` 2 x 2, where no pixel is seen twice.
function nn.downsample(name, x, apart)
  local options = apart and { size = 2, stride = 2, padding = 0 } or { stride = 2, padding = { 0, 1, 0, 1 } }
  return nn.conv(name .. ".conv", x, constant(last(x), "downsample: the channels of x"), options)
end

-- Two convolutions with norms and SiLU before, and the input added (through NAME.nin_shortcut when the channels
-- change).  options.size: of both, 3.
function nn.residual(name, x, out, options)
  options = options or {}
  local c = constant(last(x), "residual: the channels of x")
  out = out or c
  return nn.scope(name, function()
    local conv = { size = options.size }
    local y = nn.conv("conv1", silu(nn.picture_norm("norm1", x, options)), out, conv)
    y = nn.conv("conv2", silu(nn.picture_norm("norm2", y, options)), out, conv)
    if out ~= c then x = nn.conv("nin_shortcut", x, out, { size = 1 }) end
    return x + y
  end)
end

-- Full attention of one head among the places of a picture, with 1x1 convolutions q, k, v, proj_out.
function nn.picture_attention(name, x, options)
  options = options or {}
  local c = constant(last(x), "picture_attention: the channels of x")
  local b, h, w = x.shape[1], x.shape[2], x.shape[3]
  return nn.scope(name, function()
    local normed = nn.picture_norm("norm", x, options)
    local function tokens(part)
      return reshape(nn.conv(part, normed, c, { size = 1 }), b, 1, h, w, c)
    end
    local y = attend(tokens "q", tokens "k", tokens "v", { heads = 1, kind = "full" })
    return x + nn.conv("proj_out", reshape(y, b, h, w, c), c, { size = 1 })
  end)
end

-- ---- losses and codes ----

-- The mean of -log softmax(logits)[target]: logits [..., n], target i32 [...] -> a scalar.
function nn.cross_entropy(logits, target)
  return mean(cross_entropy(logits, target))
end

-- The nearest row of codebook [n, d] for every vector of x [..., d], by squared distance -> i32 [...].  |x|^2 is
-- the same for all rows and left out.
function nn.nearest_code(x, codebook)
  local d = constant(last(x), "nearest_code: the width of x")
  local rows = reshape(x, -1, d)
  local score = matmul(rows, codebook, { trans_b = true }) - 0.5 * sum(codebook * codebook, 1)
  local shape = x.shape
  shape[#shape] = nil
  return reshape(argmax(score), shape)
end

-- Puts rows of a codebook [n, d] that no vector used for `window` steps on vectors of the batch, drawn at random; all of
-- them, as long as the codebook is what { uniform = 1 / n } made it.  vectors [..., d], codes i32 [...] as nearest_code gives
-- them.  For the body of a training step.
function nn.revive(name, codebook, vectors, codes, window)
  name = full(name)
  local n, d = codebook.shape[1], codebook.shape[2]
  local rows = detach(reshape(vectors, -1, d))
  local one = reshape(codes, -1) * 0 + 1
  local uses = scatter_add(reshape(codes, -1), one, n)
  local idle = state(name .. ".idle", i32(n), { shared = true })
  local since = select(lt(0, uses), idle * 0, idle + 1)
  local is_fresh = le(max(abs(codebook)), 1 / n)
  local is_dead = maximum(le(window, since), broadcast(is_fresh, n))
  update(idle, select(is_dead, since * 0, since))
  local place = uniform(f32(n), name .. ".revive") * cast(sum(one), f32)
  local fresh = gather(rows, cast(floor(place), i32))
  update(codebook, select(reshape(is_dead, n, 1), fresh, updated(codebook)))
end

-- ---- what training draws ----

-- Sets a share of the elements to 0 and scales the others up, while the model trains; x [b, ...].
-- Srivastava et al.: Dropout, 2014.
function nn.dropout(name, x, rate)
  if not is_training() or rate == 0 then return x end
  if rate < 0 or rate >= 1 then error("dropout: the rate must be in [0, 1), not " .. tostring(rate), 2) end
  return select(le(rate, uniform(x, full(name))), x * (1 / (1 - rate)), x * 0.0)
end

-- mean + exp(log_variance / 2) times a normal number, so that gradients pass through (Kingma, Welling: Auto-Encoding
-- Variational Bayes, 2014).
function nn.gaussian(name, mean, log_variance)
  return mean + exp(log_variance * 0.5) * normal(mean, full(name))
end

return nn
