"""The autoencoder of models/vqgan.lua in PyTorch, with the same names of parameters, for torch_gpu_peer.py."""
import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    def __init__(self, c, out, groups):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, c, 1e-6), nn.GroupNorm(groups, out, 1e-6)
        self.conv1, self.conv2 = nn.Conv2d(c, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        if out != c:
            self.nin_shortcut = nn.Conv2d(c, out, 1)

    def forward(self, x):
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + y


class Attention(nn.Module):
    def __init__(self, c, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, c, 1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (part(h).flatten(2).transpose(1, 2)[:, None] for part in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2)
        return x + self.proj_out(y.reshape(x.shape))


class Middle(nn.Module):
    def __init__(self, c, groups):
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = Residual(c, c, groups), Attention(c, groups), Residual(c, c, groups)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """Residual blocks, then half or twice the size where `resample` says so."""

    def __init__(self, c, out, blocks, groups, resample):
        super().__init__()
        self.block = nn.ModuleList(Residual(c if i == 0 else out, out, groups) for i in range(blocks))
        if resample:
            conv = nn.Conv2d(out, out, 3, stride=2) if resample == "downsample" else nn.Conv2d(out, out, 3, padding=1)
            setattr(self, resample, nn.ModuleDict({"conv": conv}))

    def forward(self, x):
        for block in self.block:
            x = block(x)
        if hasattr(self, "downsample"):
            x = self.downsample["conv"](F.pad(x, (0, 1, 0, 1)))
        if hasattr(self, "upsample"):
            x = self.upsample["conv"](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Encoder(nn.Module):
    def __init__(self, channels, multipliers, blocks, latent, groups):
        super().__init__()
        widths = [channels] + [channels * m for m in multipliers]
        last = len(multipliers) - 1
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList(Level(widths[i], widths[i + 1], blocks, groups, "downsample" if i < last else None)
                                  for i in range(last + 1))
        self.mid = Middle(widths[-1], groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], latent, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, channels, multipliers, blocks, latent, groups):
        super().__init__()
        widths = [channels * m for m in multipliers]
        last = len(multipliers) - 1
        self.conv_in = nn.Conv2d(latent, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups)
        self.up = nn.ModuleList(
            Level(widths[min(i + 1, last)], widths[i], blocks + 1, groups, "upsample" if i else None)
            for i in range(last + 1))
        self.norm_out = nn.GroupNorm(groups, widths[0], 1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z):
        z = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            z = level(z)
        return self.conv_out(F.silu(self.norm_out(z)))


class VqGan(nn.Module):
    def __init__(self, channels, multipliers, blocks, latent, width, codebook, groups):
        super().__init__()
        self.encoder = Encoder(channels, multipliers, blocks, latent, groups)
        self.decoder = Decoder(channels, multipliers, blocks, latent, groups)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(latent, width, 1), nn.Conv2d(width, latent, 1)
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(codebook, width)})

    def encode(self, image):
        """[b, 3, size, size] -> codes [b, grid, grid]: the nearest row, by |c|^2 - 2 z c."""
        z = self.quant_conv(self.encoder(image)).movedim(1, -1)
        book = self.quantize["embedding"].weight
        return ((book * book).sum(-1) - 2.0 * z @ book.T).argmin(-1)

    def decode(self, codes):
        return self.decoder(self.post_quant_conv(self.quantize["embedding"](codes).movedim(-1, 1)))
