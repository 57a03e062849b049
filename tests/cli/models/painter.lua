-- Draws by plain functions: stripes of random greys, or of a class; and tells features of pictures.
local optim = require "optim"
local o = options { classes = 3, fault = one_of { "none", "input", "output", "classes" } }
local bright = param("bright", f32(8), { uniform = 1 })
local unused = param("only_trained", f32(), "ones")

local function stripes(shift) return tanh(broadcast(reshape(shift, batch, 1, 1, 1), batch, 8, 8, 1) + reshape(bright, 8, 1)) end

local loss = fn({ image = f32(batch, 8, 8, 1) }, function(x)
  local error = (stripes(normal(f32(batch), "grey")) - x.image) * unused
  return { loss = mean(error * error) }
end)

return module {
  classes = o.fault ~= "classes" and o.classes or nil,
  tasks = {
    none_image = fn({}, function() return { image = stripes(normal(f32(batch), "grey")) } end),
    class_image = fn({ class = i32(batch), other = o.fault == "input" and f32(batch) or nil }, function(x)
      local image = stripes(cast(x.class, f32) - 1)
      return { image = o.fault == "output" and reshape(image, batch, 64) or image }
    end),
  },
  features = fn({ image = f32(batch, 8, 8, 1) }, function(x) return { features = mean(x.image, { 2, 3 }) } end),
  train = { { "main", optim.sgd(loss, { lr = 0.1 }) } },
}
