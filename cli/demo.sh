#!/usr/bin/env bash
# The main job, with the shipped weights: draws a caption, rebuilds and completes a real picture, shows the decoding
# schedule and the ablation table.  ./bootstrap demo [CAPTION [PICTURE]]
set -euo pipefail
cd "$(dirname "$0")/.."
nuwa=build/nuwa
caption=${1:-a panda at the top right on a blue background}
out=${NUWA_DEMO_OUT:-out/demo}
mkdir -p "$out"

picture=${2:-}
if [ -z "$picture" ]; then
  $nuwa data --held-out --first 3 --count 1 --out "$out/scene" >/dev/null
  picture=$(ls "$out"/scene/*.png | head -1)
fi

echo "== \"$caption\""
$nuwa generate --text "$caption" --temperature 0.3 --guidance 1.5 -o "$out/drawn.png"
echo "drawn: $out/drawn.png"

echo "== $picture"
$nuwa generate --image "$picture" --reconstruct "$out/rebuilt.png"
echo "rebuilt by the autoencoder: $out/rebuilt.png"
$nuwa generate --text "" --image "$picture" --mask lower --temperature 0.5 -o "$out/completed.png"
echo "lower half completed: $out/completed.png"

echo "== schedule"
$nuwa inspect models/nuwa.lua -D grid_s=1 -D grid_h=8 -D grid_w=8 -D extent_h=5 -D extent_w=5 --fn decode --schedule

echo "== ablation: what drawing takes"
$nuwa ablate models/nuwa.lua --like models/weights/demo.safetensors --variants models/variants/attention.lua --only-drawing
