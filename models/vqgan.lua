-- VQ-GAN's autoencoder (Esser, Rombach, Ommer: Taming Transformers, 2021): pictures <-> grids of codes.  Parameter names
-- and layouts are those of taming-transformers checkpoints, so one converted to safetensors loads, strictly.
-- The defaults are NUWA's: 336 pixels, factor 16, 21 x 21 codes out of 12288, of width 256.  With loss = "taming" it is
-- trained as there, against a discriminator; options, metrics and weights of that have taming's names.
-- With of = "labels" it is NUWA's VQ-GAN-Seg: maps of labels as one-hot channels in, cross-entropy of the labels out.

local nn, optim = require "nn", require "optim"
local patchgan, perceptual = require "patchgan", require "perceptual"

local o = options {
  of = one_of { "image", "labels" },
  size = 336,               -- pixels on a side
  colours = 3,              -- channels of a picture
  classes = 0,              -- labels there are, of maps of labels; of pictures: those that label_weight is of
  channels = 128,
  patch = 1,                -- pixels of a side that are one place from the first layer to the last (as in ViT-VQGAN, Yu et
                            -- al. 2022): all layers are coarse ones then, which is far less work
  multipliers = "1,1,2,2,4",-- channels of each level over `channels`; each level but the last halves the size
  blocks = 2,               -- residual blocks a level (the decoder has one more)
  attention = "21",         -- sizes at which blocks are followed by attention; "" for none
  latent = 256,             -- channels before quantisation
  width = 256,              -- of a code
  codebook = 12288,
  groups = 32,
  norm = one_of { "group", "place" },   -- taming's group norm, or statistics of each place alone: codes then say what
                                        -- is at their place, whatever the rest of the picture shows
  middle_attention = true,
  sees = one_of { "picture", "near", "patch" }, -- what a code is made from: all around it as in taming; what lies near, as
                                                -- its last level looks at each place alone; or its own pixels alone
  commitment = 0.25,
  -- How it is trained.
  part = one_of { "all", "decoder" },     -- the decoder alone: codes stay what they are, for models that draw them
  loss = one_of { "square", "taming" },   -- squared differences; or absolute ones and a discriminator
  codebook_weight = 1.0,
  label_weight = 0.0,       -- of pictures: of the cross-entropy of what their pixels show, told from the codes, which then
                            -- tell things apart where squared differences alone see colours
  perceptual = one_of { "none", "lpips", "classifier" },  -- whose weights --weights-of loss.perceptual_loss=FILE gives
  perceptual_weight = 1.0, perceptual_channels = 32,      -- of the classifier's first convolution
  disc_start = 250001, disc_factor = 1.0, disc_weight = 0.8, disc_num_layers = 3, disc_ndf = 64,
  disc_loss = one_of { "hinge", "vanilla" },
  lr = 1e-3, schedule = one_of { "cosine", "constant" }, warmup = 0.05, clip = 1.0, weight_decay = 0.0,
  window = 50,              -- steps after which codes without use are put on vectors of the batch; 0: never
  among = 1,                -- of so many vectors the one farthest from its code
  codes_by = one_of { "gradient", "average" },  -- what moves codes: the loss, as in taming, or averages of their vectors
}


local is_labels = o.of == "labels"
if is_labels and o.classes < 2 then error('of = "labels" needs classes, how many labels there are') end
local is_guided = not is_labels and o.label_weight > 0
if is_guided and o.classes < 2 then error("label_weight needs classes, how many labels there are") end
if is_labels and o.label_weight > 0 then error("label_weight is of pictures") end
if is_guided and o.loss == "taming" then error("label_weight is beside squared differences") end
if not is_labels and not is_guided and o.classes ~= 0 then error('classes is of maps of labels, of = "labels", or of label_weight') end
if is_labels and o.perceptual ~= "none" then error("perceptual is of pictures") end
if is_labels and o.loss == "taming" then error('loss = "taming" is of pictures; labels have their cross-entropy') end
local channels = is_labels and o.classes or o.colours

