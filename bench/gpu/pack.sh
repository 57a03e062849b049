#!/bin/sh
# Packs nuwa for a machine with a GPU that cannot build it: the program and the libraries it is linked to but for
# libc's, as .gpu/nuwa.tar.xz (some 45 MB), which bench/gpu/run.sh beside it finds:  bench/gpu/pack.sh [NUWA]
# NVRTC, cuBLASLt and the driver are the other machine's, whose libc must be as new as this one's.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
nuwa=${1:-$root/build/nuwa} dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/bin" "$dir/lib" "$dir/lib/gcc"
cp "$nuwa" "$dir/bin/nuwa.bin"
ldd "$nuwa" | awk '$3 ~ /^\// { print $3 }' | grep -v -E '/lib(c|m|dl|pthread|rt)\.so' | while read -r lib; do
  case $lib in
    */libstdc++.so.* | */libgcc_s.so.*) cp -L "$lib" "$dir/lib/gcc/" ;;   # the other machine's own may be newer
    *) cp -L "$lib" "$dir/lib/" ;;
  esac
done
cat >"$dir/bin/nuwa" <<'WRAPPER'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
path=$here/../lib
ldconfig -p | grep -q 'libstdc++\.so\.6' || path=$path:$path/gcc
LD_LIBRARY_PATH="$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/nuwa.bin" "$@"
WRAPPER
chmod +x "$dir/bin/nuwa"
mkdir -p "$root/.gpu"
tar -C "$dir" -c bin lib | xz -T0 -6 >"$root/.gpu/nuwa.tar.xz"
ls -l "$root/.gpu/nuwa.tar.xz"
