#!/bin/sh
# Compiles the header with every compiler and standard, runs the C tests against the built library, and
# lets the examples recover a node that the drill broke.
# Usage: run.sh [folder of libcprecover_ffi.so and .a, default target/debug]
# CPRECOVER is the program with the drill, `cprecover` in that folder by default.
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
lib=${1:-$here/target/debug}
work=$(mktemp -d) || exit 1
root=
clean() {
    [ -z "$root" ] && return
    timeout 300 "$program" drill --clean "$root" > "$work/clean" 2>&1 || { echo "FAIL: clean $root"; cat "$work/clean"; failed=1; }
    root=
}
trap 'clean; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
program=${CPRECOVER:-$lib/cprecover}
# `cargo test` leaves the library in deps, `cargo build` beside it.
if [ ! -f "$lib/libcprecover_ffi.so" ] || [ "$lib/deps/libcprecover_ffi.so" -nt "$lib/libcprecover_ffi.so" ]; then lib=$lib/deps; fi
failed=0
pass() { echo "pass: $1"; }
fail() { echo "FAIL: $1"; failed=1; }
run() { what=$1; shift; if "$@" > "$work/log" 2>&1; then pass "$what"; else fail "$what"; sed 's/^/    /' "$work/log" | tail -30; fi; }
have() { command -v "$1" > /dev/null 2>&1 || { echo "SKIPPED: $2: $1 is not installed"; return 1; }; }

printf '#include <cprecover.h>\nint main(void) { return (int)cpr_abi_version(); }\n' > "$work/h.c"
cp "$work/h.c" "$work/h.cpp"
for cc in gcc clang; do
    have $cc "header as C" || continue
    for std in c99 c11 c17 c2x; do
        run "header $cc -std=$std" $cc -std=$std -Wall -Wextra -pedantic -Werror -I"$here/include" -c "$work/h.c" -o "$work/h.o"
    done
done
for cc in g++ clang++; do
    have $cc "header as C++" || continue
    for std in c++11 c++17 c++20; do
        run "header $cc -std=$std" $cc -std=$std -Wall -Wextra -pedantic -Werror -I"$here/include" -c "$work/h.cpp" -o "$work/h.o"
    done
done
# The installed names: the program finds the library by its SONAME.
ln -s "$lib/libcprecover_ffi.so" "$work/libcprecover.so.0"
ln -s libcprecover.so.0 "$work/libcprecover.so"
smoke=$here/cprecover-ffi/tests/c/smoke.c
flags="-std=c11 -g -Wall -Wextra -pedantic -Werror -I$here/include"
run "build smoke (shared)" gcc $flags "$smoke" -o "$work/smoke" -L"$work" -lcprecover
run "smoke, shared" env LD_LIBRARY_PATH="$work" "$work/smoke"
run "build smoke (static)" gcc $flags "$smoke" "$lib/libcprecover_ffi.a" -o "$work/static" -lpthread -ldl -lm -lgcc_s
run "smoke, static" "$work/static"
if gcc -fsanitize=address,undefined "$work/h.c" -I"$here/include" -c -o "$work/h.o" 2> /dev/null; then
    run "build smoke (ASan, UBSan)" gcc $flags -fsanitize=address,undefined -fno-sanitize-recover=all "$smoke" -o "$work/asan" -L"$work" -lcprecover
    run "smoke under ASan, UBSan and LSan" env ASAN_OPTIONS=detect_leaks=1 LD_LIBRARY_PATH="$work" "$work/asan"
else echo "SKIPPED: sanitizers: gcc has none"; fi

