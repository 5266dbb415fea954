#!/bin/sh
# Measures the C ABI in builds of the profile `small` and prints the tables of docs/benchmarks.md; fails when a limit of the
# project is passed. Each build with WebAssembly compiles a compiler: minutes.
# Usage: run.sh [target folder, default target/c-abi-bench]
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
target=${1:-$here/target/c-abi-bench}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
build() { # name, features
    (cd "$here" && CARGO_TARGET_DIR="$target" cargo rustc -q -p cprecover-ffi --profile small --no-default-features --features "$2" --crate-type cdylib) &&
        cp "$target/small/libcprecover_ffi.so" "$work/$1.so" || return 1
    (cd "$here" && CARGO_TARGET_DIR="$target" cargo rustc -q -p cprecover-ffi --profile small --no-default-features --features "$2" --crate-type staticlib) &&
        cp "$target/small/libcprecover_ffi.a" "$work/$1.a" || return 1
    strip -o "$work/$1.stripped.so" "$work/$1.so"
    strip -g -o "$work/$1.stripped.a" "$work/$1.a"
}
bytes() { stat -c %s "$1"; }
mb() { awk -v n="$(bytes "$1")" 'BEGIN { printf "%.2f", n / 1e6 }'; }
limit() { # what, value, at most
    awk -v v="$2" -v m="$3" 'BEGIN { exit !(v <= m) }' || { echo "FAIL: $1 is $2, more than $3"; failed=1; }
}
load() { # the best of twenty new processes, in ms
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do "$work/overhead" "$work/$1.stripped.so" | sed -n 's/^dlopen //p'; done |
        sort -n | head -n 1 | awk '{ printf "%.2f", $1 / 1e6 }'
}
gcc -O2 -std=c11 -Wall -Wextra -I"$here/include" "$here/cprecover-ffi/benches/overhead.c" -o "$work/overhead" -ldl || exit 1
echo "| build | .so, stripped | .a, without debug information | dlopen |"
echo "|---|---|---|---|"
row() { # name, features, what, limit in MB
    build "$1" "$2" || { echo "FAIL: build $1"; failed=1; return; }
    ms=$(load "$1")
    echo "| $3 | $(mb "$work/$1.stripped.so") MB | $(mb "$work/$1.stripped.a") MB | $ms ms |"
    limit "$1.so in MB" "$(mb "$work/$1.stripped.so")" "$4"
    limit "dlopen of $1.so in ms" "$ms" 10
}
row native "probe,cri" "without \`wasm\`: shipped policies run natively" 3
# The runtime without a compiler, when this crate has that feature.
if grep -q '^wasm-runtime *=' "$here/cprecover-ffi/Cargo.toml"; then
    row runtime "wasm-runtime,probe,cri" "with the runtime: precompiled policies" 4
fi
row compiler "wasm,probe,cri" "with \`wasm\`: any policy is compiled" 14
echo
best=$work/native.stripped.so
"$work/overhead" "$best" > "$work/c" || exit 1
(cd "$here" && CARGO_TARGET_DIR="$target" cargo bench -q -p cprecover-ffi --profile small --no-default-features --features probe,cri --bench overhead) > "$work/rust" 2> "$work/log" ||
    { cat "$work/log"; exit 1; }
if command -v go > /dev/null; then
    cp "$best" "$work/libcprecover.so.0" && ln -sf libcprecover.so.0 "$work/libcprecover.so"
    (cd "$here/cprecover-ffi/go" && CGO_CFLAGS="-I$here/include" CGO_LDFLAGS="-L$work" LD_LIBRARY_PATH="$work" GOPROXY=off \
        go test -run '^$' -bench . -count 7 .) > "$work/go" 2>&1 || { cat "$work/go"; failed=1; }
fi
of() { sed -n "s/^$1 //p" "$2"; }
go_of() { awk -v name="$1" '$1 ~ "^"name && (!best || $3 < best) { best = $3 } END { print best }' "$work/go"; }
echo "| one health answer | Rust | C | Go |"
echo "|---|---|---|---|"
for what in brief json; do
    rust=$(of "rust $what" "$work/rust"); c=$(of "c $what" "$work/c"); go=-
    [ $what = brief ] && name=BenchmarkBriefHealth || name=BenchmarkParseHealth
    [ -f "$work/go" ] && go=$(go_of $name)
    ratio() { awk -v a="$1" -v b="$rust" 'BEGIN { if (a + 0) printf "%.2f", a / b; else print "-" }'; }
    echo "| $what | $rust ns | $c ns ($(ratio "$c")x) | $go ns ($(ratio "$go")x) |"
    limit "$what through C over Rust" "$(ratio "$c")" 1.2
    [ "$go" = - ] || limit "$what through Go over Rust" "$(ratio "$go")" 2
done
exit $failed
