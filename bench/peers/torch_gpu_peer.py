"""Measures PyTorch on the rows of `nuwa bench --device cuda` and prints both speeds and their ratio.

    nuwa bench --device cuda --json gpu.json
    /tmp/venv/bin/python bench/peers/torch_gpu_peer.py gpu.json [--filter TEXT] [--dtype f32|bf16]

Nothing of nuwa needs this script, and without a GPU it says so and exits 0.  Shapes are those of bench/gpu_bench.c.
Attention is measured as full attention under a mask, with FlexAttention where this PyTorch has it (compiled, block
mask), and with NATTEN where it is installed; NATTEN centres a window at the border by shifting it, where nuwa clips it,
so its work there is a little more.  f32 products run without TF32, as nuwa's do.  Times are CUDA events around one
call, after warming up."""
import argparse
import json
import statistics
import sys

GRID, HEADS, WIDTH = (10, 21, 21), 20, 64
WINDOWS = {"gpu.attend.3x3x3": (3, 3, 3), "gpu.attend.3x5x5": (3, 5, 5), "gpu.attend.5x7x7": (5, 7, 7)}
PRODUCTS = {"gpu.matmul.1024": (1024, 1024, 1024), "gpu.matmul.4096": (4096, 4096, 4096),
            "gpu.matmul.video.up": (4410, 1280, 5120), "gpu.matmul.video.down": (4410, 5120, 1280),
            "gpu.matmul.rows.1": (1, 1280, 5120), "gpu.matmul.rows.64": (64, 1280, 5120)}


def visible(torch, name):
    """[n, n] of bool: which keys a query sees; None: all."""
    if name == "gpu.attend.full":
        return None
    place = torch.cartesian_prod(*(torch.arange(n) for n in GRID)).cuda()
    offset = (place[None, :, :] - place[:, None, :]).abs()
    if name == "gpu.attend.axis":
        return (offset != 0).sum(-1) <= 1
    window = WINDOWS[name.removesuffix(".causal")]
    see = (offset <= torch.tensor([w // 2 for w in window]).cuda()).all(-1)
    return see.tril() if name.endswith(".causal") else see


def inputs(torch, dtype, *shape):
    return [(torch.rand(*shape, device="cuda") - 0.5).to(dtype).requires_grad_() for _ in range(3)]


def both_ways(torch, attend, tensors):
    """Forward, and backward alone."""
    y = attend(*tensors)
    dy = torch.rand_like(y)

    def forward():
        with torch.no_grad():
            attend(*tensors)
    return {"forward": forward, "backward": lambda: torch.autograd.grad(y, tensors, dy, retain_graph=True)}


def masked(torch, name, dtype):
    tensors, see = inputs(torch, dtype, 1, HEADS, GRID[0] * GRID[1] * GRID[2], WIDTH), visible(torch, name)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return both_ways(torch, lambda q, k, v: sdpa(q, k, v, attn_mask=see), tensors)


def flex(torch, name, dtype):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    n, see = GRID[0] * GRID[1] * GRID[2], visible(torch, name)
    mask = None if see is None else create_block_mask(lambda b, h, q, k: see[q, k], None, None, n, n, device="cuda")
    compiled = torch.compile(flex_attention, dynamic=False)
    return both_ways(torch, lambda q, k, v: compiled(q, k, v, block_mask=mask), inputs(torch, dtype, 1, HEADS, n, WIDTH))


def natten(torch, name, dtype):
    import natten
    window = WINDOWS[name]   # KeyError: no window of NATTEN's
    attend = natten.na3d if hasattr(natten, "na3d") else natten.functional.na3d
    return both_ways(torch, lambda q, k, v: attend(q, k, v, kernel_size=window), inputs(torch, dtype, 1, *GRID, HEADS, WIDTH))


def product(torch, name, dtype):
    rows, k, cols = PRODUCTS[name]
    a = (torch.rand(rows, k, device="cuda") - 0.5).to(dtype)
    b = (torch.rand(k, cols, device="cuda") - 0.5).to(dtype)
    return {"": lambda: a @ b}


def measure(torch, run, repeat):
    for _ in range(3):
        run()
    samples = []
    for _ in range(repeat):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(samples), min(samples)


def peers(row):
    base, _, direction = row["id"].rpartition(".")
    if row["id"] in PRODUCTS:
        return row["id"], "", {"torch": product}
    if base.startswith("gpu.attend."):
        return base, direction, {"sdpa": masked, "flex": flex, "natten": natten}
    return row["id"], "", {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", help="what nuwa bench --device cuda --json wrote")
    parser.add_argument("--filter", default="", help="only rows whose id holds this")
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--repeat", type=int, default=15)
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch is not installed: nothing to compare with")
    if not torch.cuda.is_available():
        print("There is no GPU here, so nothing was measured.")
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    dtype = torch.float32 if arguments.dtype == "f32" else torch.bfloat16
    with open(arguments.json, encoding="utf-8") as f:
        bench = json.load(f)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {arguments.dtype}\n")
    print("| id | size | peer | nuwa ms | peer ms | peer / nuwa, medians | peer / nuwa, best |")
    print("|---|---|---|---:|---:|---:|---:|")
    for row in bench["rows"]:
        name, direction, makers = peers(row)
        for peer, make in makers.items():
            if arguments.filter not in row["id"]:
                continue
            try:
                median, best = measure(torch, make(torch, name, dtype)[direction], arguments.repeat)
            except (ImportError, KeyError) as why:   # not installed, or no such window there
                print(f"{row['id']}: no {peer} ({type(why).__name__}: {why})", file=sys.stderr)
                continue
            except RuntimeError as why:
                print(f"{row['id']}: {peer} failed: {str(why).splitlines()[0]}", file=sys.stderr)
                continue
            print(f"| `{row['id']}` | {row['size']} | {peer} | {row['median_s'] * 1e3:.3f} | {median * 1e3:.3f} | "
                  f"{median / row['median_s']:.2f} | {best / row['best_s']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
