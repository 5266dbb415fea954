//! What a health answer costs in Rust; `benches/run.sh` sets what it costs through C and Go beside it.
//!
//! Prints `rust brief NANOSECONDS` and `rust json NANOSECONDS`: the best of several rounds, because on a
//! busy machine only the best one measures the code.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cprecover::healthz::{CheckState, Report, parse_response};

/// The same answer as in `overhead.c` and in the Go benchmark.
const BODY: &[u8] = b"[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n[+]poststarthook/start ok\nhealthz check failed\n";

const ROUNDS: u32 = 15;
const CALLS: u32 = 20_000;

fn best(mut call: impl FnMut()) -> f64 {
    let round = |_| {
        let begun = Instant::now();
        (0..CALLS).for_each(|_| call());
        begun.elapsed()
    };
    let best = (0..ROUNDS).map(round).min().unwrap_or(Duration::ZERO);
    best.as_secs_f64() * 1e9 / f64::from(CALLS)
}

/// What `cpr_healthz_brief` tells of a report.
fn brief(report: &Report) -> (usize, usize, bool) {
    let failed = report.checks.iter().filter(|check| check.state == CheckState::Failed).count();
    (report.checks.len(), failed, report.has_failed("etcd"))
}

fn main() {
    let quick = best(|| {
        black_box(brief(&parse_response(Some(500), black_box(BODY))));
    });
    let json = best(|| {
        black_box(serde_json::to_vec(&parse_response(Some(500), black_box(BODY))).unwrap_or_default());
    });
    println!("rust brief {quick:.0}\nrust json {json:.0}");
}
