"""Compares the networks of models/metrics with the same ones in PyTorch: random weights, random pictures, clips and captions.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch numpy safetensors
    /tmp/venv/bin/python bench/peers/metrics_check.py build/nuwa [--only TEXT] [--threads N]

Nothing of nuwa needs this script.  The modules are written as pytorch-fid, OpenAI's CLIP and pytorch-i3d have them, with the same
names of parameters.  Each state dict goes into a safetensors file as it is, which `nuwa run` reads strictly; printed is the
largest difference of an output, by its largest value.  Networks of other sizes than the published ones are faster to compare."""
import argparse
import math
import os
import subprocess
import tempfile
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

# ---- Inception v3 (torchvision's, with pytorch-fid's pooling) ----


class BasicConv2d(nn.Module):
    def __init__(self, c, out, **options):
        super().__init__()
        self.conv = nn.Conv2d(c, out, bias=False, **options)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def mean_pool(x):
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def max_pool(x):
    return F.max_pool2d(x, 3, stride=1, padding=1)


class InceptionA(nn.Module):
    def __init__(self, c, pool_features):
        super().__init__()
        self.branch1x1 = BasicConv2d(c, 64, kernel_size=1)
        self.branch5x5_1 = BasicConv2d(c, 48, kernel_size=1)
        self.branch5x5_2 = BasicConv2d(48, 64, kernel_size=5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(c, 64, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, kernel_size=3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, kernel_size=3, padding=1)
        self.branch_pool = BasicConv2d(c, pool_features, kernel_size=1)

    def forward(self, x):
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)),
                          self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
                          self.branch_pool(mean_pool(x))], 1)


class InceptionB(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.branch3x3 = BasicConv2d(c, 384, kernel_size=3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(c, 64, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, kernel_size=3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, kernel_size=3, stride=2)

    def forward(self, x):
        return torch.cat([self.branch3x3(x), self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
                          F.max_pool2d(x, 3, stride=2)], 1)


class InceptionC(nn.Module):
    def __init__(self, c, c7):
        super().__init__()
        row, column = dict(kernel_size=(1, 7), padding=(0, 3)), dict(kernel_size=(7, 1), padding=(3, 0))
        self.branch1x1 = BasicConv2d(c, 192, kernel_size=1)
        self.branch7x7_1 = BasicConv2d(c, c7, kernel_size=1)
        self.branch7x7_2 = BasicConv2d(c7, c7, **row)
        self.branch7x7_3 = BasicConv2d(c7, 192, **column)
        self.branch7x7dbl_1 = BasicConv2d(c, c7, kernel_size=1)
        self.branch7x7dbl_2 = BasicConv2d(c7, c7, **column)
        self.branch7x7dbl_3 = BasicConv2d(c7, c7, **row)
        self.branch7x7dbl_4 = BasicConv2d(c7, c7, **column)
        self.branch7x7dbl_5 = BasicConv2d(c7, 192, **row)
        self.branch_pool = BasicConv2d(c, 192, kernel_size=1)

    def forward(self, x):
        y = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        z = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        z = self.branch7x7dbl_5(self.branch7x7dbl_4(z))
        return torch.cat([self.branch1x1(x), y, z, self.branch_pool(mean_pool(x))], 1)


class InceptionD(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.branch3x3_1 = BasicConv2d(c, 192, kernel_size=1)
        self.branch3x3_2 = BasicConv2d(192, 320, kernel_size=3, stride=2)
        self.branch7x7x3_1 = BasicConv2d(c, 192, kernel_size=1)
        self.branch7x7x3_2 = BasicConv2d(192, 192, kernel_size=(1, 7), padding=(0, 3))
        self.branch7x7x3_3 = BasicConv2d(192, 192, kernel_size=(7, 1), padding=(3, 0))
        self.branch7x7x3_4 = BasicConv2d(192, 192, kernel_size=3, stride=2)

    def forward(self, x):
        y = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), y, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionE(nn.Module):
    def __init__(self, c, pool):
        super().__init__()
        row, column = dict(kernel_size=(1, 3), padding=(0, 1)), dict(kernel_size=(3, 1), padding=(1, 0))
        self.pool = pool
        self.branch1x1 = BasicConv2d(c, 320, kernel_size=1)
        self.branch3x3_1 = BasicConv2d(c, 384, kernel_size=1)
        self.branch3x3_2a = BasicConv2d(384, 384, **row)
        self.branch3x3_2b = BasicConv2d(384, 384, **column)
        self.branch3x3dbl_1 = BasicConv2d(c, 448, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, kernel_size=3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, **row)
        self.branch3x3dbl_3b = BasicConv2d(384, 384, **column)
        self.branch_pool = BasicConv2d(c, 192, kernel_size=1)

    def forward(self, x):
        y = self.branch3x3_1(x)
        z = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat([self.branch1x1(x), self.branch3x3_2a(y), self.branch3x3_2b(y), self.branch3x3dbl_3a(z),
                          self.branch3x3dbl_3b(z), self.branch_pool(self.pool(x))], 1)


class Inception(nn.Module):
    def __init__(self, resize=299):
        super().__init__()
        self.resize = resize
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, kernel_size=3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = InceptionA(192, 32), InceptionA(256, 64), InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b, self.Mixed_6c = InceptionC(768, 128), InceptionC(768, 160)
        self.Mixed_6d, self.Mixed_6e = InceptionC(768, 160), InceptionC(768, 192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b, self.Mixed_7c = InceptionE(1280, mean_pool), InceptionE(2048, max_pool)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x):
        if x.shape[-1] != self.resize:
            x = F.interpolate(x, size=(self.resize, self.resize), mode="bilinear", align_corners=False)
        x = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, stride=2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, stride=2)
        for name in "5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c".split():
            x = getattr(self, "Mixed_" + name)(x)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return {"features": x, "logits": self.fc(x)}


# ---- CLIP ----


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    def __init__(self, d, heads, mask):
        super().__init__()
        self.mask = mask
        self.attn = nn.MultiheadAttention(d, heads)
        self.ln_1 = nn.LayerNorm(d)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(d, 4 * d))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * d, d))
        self.ln_2 = nn.LayerNorm(d)

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, d, layers, heads, mask=None):
        super().__init__()
        self.resblocks = nn.Sequential(*(ResidualAttentionBlock(d, heads, mask) for _ in range(layers)))

    def forward(self, x):
        return self.resblocks(x.transpose(0, 1)).transpose(0, 1)


