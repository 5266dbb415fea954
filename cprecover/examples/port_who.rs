//! Prints the pids that listen on a TCP port: `port_who PORT [PID-HINT]`.
//!
//! The smallest program around [`cprecover::ports::find`]; `benches/ports.rs` times it as a whole
//! process against other tools.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use cprecover::model::Pid;
use cprecover::ports::{Query, find};
use cprecover::sys::Deadline;
use cprecover::{Error, ErrorKind};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("port_who: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> cprecover::Result<String> {
    let port = args.next().ok_or_else(|| Error::new(ErrorKind::Invalid, "want a port"))?.parse()?;
    let hint = args.next().and_then(|pid| pid.parse().ok()).and_then(Pid::new);
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let query = Query::new(port).likely_pids(hint).threads(threads);
    let lookup = find(&query, &Deadline::after(Duration::from_mins(1)))?;
    let pids: Vec<String> = lookup.holders().iter().map(|holder| holder.process.pid.to_string()).collect();
    Ok(pids.join(" "))
}
