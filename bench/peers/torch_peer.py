"""Measures PyTorch on the tasks of `nuwa bench` and prints both speeds and their ratio.

    nuwa bench --json bench.json
    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch
    /tmp/venv/bin/python bench/peers/torch_peer.py bench.json [--filter TEXT]

Nothing of nuwa needs this script.  Tasks are matched by the id of a row; shapes here must be those of bench/cases.c,
attention.c and models.c.  PyTorch gets its own preferred layouts (channels_last for convolutions, head-major
attention); f32, the same number of threads, gradients as by autograd.  Nearby and axis attention are full attention
under a mask there, since PyTorch has no windowed kernel for the CPU.  Steps of training are measured as they are (eager), and
with the loss and its gradients compiled (`torch.compile`), which makes a second row."""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch_vqgan import VqGan

TASKS = {}


def task(name):
    def add(make):
        TASKS[name] = make
        return make
    return add


def product(*shapes, transpose=(False, False)):
    a, b = (torch.rand(s) - 0.5 for s in shapes)
    a, b = (x.T if t else x for x, t in zip((a, b), transpose))
    return lambda: a @ b


TASKS["matmul.256"] = lambda: product((256, 256), (256, 256))
TASKS["matmul.1024"] = lambda: product((1024, 1024), (1024, 1024))
TASKS["matmul.linear"] = lambda: product((4096, 192), (192, 768))
TASKS["matmul.linear.transposed"] = lambda: product((4096, 192), (768, 192), transpose=(False, True))
TASKS["matmul.linear.down"] = lambda: product((4096, 768), (768, 192))
TASKS["matmul.logits"] = lambda: product((4096, 192), (192, 512))
TASKS["matmul.grad_x"] = lambda: product((4096, 768), (192, 768), transpose=(False, True))
TASKS["matmul.grad_w"] = lambda: product((4096, 192), (4096, 768), transpose=(True, False))


@task("matmul.linear.gelu")
def linear_gelu():
    x, w, b = torch.rand(4096, 192) - 0.5, torch.rand(768, 192) - 0.5, torch.rand(768)
    return lambda: F.gelu(F.linear(x, w, b))


def rows(n):
    weights = [torch.randn(2048, 2048) * 0.02 for _ in range(8)]

    def run(x=torch.rand(n, 2048)):
        for w in weights:
            x = x @ w
    return run


for count in (1, 4, 16):
    TASKS[f"matmul.rows.{count}"] = lambda count=count: rows(count)


def picture(b, size, channels):
    return (torch.rand(b, channels, size, size) - 0.5).contiguous(memory_format=torch.channels_last)


def conv(b, size, c, o, kernel=3, stride=1, padding=1):
    x = picture(b, size, c)
    w = (torch.rand(o, c, kernel, kernel) - 0.5).contiguous(memory_format=torch.channels_last)
    return lambda: F.conv2d(x, w, stride=stride, padding=padding)


def conv_grad(b, size, c, o, weight):
    x, dy = picture(b, size, c), picture(b, size, o)
    w = (torch.rand(o, c, 3, 3) - 0.5).contiguous(memory_format=torch.channels_last)
    mask = (not weight, weight, False)
    return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)


TASKS["conv.32x32x64"] = lambda: conv(16, 32, 64, 64)
TASKS["conv.32x32x32"] = lambda: conv(32, 32, 32, 32)
TASKS["conv.8x8x64"] = lambda: conv(64, 8, 64, 64)
TASKS["conv.valid"] = lambda: conv(16, 34, 64, 64, padding=0)
TASKS["conv.strided"] = lambda: conv(16, 33, 64, 64, stride=2, padding=0)
TASKS["conv.output"] = lambda: conv(16, 32, 128, 3)
TASKS["conv.1x1"] = lambda: conv(64, 8, 128, 64, kernel=1, padding=0)
TASKS["conv.grad_x"] = lambda: conv_grad(16, 32, 64, 64, weight=False)
TASKS["conv.grad_w.32x32x64"] = lambda: conv_grad(16, 32, 64, 64, weight=True)
TASKS["conv.grad_w.8x8x64"] = lambda: conv_grad(64, 8, 64, 64, weight=True)
TASKS["conv.grad_w.output"] = lambda: conv_grad(16, 32, 128, 3, weight=True)


