-- Functions of tensors that are made of ops, for every model without `require`; x:clamp(0, 1) works as for ops.
-- Gradients follow from the ops, so where a function bends it is written to give the right one there too. docs/lua.md
-- has the table of all.

local abs, argmax, broadcast, cast, concat = abs, argmax, broadcast, cast, concat
local eq, exp, fill, iota, le, log1p, lt = eq, exp, fill, iota, le, log1p, lt
local max, maximum, minimum, pad, reshape = max, maximum, minimum, pad, reshape
local select, slice, sqrt, tanh = select, slice, sqrt, tanh
local error, ipairs, math, table, tostring, type = error, ipairs, math, table, tostring, type

local cross_entropy, pow = cross_entropy, pow
local is_tensor = ...

local ops = {}

-- ---- what they share ----

local function check_tensor(x, what)
  if not is_tensor(x) then error(what .. ": needs a tensor, not " .. tostring(x), 3) end
  return x
end

local function is_float(x) return x.dtype == "f32" or x.dtype == "bf16" end

local function check_float(x, what)
  if not is_float(check_tensor(x, what)) then error(what .. ": needs f32 or bf16, has " .. tostring(x), 3) end
  return x
end

-- compute(x) in f32, rounded once.
local function wide(x, compute)
  if x.dtype ~= "bf16" then return compute(x) end
  return cast(compute(cast(x, "f32")), "bf16")
end

-- Place of an axis in a list of `rank` sizes, from 1.
local function place_of(axis, rank, what)
  if math.type(axis) ~= "integer" or axis < -rank or axis >= rank then
    error(what .. ": there is no axis " .. tostring(axis) .. " among " .. rank ..
          " (axes are counted from 0, or from the end with -1)", 3)
  end
  return axis < 0 and axis + rank + 1 or axis + 1
end

local function check_whole(n, least, what)
  if math.type(n) ~= "integer" or n < least then
    error(what .. " must be a whole number of at least " .. least .. ", not " .. tostring(n), 3)
  end
  return n
end

-- The sizes of x before, at and behind a place, multiplied: views of three axes.
local function folded(x, place)
  local before, behind, shape = 1, 1, x.shape
  for i, n in ipairs(shape) do
    if i < place then before = before * n elseif i > place then behind = behind * n end
  end
  return before, shape[place], behind
end

-- ---- comparisons: u8 0 or 1, with a NaN 0, and ne 1 ----

function ops.gt(x, y) return lt(y, x) end
function ops.ge(x, y) return le(y, x) end
function ops.ne(x, y) return eq(eq(x, y), 0) end

function ops.where(condition, x, y) return select(check_tensor(condition, "where"), x, y) end

-- ---- maps ----

-- Products up to this power: n of them round n times at most, as much as exp(n log x) does.
local MOST_PRODUCTS = 64

local function power(x, n)
  local y
  while n > 0 do
    if n % 2 == 1 then y = y and y * x or x end
    n = n // 2
    if n > 0 then x = x * x end
  end
  return y
end

-- x to the power of a number.
local function pow_number(x, y)
  local n = math.tointeger(y)
  if n == 0 then return fill(1, x) end
  if n and n > 0 and n <= MOST_PRODUCTS then return power(x, n) end
  if not is_float(x) then
    error("pow: " .. x.dtype .. " takes a power from 0 to " .. MOST_PRODUCTS .. ", not " .. tostring(y), 3)
  end
  if n and n < 0 and n >= -MOST_PRODUCTS then return power(1 / x, -n) end
  if y == 0.5 then return sqrt(x) end
  if y == -0.5 then return 1 / sqrt(x) end
end

-- Small whole powers are products, so that integers have them and the gradients at 0 are right.
function ops.pow(x, y)
  return type(y) == "number" and is_tensor(x) and pow_number(x, y) or pow(x, y)
end

-- Bounds are numbers or tensors; nil: none.  What is on a bound has its gradient, which is none.
function ops.clamp(x, lo, hi)
  check_tensor(x, "clamp")
  if lo == nil and hi == nil then error("clamp: needs a bound", 2) end
  if lo ~= nil then x = maximum(lo, x) end
  return hi ~= nil and minimum(hi, x) or x
end

function ops.leaky_relu(x, slope)
  return select(lt(0, check_float(x, "leaky_relu")), x, x * (slope or 0.01))
end

-- log(1 + exp(x)) = max(0, x) + log1p(exp(-|x|)), relatively right in both tails.  At 0 the maximum's gradient is 0,
-- the other term's 1/2.
local function softplus(x)
  return wide(x, function(v) return maximum(0, v) + log1p(exp(minimum(v, -v))) end)
end

function ops.softplus(x) return softplus(check_float(x, "softplus")) end
function ops.log_sigmoid(x) return -softplus(-check_float(x, "log_sigmoid")) end

-- exp(x) - 1 = 2 t / (1 - t), t = tanh(x / 2): nothing cancels below 0.
function ops.elu(x, alpha)
  return wide(check_float(x, "elu"), function(v)
    local t = tanh(minimum(v, 0) * 0.5)
    return select(lt(0, v), v, 2 * t / (1 - t) * (alpha or 1))
  end)