class VisionTransformer(nn.Module):
    def __init__(self, size, patch, d, layers, heads, embed):
        super().__init__()
        self.conv1 = nn.Conv2d(3, d, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(d))
        self.positional_embedding = nn.Parameter(torch.empty((size // patch) ** 2 + 1, d))
        self.ln_pre = nn.LayerNorm(d)
        self.transformer = Transformer(d, layers, heads)
        self.ln_post = nn.LayerNorm(d)
        self.proj = nn.Parameter(torch.empty(d, embed))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Clip(nn.Module):
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, size=224, patch=32, width=768, layers=12, heads=12, text_width=512, text_layers=12, text_heads=8,
                 vocab=49408, text_tokens=77, embed=512):
        super().__init__()
        self.visual = VisionTransformer(size, patch, width, layers, heads, embed)
        mask = torch.full((text_tokens, text_tokens), -math.inf).triu(1)
        self.transformer = Transformer(text_width, text_layers, text_heads, mask)
        self.token_embedding = nn.Embedding(vocab, text_width)
        self.positional_embedding = nn.Parameter(torch.empty(text_tokens, text_width))
        self.ln_final = nn.LayerNorm(text_width)
        self.text_projection = nn.Parameter(torch.empty(text_width, embed))
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))

    def encode_image(self, image):
        mean, deviation = (torch.tensor(v)[:, None, None] for v in (self.mean, self.deviation))
        return F.normalize(self.visual(((image + 1) / 2 - mean) / deviation), dim=-1)

    def encode_text(self, text):
        x = self.ln_final(self.transformer(self.token_embedding(text) + self.positional_embedding))
        return F.normalize(x[torch.arange(len(x)), text.argmax(-1)] @ self.text_projection, dim=-1)

    def loss(self, image, text):
        logits = self.logit_scale.exp().clamp(max=100) * self.encode_image(image) @ self.encode_text(text).T
        own = torch.arange(len(image))
        return {"loss": (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2,
                "accuracy": (logits.argmax(1) == own).float().mean()}


# ---- I3D ----


def pad_same(x, size, stride):
    """x [b, c, s, h, w]; size and stride of these three axes."""
    pads = []
    for n, k, s in reversed(list(zip(x.shape[2:], size, stride))):
        total = max(k - s, 0) if n % s == 0 else max(k - n % s, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class MaxPool3dSamePadding(nn.MaxPool3d):
    def forward(self, x):
        return super().forward(pad_same(x, self.kernel_size, self.stride))


class Unit3D(nn.Module):
    def __init__(self, c, out, size=(1, 1, 1), stride=(1, 1, 1), plain=False):
        super().__init__()
        self.size, self.stride = size, stride
        self.conv3d = nn.Conv3d(c, out, size, stride=stride, bias=plain)
        if not plain:
            self.bn = nn.BatchNorm3d(out, eps=0.001, momentum=0.01)

    def forward(self, x):
        y = self.conv3d(pad_same(x, self.size, self.stride))
        return F.relu(self.bn(y)) if hasattr(self, "bn") else y


class InceptionModule(nn.Module):
    def __init__(self, c, out):
        super().__init__()
        self.b0 = Unit3D(c, out[0])
        self.b1a, self.b1b = Unit3D(c, out[1]), Unit3D(out[1], out[2], (3, 3, 3))
        self.b2a, self.b2b = Unit3D(c, out[3]), Unit3D(out[3], out[4], (3, 3, 3))
        self.b3a, self.b3b = MaxPool3dSamePadding((3, 3, 3), (1, 1, 1)), Unit3D(c, out[5])

    def forward(self, x):
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], 1)


