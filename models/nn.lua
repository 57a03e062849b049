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

-- The options of a layer: a table with names of `known` ("size stride"), or nothing.
local function checked(what, options, known)
  if options == nil then return {} end
  if type(options) ~= "table" then error(what .. ": options must be a table, not " .. tostring(options), 3) end
  for name in pairs(options) do
    if not string.find(" " .. known .. " ", " " .. tostring(name) .. " ", 1, true) then
      error(what .. ": there is no option " .. tostring(name) .. "; the options are: " .. (string.gsub(known, " ", ", ")), 3)
    end
  end
  return options
end

-- A number of at least 1 that is an option.
local function whole(what, value, otherwise)
  if value == nil then value = otherwise end
  if math.type(value) ~= "integer" or value < 1 then error(what .. " must be a whole number of at least 1, not " .. tostring(value), 3) end
  return value
end

-- Of layers of pictures, which pass them on to each other.
local picture_options = "groups norm size"

-- ---- products and norms ----

-- weight [out, ...] by its largest singular value as a matrix [out, n], of which each step of training takes one more
-- step of the power iteration (Miyato et al.: Spectral Normalization for Generative Adversarial Networks, 2018).  The
-- vectors are NAME_u, NAME_v: params, so that they are saved with the weights and begin at random; optimisers leave
-- their directions.
local function spectral(name, weight)
  local out = weight.shape[1]
  local w = detach(reshape(weight, out, -1))
  local function unit(v) return v / maximum(sqrt(sum(v * v)), 1e-12) end
  local u_kept = param(name .. "_u", f32(out), { normal = 1 })
  local v_kept = param(name .. "_v", f32(w.shape[2]), { normal = 1 })
  local u, v = unit(updated(u_kept)), unit(updated(v_kept))
  if is_training() then
    v = unit(reshape(matmul(reshape(u, 1, -1), w), -1))
    u = unit(reshape(matmul(w, reshape(v, -1, 1)), -1))
    update(u_kept, u)
    update(v_kept, v)
  end
  u, v = detach(u), detach(v)
  return weight / sum(reshape(u, out, 1) * reshape(weight, out, -1) * v)
end

-- The weight NAME.weight of a layer; with options.spectral_norm NAME.weight_orig, by its largest singular value.
local function weight_of(name, type, init, options)
  if not options.spectral_norm then return param(name .. ".weight", type, init) end
  return spectral(name .. ".weight", param(name .. ".weight_orig", type, init))
end

-- y [..., out] + NAME.bias, unless options.bias is false.
local function biased(name, y, options)
  if options.bias == false then return y end
  return y + param(name .. ".bias", f32(last(y)), "zeros")
end

-- x [..., m, n] -> [..., m, out].  options: bias (true), init ({ uniform = 1 / sqrt(n) }), spectral_norm (false).
function nn.linear(name, x, out, options)
  name = full(name)
  options = checked("linear", options, "bias init spectral_norm")
  local n = constant(last(x), "linear: the width of x")
  local init = options.init or { uniform = 1 / math.sqrt(n) }
  local w = weight_of(name, f32(out, n), init, options)
  -- Of rows, heads and grids alike, only the last axis is mixed: one product over all rows.
  return biased(name, matmul(x, w, { trans_b = true }), options)
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

-- x [b, h, w, c]: every channel of a sample by its mean and variance over the picture.  options: affine (false: no
-- parameters), eps (1e-5).
function nn.instance_norm(name, x, options)
  name = full(name)
  options = checked("instance_norm", options, "affine eps")
  local c = constant(last(x), "instance_norm: the channels of x")
  local gain = options.affine and param(name .. ".weight", f32(c), "ones") or fill(1, f32(c))
  local bias = options.affine and param(name .. ".bias", f32(c), "zeros") or fill(0, f32(c))
  return group_norm(x, gain, bias, { groups = c, eps = options.eps or 1e-5 })
end

