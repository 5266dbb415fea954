#!/bin/sh
# Links libcprecover.so.0 with symbol versions (CPRECOVER_0) from the static library.
#
# rustc hands the linker a version script of its own for a shared object; GNU ld refuses a second one, lld
# lets the first win. So cargo's shared object has no versions, and this one, made of the same code, has.
# Usage: link-versioned.sh libcprecover_ffi.a OUTPUT
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
roots=$(sed 's/^/-Wl,-u,/' "$here/cprecover-ffi/tests/symbols.txt")
# shellcheck disable=SC2086 # one argument for each symbol
exec "${CC:-cc}" -shared -o "$2" -Wl,-soname,libcprecover.so.0 -Wl,--version-script="$here/include/cprecover.map" \
    -Wl,--gc-sections -Wl,-z,now -Wl,-z,relro $roots "$1" -lpthread -ldl -lm -lgcc_s -lc
