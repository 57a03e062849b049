#!/bin/sh
# Measures a GPU and, where PyTorch is installed, its peers:  bench/gpu/run.sh [NUWA [PYTHON [OUT]]]
# Without a GPU it says so and exits 0.
set -e
nuwa=${1:-build/nuwa} python=${2:-python3} out=${3:-gpu}
"$nuwa" bench --device cuda --json "$out.json" | tee "$out.md"
if grep -q '"device"' "$out.json" && "$python" -c 'import torch' 2>/dev/null; then
  "$python" "$(dirname "$0")/../peers/torch_gpu_peer.py" "$out.json" | tee "$out-torch-f32.md"
fi
