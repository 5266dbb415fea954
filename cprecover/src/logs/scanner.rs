//! The streaming matcher.

use super::{Scan, ScanOptions};

/// Takes a log in pieces and collects its matches.
#[derive(Debug)]
pub struct Scanner {
    options: ScanOptions,
    scan: Scan,
}

impl Scanner {
    /// Starts a scan of the log called `source`.
    #[must_use]
    pub fn new(source: &str, options: &ScanOptions) -> Self {
        let _ = source;
        Self { options: *options, scan: Scan::default() }
    }

    /// Takes the next piece; lines may be cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        let _ = (bytes, &self.options);
        todo!()
    }

    /// Ends the scan; a last line without a line feed counts.
    #[must_use]
    pub fn finish(self) -> Scan {
        self.scan
    }
}