# The misuse matrix: every function with every argument wrong.
misuse=$here/cprecover-ffi/tests/c/misuse.c
run "build misuse.c" gcc $flags -O1 "$misuse" -o "$work/misuse" -L"$work" -lcprecover
mkdir "$work/misused"
run "misuse matrix" env LD_LIBRARY_PATH="$work" "$work/misuse" "$work/misused"
if [ -f "$work/asan" ]; then
    run "build misuse.c (ASan, UBSan)" gcc $flags -O1 -fsanitize=address,undefined -fno-sanitize-recover=all "$misuse" -o "$work/misuse-asan" -L"$work" -lcprecover
    run "misuse matrix under ASan, UBSan and LSan" env ASAN_OPTIONS=detect_leaks=1 LD_LIBRARY_PATH="$work" "$work/misuse-asan" "$work/misused"
fi
have valgrind "misuse under valgrind" && run "misuse matrix under valgrind" env LD_LIBRARY_PATH="$work" timeout 1800 \
    valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,indirect "$work/misuse" "$work/misused"
have valgrind "valgrind" && run "smoke under valgrind" env LD_LIBRARY_PATH="$work" \
    valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite "$work/smoke"

# As it is installed: a versioned shared object made of the archive, found by pkg-config.
mkdir -p "$work/prefix/lib/pkgconfig" "$work/prefix/include"
run "link with symbol versions" env CC=gcc "$here/cprecover-ffi/link-versioned.sh" "$lib/libcprecover_ffi.a" "$work/prefix/lib/libcprecover.so.0"
ln -s libcprecover.so.0 "$work/prefix/lib/libcprecover.so"
cp "$here/include/cprecover.h" "$work/prefix/include/"
sed "s|@prefix@|$work/prefix|" "$here/include/cprecover.pc.in" > "$work/prefix/lib/pkgconfig/cprecover.pc"
exported() { objdump -T "$work/prefix/lib/libcprecover.so.0" | awk '$4 != "*UND*" && $NF ~ /^cpr_/ { print $(NF - 1), $NF }' | sort; }
sed 's/^/CPRECOVER_0 /' "$here/cprecover-ffi/tests/symbols.txt" | sort > "$work/wanted"
exported > "$work/exported"
run "every symbol has its version" diff "$work/wanted" "$work/exported"
if have pkg-config "pkg-config"; then
    found=$(PKG_CONFIG_PATH="$work/prefix/lib/pkgconfig" pkg-config --cflags --libs cprecover)
    run "build smoke (pkg-config)" gcc -std=c11 "$smoke" -o "$work/installed" $found
    run "smoke, installed, versioned" env LD_LIBRARY_PATH="$work/prefix/lib" "$work/installed"
    run "it asks for the versioned symbols" sh -c "objdump -T '$work/installed' | grep -q 'CPRECOVER_0.*cpr_healthz_parse'"
fi