def unary(f, *shape):
    x = torch.rand(*shape) - 0.5
    return lambda: f(x)


TASKS["map.gelu"] = lambda: unary(F.gelu, 4096, 768)
TASKS["map.silu"] = lambda: unary(F.silu, 16, 32, 32, 64)
TASKS["map.add"] = lambda: unary(lambda x, y=torch.rand(4096, 192): x + y, 4096, 192)
TASKS["reduce.softmax"] = lambda: unary(lambda x: x.softmax(-1), 4096, 512)
TASKS["reduce.layer_norm"] = lambda: unary(lambda x: F.layer_norm(x, (192,)), 4096, 192)
TASKS["reduce.columns"] = lambda: unary(lambda x: x.sum(0), 4096, 768)
TASKS["reduce.group_norm"] = lambda: (lambda x: lambda: F.group_norm(x, 8))(picture(16, 32, 64))


def visible(grid, kind, causal):
    """[n, n] of bool: which keys a query sees (bench/attention.c)."""
    place = torch.cartesian_prod(*(torch.arange(n) for n in grid))
    offset = place[None, :, :] - place[:, None, :]
    see = torch.ones(len(place), len(place), dtype=torch.bool)
    if kind == "nearby":
        see = (offset.abs() <= 1).all(-1)
    if kind == "axis":
        see = (offset != 0).sum(-1) <= 1
    return see & see.new_ones(see.shape).tril() if causal else see


def attention(samples, heads, width, grid, kind, causal, backward, keys=None):
    n = grid[0] * grid[1] * grid[2]
    q = torch.rand(samples, heads, n, width) - 0.5
    k, v = (torch.rand(samples, heads, keys or n, width) - 0.5 for _ in range(2))
    mask = None if kind == "full" and not causal else visible(grid, kind, causal)
    if not backward:
        return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    for x in (q, k, v):
        x.requires_grad_()
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    dy = torch.rand_like(y)
    return lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True)


for direction in ("forward", "backward"):
    for name, kind, causal in (("nearby", "nearby", False), ("causal", "nearby", True), ("axis", "axis", False),
                               ("full", "full", False)):
        TASKS[f"attend.video.{name}.{direction}"] = (
            lambda kind=kind, causal=causal, back=direction == "backward": attention(
                1, 20, 64, (10, 21, 21), kind, causal, back))
    for name in ("nearby", "axis", "full"):
        TASKS[f"attend.codes.{name}.{direction}"] = lambda name=name, back=direction == "backward": attention(
            64, 6, 32, (1, 8, 8), name, True, back)
    TASKS[f"attend.words.full.{direction}"] = lambda back=direction == "backward": attention(
        64, 6, 32, (1, 8, 8), "full", False, back, keys=16)


class Layer(torch.nn.Module):
    """A block of models/nuwa.lua; `see` None: no mask (the encoder)."""

    def __init__(self, d, heads, cross):
        super().__init__()
        self.heads = heads
        parts = ["self"] + (["cross"] if cross else [])
        self.project = torch.nn.ModuleDict({p + x: torch.nn.Linear(d, d) for p in parts for x in "qkvo"})
        self.norm = torch.nn.ModuleList(torch.nn.LayerNorm(d) for _ in range(2))
        self.up, self.down = torch.nn.Linear(d, 4 * d), torch.nn.Linear(4 * d, d)

    def attend(self, part, x, c, see):
        split = lambda t: t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = (split(self.project[part + n](s)) for n, s in (("q", x), ("k", c), ("v", c)))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=see)
        return self.project[part + "o"](y.transpose(1, 2).flatten(2))

    def forward(self, x, c, see):
        h = self.norm[0](x)
        y = x + self.attend("self", h, h, see)
        if c is not None:
            y = y + self.attend("cross", h, c, None)
        return y + self.down(F.gelu(self.up(self.norm[1](y))))


