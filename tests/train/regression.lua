-- One small regression, trained by each optimiser: what optim_test.c compares with PyTorch.
local optim = require "optim"

local which = options { which = "adam" }.which

local loss = fn({ x = f32(batch, 5), y = f32(batch, 3) }, function(a)
  local hidden = tanh(matmul(a.x, param("w1", f32(5, 7), { normal = 0.5 })) + param("b", f32(7)))
  local d = matmul(hidden, param("w2", f32(7, 3), { normal = 0.5 })) - a.y
  return { loss = mean(d * d) }
end)

local kinds = {
  adam = function() return optim.adam(loss, { lr = 0.01, weight_decay = 0.02 }) end,
  adamw = function() return optim.adamw(loss, { lr = 0.01, weight_decay = 0.1 }) end,
  sgd = function() return optim.sgd(loss, { lr = 0.05 }) end,
  momentum = function() return optim.sgd(loss, { lr = 0.02, momentum = 0.9, weight_decay = 0.01 }) end,
  nesterov = function() return optim.sgd(loss, { lr = 0.02, momentum = 0.9, nesterov = true }) end,
  lion = function() return optim.lion(loss, { lr = 0.003, weight_decay = 0.1 }) end,
  adafactor = function() return optim.adafactor(loss, { lr = 0.01, weight_decay = 0.05 }) end,
  clip = function() return optim.adam(loss, { lr = optim.cosine(0.01, 0.1), clip = 0.2, accumulate = 3 }) end,
  linear = function() return optim.sgd(loss, { lr = optim.linear(0.05, 0.1, 0.2), clip_value = 0.05 }) end,
  steps = function() return optim.sgd(loss, { lr = optim.steps(0.05, 10, 0.5) }) end,
  constant = function() return optim.sgd(loss, { lr = optim.constant(0.05, 0.2) }) end,
}

return module { train = { { "main", kinds[which]() } } }