# Each example recovers a node that the drill broke as in the outage, and leaves it healthy.
break_node() {
    timeout 900 "$program" drill --break-only --stand-in -o json > "$work/broken.json" 2> "$work/log" || return 1
    root=$(sed -n 's/^ *"root": *"\([^"]*\)".*/\1/p' "$work/broken.json" | head -n 1)
    [ -d "$root" ]
}
recovers() { # what, command that takes the root
    what=$1; shift
    break_node || { fail "$what: no broken node"; sed 's/^/    /' "$work/log"; return; }
    if timeout 900 "$@" "$root" > "$work/report.json" 2> "$work/log" &&
        grep -q '"ending":{"state":"healthy"}' "$work/report.json" &&
        [ -f "$root/etc/kubernetes/manifests/etcd.yaml" ]; then pass "$what"
    else fail "$what"; tail -c 2000 "$work/log"; tail -c 2000 "$work/report.json"; fi
    clean
    # A root without a node is no success.
    timeout 900 "$@" "$work/no-node" > "$work/report.json" 2> "$work/log" && fail "$what: exit 0 without a node"
}
run "build recover.c" gcc $flags -std=c99 "$here/examples/c/recover.c" -o "$work/recover" -L"$work" -lcprecover
drill=
if [ "$(id -u)" -ne 0 ]; then echo "SKIPPED: the examples on the drill's node: not root"
elif [ ! -x "$program" ]; then echo "SKIPPED: the examples on the drill's node: no $program (cargo build -p cprecover --features cli)"
else drill=yes; fi
[ -n "$drill" ] && recovers "recover.c recovers the drill's node" env LD_LIBRARY_PATH="$work" "$work/recover"
every=$here/cprecover-ffi/tests/c/every.c
run "build every.c" gcc $flags "$every" -o "$work/every" -L"$work" -lcprecover
if gcc $flags -fsanitize=address,undefined -fno-sanitize-recover=all "$every" -o "$work/every-asan" -L"$work" -lcprecover 2> /dev/null
then san=" under ASan, UBSan and LSan"; else cp "$work/every" "$work/every-asan"; san=; fi
[ -n "$drill" ] && recovers "every function on the drill's node$san" env ASAN_OPTIONS=detect_leaks=1 LD_LIBRARY_PATH="$work" "$work/every-asan"
# Not under valgrind, where one recovery takes longer than 90 s; smoke.c, misuse.c and threads.c are.
# helgrind knows neither Rust's atomics nor its futex locks and reports each of them; memcheck sees what a
# race on a handle would do to its memory, and tests/nightly.sh runs threads.rs under ThreadSanitizer.
run "build threads.c" gcc $flags "$here/cprecover-ffi/tests/c/threads.c" -o "$work/threads" -L"$work" -lcprecover -lpthread
run "8 threads x 10000 calls" env LD_LIBRARY_PATH="$work" "$work/threads" 10000
have valgrind "threads under valgrind" && run "8 threads x 500 calls under valgrind" env LD_LIBRARY_PATH="$work" \
    valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite "$work/threads" 500
if have g++ "recover.cpp"; then
    run "build recover.cpp" g++ -std=c++17 -Wall -Wextra -pedantic -Werror -I"$here/include" \
        "$here/examples/cpp/recover.cpp" -o "$work/recover-cpp" -L"$work" -lcprecover
    [ -n "$drill" ] && recovers "recover.cpp recovers the drill's node" env LD_LIBRARY_PATH="$work" "$work/recover-cpp"
fi
if have go "the Go package and main.go"; then
    export CGO_CFLAGS="-I$here/include" CGO_LDFLAGS="-L$work" LD_LIBRARY_PATH="$work" GOPROXY=off GOFLAGS=
    in_go() { (cd "$here/$1" && shift && "$@"); }
    run "gofmt" sh -c "test -z \"\$(gofmt -l '$here/cprecover-ffi/go' '$here/examples/go' | tee /dev/stderr)\""
    run "go vet" in_go cprecover-ffi/go go vet ./...
    # From Go 1.21 on the stricter check is built in, before it is asked for at run time.
    if go version | grep -qE 'go1\.(1[0-9]|20)([. ]|$)'; then check="GODEBUG=cgocheck=2"; else check="GOEXPERIMENT=cgocheck2"; fi
    run "go test -race, $check" in_go cprecover-ffi/go env $check timeout 900 go test -race -count=1 ./...
    run "no type of C in the Go API" sh -c "cd '$here/cprecover-ffi/go' && go doc -all . | tee '$work/godoc' | grep -q '^func Open' && ! grep -nE '\bC\.[a-z]|_Ctype|unsafe\.' '$work/godoc'"
    run "build main.go" in_go examples/go go build -o "$work/recover-go" .
    [ -n "$drill" ] && recovers "main.go recovers the drill's node" "$work/recover-go"
fi
# The documents that the behaviour suite wrote, against their JSON Schemas.
documents=$here/target/tmp/documents
if [ ! -d "$documents" ]; then echo "SKIPPED: JSON Schemas: no $documents (cargo test -p cprecover-ffi --test behaviour)"
else
    run "build schema-check" env -u CARGO_TARGET_DIR cargo build -q --manifest-path "$here/cprecover-ffi/schema-check/Cargo.toml"
    run "documents and mutations against include/schema" "$here/cprecover-ffi/schema-check/target/debug/schema-check" "$here/include/schema" "$documents"
    cat "$work/log"
fi
exit $failed
