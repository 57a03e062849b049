-- Optimisers and schedules: functions from a loss to one step of training, in the ops that models are written in.
--
--   train = { { "main", optim.adam(loss, { lr = optim.cosine(3e-4, 0.05), clip = 1.0 }) } }
--
-- `loss` is a function made by fn with a scalar output "loss"; the step has its inputs and `step`, `steps`, gives its scalar
-- outputs and grad_norm, lr, and moves the params that the loss depends on.
--
-- Options of every optimiser:
--   lr            a number, or a schedule
--   params        a pattern, or a list of patterns, of the names of the params to move (all)
--   clip          largest norm of the whole gradient (no limit)
--   clip_value    largest absolute value of an element of it (no limit)
--   accumulate    steps whose gradients are averaged for one move (1); grad_norm is that of what there is of the average so far
-- What the model's own updates left in a param (updated(p)) is where it moves from.

local optim = {}

-- ---- schedules: (step, steps), f32 scalars, -> the rate ----

local pi = 3.14159265358979323846

local function warmed(lr, warmup, after)
  warmup = warmup or 0
  if warmup < 0 or warmup > 1 then error("warm-up is a share of the steps, between 0 and 1, not " .. tostring(warmup), 3) end
  return function(step, steps)
    local warm = floor(steps * warmup + 0.5)
    local share = maximum((step - warm) / maximum(steps - warm, 1.0), 0.0)
    return lr * select(le(step, warm), step / maximum(warm, 1.0), after(share, step))
  end
end

-- Rises linearly over `warmup` (a share of the steps), then stays.
function optim.constant(lr, warmup)
  return warmed(lr, warmup, function(share) return share * 0.0 + 1.0 end)
end

-- Then falls as half a cosine to `last` (a share of lr; 0).
function optim.cosine(lr, warmup, last)
  last = last or 0
  return warmed(lr, warmup, function(share) return last + (1 - last) * 0.5 * (1.0 + cos(share * pi)) end)
end

-- Then falls linearly to `last` (a share of lr; 0).
function optim.linear(lr, warmup, last)
  last = last or 0
  return warmed(lr, warmup, function(share) return 1.0 - (1 - last) * share end)
end

-- Then is multiplied by `factor` every `every` steps, counted from the first.
function optim.steps(lr, every, factor, warmup)
  if math.type(every) ~= "integer" or every < 1 then error("steps: `every` is a number of steps, not " .. tostring(every), 2) end
  if factor <= 0 then error("steps: `factor` must be above 0, not " .. tostring(factor), 2) end
  local slope = math.log(factor)
  return warmed(lr, warmup, function(_, step) return exp(floor((step - 1.0) / every) * slope) end)
end

-- ---- what all optimisers share ----

