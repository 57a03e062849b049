#!/bin/sh
# Measures a GPU, and PyTorch, FlexAttention and NATTEN beside it where they are installed:
#   bench/gpu/run.sh [--nuwa FILE] [--python FILE] [--out DIR] [--only "PART ..."] [-- OPTIONS OF nuwa bench]
# The parts, all by default; each takes some minutes:
#   f32 bf16            everything, large products by cuBLASLt: roofs, products, attention, VQ-GAN, training, decoding
#   own-f32 own-bf16    the products once more by own kernels
#   peers               PyTorch on the rows of what was measured
# DIR (gpu) gets PART.json and PART.md, and peers-PART.md.  Needs the driver, NVRTC and cuBLASLt, the latter two also
# where pip installs them; bench/gpu/pack.sh makes a program for machines that have nothing else.
# Without a GPU it says so and exits 0.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
nuwa='' python=python3 out=gpu parts='f32 bf16 own-f32 own-bf16 peers'
while [ $# -gt 0 ]; do
  case $1 in
    --nuwa) nuwa=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --only) parts=$2; shift 2 ;;
    --) shift; break ;;
    *) echo "$0: $1 is not known; the head of the file lists the options" >&2; exit 2 ;;
  esac
done

# The program: as named, built here, or packed.
if [ -z "$nuwa" ]; then
  nuwa=$here/../../build/nuwa packed=$here/../../.gpu/nuwa.tar.xz
  if [ ! -x "$nuwa" ] && [ -f "$packed" ]; then
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    tar -xJf "$packed" -C "$unpacked"
    nuwa=$unpacked/bin/nuwa
  fi
fi
[ -x "$nuwa" ] || { echo "$0: there is no $nuwa: run ./bootstrap build, or bench/gpu/pack.sh elsewhere" >&2; exit 1; }

# Where pip puts NVIDIA's libraries for this Python; behind what the machine has itself.
have_python() { command -v "$python" >/dev/null; }
if have_python; then
  found=$("$python" - <<'PYTHON'
import glob, os, sys
names = ("libnvrtc.so.*", "libcublasLt.so.*")
found = [os.path.dirname(f) for p in sys.path for n in names for f in glob.glob(f"{p}/nvidia/*/lib/{n}")]
print(":".join(dict.fromkeys(found)))
PYTHON
  )
  [ -z "$found" ] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$found"
fi

mkdir -p "$out"
measure() {   # PART OPTIONS
  part=$1; shift
  "$nuwa" bench --device cuda --models "$here/../../models" "$@" --json "$out/$part.json" >"$out/$part.md" || return 1
  cat "$out/$part.md"
  grep -q '"device"' "$out/$part.json" || exit 0   # no GPU: it was said
}

# Own kernels need no library, and only products differ: unless --filter names others.
measure_own() {   # PART OPTIONS
  part=$1 filter=gpu.matmul; shift
  n=$#
  while [ "$n" -gt 0 ]; do
    case $1 in
      --cublaslt) shift 2; n=$((n - 2)) ;;
      --filter) filter=$2; shift 2; n=$((n - 2)) ;;
      *) set -- "$@" "$1"; shift; n=$((n - 1)) ;;
    esac
  done
  measure "$part" --products own --filter "$filter" "$@"
}

for part in $parts; do
  case $part in
    f32) measure f32 "$@" ;;
    bf16) measure bf16 --precision bf16 "$@" ;;
    own-f32) measure_own own-f32 "$@" ;;
    own-bf16) measure_own own-bf16 --precision bf16 "$@" ;;
    peers)
      if ! have_python || ! "$python" -c 'import torch' 2>/dev/null; then
        echo "PyTorch is not installed for $python: no peers"
        continue
      fi
      [ -f "$out/f32.json" ] || [ -f "$out/bf16.json" ] || echo "$out has no f32.json or bf16.json: no peers"
      for of in f32 bf16; do
        [ -f "$out/$of.json" ] || continue
        "$python" "$here/../peers/torch_gpu_peer.py" "$out/$of.json" >"$out/peers-$of.md"
        cat "$out/peers-$of.md"
      done ;;
    *) echo "$0: there is no part $part" >&2; exit 2 ;;
  esac
done