-- How many elements these sizes make, a scalar f32: the batch is counted where the function runs.
local function count_of(sizes)
  local known, open = 1, {}
  for _, n in ipairs(sizes) do
    if math.type(n) == "integer" then known = known * n else open[#open + 1] = n end
  end
  return sum(fill(known, f32(open)))
end

-- x [..., c]: every channel by its mean and variance over all else, the batch too, while the model trains; else by
-- their running averages, NAME.running_mean and NAME.running_var, which are params that training updates, so that they
-- are saved with the weights.  options: affine (true), eps (1e-5), momentum (0.1), running (false: by the running ones
-- though the model trains). Ioffe, Szegedy: Batch Normalization, 2015.
function nn.batch_norm(name, x, options)
  name = full(name)
  options = checked("batch_norm", options, "affine eps momentum running")
  local keep = options.momentum or 0.1
  if type(keep) ~= "number" or keep < 0 or keep > 1 then error("batch_norm: momentum must be in [0, 1], not " .. tostring(keep), 2) end
  local c, axes, others = constant(last(x), "batch_norm: the channels of x"), {}, x.shape
  for i = 1, x.rank - 1 do axes[i] = i - 1 end
  others[x.rank] = nil
  local average = param(name .. ".running_mean", f32(c), "zeros")
  local spread = param(name .. ".running_var", f32(c), "ones")
  local centred, variance
  if is_training() and not options.running then
    local centre, count = mean(x, axes), count_of(others)
    centred = x - centre
    variance = mean(centred * centred, axes)
    local unbiased = variance * (count / maximum(count - 1, 1))
    update(average, updated(average) * (1 - keep) + centre * keep)
    update(spread, updated(spread) * (1 - keep) + unbiased * keep)
  else
    centred, variance = x - average, spread
  end
  local y = centred / sqrt(variance + (options.eps or 1e-5))
  if options.affine == false then return y end
  return y * param(name .. ".weight", f32(c), "ones") + param(name .. ".bias", f32(c), "zeros")
end

-- x [b, h, w, c]: group_norm, or with options.norm = "place" the norm of each place over its channels.
function nn.picture_norm(name, x, options)
  options = checked("picture_norm", options, picture_options)
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
  options = checked("feed_forward", options, "inner init out_init")
  local d = constant(last(x), "feed_forward: the width of x")
  return nn.scope(name, function()
    local hidden = gelu(nn.linear("fc1", x, options.inner or 4 * d, { init = options.init }))
    return nn.linear("fc2", hidden, d, { init = options.out_init or options.init })
  end)
end

-- ---- attention ----

-- x [b?, s, h, w, d] sees `context` (x itself when nil).  options: those of attend (heads must be there), and width (of queries over all heads;
-- d, of which keys and values have kv_heads / heads), init, out_init, bias.
function nn.attention(name, x, context, options)
  options = checked("attention", options, "heads kv_heads scale mask kind extent causal edge width init out_init bias")
  context = context or x
  local d = constant(last(x), "attention: the width of x")
  local width, key_width = options.width or d, options.width or d
  if options.kv_heads and options.heads then key_width = width * options.kv_heads // options.heads end
  local layer = { init = options.init, bias = options.bias }
  return nn.scope(name, function()
    local q = nn.linear("q", x, width, layer)
    local k = nn.linear("k", context, key_width, layer)
    local v = nn.linear("v", context, key_width, layer)
    local y = attend(q, k, v, {
      heads = options.heads, kv_heads = options.kv_heads, scale = options.scale, mask = options.mask,
      kind = options.kind, extent = options.extent, causal = options.causal, edge = options.edge })
    return nn.linear("out", y, d, { init = options.out_init or options.init, bias = options.bias })
  end)
end

-- One layer of an encoder or decoder with norms before: self-attention, plus cross-attention to `context` when
-- there is one (both on the normed input and added, as in NUWA's Y(l)), then feed-forward.  options: self, cross
-- (tables for nn.attention), inner, init, out_init.
function nn.block(name, x, context, options)
  options = checked("block", options, "self cross inner init out_init")
  local mlp = { inner = options.inner, init = options.init, out_init = options.out_init }
  return nn.scope(name, function()
    local normed = nn.layer_norm("norm1", x)
    local mixed = nn.attention("self", normed, nil, options.self)
    if context then mixed = mixed + nn.attention("cross", normed, context, options.cross) end
    x = x + mixed
    return x + nn.feed_forward("mlp", nn.layer_norm("norm2", x), mlp)
  end)
end

-- ---- pictures [b, h, w, c] ----

-- Two numbers of a table { h, w }, or one for both.
local function pair(value, otherwise, what)
  if value == nil then value = otherwise end
  local list = type(value) == "table" and value or { value, value }
  if #list ~= 2 or math.type(list[1]) ~= "integer" or math.type(list[2]) ~= "integer" then
    error(what .. " must be a number or a table { h, w }", 3)
  end
  return list[1], list[2]
end

-- What each place of a kernel of kh x kw meets: x [b, h, w, c] -> kh * kw tensors [b, oh, ow, c], row by row.
local function taps(x, kh, kw, stride, dilation)
  local list = {}
  local h, w = x.shape[2] - (kh - 1) * dilation, x.shape[3] - (kw - 1) * dilation
  for ky = 0, kh - 1 do
    local rows = slice(x, 1, ky * dilation, ky * dilation + h, stride)
    for kx = 0, kw - 1 do list[#list + 1] = slice(rows, 2, kx * dilation, kx * dilation + w, stride) end
  end
  return list
end

-- One channel in, a few out: a chain of fma over the places of the kernel, as conv2d's.  w [kh * kw, out]
local function depthwise(places, w, times)
  local y
  for i, x in ipairs(places) do
    if times > 1 then x = repeat_interleave(x, times, -1) end
    local row = slice(w, 0, i - 1, i)
    y = y and fma(x, reshape(row, -1), y) or x * reshape(row, -1)
  end
  return y
end

-- All groups as one product with a batch of groups.  w [groups, kh * kw * c, out]
local function grouped(places, w)
  local groups, n, out = table.unpack(w.shape)
  local b, oh, ow, channels = table.unpack(places[1].shape)
  local rows = transpose(reshape(stack(places, 3), b, oh, ow, #places, groups, channels // groups), 4, 0, 1, 2, 3, 5)
  local y = matmul(reshape(rows, groups, b * oh * ow, n), w)
  return reshape(transpose(reshape(y, groups, b, oh, ow, out), 1, 2, 3, 0, 4), b, oh, ow, groups * out)
end

-- convolve(x), a convolution of stride 1, dilated: over every d-th row and column, for each place to begin.
local function dilated(x, d, convolve)
  local b, h, w, c = table.unpack(x.shape)
  local rows, columns = (h + d - 1) // d, (w + d - 1) // d
  x = pad(x, { lo = { 0, 0, 0, 0 }, hi = { 0, rows * d - h, columns * d - w, 0 } })
  x = transpose(reshape(x, b, rows, d, columns, d, c), 2, 4, 0, 1, 3, 5)
  local y = convolve(reshape(x, b * (d * d), rows, columns, c))
  local _, oh, ow, out = table.unpack(y.shape)
  return reshape(transpose(reshape(y, d, d, b, oh, ow, out), 2, 3, 0, 4, 1, 5), b, oh * d, ow * d, out)
end

-- x [b, h, w, c], weight [out, c / groups, kh, kw]
local function convolve(x, weight, stride, dilation, groups)
  local out, c, kh, kw = table.unpack(weight.shape)
  if groups == 1 then
    local kernel = transpose(weight, 2, 3, 1, 0)
    if dilation == 1 then return conv2d(x, kernel, { stride = stride }) end
    local y = dilated(x, dilation, function(part) return conv2d(part, kernel) end)
    local h, w = x.shape[2] - (kh - 1) * dilation, x.shape[3] - (kw - 1) * dilation
    return slice(slice(y, 1, 0, h, stride), 2, 0, w, stride)
  end
  local places = taps(x, kh, kw, stride, dilation)
  if c == 1 then return depthwise(places, reshape(transpose(weight, 2, 3, 1, 0), kh * kw, out), out // groups) end
  local by_group = reshape(weight, groups, out // groups, c, kh, kw)
  return grouped(places, reshape(transpose(by_group, 0, 3, 4, 2, 1), groups, kh * kw * c, out // groups))
end

-- A convolution.  options: size (3), stride (1), padding (dilation * (size - 1) // 2, which keeps odd sizes; or a table { top, bottom, left,
-- right }), dilation (1), groups (1; the channels of x: depth-wise), bias (true), init, spectral_norm (false).  size
-- may be { h, w }.
function nn.conv(name, x, out, options)
  name = full(name)
  options = checked("conv", options, "size stride padding dilation groups bias init spectral_norm")
  local kh, kw = pair(options.size, 3, "conv: size")
  local stride, groups = whole("conv: stride", options.stride, 1), whole("conv: groups", options.groups, 1)
  local dilation = whole("conv: dilation", options.dilation, 1)
  if x.rank ~= 4 then error("conv: x must be [b, h, w, c], not " .. tostring(x), 2) end
  local c = constant(last(x), "conv: the channels of x")
  if c % groups ~= 0 or out % groups ~= 0 then
    error("conv: " .. groups .. " groups must divide the channels, " .. c .. " and " .. out, 2)
  end
  local v, u = dilation * (kh - 1) // 2, dilation * (kw - 1) // 2
  local p = options.padding or { v, v, u, u }
  if type(p) == "number" then p = { p, p, p, p } end
  if type(p) ~= "table" or #p ~= 4 then error("conv: padding must be a number or a table { top, bottom, left, right }", 2) end
  local init = options.init or { uniform = 1 / math.sqrt(c // groups * kh * kw) }
  local w = weight_of(name, f32(out, c // groups, kh, kw), init, options)
  if p[1] ~= 0 or p[2] ~= 0 or p[3] ~= 0 or p[4] ~= 0 then
    x = pad(x, { lo = { 0, p[1], p[3], 0 }, hi = { 0, p[2], p[4], 0 } })
  end
  return biased(name, convolve(x, w, stride, dilation, groups), options)
end

-- One convolution for all elements of a square of stride x stride: of the places s q + r of the result, those of one r
-- read the elements s j + r of the kernel.  x [b, h, w, c], weight [c, out, kh, kw], whose ends are filled up with
-- zeros.
local function spread(x, weight, s, padding, more)
  local b, h, w, c = table.unpack(x.shape)
  local _, out, kh, kw = table.unpack(weight.shape)
  local m, n = (kh + s - 1) // s, (kw + s - 1) // s
  weight = pad(weight, { lo = { 0, 0, 0, 0 }, hi = { 0, 0, m * s - kh, n * s - kw } })
  weight = transpose(reverse(reshape(weight, c, out, m, s, n, s), { 2, 4 }), 2, 4, 0, 3, 5, 1)
  x = pad(x, { lo = { 0, m - 1, n - 1, 0 }, hi = { 0, m - 1, n - 1, 0 } })
  local y = conv2d(x, reshape(weight, m, n, c, s * s * out))
  h, w = h + m - 1, w + n - 1
  y = reshape(transpose(reshape(y, b, h, w, s, s, out), 0, 1, 3, 2, 4, 5), b, h * s, w * s, out)
  local bottom, right = (h - m) * s + kh - padding + more, (w - n) * s + kw - padding + more
  y = pad(y, { lo = { 0, 0, 0, 0 }, hi = { 0, math.max(bottom - h * s, 0), math.max(right - w * s, 0), 0 } })
  return slice(slice(y, 1, padding, bottom), 2, padding, right)
end

-- The transpose of a convolution of that stride: [b, h, w, c] -> [b, (h - 1) stride + size - 2 padding +
-- output_padding, ..., out].  options: size (4), stride (2), padding (1), output_padding (0), bias (true), init.
-- NAME.weight is [c, out, h, w].
function nn.conv_transpose2d(name, x, out, options)
  name = full(name)
  options = checked("conv_transpose2d", options, "size stride padding output_padding bias init")
  local kh, kw = pair(options.size, 4, "conv_transpose2d: size")
  local stride, p, more = whole("conv_transpose2d: stride", options.stride, 2), options.padding or 1, options.output_padding or 0
  if x.rank ~= 4 then error("conv_transpose2d: x must be [b, h, w, c], not " .. tostring(x), 2) end
  if p >= kh or p >= kw then error("conv_transpose2d: the padding must be below the size", 2) end
  local c = constant(last(x), "conv_transpose2d: the channels of x")
  local w = param(name .. ".weight", f32(c, out, kh, kw), options.init or { uniform = 1 / math.sqrt(out * kh * kw) })
  return biased(name, spread(x, w, stride, p, more), options)
end

-- A convolution over frames, rows and columns, as a sum over frames: x [b, s, h, w, c] -> [b, s', h', w', out].
-- options: size (3, or { s, h, w }), stride (1, or { s, of both h and w }), padding ((size - 1) / 2, or { s, h, w }),
-- bias (true), init. NAME.weight is [out, c, s, h, w].
function nn.conv3d(name, x, out, options)
  name = full(name)
  options = checked("conv3d", options, "size stride padding bias init")
  local size, stride, p = options.size or 3, options.stride or 1, options.padding
  if type(size) == "number" then size = { size, size, size } end
  if type(stride) == "number" then stride = { stride, stride } end
  if #size ~= 3 or #stride ~= 2 then error("conv3d: size is a number or { s, h, w }, stride a number or { s, of h and w }", 2) end
  if p == nil then p = { (size[1] - 1) // 2, (size[2] - 1) // 2, (size[3] - 1) // 2 } end
  if type(p) == "number" then p = { p, p, p } end
  if x.rank ~= 5 then error("conv3d: x must be [b, s, h, w, c], not " .. tostring(x), 2) end
  local c = constant(last(x), "conv3d: the channels of x")
  local init = options.init or { uniform = 1 / math.sqrt(c * size[1] * size[2] * size[3]) }
  local w = param(name .. ".weight", f32(out, c, size[1], size[2], size[3]), init)
  local wide = pad(x, { lo = { 0, p[1], p[2], p[3], 0 }, hi = { 0, p[1], p[2], p[3], 0 } })
  local b, s, h, v = table.unpack(wide.shape)
  local y, count = nil, s - size[1] + 1
  for k = 0, size[1] - 1 do
    local frames = slice(wide, 1, k, k + count, stride[1])
    local n = frames.shape[2]
    local kernel = transpose(reshape(slice(w, 2, k, k + 1), out, c, size[2], size[3]), 2, 3, 1, 0)
    local part = conv2d(reshape(frames, b * n, h, v, c), kernel, { stride = stride[2] })
    y = y and y + part or part
  end
  local n = (count - 1) // stride[1] + 1
  return biased(name, reshape(y, b, n, y.shape[2], y.shape[3], out), options)
end

-- ---- pooling: pictures [b, h, w, c], clips [b, s, h, w, c] ----

-- Windows along the axes from 1 on, one axis after the other, joined by `join`; what is off the edge is `outside`.
local function pooled(x, size, options, outside, join, what)
  if math.type(size) ~= "integer" or size < 1 then
    error(what .. ": size must be a whole number, not " .. tostring(size), 3)
  end
  options = checked(what, options, "stride padding")
  local stride, p = whole(what .. ": stride", options.stride, size), options.padding or 0
  if 2 * p > size then error(what .. ": the padding must be at most half the size", 3) end
  local lo, axes = {}, x.rank - 2
  for i = 1, x.rank do lo[i] = i > 1 and i < x.rank and p or 0 end
  if p > 0 then x = pad(x, { lo = lo, hi = lo, value = outside }) end
  for axis = axes, 1, -1 do
    local count, y = x.shape[axis + 1] - size + 1, nil
    if count < 1 then error(what .. ": the window is larger than x", 3) end
    for k = 0, size - 1 do
      local part = slice(x, axis, k, k + count, stride)
      y = y and join(y, part) or part
    end
    x = y
  end
  return x
end

local function check_rank(x, rank, what)
  if x.rank ~= rank then
    error(what .. ": x must be " .. (rank == 4 and "[b, h, w, c]" or "[b, s, h, w, c]") .. ", not " .. tostring(x), 3)
  end
end

local function max_pool(x, size, options, what)
  return pooled(x, size, options, -math.huge, maximum, what)
end

-- The padding counts as elements of 0, as PyTorch's does unless told otherwise: options.count_pad = false.
local function avg_pool(x, size, options, what)
  options = checked(what, options, "stride padding count_pad")
  local window = { stride = options.stride, padding = options.padding }
  local function summed(y) return pooled(y, size, window, 0, function(a, b) return a + b end, what) end
  if options.count_pad ~= false then return summed(x) / size ^ (x.rank - 2) end
  local ones = x.shape
  ones[1], ones[x.rank] = 1, 1
  return summed(x) / summed(fill(1, f32(ones)))
end

-- The largest element, or the mean, of windows of size x size.  options: stride (size), padding (0); of means, count_pad
-- (true).
function nn.max_pool2d(x, size, options)
  check_rank(x, 4, "max_pool2d")
  return max_pool(x, size, options, "max_pool2d")
end

function nn.avg_pool2d(x, size, options)
  check_rank(x, 4, "avg_pool2d")
  return avg_pool(x, size, options, "avg_pool2d")
end

-- Windows over frames too: x [b, s, h, w, c].
function nn.max_pool3d(x, size, options)
  check_rank(x, 5, "max_pool3d")
  return max_pool(x, size, options, "max_pool3d")
end

function nn.avg_pool3d(x, size, options)
  check_rank(x, 5, "avg_pool3d")
  return avg_pool(x, size, options, "avg_pool3d")
end

-- One axis in `out` windows, window i from floor(i n / out) to ceil((i + 1) n / out).
local function adapted(x, axis, out, reduce, what)
  local shape = x.shape
  local n = constant(shape[axis + 1], what .. ": a side of x")
  if n % out == 0 then
    shape[axis + 1] = out
    table.insert(shape, axis + 2, n // out)
    return reduce(reshape(x, shape), axis + 1)
  end
  local parts = {}
  for i = 0, out - 1 do
    parts[i + 1] = reduce(slice(x, axis, i * n // out, ((i + 1) * n + out - 1) // out), { axis, keep = true })
  end
  return concat(parts, axis)
end

-- x [b, h, w, c] -> [b, out, out, c], or of out = { h, w }: means, or largest elements, whose gradient goes in equal
-- parts to those that are equal.
function nn.adaptive_avg_pool2d(x, out)
  check_rank(x, 4, "adaptive_avg_pool2d")
  local h, w = pair(out, nil, "adaptive_avg_pool2d: out")
  return adapted(adapted(x, 2, w, mean, "adaptive_avg_pool2d"), 1, h, mean, "adaptive_avg_pool2d")
end

function nn.adaptive_max_pool2d(x, out)
  check_rank(x, 4, "adaptive_max_pool2d")
  local h, w = pair(out, nil, "adaptive_max_pool2d: out")
  return adapted(adapted(x, 2, w, max, "adaptive_max_pool2d"), 1, h, max, "adaptive_max_pool2d")
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
  options = checked("residual", options, picture_options)
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
  options = checked("picture_attention", options, picture_options)
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

-- The mean of -log softmax(logits)[target]: logits [..., n], target i32 [...] -> a scalar.  Where the target is
-- options.ignore nothing counts: the mean is over the others, 0 if there are none.
function nn.cross_entropy(logits, target, options)
  if options ~= nil then checked("cross_entropy", options, "ignore") end
  local losses = cross_entropy(logits, target, options)
  if options == nil then return mean(losses) end
  return sum(losses) / maximum(sum(cast(ne(target, options.ignore), f32)), 1)
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

-- Puts rows of a codebook [n, d] that no vector used for `window` steps on vectors of the batch; all of them, as long as the
-- codebook is what { uniform = 1 / n } made it.  vectors [..., d], codes i32 [...] as nearest_code gives them.  A row takes the
-- vector that is farthest from its code among `among` (1) drawn at random: with more, rows go where they are needed most.
-- For the body of a training step.  Gives u8 [n]: which rows were.
function nn.revive(name, codebook, vectors, codes, window, among)
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
  local function draw(stream) return cast(floor(uniform(f32(n), stream) * cast(sum(one), f32)), i32) end
  local place = draw(name .. ".revive")
  if (among or 1) > 1 then
    local apart = rows - detach(gather(codebook, reshape(codes, -1)))
    local errors = reshape(sum(apart * apart, { -1, keep = true }), -1, 1)
    local worst = reshape(gather(errors, place), n)
    for i = 2, among do
      local other = draw(name .. ".revive." .. i)
      local error = reshape(gather(errors, other), n)
      place, worst = select(lt(worst, error), other, place), maximum(worst, error)
    end
  end
  local fresh = gather(rows, place)
  update(codebook, select(reshape(is_dead, n, 1), fresh, updated(codebook)))
  return is_dead
end

-- Puts the rows of a codebook [n, d] on the averages of the vectors that use them: each step a share 1 - decay (0.99)
-- of the count and the sum of this batch's.  A row that no vector of the batch uses stays.  options: decay, and window,
-- that of nn.revive (none).  For the body of a training step, whose loss then is the commitment alone; see nn.revive
-- for the rest (options.among, too). van den Oord, Vinyals, Kavukcuoglu: Neural Discrete Representation Learning, 2017, appendix A.1.
function nn.average_codes(name, codebook, vectors, codes, options)
  options = checked("average_codes", options, "decay window among")
  local decay, n, d = options.decay or 0.99, codebook.shape[1], codebook.shape[2]
  local place, rows = reshape(codes, -1), detach(reshape(vectors, -1, d))
  local count = state(full(name) .. ".cluster_size", f32(n), { shared = true })
  local total = state(full(name) .. ".embed_avg", f32(n, d), { shared = true })
  local uses = scatter_add(place, cast(place * 0 + 1, f32), n)
  local counted = updated(count) * decay + uses * (1 - decay)
  local summed = updated(total) * decay + scatter_add(place, rows, n) * (1 - decay)
  local is_used = reshape(lt(0, uses), n, 1)
  local average = summed / reshape(select(lt(0, uses), counted, 1), n, 1)
  update(codebook, select(is_used, average, updated(codebook)))
  if options.window then
    local is_dead = nn.revive(name, codebook, vectors, codes, options.window, options.among)
    counted, summed = select(is_dead, 0, counted), select(reshape(is_dead, n, 1), 0, summed)
  end
  update(count, counted)
  update(total, summed)
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

-- ---- what networks that were trained elsewhere have (models/metrics) ----

-- The GELU of CLIP and GPT-1, x sigmoid(1.702 x).
function nn.quick_gelu(x) return x * sigmoid(x * 1.702) end

-- Zeros around all axes but the first and the last, as TensorFlow's padding SAME has them: windows of that size and stride
-- then give ceil(n / stride) elements; what an odd sum leaves over is behind.
function nn.pad_same(x, size, stride)
  local lo, hi = {}, {}
  for i, n in ipairs(x.shape) do
    local sum = 0
    if i > 1 and i < x.rank then
      n = constant(n, "pad_same: a side of x")
      sum = math.max((n + stride - 1) // stride * stride - stride + size - n, 0)
    end
    lo[i], hi[i] = sum // 2, sum - sum // 2
  end
  return pad(x, { lo = lo, hi = hi })
end

-- How n elements of an axis make `out`, between the nearest two: [out, n], rows of sum 1.
local function between(n, out)
  local at = (cast(iota(i32(out, 1), 0), f32) + 0.5) * (n / out) - 0.5
  return maximum(1 - abs(clamp(at, 0, n - 1) - cast(iota(i32(n), 0), f32)), 0)
end

-- x [b, h, w, c] -> [b, out, out, c], or of out = { h, w }: bilinear, as PyTorch's F.interpolate without align_corners, which
-- sees two elements of an axis alone where it shrinks, too.
function nn.resize(x, out)
  check_rank(x, 4, "resize")
  local h, w = pair(out, nil, "resize: out")
  local rows = between(constant(x.shape[2], "resize: the height of x"), h)
  local columns = between(constant(x.shape[3], "resize: the width of x"), w)
  local y = matmul(transpose(x, 0, 3, 1, 2), columns, { trans_b = true })
  return transpose(matmul(transpose(y, 0, 1, 3, 2), rows, { trans_b = true }), 0, 3, 2, 1)
end

return nn
