#!/bin/sh
# What only a nightly toolchain can do: Miri on the code behind the handles, and ThreadSanitizer over
# tests/threads.rs (8 threads x 10000 calls). The standard library is built too, so that its locks are seen.
#   rustup toolchain install nightly --component miri,rust-src
#   tests/nightly.sh [miri|tsan]
set -eu
cd "$(dirname "$0")/../.."
if ! cargo +nightly --version > /dev/null 2>&1; then echo "SKIPPED: Miri and ThreadSanitizer: no nightly toolchain"; exit 0; fi
if [ ! -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library" ]; then
    echo "SKIPPED: Miri and ThreadSanitizer: nightly has no rust-src"
    exit 0
fi
if [ "${1:-miri}" = miri ] && ! cargo +nightly miri --version > /dev/null 2>&1; then
    echo "SKIPPED: Miri: nightly has no miri"
elif [ "${1:-miri}" = miri ]; then
    cargo +nightly miri test -p cprecover-ffi --no-default-features --lib -- args:: buf:: failure:: guard:: handle:: json:: status:: table::
fi
if [ "${1:-tsan}" = tsan ]; then
    RUSTFLAGS="-Zsanitizer=thread" cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu --target-dir target/tsan \
        -p cprecover-ffi --no-default-features --test threads
fi