class InceptionI3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a_3x3 = MaxPool3dSamePadding((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, (3, 3, 3))
        self.MaxPool3d_3a_3x3 = MaxPool3dSamePadding((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = InceptionModule(192, [64, 96, 128, 16, 32, 32])
        self.Mixed_3c = InceptionModule(256, [128, 128, 192, 32, 96, 64])
        self.MaxPool3d_4a_3x3 = MaxPool3dSamePadding((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = InceptionModule(480, [192, 96, 208, 16, 48, 64])
        self.Mixed_4c = InceptionModule(512, [160, 112, 224, 24, 64, 64])
        self.Mixed_4d = InceptionModule(512, [128, 128, 256, 24, 64, 64])
        self.Mixed_4e = InceptionModule(512, [112, 144, 288, 32, 64, 64])
        self.Mixed_4f = InceptionModule(528, [256, 160, 320, 32, 128, 128])
        self.MaxPool3d_5a_2x2 = MaxPool3dSamePadding((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = InceptionModule(832, [256, 160, 320, 32, 128, 128])
        self.Mixed_5c = InceptionModule(832, [384, 192, 384, 48, 128, 128])
        self.logits = Unit3D(1024, 400, plain=True)

    def forward(self, x):
        for name, module in self.named_children():
            if name != "logits":
                x = module(x)
        x = F.avg_pool3d(x, (min(2, x.shape[2]), x.shape[3], x.shape[4]), stride=1)   # 2 x 7 x 7 there
        return {"features": x.mean((2, 3, 4)), "logits": self.logits(x).squeeze(4).squeeze(3).mean(2)}


# ---- comparison ----


def randomise(model):
    """Weights that keep activations at their size, running averages as of something trained."""
    with torch.no_grad():
        for name, x in model.state_dict().items():
            if name.endswith("running_var"):
                x.uniform_(0.5, 1.5)
            elif name.endswith("running_mean") or name.endswith("bias"):
                x.normal_(0, 0.1)
            elif "embedding" in name:
                x.normal_(0, 0.5)
            elif x.dim() == 1:
                x.uniform_(0.7, 1.3)
            elif x.dim() == 2:
                x.normal_(0, x.shape[1] ** -0.5)
            elif x.dim() > 2:
                x.normal_(0, (2 / x[0].numel()) ** 0.5)
    return model.eval()


def captions(b, tokens, vocab):
    text = torch.zeros(b, tokens, dtype=torch.int32)
    for i in range(b):
        end = tokens - 1 - 7 * i % (tokens - 2)
        text[i, 0], text[i, end] = vocab - 2, vocab - 1
        text[i, 1:end] = torch.randint(1, vocab - 2, (end - 1,), dtype=torch.int32)
    return text


def scene(*shape):
    """Smooth pictures with noise on them, [b, ..., h, w, 3] in [-1, 1]."""
    h, w = shape[-3:-1]
    coarse = F.interpolate(torch.randn(math.prod(shape[:-3]), 3, 5, 5), size=(h, w), mode="bicubic")
    return (coarse.movedim(1, -1).reshape(shape) * 0.4 + 0.1 * torch.randn(shape)).clamp(-1, 1).contiguous()


# A case: the module, the file in models/metrics, its options, inputs, and functions with what they read and what gives the same
# outputs.


def inception(size, resize=299, b=2):
    image = scene(b, size, size, 3)
    return (Inception(resize), "inception", {"size": size, "resize": resize}, {"image": image},
            [("features logits", "image", lambda m: m(image.movedim(3, 1)))])


def i3d(s, size, resize, b=1):
    video = scene(b, s, size, size, 3)

    def run(model):
        x = video.movedim(4, 2).flatten(0, 1)
        if resize != size:
            x = F.interpolate(x, size=(resize, resize), mode="bilinear", align_corners=False)
        return model(x.unflatten(0, (b, s)).transpose(1, 2))
    return InceptionI3d(), "i3d", {"s": s, "size": size, "resize": resize}, {"video": video}, [("features logits", "video", run)]


def clip(b=3, **options):
    model = Clip(**options)
    vocab, tokens = model.token_embedding.num_embeddings, len(model.positional_embedding)
    image, text = scene(b, *[options.get("size", 224)] * 2, 3), captions(b, tokens, vocab)
    return model, "clip", options, {"image": image, "text": text}, [
        ("image_features", "image", lambda m: {"features": m.encode_image(image.movedim(3, 1))}),
        ("text_features", "text", lambda m: {"features": m.encode_text(text)}),
        ("loss", "image text", lambda m: m.loss(image.movedim(3, 1), text))]


CASES = {
    "inception 299": lambda: inception(299),
    "inception 256 -> 299": lambda: inception(256),
    "inception 400 -> 299": lambda: inception(400, b=1),
    "inception 75": lambda: inception(75, 75, b=3),
    "clip ViT-B/32": clip,
    "clip small": lambda: clip(b=5, size=32, patch=8, width=48, layers=2, heads=3, text_width=32, text_layers=2, text_heads=2,
                               vocab=300, text_tokens=16, embed=24),
    "i3d 16 x 224": lambda: i3d(16, 224, 224),
    "i3d 8 x 112": lambda: i3d(8, 112, 112, b=2),
    "i3d 27 x 100 -> 96": lambda: i3d(27, 100, 96),
}


def run_nuwa(args, model, options, function, folder):
    command = [args.nuwa, "run", os.path.join(args.models, "metrics", model + ".lua"), "--models", args.models, "--fn", function,
               "--in", f"{folder}/in", "--out", f"{folder}/out", "--weights", f"{folder}/weights", "--ignore", "*num_batches_tracked",
               "--threads", str(args.threads)]
    for name, value in options.items():
        command += ["-D", f"{name}={value}"]
    subprocess.run(command, check=True)
    return load_file(f"{folder}/out")


def compare(args, name, folder):
    torch.manual_seed(1)
    model, file, options, inputs, functions = CASES[name]()
    randomise(model)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, f"{folder}/weights")
    for names, read, run in functions:
        with torch.inference_mode():
            start = time.perf_counter()
            want = run(model)
            seconds = time.perf_counter() - start
        for function in names.split():
            save_file({k: inputs[k] for k in read.split()}, f"{folder}/in")
            start = time.perf_counter()
            got = run_nuwa(args, file, options, function, folder)
            took = time.perf_counter() - start
            for output in got.keys() & want.keys():
                largest = want[output].abs().max().item()
                error = (got[output] - want[output]).abs().max().item() / max(largest, 1e-30)
                shape = "x".join(map(str, want[output].shape)) or "1"
                row = name, f"{function}.{output}", shape, f"{largest:.4g}", f"{error:.1e}", f"{took:.1f}", f"{seconds:.1f}"
                print("|", " | ".join(row), "|", flush=True)
                args.worst = max(args.worst, error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nuwa", help="the program")
    parser.add_argument("--models", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models"))
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.worst = 0.0
    torch.set_num_threads(args.threads)
    print("| network | output | shape | largest value | relative error | s (nuwa, compiling too) | s (PyTorch) |")
    print("|---|---|---|---|---|---|---|")
    for name in CASES:
        if args.only in name:
            with tempfile.TemporaryDirectory() as folder:
                compare(args, name, folder)
    print(f"largest relative error: {args.worst:.1e}")
    if not args.worst <= 1e-4:
        raise SystemExit("more than 1e-4")


if __name__ == "__main__":
    main()
