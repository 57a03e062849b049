"""Measures PyTorch on the rows of `nuwa bench --device cuda` and prints both speeds and their ratio.

    nuwa bench --device cuda [--precision bf16] --json gpu.json
    python3 bench/peers/torch_gpu_peer.py gpu.json [--filter TEXT]

bench/gpu/run.sh calls it.  Nothing of nuwa needs this script, and without a GPU it says so and exits 0.  Shapes are
those of bench/gpu_bench.c and models.c, the precision is that of the JSON.

Attention is measured as full attention under a mask (sdpa), with FlexAttention (compiled, block mask, the rule as
arithmetic), and with NATTEN's own kernels where they are installed.  Before a peer of attention is timed, its result is
compared with a masked softmax in f32.  NATTEN moves a window at the border inside where nuwa clips it, so its work there
is a little more and only queries away from borders are compared; it has no raster order.  Products and f32 attention run
without TF32, as nuwa's do.  The autoencoder is channels_last, without gradients.

Times are CUDA events around as many calls as take a millisecond, after warming up.

--device cpu --tiny runs the same code in the sizes of `nuwa bench --device cuda --tiny`, to test it without a GPU."""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

import torch_peer
from torch_vqgan import VqGan

WINDOWS = {"3x3x3": (3, 3, 3), "3x5x5": (3, 5, 5), "5x7x7": (5, 7, 7)}
PRODUCTS = {"gpu.matmul.1024": (1024, 1024, 1024), "gpu.matmul.4096": (4096, 4096, 4096),
            "gpu.matmul.video.up": (4410, 1280, 5120), "gpu.matmul.video.down": (4410, 5120, 1280),
            "gpu.matmul.rows.1": (1, 1280, 5120), "gpu.matmul.rows.64": (64, 1280, 5120)}
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2}


class Sizes:
    """grid, heads, width of a head; what products are divided by; the autoencoder and its pictures."""

    def __init__(self, tiny):
        self.grid, self.heads, self.width, self.cut = ((2, 4, 4), 2, 16, 64) if tiny else ((10, 21, 21), 20, 64, 1)
        self.tokens = self.grid[0] * self.grid[1] * self.grid[2]
        self.pictures, self.size = (1, 8) if tiny else (64, 32)
        small = dict(channels=8, multipliers=(1, 2), blocks=1, latent=8, width=8, codebook=16, groups=4)
        demo = dict(channels=32, multipliers=(1, 2, 2), blocks=1, latent=64, width=64, codebook=512, groups=8)
        self.vq = small if tiny else demo
        self.codes = self.size >> (len(self.vq["multipliers"]) - 1)


class Absent(Exception):
    """This peer does not exist for this row, or is not installed."""


# ---- attention ----

