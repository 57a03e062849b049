#!/usr/bin/env bash
# Runs every command of README.md in a folder of its own: the blocks of sh (trainings with two steps), and the lines that
# begin with "$ ", whose output must have the lines that stand below them ("..." stands for any).
# usage: run.sh SOURCE_DIR BUILD_DIR [long]    long: also what is for GPUs
set -euo pipefail
source=$(realpath "$1") build=$(realpath "$2")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$build/tests/readme/cache}   # kernels are compiled once
mkdir -p "$XDG_CACHE_HOME"
cd "$scratch"
ln -s "$build" build
ln -s "$source/examples" examples
cp -r "$source/models" models
readme=$source/README.md

# The model in ten lines is the first block of Lua; its tokens are all zeros here.
awk '/^```lua$/ { on = 1; next } /^```$/ && on { exit } on' "$readme" >video.lua
header='{"tokens":{"dtype":"I32","shape":[1,10,21,21],"data_offsets":[0,17640]}}'
printf "\\x$(printf %02x ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header" >in.safetensors
head -c 17640 /dev/zero >>in.safetensors

# ---- blocks of commands ----

awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$readme" |
  sed -E 's/--steps [0-9]+/--steps 2/; s/--eval-batches [0-9]+/--eval-batches 1/' | grep -v '^\./bootstrap' >commands.sh
sed -i 's|/usr/share/tuxpaint/stamps|scenes|' commands.sh   # which ./bootstrap does not install
grep -q 'train models/nuwa.lua' commands.sh || { echo "README.md has no commands?" >&2; exit 1; }
nvrtc=$(find /usr/lib /usr/local -name 'libnvrtc.so*' 2>/dev/null | head -1)
if [ "${3:-}" != long ] || [ -z "$nvrtc" ]; then   # NVRTC takes a minute for them, the emulated GPU several
  sed -i -E '/--device cuda/d; /\$emulated$/d; /\$n inspect codec.nuwa/d; /compile models\/vqgan.lua/,/-o codec.nuwa/d' commands.sh
fi
if grep -q '^NUWA_SANITIZE:[A-Z]*=.' "$build/CMakeCache.txt"; then
  echo "a library with a sanitizer inside is not linked by others"
  sed -i -E '/PKG_CONFIG_PATH|examples|^\.\/draw/d' commands.sh
fi
{
  echo 'set -eE; trap '\''echo "README.md: this failed: $BASH_COMMAND" >&2'\'' ERR'
  cat commands.sh
} >run.sh
bash run.sh >said 2>&1 </dev/null || { tail -20 said >&2; exit 1; }

# ---- commands with their output ----

awk '/^```/ { plain = !inside && $0 == "```"; inside = !inside; file = ""; next }
     plain && /^\$ / { file = "shown." ++n }
     plain && file { print > file }' "$readme"
count=0
for shown in shown.*; do
  command=$(sed -n '1s/^\$ //p' "$shown")
  eval "$command" >given 2>&1 </dev/null || { echo "README.md: this failed: $command" >&2; cat given >&2; exit 1; }
  sed -i "s|$source/models/|models/|g" given
  while IFS= read -r line; do
    [ "$line" = ... ] || grep -qxF -- "$line" given || {
      echo "README.md: $command does not print: $line" >&2
      exit 1
    }
  done < <(tail -n +2 "$shown")
  count=$((count + 1))
done
[ "$count" -ge 4 ] || { echo "README.md: only $count commands with output were found" >&2; exit 1; }
