-- A variational autoencoder (Kingma, Welling: Auto-Encoding Variational Bayes, 2014) of pictures of black and white pixels,
-- which are drawn anew in every step with the grey values as probabilities.  Training minimises the negative ELBO,
--   - E_q log p(x|z) + KL(q(z|x) || N(0, 1));
-- `evaluate` gives it as loss, and as nll the tighter bound of Burda, Grosse, Salakhutdinov: Importance Weighted
-- Autoencoders, 2016:  - log mean_k p(x|z_k) p(z_k) / q(z_k|x).  All in nats a picture.
-- Fashion-MNIST, 15000 steps of 100: 236.9 and 235.3 on the test pictures.

local nn, optim = require "nn", require "optim"

local o = options {
  size = 28,
  hidden = 500,             -- of the two layers of encoder and decoder
  latent = 40,
  samples = 100,            -- k of the tighter bound
  lr = 1e-3, warmup = 0.01,
}

if o.samples < 1 then error("samples = " .. o.samples .. ": the bound is a mean over samples, and needs one at least") end

local pixels = o.size * o.size
local picture = f32(batch, o.size, o.size, 1)

local function network(name, x, out)
  return nn.scope(name, function()
    x = relu(nn.linear("fc1", x, o.hidden))
    x = relu(nn.linear("fc2", x, o.hidden))
    return nn.linear("out", x, out)
  end)
end

-- Grey in [-1, 1] as pixels 0 and 1: [b, size, size, 1] -> [b, pixels].
local function binarised(image)
  local grey = reshape(image, image.shape[1], pixels) * 0.5 + 0.5
  return cast(lt(uniform(grey, "pixels"), grey), f32)
end

-- x [b, pixels] -> mean and log variance of q(z|x), [b, latent] each.
local function encoder(x)
  local both = network("encoder", x, 2 * o.latent)
  return slice(both, 1, 0, o.latent), slice(both, 1, o.latent, 2 * o.latent)
end

-- z [..., latent] -> log odds of white pixels [..., pixels]
local function decoder(z) return network("decoder", z, pixels) end

-- log p(x|z), the pixels summed.
local function log_likelihood(x, logits) return sum(x * logits - softplus(logits), -1) end

local function kl(mean, log_variance) return sum(exp(log_variance) + mean * mean - 1 - log_variance, -1) * 0.5 end

local function log_mean_exp(x, axis)
  local top = detach(max(x, { axis, keep = true }))
  return reshape(top + log(mean(exp(x - top), { axis, keep = true })), x.shape[1])
end

-- The negative ELBO [b] of one sample.
local function elbo(x, mean, log_variance)
  return kl(mean, log_variance) - log_likelihood(x, decoder(nn.gaussian("z", mean, log_variance)))
end

-- log p(z) - log q(z|x) has no 2 pi, and of q's exponent the noise alone.
local function importance_weighted(x, mean, log_variance)
  local function each(t) return reshape(t, t.shape[1], 1, t.shape[2]) end
  local noise = normal(f32(batch, o.samples, o.latent), "importance")
  local z = each(mean) + exp(each(log_variance) * 0.5) * noise
  local log_ratio = 0.5 * sum(noise * noise + each(log_variance) - z * z, -1)
  return -log_mean_exp(log_likelihood(each(x), decoder(z)) + log_ratio, 1)
end

local loss = fn({ image = picture }, function(x)
  local pixels = binarised(x.image)
  local centre, log_variance = encoder(pixels)
  return { loss = mean(elbo(pixels, centre, log_variance)), kl = mean(kl(centre, log_variance)) }
end)

local function as_picture(logits) return reshape(sigmoid(logits) * 2 - 1, logits.shape[1], o.size, o.size, 1) end

return module {
  size = o.size,

  -- Grey is the probability of white.
  tasks = { none_image = fn({}, function() return { image = as_picture(decoder(normal(f32(batch, o.latent), "z"))) } end) },

  reconstruct = fn({ image = picture }, function(x) return { image = as_picture(decoder((encoder(binarised(x.image))))) } end),

  evaluate = fn({ image = picture }, function(x)
    local pixels = binarised(x.image)
    local centre, log_variance = encoder(pixels)
    return { loss = mean(elbo(pixels, centre, log_variance)), nll = mean(importance_weighted(pixels, centre, log_variance)) }
  end),
  train = { { "main", optim.adam(loss, { lr = optim.cosine(o.lr, o.warmup) }) } },
}
