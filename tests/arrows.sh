#!/usr/bin/env bash
# Who may include whom (docs: the list of target_link_libraries in CMakeLists.txt), which folder may use which library,
# and what a program on the runtime alone needs.  usage: arrows.sh SOURCE_DIR [SAMPLE_PROGRAM]
set -euo pipefail
cd "$1"
status=0
fail() { echo "$*" >&2; status=1; }

# folder: what it may include besides itself ("base" is runtime/base)
declare -A may=(
  [base]="" [runtime]="base" [ir]="base" [passes]="ir base" [codegen]="ir runtime base"
  [autotune]="codegen runtime base" [frontend]="ir passes codegen autotune runtime base"
  [media]="base" [train]="runtime media base"
  [bench]="base runtime ir passes codegen autotune frontend media train"
  [cli]="base runtime ir passes codegen autotune frontend media train bench"
)
folder_of() { case "$1" in runtime/base/*) echo base ;; *) echo "${1%%/*}" ;; esac; }

while IFS=: read -r file line; do
  included=$(sed -E 's/.*"([^"]+)".*/\1/' <<<"$line")
  [ -e "$included" ] || { fail "$file: includes \"$included\", which is not a path from the root"; continue; }
  from=$(folder_of "$file") to=$(folder_of "$included")
  [ "$from" = "$to" ] || [[ " ${may[$from]} " == *" $to "* ]] || fail "$file: $from may not include $to (\"$included\")"
done < <(grep -E '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' -r runtime ir passes codegen autotune frontend media train bench cli \
           --include='*.c' --include='*.h' | sed -E 's/^([^:]+):/\1:/')

only() {   # PATTERN of system headers, the one folder that may include them
  local hits
  hits=$(grep -lE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<($1)" -r runtime ir passes codegen autotune frontend media train bench cli \
           --include='*.c' --include='*.h' | grep -v "^$2/" || true)
  [ -z "$hits" ] || fail "only $2 may include <$1>: $hits"
}
only 'llvm-c|nvrtc' codegen
only 'sqlite3' autotune
only 'lua|lauxlib|lualib' frontend
only 'png|jpeglib|ft2build|freetype|libav' media

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