def rule(kind, grid):
    """(query, key) -> visible, for raster indices of any shape; None: all are."""
    _, height, width = grid
    kind, causal = kind.removesuffix(".causal"), kind.endswith(".causal")
    if kind == "full":
        return None

    def see(q, k):
        s = (q // (height * width) - k // (height * width)).abs()
        h = (q // width % height - k // width % height).abs()
        w = (q % width - k % width).abs()
        if kind == "axis":
            near = ((s == 0) & (h == 0)) | ((s == 0) & (w == 0)) | ((h == 0) & (w == 0))
        else:
            near = (s <= WINDOWS[kind][0] // 2) & (h <= WINDOWS[kind][1] // 2) & (w <= WINDOWS[kind][2] // 2)
        return near & (k <= q) if causal else near
    return see


def dense(kind, sizes):
    """[tokens, tokens] of bool, or None."""
    see, place = rule(kind, sizes.grid), torch.arange(sizes.tokens)
    return None if see is None else see(place[:, None], place[None, :])


def sdpa(kind, sizes, dtype):
    mask = dense(kind, sizes)
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def flex(kind, sizes, dtype):
    try:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    except ImportError as why:
        raise Absent(f"this PyTorch has no FlexAttention ({why})") from why
    import torch._functorch.config
    torch._functorch.config.donated_buffer = False   # the backward is called again and again on one forward
    device, see = torch.get_default_device(), rule(kind, sizes.grid)
    n = sizes.tokens
    mask = see and create_block_mask(lambda b, h, q, k: see(q, k), None, None, n, n, device=device)
    run = flex_attention if device.type == "cpu" else torch.compile(flex_attention, dynamic=False)
    return lambda q, k, v: run(q, k, v, block_mask=mask)


def natten(kind, sizes, dtype):
    if kind not in WINDOWS:
        raise Absent("no such window there")
    try:
        import natten as library
        from natten.backends import choose_backend
    except ImportError as why:
        raise Absent(f"not installed ({why})") from why
    window = WINDOWS[kind]
    if any(w > n for w, n in zip(window, sizes.grid)):
        raise Absent("a window may not be larger than the grid there")
    heads_last = lambda x: x.transpose(1, 2).unflatten(1, sizes.grid)

    def run(q, k, v):
        q, k, v = (heads_last(x) for x in (q, k, v))
        return library.na3d(q, k, v, kernel_size=window).flatten(1, 3).transpose(1, 2)
    sample = torch.empty(1, *sizes.grid, sizes.heads, sizes.width, dtype=dtype)
    backend = choose_backend(sample, sample, sample, torch_compile=False)
    if backend == "flex-fna" and sample.is_cuda:
        raise Absent("NATTEN was built without its own kernels")
    run.name = f"natten ({backend})"
    return run


def inner(kind, sizes):
    """Queries whose window lies inside the grid."""
    place, half = torch.arange(sizes.tokens), [w // 2 for w in WINDOWS[kind]]
    _, h, w = sizes.grid
    at = (place // (h * w), place // w % h, place % w)
    return torch.stack([(x >= r) & (x < n - r) for x, r, n in zip(at, half, sizes.grid)]).all(0)


def check(name, kind, sizes, dtype, y, q, k, v):
    """Against the definition, in f32, head by head."""
    see, rows = dense(kind, sizes), slice(None)
    if name.startswith("natten"):
        rows = inner(kind, sizes)
    worst = most = 0.0
    for head in range(sizes.heads):
        score = q[0, head].float() @ k[0, head].float().T / sizes.width ** 0.5
        if see is not None:
            score = score.masked_fill(~see, float("-inf"))
        want = (score.softmax(-1) @ v[0, head].float())[rows]
        if want.numel():
            most = max(most, want.abs().max().item())
            worst = max(worst, (y[0, head].float()[rows] - want).abs().max().item())
    if not worst <= TOLERANCE[dtype] * most:
        raise RuntimeError(f"its result is wrong by {worst:.3g} of {most:.3g}")


def attention(make):
    """A peer: forward alone, or backward alone."""
    def peer(row, sizes, dtype):
        kind, _, direction = row.removeprefix("gpu.attend.").rpartition(".")
        run = make(kind, sizes, dtype)
        name = getattr(run, "name", make.__name__)
        shape = (1, sizes.heads, sizes.tokens, sizes.width)
        layout = (0, 2, 1, 3) if make is natten else (0, 1, 2, 3)   # as each has it in memory; NATTEN has heads last
        stored = ((torch.rand([shape[i] for i in layout]) - 0.5).to(dtype).permute(layout) for _ in range(3))
        q, k, v = (x.requires_grad_(direction == "backward") for x in stored)
        y = run(q, k, v)
        check(name, kind, sizes, dtype, y.detach(), q.detach(), k.detach(), v.detach())
        if direction == "forward":
            return name, lambda: run(q, k, v)
        dy = torch.rand_like(y)
        return name, lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True)
    return make.__name__, peer


# ---- products, models ----

def product(row, sizes, dtype):
    rows, k, cols = (max(1, n // sizes.cut) for n in PRODUCTS[row])
    a, b = ((torch.rand(s) - 0.5).to(dtype) for s in ((rows, k), (k, cols)))
    return "torch", lambda: a @ b


def autoencoder(row, sizes, dtype):
    model = VqGan(**sizes.vq).to(dtype=dtype, memory_format=torch.channels_last).eval().requires_grad_(False)
    if row == "gpu.vq.encode":
        image = torch.rand(sizes.pictures, 3, sizes.size, sizes.size)
        image = image.to(dtype=dtype, memory_format=torch.channels_last)
        return "torch", lambda: model.encode(image)
    codes = torch.randint(0, sizes.vq["codebook"], (sizes.pictures, sizes.codes, sizes.codes))
    return "torch", lambda: model.decode(codes)


def training(row, sizes, dtype):
    if dtype != torch.float32:
        raise Absent("only in f32")
    return "torch", torch_peer.TASKS["train.transformer"]()


MODELS = {"gpu.vq.encode": autoencoder, "gpu.vq.decode": autoencoder, "gpu.train.transformer": training}


def peers(row):
    """(name, (row, sizes, dtype) -> (name, what to time)) of each."""
    if row.startswith("gpu.attend."):
        return [attention(make) for make in (sdpa, flex, natten)]
    return [("torch", product)] if row in PRODUCTS else [("torch", MODELS[row])] if row in MODELS else []


# ---- time ----

def timer(device):
    """Seconds between two calls of what it returns."""
    if device == "cpu":
        return time.perf_counter, lambda begin, end: end - begin

    def mark():
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(begin, end):
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3
    return mark, seconds


def measure(run, device, repeat, budget=3.0):
    """Median and best seconds of a call."""
    mark, seconds = timer(device)

    def sample(calls):
        begin = mark()
        for _ in range(calls):
            run()
        return seconds(begin, mark()) / calls
    for _ in range(3):
        run()
    calls = min(1000, 1 + int(1e-3 / max(sample(1), 1e-7)))
    end, samples = time.perf_counter() + budget, []
    while len(samples) < repeat and (not samples or time.perf_counter() < end):
        samples.append(sample(calls))
    return statistics.median(samples), min(samples)


def measure_row(row, arguments, sizes, dtype):
    for name, peer in peers(row["id"]):
        try:
            name, run = peer(row["id"], sizes, dtype)
            median, best = measure(run, arguments.device, arguments.repeat)
        except Absent as why:
            print(f"{row['id']}: no {name}: {why}", file=sys.stderr)
        except (RuntimeError, ValueError, NotImplementedError) as why:
            text = str(why).strip() or type(why).__name__
            print(f"{row['id']}: {name} failed: {text.splitlines()[0]}", file=sys.stderr)
        else:
            print(f"| `{row['id']}` | {row['size']} | {name} | {row['median_s'] * 1e3:.3f} | {median * 1e3:.3f} | "
                  f"{median / row['median_s']:.2f} | {best / row['best_s']:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", help="what nuwa bench --device cuda --json wrote")
    parser.add_argument("--filter", default="", help="only rows whose id holds this")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the sizes of nuwa bench --tiny")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here, so nothing was measured.")
        return
    with open(arguments.json, encoding="utf-8") as f:
        bench = json.load(f)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.set_default_device(arguments.device)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[bench.get("precision", "f32")]
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else "the CPU"
    print(f"torch {torch.__version__}, {where}, {bench.get('precision', 'f32')}; nuwa's products by "
          f"{bench.get('products', 'its own kernels')}\n")
    print("| id | size | peer | nuwa ms | peer ms | peer / nuwa, medians | peer / nuwa, best |")
    print("|---|---|---|---:|---:|---:|---:|")
    for row in bench["rows"]:
        if arguments.filter in row["id"]:
            measure_row(row, arguments, Sizes(arguments.tiny), dtype)


if __name__ == "__main__":
    main()
