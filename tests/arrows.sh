#!/usr/bin/env bash
# Who may include whom, which folder may use which library, that no headers and sources include each other in a circle,
# that sessions know no device by name, and what a program on the runtime alone needs.  usage: arrows.sh SOURCE_DIR [SAMPLE_PROGRAM]
set -euo pipefail
cd "$1"
status=0
fail() { echo "$*" >&2; status=1; }
folders=(runtime ir passes codegen autotune frontend media train synth cli bench)
present=()
for folder in "${folders[@]}"; do [ ! -d "$folder" ] || present+=("$folder"); done

# room: what it may include besides itself.  A room is a folder, or one of its own listed here.  The public header
# includes nothing of ours and anyone may include it.
all="base text runtime ir passes kir lower emit plan codegen autotune lua compile media train"
declare -A may=(
  [public]="" [base]="" [text]="base" [cpu]="runtime base" [cuda]="runtime base" [runtime]="base"
  [ir]="base" [passes]="ir base"
  [codegen]="kir ir runtime base" [kir]="codegen ir base" [lower]="codegen kir ir base" [emit]="codegen kir runtime base"
  [plan]="codegen lower emit kir ir runtime base"
  [autotune]="codegen kir lower emit plan ir runtime base"
  [lua]="ir passes codegen compile base"
  [compile]="lua ir passes codegen kir lower emit plan autotune runtime base"
  [media]="base text" [train]="runtime media base text"
  [synth]="runtime media text ir lua compile train base"
  [bench]="$all cuda" [cli]="$all synth bench"
)
# What others may see of the runtime beside its public header: what plans and bundles are, and what their writers ask.
# Benchmarks of a GPU's roofs call its driver through the runtime's table of functions.
declare -A seen=(
  [runtime/plan.h]="codegen emit plan compile autotune train synth bench cli" [runtime/order.h]="plan"
  [runtime/weights.h]="synth" [runtime/bundle.h]="synth cli" [runtime/cuda/api.h]="bench"
)
room_of() {
  case "$1" in
    runtime/include/*) echo public ;; runtime/base/*) echo base ;; runtime/text/*) echo text ;; runtime/cpu/*) echo cpu ;; runtime/cuda/*) echo cuda ;;
    codegen/kir/*) echo kir ;; codegen/lower/*) echo lower ;; codegen/emit/*) echo emit ;; codegen/plan/*) echo plan ;;
    frontend/lua/*) echo lua ;; frontend/compile/*) echo compile ;;
    *) echo "${1%%/*}" ;;
  esac
}

includes=$(grep -E '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' -r "${present[@]}" --include='*.c' --include='*.h')
while IFS=: read -r file line; do
  included=$(sed -E 's/.*"([^"]+)".*/\1/' <<<"$line")
  [ -e "$included" ] || { fail "$file: includes \"$included\", which is not a path from the root"; continue; }
  from=$(room_of "$file") to=$(room_of "$included")
  case "$from:$to" in
    runtime:runtime|cpu:cpu|cpu:runtime|cuda:cuda|cuda:runtime) ;;
    *:runtime|*:cpu|*:cuda)
      [[ " ${seen[$included]:-} " == *" $from "* ]] || fail "$file: \"$included\" is not for $from" ;;
  esac
  [ "$to" = public ] || [ "$from" = "$to" ] || [[ " ${may[$from]} " == *" $to "* ]] || fail "$file: $from may not include $to (\"$included\")"
done <<<"$includes"

# Sessions know devices by device.h: not even a name of one.
named=$(grep -liE 'cuda|cubin|cublas|ptx' runtime/{session,decode,step,weights,order}.[ch] 2>/dev/null || true)
[ -z "$named" ] || fail "these are for any device, and name one: $named"

# Hooks for tests: only where they are compiled into nothing that is installed.
hooked=$(grep -lE '"runtime/base/hooks\.h"' -r "${present[@]}" --include='*.c' --include='*.h' | grep -v '^runtime/base/memory\.c$' || true)
[ -z "$hooked" ] || fail "hooks are for tests: $hooked"

# An edge a header; tsort names the headers of a circle.
circle=$(sed -E 's/^([^:]+):.*"([^"]+)".*/\1 \2/' <<<"$includes" | tsort 2>&1 >/dev/null || true)
[ -z "$circle" ] || fail "files include each other in a circle: $circle"

only() {   # PATTERN of system headers, the one folder that may include them
  local hits
  hits=$(grep -lE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<($1)" -r "${present[@]}" --include='*.c' --include='*.h' |
           grep -v "^$2/" || true)
  [ -z "$hits" ] || fail "only $2 may include <$1>: $hits"
}
only 'llvm-c|nvrtc' codegen/emit
only 'sqlite3' autotune
only 'lua|lauxlib|lualib' frontend/lua
only 'lapacke' synth
only 'png|jpeglib|ft2build|freetype|libav|libsw|webp|archive' media

if [ $# -gt 1 ]; then
  needed=$(readelf -d "$2" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p')
  for library in $needed; do
    case "$library" in
      libc.so.*|libm.so.*|libdl.so.*|libpthread.so.*|ld-linux*|libasan*|libubsan*|libtsan*|libgcc_s*) ;;
      *) fail "a program on the runtime alone needs $library" ;;
    esac
  done
fi
exit $status