local function merged(options, defaults, what)
  local o = {}
  local shared = { lr = 0, params = false, clip = 0, clip_value = 0, accumulate = 1 }
  for name, value in pairs(defaults) do o[name] = value end
  for name, value in pairs(options or {}) do
    if defaults[name] == nil and shared[name] == nil then
      local known = {}
      for k in pairs(defaults) do known[#known + 1] = k end
      for k in pairs(shared) do if defaults[k] == nil then known[#known + 1] = k end end
      table.sort(known)
      error(what .. ": there is no option " .. tostring(name) .. "; the options are: " .. table.concat(known, ", "), 4)
    end
    o[name] = value
  end
  for name in pairs(shared) do
    if o[name] == nil then o[name] = shared[name] end
  end
  if o.lr == 0 and (options or {}).lr == nil then error(what .. ": needs lr", 4) end
  for name, default in pairs(defaults) do
    if type(o[name]) ~= type(default) then error(what .. ": " .. name .. " must be a " .. type(default) .. ", not " .. tostring(o[name]), 4) end
  end
  for _, name in ipairs { "clip", "clip_value" } do
    if type(o[name]) ~= "number" or not (o[name] >= 0) then error(what .. ": " .. name .. " must be a number, 0 for no limit, not " .. tostring(o[name]), 4) end
  end
  if type(o.lr) ~= "number" and type(o.lr) ~= "function" then
    error(what .. ": lr must be a number or a schedule, not " .. tostring(o.lr), 4)
  end
  if type(o.lr) == "number" and not (o.lr >= 0) then error(what .. ": lr must not be negative: " .. tostring(o.lr), 4) end
  -- Shares: of what was before, or of the whole.
  for _, name in ipairs { "momentum", "beta1", "beta2" } do
    if o[name] ~= nil and not (o[name] >= 0 and o[name] < 1) then
      error(what .. ": " .. name .. " must be in [0, 1), not " .. tostring(o[name]), 4)
    end
  end
  for _, name in ipairs { "eps", "threshold", "min_scale" } do
    if o[name] ~= nil and not (o[name] > 0) then error(what .. ": " .. name .. " must be above 0, not " .. tostring(o[name]), 4) end
  end
  if o.nesterov and o.momentum == 0 then error(what .. ": nesterov has no effect without momentum", 4) end
  if math.type(o.accumulate) ~= "integer" or o.accumulate < 1 then
    error(what .. ": accumulate is a number of steps, not " .. tostring(o.accumulate), 4)
  end
  return o
end

local function all(x)
  local axes = {}
  for i = 1, x.rank do axes[i] = i - 1 end
  return axes
end

local function sum_of_squares(x)
  if x.rank == 0 then return x * x end
  return sum(x * x, all(x))
end

local function global_norm(gs)
  local total
  for _, g in ipairs(gs) do total = total and total + sum_of_squares(g) or sum_of_squares(g) end
  return sqrt(total)
end

local function clipped(gs, norm, o)
  local out = {}
  for i, g in ipairs(gs) do
    if o.clip > 0 then g = g * (o.clip / maximum(norm, o.clip)) end
    if o.clip_value > 0 then g = minimum(maximum(g, -o.clip_value), o.clip_value) end
    out[i] = g
  end
  return out
end

-- grad_norm is not finite where what these write is not.
local by_norm = { shown = true }

local function named(kind, p) return state(kind .. "." .. p.name, p) end

-- The mean of `n` gradients, and whether this step has the last of them (u8).
local function accumulated(ps, gs, n)
  local count = state("accumulated", i32())
  local is_last = eq(count, n - 1)
  local out = {}
  for i, g in ipairs(gs) do
    local sum_before = named("sum", ps[i])
    local total = sum_before + g
    update(sum_before, select(is_last, total * 0.0, total), by_norm)
    out[i] = total * (1 / n)
  end
  update(count, select(is_last, count * 0, count + 1))
  return out, is_last
end

-- rule(p, g, move, t) gives the new param, and makes its states move by move(state, value); t: moves with this one, f32.
local function optimiser(what, loss_fn, options, defaults, rule)
  local o = merged(options, defaults, what)
  local inputs = {}
  for name, type in pairs(loss_fn.inputs) do inputs[name] = type end
  inputs.step, inputs.steps = i32(), i32()
  local patterns = type(o.params) == "string" and { o.params } or o.params or {}
  return fn(inputs, function(x)
    local given, out = {}, {}
    for name in pairs(loss_fn.inputs) do given[name] = x[name] end
    for name, y in pairs(loss_fn(given)) do
      if y.rank == 0 then out[name] = y end
    end
    if not out.loss then error(what .. ": the function has no scalar output \"loss\"", 0) end
    local ps = parameters(out.loss, table.unpack(patterns))
    if #ps == 0 then error(what .. ": the loss depends on no param", 0) end
    local gs = grad(out.loss, ps)
    local is_last
    if o.accumulate > 1 then gs, is_last = accumulated(ps, gs, o.accumulate) end
    local norm = global_norm(gs)
    local moves = state("moves", i32())
    local t = cast(moves, f32) + 1.0
    local function move(target, value)
      update(target, is_last and select(is_last, value, target) or value, by_norm)
    end
    move(moves, moves + 1)
    local rate = o.lr
    if type(rate) == "function" then rate = rate(cast(x.step, f32), cast(x.steps, f32)) end
    for i, g in ipairs(clipped(gs, norm, o)) do
      local p = updated(ps[i])
      local moved = rule(o, ps[i], p, g, rate, move, t)
      update(ps[i], is_last and select(is_last, moved, p) or moved, by_norm)
    end
    out.grad_norm = norm
    out.lr = type(rate) == "number" and fill(rate, f32()) or rate
    return out
  end)
end

-- ---- optimisers ----

-- momentum, nesterov, weight_decay (added to the gradient): as PyTorch's SGD.
function optim.sgd(loss_fn, options)
  local defaults = { momentum = 0, nesterov = false, weight_decay = 0 }
  return optimiser("sgd", loss_fn, options, defaults, function(o, param, p, g, rate, move)
    if o.weight_decay ~= 0 then g = g + p * o.weight_decay end
    if o.momentum ~= 0 then
      local m = named("momentum", param)
      local m1 = m * o.momentum + g
      move(m, m1)
      g = o.nesterov and g + m1 * o.momentum or m1
    end
    return p - g * rate
  end)
end

-- 1 - beta^t, right relatively from the first step on: 1 - exp(-2u) = 2 tanh(u) / (1 + tanh(u)).
local function one_minus_power(beta, t)
  if beta == 0 then return 1.0 end
  local u = tanh(t * (-0.5 * math.log(beta)))
  return u * 2.0 / (u + 1.0)
end

local function adam_direction(o, param, g, move, t)
  local m, v = named("m", param), named("v", param)
  local m1 = m * o.beta1 + g * (1 - o.beta1)
  local v1 = v * o.beta2 + g * g * (1 - o.beta2)
  move(m, m1)
  move(v, v1)
  return m1 * (1.0 / one_minus_power(o.beta1, t)) / (sqrt(v1 * (1.0 / one_minus_power(o.beta2, t))) + o.eps)
end

local adam_defaults = { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0 }

-- Kingma, Ba: Adam, ICLR 2015.  weight_decay is added to the gradient.
function optim.adam(loss_fn, options)
  return optimiser("adam", loss_fn, options, adam_defaults, function(o, param, p, g, rate, move, t)
    if o.weight_decay ~= 0 then g = g + p * o.weight_decay end
    return p - adam_direction(o, param, g, move, t) * rate
  end)
end

-- Loshchilov, Hutter: Decoupled Weight Decay Regularization, ICLR 2019.  weight_decay shrinks the param itself.
function optim.adamw(loss_fn, options)
  local defaults = { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01 }
  return optimiser("adamw", loss_fn, options, defaults, function(o, param, p, g, rate, move, t)
    local direction = adam_direction(o, param, g, move, t)
    if o.weight_decay ~= 0 then direction = direction + p * o.weight_decay end
    return p - direction * rate
  end)
end

-- Chen et al.: Symbolic Discovery of Optimization Algorithms, 2023.
function optim.lion(loss_fn, options)
  local defaults = { beta1 = 0.9, beta2 = 0.99, weight_decay = 0 }
  return optimiser("lion", loss_fn, options, defaults, function(o, param, p, g, rate, move)
    local m = named("m", param)
    local direction = m * o.beta1 + g * (1 - o.beta1)
    move(m, m * o.beta2 + g * (1 - o.beta2))
    local sign = cast(lt(direction * 0.0, direction), f32) - cast(lt(direction, direction * 0.0), f32)
    if o.weight_decay ~= 0 then p = p - p * (rate * o.weight_decay) end
    return p - sign * rate
  end)
end

local function mean_square(x) return sum_of_squares(x) * (1 / optim.count(x)) end

-- Elements of a tensor of constant shape.
function optim.count(x)
  local n = 1
  for _, size in ipairs(x.shape) do n = n * size end
  return n
end

-- Shazeer, Stern: Adafactor, ICML 2018, as PyTorch has it: second moments of rows and columns of the last two axes,
-- lr is the largest relative step, min_scale the least size of a param, eps the least second moment.
function optim.adafactor(loss_fn, options)
  local defaults = { decay = 0.8, eps = 2^-23, min_scale = 1e-3, threshold = 1, weight_decay = 0 }
  return optimiser("adafactor", loss_fn, options, defaults, function(o, param, p, g, rate, move, t)
    local fresh = exp(log(t) * -o.decay)   -- 1 - beta2
    local relative = minimum(rate, 1.0 / sqrt(t))
    local scale = maximum(sqrt(mean_square(p)), o.min_scale) * relative
    if o.weight_decay ~= 0 then p = p - p * (rate * o.weight_decay) end
    local variance
    local function follow(kind, shape, now)
      local s = state(kind .. "." .. param.name, shape)
      local s1 = s + (now - s) * fresh
      move(s, s1)
      return s1
    end
    if g.rank > 1 then
      local rows = follow("rows", sum(g, { -1, keep = true }), mean(g * g, { -1, keep = true }))
      local columns = follow("columns", sum(g, { -2, keep = true }), mean(g * g, { -2, keep = true }))
      variance = rows * columns / maximum(mean(rows, { -2, keep = true }), o.eps)
    else
      variance = follow("v", param, g * g)
    end
    local u = g / sqrt(maximum(variance, o.eps * o.eps))
    local denominator = maximum(sqrt(mean_square(u)) * (1 / o.threshold), 1.0)
    return p - u * (scale / denominator)
  end)
end

return optim