end

-- ---- reductions ----

-- As max is.  The complement of an integer is exact where its negative is not.
function ops.min(x, ...)
  if is_float(check_tensor(x, "min")) then return -max(-x, ...) end
  local all = x.dtype == "u8" and 255 or -1
  return all - max(all - x, ...)
end

-- Sums of the elements up to each.  Element i is a tree of additions that depends on i alone, neither on the length of
-- the axis nor on what is behind it: in step k what stands 2^k before is added.
function ops.cumsum(x, axis)
  local shape = check_tensor(x, "cumsum").shape
  local place = place_of(axis or -1, #shape, "cumsum")
  local n = shape[place]
  if math.type(n) ~= "integer" then error("cumsum: the axis must have a constant size, not " .. tostring(n), 2) end
  local lo, hi, none = {}, {}, is_float(x) and -0.0 or 0
  for i = 1, #shape do lo[i], hi[i] = 0, 0 end
  return wide(x, function(y)
    local step = 1
    while step < n do
      lo[place] = step
      y = y + pad(slice(y, place - 1, 0, n - step), { lo = lo, hi = hi, value = none })
      step = step * 2
    end
    return y
  end)
end

-- options.ignore: where the target is that, the result is 0, and nothing has a gradient.
function ops.cross_entropy(logits, target, options)
  local losses = cross_entropy(logits, target)
  if options == nil then return losses end
  local ignored = check_whole(options.ignore, math.mininteger, "cross_entropy: options.ignore")
  return select(eq(target, ignored), 0, losses)
end

-- ---- moves ----

-- Tensors of one shape, along a new axis.
function ops.stack(list, axis)
  if type(list) ~= "table" or #list == 0 then error("stack: needs a list of tensors, not " .. tostring(list), 2) end
  local parts, place = {}, place_of(axis or 0, check_tensor(list[1], "stack").rank + 1, "stack")
  for i, x in ipairs(list) do
    if check_tensor(x, "stack").rank ~= list[1].rank then
      error("stack: the shapes differ: " .. tostring(list[1]) .. " and " .. tostring(x), 2)
    end
    local shape = x.shape
    table.insert(shape, place, 1)
    parts[i] = reshape(x, shape)
  end
  return concat(parts, place - 1)
end

-- A list of parts: of the given size each, the last what is left; or of the sizes of a list.
function ops.split(x, size, axis)
  axis = axis or 0
  local n = x.shape[place_of(axis, check_tensor(x, "split").rank, "split")]
  local sizes = size
  if type(size) ~= "table" then
    check_whole(size, 1, "split: the size of a part")
    if math.type(n) ~= "integer" then error("split: an axis of " .. tostring(n) .. " needs a list of sizes", 2) end
    sizes = {}
    for at = 0, n - 1, size do sizes[#sizes + 1] = math.min(size, n - at) end
  end
  local parts, at = {}, 0
  for i, width in ipairs(sizes) do
    parts[i] = slice(x, axis, at, at + width)
    at = at + width
  end
  if at ~= n then error("split: the sizes sum to " .. tostring(at) .. ", the axis has " .. tostring(n), 2) end
  return parts
end

-- One copy behind the other: x [n] -> [times * n].
local function copied(x, times, place)
  local before, n, behind = folded(x, place)
  local shape = x.shape
  shape[place] = shape[place] * times
  return reshape(broadcast(reshape(x, before, 1, n * behind), before, times, n * behind), shape)
end

-- As often along each axis as the numbers say: tile(x, 2, 3), tile(x, { 2, 3 }).  The last number is the last axis';
-- there are new axes in front for more numbers than axes.
function ops.tile(x, ...)
  check_tensor(x, "tile")
  local first = ...
  local times = type(first) == "table" and first or { ... }
  local shape, extra = x.shape, #times - x.rank
  for _ = 1, extra do table.insert(shape, 1, 1) end
  if extra > 0 then x = reshape(x, shape) end
  for i, n in ipairs(times) do
    check_whole(n, 1, "tile: how often")
    if n ~= 1 then x = copied(x, n, #shape - #times + i) end
  end
  return x
end

-- Each element `times` times, one after the other.
function ops.repeat_interleave(x, times, axis)
  check_tensor(x, "repeat_interleave")
  check_whole(times, 1, "repeat_interleave: how often")
  local place = place_of(axis or -1, x.rank, "repeat_interleave")
  local before, n, behind = folded(x, place)
  local shape = x.shape
  shape[place] = n * times
  return reshape(broadcast(reshape(x, before * n, 1, behind), before * n, times, behind), shape)
end

-- index [...] -> f32 [..., n]: 1 at the index, else 0; all 0 for an index outside of [0, n).
function ops.one_hot(index, n)
  check_whole(n, 1, "one_hot: the number of classes")
  if is_float(check_tensor(index, "one_hot")) then error("one_hot: needs whole numbers, has " .. tostring(index), 2) end
  local shape = index.shape
  shape[#shape + 1] = 1
  return cast(eq(reshape(cast(index, "i32"), shape), iota(i32(n), 0)), "f32")
end

return ops
