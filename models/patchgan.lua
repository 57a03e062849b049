-- The adversarial part of VQ-GAN's loss (Esser, Rombach, Ommer: Taming Transformers, 2021), with the names of
-- taming-transformers: a discriminator of patches (Isola et al.: pix2pix, 2017) and what its judgement weighs.

local nn = require "nn"

local patchgan = {}

-- x [b, h, w, c] -> log odds of patches [b, h', w', 1].  options: ndf (64), layers (3).  Layers stand where they do in
-- taming's Sequential, NAME.main.0 and so on.
function patchgan.discriminator(name, x, options)
  local ndf, layers, init = options.ndf or 64, options.layers or 3, { normal = 0.02 }
  return nn.scope(name .. ".main", function()
    x = leaky_relu(nn.conv("0", x, ndf, { size = 4, stride = 2, padding = 1, init = init }), 0.2)
    for n = 1, layers do
      local conv = { size = 4, stride = n < layers and 2 or 1, padding = 1, bias = false, init = init }
      x = nn.conv(tostring(3 * n - 1), x, ndf * math.min(1 << n, 8), conv)
      x = leaky_relu(nn.batch_norm(tostring(3 * n), x), 0.2)
    end
    return nn.conv(tostring(3 * layers + 2), x, 1, { size = 4, padding = 1, init = init })
  end)
end

-- Of the discriminator; its losses by name.
patchgan.losses = {
  hinge = function(real, fake) return 0.5 * (mean(relu(1 - real)) + mean(relu(1 + fake))) end,
  vanilla = function(real, fake) return 0.5 * (mean(softplus(-real)) + mean(softplus(fake))) end,
}

local function norm(x) return sqrt(sum(x * x)) end

-- What makes the two losses move the last layer as much as each other: |grad nll| / |grad g|, at most 10^4.
function patchgan.adaptive_weight(nll, g, last_layer)
  local by_nll, by_g = grad(nll, { last_layer })[1], grad(g, { last_layer })[1]
  return detach(clamp(norm(by_nll) / (norm(by_g) + 1e-4), 0, 1e4))
end

-- `factor` from the step after `start` on, counted from 1, else 0.
function patchgan.adopted(factor, step, start) return select(le(step, start), 0.0, factor) end

return patchgan
