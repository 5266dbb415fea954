//! The bbolt database, read page by page without mapping it and without opening it as bbolt would.
//!
//! Sources: bbolt `internal/common/{page,meta,bucket}.go` (formats), `db.go` (which meta page counts),
//! `tx_check.go` (what `bbolt check` looks at). Every page is visited once, so that the work is bounded by
//! the file's size whatever the file says; what is kept are two bits a page and one page at a time.

mod meta;
mod page;
mod schema;
mod walk;

use std::fs::File;
use std::path::Path;

use super::verdict::{DataState, DbReport, Finding, FindingKind, MemberRecord};
use crate::error::{Error, Result};
use crate::sys::Deadline;
use meta::{Meta, MetaPages};
use walk::Walk;

/// How often the members are read again because the database changed meanwhile.
const IN_USE_ATTEMPTS: usize = 4;

/// What a pass over the database found.
#[derive(Debug, Default)]
pub(super) struct BoltScan {
    pub(super) report: DbReport,
    pub(super) findings: Vec<Finding>,
}

/// How thorough a pass is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The two meta pages; all that can be trusted while another process writes.
    MetaPages,
    /// Every page.
    Everything,
}

/// Reads the database of at most `limit` bytes.
pub(super) fn scan(path: &Path, depth: Depth, limit: u64, deadline: &Deadline) -> Result<BoltScan> {
    let file = File::open(path).map_err(|source| Error::path("open", path, source))?;
    let size = file.metadata().map_err(|source| Error::path("stat", path, source))?.len();
    let mut out = BoltScan::default();
    out.report.size_bytes = size;
    let pages = meta::read(&file, size).map_err(|source| Error::path("read", path, source))?;
    let Some(meta) = judge_meta(&pages, path, size, &mut out.findings) else { return Ok(out) };
    out.report.page_bytes = meta.page_bytes;
    out.report.transaction = meta.transaction;
    out.report.freelist_stored = meta.freelist.is_some();
    if depth == Depth::MetaPages {
        return Ok(out);
    }
    if size > limit {
        let message = format!("database has {size} bytes, more than {limit}; only its meta pages were read");
        out.findings.push(finding(path, FindingKind::Limit, DataState::Unfinished, None, message));
        return Ok(out);
    }
    let needed = meta.pages.saturating_mul(u64::from(meta.page_bytes));
    if needed > size {
        let message = format!("database is cut off: {needed} bytes are in use, the file has {size}");
        out.findings.push(finding(path, FindingKind::DbTruncated, DataState::DbBroken, None, message));
    }
    Walk::new(&file, path, size, &meta, deadline).run(&mut out)?;
    Ok(out)
}

/// Reads the members out of a database that another process may be writing to; `None` when it changes faster
/// than that, or is not sound so far.
///
/// bbolt overwrites no page that its newest transaction uses (`tx.go`, `Commit`), so that what was read is
/// sound where no transaction was committed meanwhile.
pub(super) fn members_in_use(path: &Path, deadline: &Deadline) -> Result<Option<Vec<MemberRecord>>> {
    let file = File::open(path).map_err(|source| Error::path("open", path, source))?;
    let size = file.metadata().map_err(|source| Error::path("stat", path, source))?.len();
    let newest = || -> Result<Option<Meta>> {
        let pages = meta::read(&file, size).map_err(|source| Error::path("read", path, source))?;
        Ok(judge_meta(&pages, path, size, &mut Vec::new()))
    };
    for _ in 0..IN_USE_ATTEMPTS {
        let Some(meta) = newest()? else { return Ok(None) };
        let mut out = BoltScan::default();
        Walk::new(&file, path, size, &meta, deadline).of_members().run(&mut out)?;
        if newest()?.is_some_and(|now| now.transaction == meta.transaction) {
            return Ok(out.findings.is_empty().then_some(out.report.members));
        }
    }
    Ok(None)
}

/// Says which meta page counts, as bbolt does: the valid one with the higher transaction.
fn judge_meta(pages: &MetaPages, path: &Path, size: u64, findings: &mut Vec<Finding>) -> Option<Meta> {
    let degraded = |place: u64, problem: &str, other: &Meta| {
        let message = format!(
            "meta page {place} is broken ({problem}); bbolt uses the other one, transaction {}",
            other.transaction
        );
        finding(path, FindingKind::DbMetaDegraded, DataState::DbMetaDegraded, Some(place), message)
    };
    match (&pages.first, &pages.second) {
        (Ok(first), Ok(second)) => {
            Some(if second.transaction > first.transaction { second.clone() } else { first.clone() })
        }
        (Ok(first), Err(problem)) => {
            findings.push(degraded(1, problem, first));
            Some(first.clone())
        }
        (Err(problem), Ok(second)) => {
            findings.push(degraded(0, problem, second));
            Some(second.clone())
        }
        (Err(first), Err(second)) => {
            let message = format!("no valid meta page in {size} bytes (page 0: {first}; page 1: {second})");
            findings.push(finding(path, FindingKind::DbMetaBroken, DataState::DbBroken, Some(0), message));
            None
        }
    }
}

fn finding(path: &Path, kind: FindingKind, state: DataState, page: Option<u64>, message: String) -> Finding {
    Finding { kind, state, file: path.to_owned(), offset: None, record: page, message }
}

#[cfg(test)]
pub(super) mod build;

#[cfg(test)]
mod tests;