local multipliers, attention_sizes = nn.whole_numbers("multipliers", o.multipliers), {}
for _, size in ipairs(nn.whole_numbers("attention", o.attention)) do attention_sizes[size] = true end
local levels = #multipliers
local factor = 1 << (levels - 1)
if levels == 0 or o.size % (o.patch * factor) ~= 0 then
  error("size " .. o.size .. " must be a multiple of " .. o.patch * factor .. ", which " .. levels .. " multipliers and the patch make")
end
local grid = o.size // (o.patch * factor)
if o.sees ~= "picture" and (o.norm ~= "place" or o.middle_attention or #o.attention > 0) then
  error('sees = "' .. o.sees .. '" wants norm = "place", attention = "" and middle_attention = false: the others look around')
end

local layer = { groups = o.groups, norm = o.norm }
local is_patch = o.sees == "patch"
local encoder_layer = { groups = o.groups, norm = o.norm, size = is_patch and 1 or 3 }
local last_layer = { groups = o.groups, norm = o.norm, size = o.sees == "picture" and 3 or 1 }   -- of the encoder
local function norm_silu(name, x) return silu(nn.picture_norm(name, x, layer)) end

-- One block, and its attention where the size has one.  Names are those of taming's ModuleLists, from 0.
local function block(i, x, out, layer)
  x = nn.residual("block." .. i, x, out, layer)
  if attention_sizes[x.shape[2]] then x = nn.picture_attention("attn." .. i, x, layer) end
  return x
end

local function middle(x, layer)
  return nn.scope("mid", function()
    x = nn.residual("block_1", x, nil, layer)
    if o.middle_attention then x = nn.picture_attention("attn_1", x, layer) end
    return nn.residual("block_2", x, nil, layer)
  end)
end

-- [b, size, size, channels] -> [b, size / patch, size / patch, patch^2 * channels], and back.
local side = o.size // o.patch
local function folded(x)
  if o.patch == 1 then return x end
  x = transpose(reshape(x, x.shape[1], side, o.patch, side, o.patch, channels), 0, 1, 3, 2, 4, 5)
  return reshape(x, x.shape[1], side, side, o.patch * o.patch * channels)
end
local function unfolded(x)
  if o.patch == 1 then return x end
  x = transpose(reshape(x, x.shape[1], side, side, o.patch, o.patch, channels), 0, 1, 3, 2, 4, 5)
  return reshape(x, x.shape[1], o.size, o.size, channels)
end

-- [b, size, size, channels] -> [b, grid, grid, width]
local function encoder(x)
  x = folded(x)
  x = nn.scope("encoder", function()
    x = nn.conv("conv_in", x, o.channels, { size = encoder_layer.size })
    for level = 0, levels - 1 do
      nn.scope("down." .. level, function()
        local layer = level < levels - 1 and encoder_layer or last_layer
        for i = 0, o.blocks - 1 do x = block(i, x, o.channels * multipliers[level + 1], layer) end
        if level < levels - 1 then x = nn.downsample("downsample", x, is_patch) end
      end)
    end
    x = middle(x, last_layer)
    return nn.conv("conv_out", norm_silu("norm_out", x), o.latent, { size = last_layer.size })
  end)
  return nn.conv("quant_conv", x, o.width, { size = 1 })
end

-- [b, grid, grid, width] -> [b, size, size, channels]
local function decoder(z)
  z = nn.conv("post_quant_conv", z, o.latent, { size = 1 })
  return nn.scope("decoder", function()
    local x = middle(nn.conv("conv_in", z, o.channels * multipliers[levels]), layer)
    for level = levels - 1, 0, -1 do
      nn.scope("up." .. level, function()
        for i = 0, o.blocks do x = block(i, x, o.channels * multipliers[level + 1], layer) end
        if level > 0 then x = nn.upsample("upsample", x) end
      end)
    end
    x = norm_silu("norm_out", x)
    local image = unfolded(nn.conv("conv_out", x, o.patch * o.patch * channels))
    return image, x
  end)
end

local codebook = param("quantize.embedding.weight", f32(o.codebook, o.width), { uniform = 1 / o.codebook })

local function as_grid(codes) return reshape(codes, codes.shape[1], 1, grid, grid) end
local function as_picture(codes) return reshape(codes, codes.shape[1], grid, grid) end

local function mean_square(x) return mean(x * x) end

local picture = f32(batch, o.size, o.size, o.colours)
local codes = i32(batch, 1, grid, grid)

-- Codes with the gradient passed straight through to the encoder, the picture that the decoder makes of them, and the
-- loss of codebook and commitment (van den Oord, Vinyals, Kavukcuoglu: VQ-VAE, 2017).
local function autoencoder(image)
  local z = encoder(image)
  local found = nn.nearest_code(z, codebook)
  local quantised = gather(codebook, found)
  local made, seen = decoder(z + detach(quantised - z))
  local by_average = o.codes_by == "average"
  if is_training() and o.part == "all" then
    if by_average then nn.average_codes("quantize", codebook, z, found, { window = o.window > 0 and o.window or nil, among = o.among })
    elseif o.window > 0 then nn.revive("quantize", codebook, z, found, o.window, o.among) end
  end
  local commitment = o.commitment * mean_square(z - detach(quantised))
  return made, by_average and commitment or mean_square(quantised - detach(z)) + commitment, seen
end

-- Cross-entropy of the labels i32 [b, size, size] of two rows and columns of each place (of an odd patch: its middle), told
-- from the decoder's last features: what the codes of the picture know.
local function guidance(seen, labels)
  local n = o.patch % 2 == 0 and 2 or 1
  local step = o.patch // n
  local logits = nn.conv("loss.labels", seen, n * n * o.classes, { size = 1 })
  local side = seen.shape[2]
  logits = transpose(reshape(logits, logits.shape[1], side, side, n, n, o.classes), 0, 1, 3, 2, 4, 5)
  local first = step // 2
  labels = slice(slice(labels, 1, first, o.size, step), 2, first, o.size, step)
  return nn.cross_entropy(reshape(logits, logits.shape[1], side * n, side * n, o.classes), labels)
end

-- The perceptual distance of two pictures, averaged; nil without one.
local function perceptual_loss(x, y)
  return o.perceptual ~= "none"
    and mean(perceptual[o.perceptual]("loss.perceptual_loss", x, y, { channels = o.perceptual_channels })) or nil
end

local function square_loss(x)
  local image, quant_loss, seen = autoencoder(x.image)
  local mse, p_loss = mean_square(image - x.image), perceptual_loss(x.image, image)
  local nll_loss = p_loss and mse + o.perceptual_weight * p_loss or mse
  local label_loss = is_guided and guidance(seen, x.labels) or nil
  if is_guided then nll_loss = nll_loss + o.label_weight * label_loss end
  return { loss = nll_loss + quant_loss, mse = mse, p_loss = p_loss, label_loss = label_loss }
end

-- ---- taming's VQLPIPSWithDiscriminator ----

local function discriminator(x)
  return patchgan.discriminator("loss.discriminator", x, { ndf = o.disc_ndf, layers = o.disc_num_layers })
end

-- ---- maps of labels ----

local map = i32(batch, o.size, o.size)

-- Of each class the pixels that both maps give it over those that one of them does, weighed by how many it has.
local function frequency_weighted_iou(found, labels)
  local x, y = one_hot(found, o.classes), one_hot(labels, o.classes)
  local both, there = sum(x * y, { 0, 1, 2 }), sum(y, { 0, 1, 2 })
  return sum(there * both / maximum(sum(x, { 0, 1, 2 }) + there - both, 1)) / sum(there)
end

local function label_loss(x)
  local logits, quant_loss = autoencoder(one_hot(x.labels, o.classes))
  local error, found = nn.cross_entropy(logits, x.labels), argmax(logits)
  return { loss = error + quant_loss, error = error, accuracy = mean(cast(eq(found, x.labels), f32)),
           iou = not is_training() and frequency_weighted_iou(found, x.labels) or nil }
end

local rate = o.schedule == "cosine" and optim.cosine(o.lr, o.warmup, 0.1) or optim.constant(o.lr, o.warmup)

local decoder_params = { "^decoder%.", "^post_quant_conv%." }
local all_params = { "^encoder%.", "^decoder%.", "quant_conv%.", o.codes_by == "gradient" and "^quantize%." or nil }
if is_guided then table.insert(all_params, "^loss%.labels%.") end
local trained = o.part == "all" and all_params or decoder_params

local function adam(f, params)
  return optim.adam(f, { params = params, lr = rate, beta1 = 0.5, beta2 = 0.9, clip = o.clip, weight_decay = o.weight_decay })
end

-- The loss and the steps, made where they are asked for alone: the discriminator does not fit small pictures.
local function taming()
  local taming_loss = fn({ image = picture, step = i32() }, function(x)
    local image, quant_loss = autoencoder(x.image)
    local p_loss = perceptual_loss(x.image, image)
    local l1 = mean(abs(x.image - image))
    local nll_loss = p_loss and l1 + o.perceptual_weight * p_loss or l1
    local g_loss = -mean(discriminator(image))
    local last_layer = parameters(image, "^decoder%.conv_out%.weight$")[1]
    local d_weight = fill(0, f32())   -- as taming has it where nothing is trained
    if is_training() then d_weight = patchgan.adaptive_weight(nll_loss, g_loss, last_layer) * o.disc_weight end
    local disc_factor = patchgan.adopted(o.disc_factor, x.step, o.disc_start)
    return { loss = nll_loss + d_weight * disc_factor * g_loss + o.codebook_weight * quant_loss, quant_loss = quant_loss,
             nll_loss = nll_loss, rec_loss = nll_loss, p_loss = p_loss, d_weight = d_weight,
             disc_factor = disc_factor, g_loss = g_loss, mse = mean_square(image - x.image) }
  end)

  local disc_loss = fn({ image = picture }, function(x)
    local image = decoder(gather(codebook, nn.nearest_code(encoder(x.image), codebook)))
    local real, fake = discriminator(x.image), discriminator(detach(image))
    return { loss = o.disc_factor * patchgan.losses[o.disc_loss](real, fake), logits_real = mean(real), logits_fake = mean(fake) }
  end)

  return taming_loss, {
    { "autoencoder", adam(taming_loss, trained) },
    { "discriminator", adam(disc_loss, "^loss%.discriminator%."), from = o.disc_start + 1 },
  }
end

local loss, train
if o.loss == "taming" then
  loss, train = taming()
else
  loss = is_labels and fn({ labels = map }, label_loss) or fn({ image = picture, labels = is_guided and map or nil }, square_loss)
  train = { { "main", optim.adamw(loss, { params = trained, lr = rate, clip = o.clip, weight_decay = o.weight_decay }) } }
end

local of = is_labels and { name = "labels", type = map, channels = function(x) return one_hot(x, o.classes) end, made = argmax }
  or { name = "image", type = picture, channels = function(x) return x end, made = function(x) return x end }

local function encoded(x) return nn.nearest_code(encoder(of.channels(x[of.name])), codebook) end
local function decoded(found) return of.made((decoder(gather(codebook, found)))) end

return module {
  size = o.size, grid = grid, codebook = o.codebook, classes = is_labels and o.classes or nil,

  encode = fn({ [of.name] = of.type }, function(x) return { codes = as_grid(encoded(x)) } end),
  decode = fn({ codes = codes }, function(x) return { [of.name] = decoded(as_picture(x.codes)) } end),
  reconstruct = fn({ [of.name] = of.type }, function(x)
    local found = encoded(x)
    return { codes = as_grid(found), [of.name] = decoded(found) }
  end),

  loss = loss,
  evaluate = loss,
  train = train,
}
