#!/usr/bin/env bash
# Digests of what a change of the compiler must not change by accident: the text of kernels, drawn tokens and losses.
# Compare two builds with  diff <(tests/digests.sh OLD/build/nuwa) <(tests/digests.sh build/nuwa).
# usage: digests.sh [NUWA]
set -euo pipefail
nuwa=$(realpath "${1:-build/nuwa}")
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
say() { printf '%s  %s\n' "$(sha256sum | cut -c1-16)" "$*"; }

small="-D grid_s=1 -D grid_h=8 -D grid_w=8 -D dim=64 -D heads=4 -D encoder_layers=1 -D decoder_layers=2 -D text_tokens=16"
demo="$small -D vocab=300 -D codebook=512"
vq="-D size=32 -D channels=16 -D multipliers=1,2,2 -D blocks=1 -D attention= -D latent=32 -D width=32 -D codebook=128 -D groups=8"
for kind in full axis nearby block; do
  for device in "--isa plain" "--isa avx2" "--isa avx2 --precision bf16"; do
    for fn in decode loss; do
      args="models/nuwa.lua --fn $fn $demo -D encoder=$kind -D decoder=$kind $device"
      "$nuwa" inspect $args --kernels 2>/dev/null | say "$args"
    done
  done
done
for fn in encode decode loss; do
  args="models/vqgan.lua --fn $fn $vq --isa avx2"
  "$nuwa" inspect $args --kernels 2>/dev/null | say "$args"
done
for args in "models/nuwa.lua --fn decode $demo" "models/nuwa.lua --fn loss $demo" "models/vqgan.lua --fn decode $vq"; do
  "$nuwa" inspect $args --device cuda --kernels 2>/dev/null | say "$args --device cuda"
done

"$nuwa" data --bpe "$scratch/merges.txt" >/dev/null 2>&1
for args in "--temperature 0" "--temperature 0.8 --seed 3 --count 4" "--temperature 0 --precision bf16" "--guidance 1.5 --seed 5 --order raster"; do
  "$nuwa" generate --text "a panda at the top right on a blue background" $args -o "$scratch/p.png" --tokens-out "$scratch/t" 2>/dev/null
  say "tokens $args" <"$scratch/t"
done
for precision in f32 bf16; do
  rm -rf "$scratch/log"
  "$nuwa" train models/vqgan.lua $vq --precision $precision --steps 4 --batch 4 --log "$scratch/log" --out "$scratch/vq" 2>/dev/null
  sed -E 's/"(step_s|seconds|rate|wall)[^,}]*//g' "$scratch/log/metrics.jsonl" | grep -oE '"(loss|mse)": ?[-0-9.e]+' | say "losses of vqgan, $precision"
  rm -rf "$scratch/log"
  "$nuwa" train models/nuwa.lua $small -D codebook=128 -D vocab=848 --bpe "$scratch/merges.txt" -D null_text=0.1 -D noise=0.5 --vq-weights "$scratch/vq" \
    --precision $precision --steps 4 --batch 4 --log "$scratch/log" --out "$scratch/drawer" 2>/dev/null
  grep -oE '"loss": ?[-0-9.e]+' "$scratch/log/metrics.jsonl" | say "losses of nuwa, $precision"
done