def training(whole, loss, optimiser):
    """A step: loss, gradients, clipping, update; as compiled rows have it, `loss` is compiled."""
    def step(loss=loss):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(whole.parameters(), 1.0)
        optimiser.step()
    step.compiled = lambda: lambda compiled=torch.compile(loss, dynamic=False): step(compiled)
    return step


@task("train.transformer")
def train_transformer(d=192, heads=6, batch=64):
    see = visible((1, 8, 8), "nearby", True)
    encoder = torch.nn.ModuleList(Layer(d, heads, False) for _ in range(2))
    decoder = torch.nn.ModuleList(Layer(d, heads, True) for _ in range(6))
    words, left, above = torch.nn.Embedding(1024, d), torch.nn.Embedding(512, d), torch.nn.Embedding(512, d)
    last, logits = torch.nn.LayerNorm(d), torch.nn.Linear(d, 512)
    whole = torch.nn.ModuleList([encoder, decoder, words, left, above, last, logits])
    text, tokens = torch.randint(0, 64, (batch, 16)), torch.randint(0, 64, (batch, 64))

    def loss():
        c = words(text)
        for layer in encoder:
            c = layer(c, None, None)
        x = left(tokens).roll(1, 1) + above(tokens).roll(8, 1)
        for layer in decoder:
            x = layer(x, c, see)
        return F.cross_entropy(logits(last(x)).flatten(0, 1), tokens.flatten())
    return training(whole, loss, torch.optim.Adam(whole.parameters(), lr=1e-8))


@task("train.vq")
def train_vq(batch=32):
    """Without the revival of codes that the model has, which costs next to nothing."""
    model = VqGan(32, (1, 2, 2), 1, 64, 64, 512, 8).to(memory_format=torch.channels_last)
    image = torch.rand(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    book = model.quantize["embedding"].weight

    def loss():
        z = model.quant_conv(model.encoder(image)).movedim(1, -1)
        codes = ((book * book).sum(-1) - 2.0 * z.detach() @ book.T).argmin(-1)
        q = F.embedding(codes, book)
        y = model.decoder(model.post_quant_conv((z + (q - z).detach()).movedim(-1, 1)))
        return F.mse_loss(y, image) + F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
    return training(model, loss, torch.optim.AdamW(model.parameters(), lr=1e-8, weight_decay=0.0))


def measure(run, repeat, budget=3.0):
    """Median and best seconds of a call."""
    run()
    end, samples = time.perf_counter() + budget, []
    while len(samples) < repeat and (not samples or time.perf_counter() < end):
        begin = time.perf_counter()
        run()
        samples.append(time.perf_counter() - begin)
    return statistics.median(samples), min(samples)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", help="what nuwa bench --json wrote")
    parser.add_argument("--filter", default="", help="only rows whose id holds this")
    parser.add_argument("--repeat", type=int, default=15)
    arguments = parser.parse_args()
    with open(arguments.json, encoding="utf-8") as f:
        bench = json.load(f)
    torch.set_num_threads(bench["threads"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {bench['cpu']}\n")
    print("| id | size | nuwa ms | torch ms | torch / nuwa, medians | torch / nuwa, best |")
    print("|---|---|---:|---:|---:|---:|")
    for row in bench["rows"]:
        if row["id"] not in TASKS or arguments.filter not in row["id"]:
            continue
        run = TASKS[row["id"]]()
        runs = [("", run)] + ([(", compiled", run.compiled())] if hasattr(run, "compiled") else [])
        for how, run in runs:
            median, best = measure(run, arguments.repeat)
            print(f"| `{row['id']}`{how} | {row['size']} | {row['median_s'] * 1e3:.3f} | {median * 1e3:.3f} | "
                  f"{median / row['median_s']:.2f} | {best / row['best_s']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
