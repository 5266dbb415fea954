//! Visits every page that is reachable from the root bucket.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::super::verdict::{DataState, FindingKind};
use super::meta::Meta;
use super::page::{self, BRANCH, Element, FREELIST, HEADER_BYTES, Header, LEAF};
use super::schema::{self, Bucket};
use super::{BoltScan, finding};
use crate::error::{Error, Result};
use crate::sys::Deadline;

/// The longest page (a value that overflows into following pages makes one) that is read. etcd's largest
/// request is 1.5 MiB by default.
const MAX_PAGE_BYTES: u64 = 64 << 20;
/// How many pages may wait to be visited; a sound tree has some hundred on each of some five levels.
const MAX_WAITING: usize = 1 << 20;
/// After this many broken pages nothing new is learnt.
const MAX_BROKEN: usize = 8;
/// How deep buckets may be nested; etcd nests none.
const MAX_NESTING: u8 = 8;

/// A page that waits to be visited.
struct Task {
    page: u64,
    bucket: Bucket,
    nesting: u8,
    /// Every key is at least this one.
    lower: Option<Vec<u8>>,
    /// Every key is less than this one.
    upper: Option<Vec<u8>>,
}

pub(super) struct Walk<'a> {
    file: &'a File,
    path: &'a Path,
    size: u64,
    meta: &'a Meta,
    deadline: &'a Deadline,
    /// Pages that were reached.
    seen: Bits,
    /// Pages on the stored list of free pages.
    free: Bits,
    waiting: Vec<Task>,
    broken: usize,
    has_key_bucket: bool,
    members_only: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        file: &'a File,
        path: &'a Path,
        size: u64,
        meta: &'a Meta,
        deadline: &'a Deadline,
    ) -> Self {
        // A high-water mark beyond the end of the file is reported elsewhere and costs no memory here.
        let pages = meta.pages.min(size / u64::from(meta.page_bytes) + 1);
        let (seen, free) = (Bits::new(pages), Bits::new(pages));
        Self {
            file,
            path,
            size,
            meta,
            deadline,
            seen,
            free,
            waiting: Vec::new(),
            broken: 0,
            has_key_bucket: false,
            members_only: false,
        }
    }

    /// Visits the root bucket and that of the members only.
    pub(super) fn of_members(self) -> Self {
        Self { members_only: true, ..self }
    }

    /// Visits everything, or stops at the deadline or after enough damage.
    pub(super) fn run(mut self, out: &mut BoltScan) -> Result<()> {
        self.seen.set(0);
        self.seen.set(1);
        let mut used = 2;
        if !self.members_only {
            self.read_freelist(out, &mut used)?;
        }
        let root = Task { page: self.meta.root, bucket: Bucket::Root, nesting: 0, lower: None, upper: None };
        self.push(root, None, out);
        let mut buffer = Vec::new();
        let mut visited = 0_u64;
        while let Some(task) = self.waiting.pop() {
            // The members are a few pages, and are wanted most where there is little time.
            let is_due = visited.is_multiple_of(256) && !(self.members_only && visited == 0);
            if is_due && let Err(stop) = self.deadline.check("read database") {
                let message = format!("{stop}, after {visited} pages");
                out.findings.push(finding(
                    self.path,
                    FindingKind::Limit,
                    DataState::Unfinished,
                    None,
                    message,
                ));
                return Ok(());
            }
            visited += 1;
            used += self.visit(&task, &mut buffer, out)?;
            if self.broken >= MAX_BROKEN {
                break;
            }
        }
        out.report.used_pages = used;
        out.report.free_pages = self.meta.pages.saturating_sub(used);
        let applied = out.report.consistent_index.unwrap_or(0);
        if self.broken == 0 && applied > 0 && !self.has_key_bucket && !self.members_only {
            let message = format!("bucket \"key\" is missing, although {applied} entries were applied");
            self.report(FindingKind::DbBucketMissing, None, message, out);
        }
        Ok(())
    }

    fn report(&mut self, kind: FindingKind, page: Option<u64>, message: String, out: &mut BoltScan) {
        self.broken += 1;
        let mut found = finding(self.path, kind, DataState::DbBroken, page, message);
        found.offset = page.and_then(|page| page.checked_mul(u64::from(self.meta.page_bytes)));
        out.findings.push(found);
    }

    /// Lets a page wait, unless it was reached before or is out of bounds.
    fn push(&mut self, task: Task, parent: Option<u64>, out: &mut BoltScan) {
        let from = parent.map_or("the meta page".to_owned(), |parent| format!("page {parent}"));
        let page = task.page;
        if page < 2 || page >= self.meta.pages {
            let message = format!("{from} points to page {page}, and there are {}", self.meta.pages);
            self.report(FindingKind::DbPageBroken, parent, message, out);
        } else if self.seen.get(page) {
            let message = format!("page {page} has multiple references, the last one from {from}");
            self.report(FindingKind::DbPageShared, Some(page), message, out);
        } else if self.free.get(page) {
            let message = format!("page {page} is free, but {from} uses it");
            self.report(FindingKind::DbPageShared, Some(page), message, out);
        } else if self.waiting.len() >= MAX_WAITING {
            let message = format!("page {page} not read: the tree is too wide");
            out.findings.push(finding(self.path, FindingKind::Limit, DataState::Unfinished, None, message));
        } else {
            self.seen.set(page);
            self.waiting.push(task);
        }
    }

    /// Reads a page with the pages it overflows into; `None` when it is damaged, which is then reported.
    fn read_page(&mut self, id: u64, buffer: &mut Vec<u8>, out: &mut BoltScan) -> Result<Option<Header>> {
        let page_bytes = u64::from(self.meta.page_bytes);
        let at = id.saturating_mul(page_bytes);
        if at.saturating_add(page_bytes) > self.size {
            // The finding about the cut-off file names the reason; this one the page that is lost.
            let message = format!("page {id} lies behind the end of the file");
            self.report(FindingKind::DbTruncated, Some(id), message, out);
            return Ok(None);
        }
        self.fill(buffer, at, page_bytes)?;
        let Some(header) = Header::parse(buffer) else { return Ok(None) };
        if header.id != id {
            let message = format!("page {id} says that it is page {}", header.id);
            self.report(FindingKind::DbPageBroken, Some(id), message, out);
            return Ok(None);
        }
        let run = u64::from(header.overflow) + 1;
        if run > self.meta.pages.saturating_sub(id) {
            let message = format!("page {id} claims {run} pages, and there are {}", self.meta.pages);
            self.report(FindingKind::DbPageBroken, Some(id), message, out);
            return Ok(None);
        }
        if at.saturating_add(run * page_bytes) > self.size {
            let message = format!("page {id} reaches behind the end of the file");
            self.report(FindingKind::DbTruncated, Some(id), message, out);
            return Ok(None);
        }
        if run > 1 {
            if run * page_bytes > MAX_PAGE_BYTES {
                let message = format!("page {id} is {} bytes long and was not read", run * page_bytes);
                let (kind, state) = (FindingKind::Limit, DataState::Unfinished);
                out.findings.push(finding(self.path, kind, state, Some(id), message));
                return Ok(None);
            }
            self.fill(buffer, at, run * page_bytes)?;
        }
        Ok(Some(header))
    }

    fn fill(&self, buffer: &mut Vec<u8>, at: u64, count: u64) -> Result<()> {
        let count = usize::try_from(count).map_err(|source| {
            Error::with_source(crate::ErrorKind::Limit, format!("a page of {count} bytes"), source)
        })?;
        buffer.resize(count, 0);
        self.file.read_exact_at(buffer, at).map_err(|source| Error::path("read", self.path, source))
    }

    /// Marks the pages that a page overflows into; returns whether none was reached before.
    fn mark_overflow(&mut self, id: u64, header: Header, out: &mut BoltScan) -> bool {
        for page in (id + 1)..=(id + u64::from(header.overflow)) {
            if self.seen.get(page) || self.free.get(page) {
                let message =
                    format!("page {page} has multiple references, the last one as part of page {id}");
                self.report(FindingKind::DbPageShared, Some(page), message, out);
                return false;
            }
            self.seen.set(page);
        }
        true
    }

    /// Visits one page; returns how many pages it spans.
    fn visit(&mut self, task: &Task, buffer: &mut Vec<u8>, out: &mut BoltScan) -> Result<u64> {
        let id = task.page;
        let Some(header) = self.read_page(id, buffer, out)? else { return Ok(1) };
        if header.flags != BRANCH && header.flags != LEAF {
            let message = format!("page {id} is neither branch nor leaf (flags {:#x})", header.flags);
            self.report(FindingKind::DbPageBroken, Some(id), message, out);
            return Ok(1);
        }
        if !self.mark_overflow(id, header, out) {
            return Ok(1);
        }
        let elements = match page::elements(buffer, header).and_then(|elements| within(task, elements)) {
            Ok(elements) => elements,
            Err(problem) => {
                self.report(FindingKind::DbPageBroken, Some(id), format!("page {id}: {problem}"), out);
                return Ok(1);
            }
        };
        if header.flags == BRANCH {
            self.visit_branch(task, &elements, out);
        } else {
            self.visit_leaf(task, &elements, out);
        }
        Ok(u64::from(header.overflow) + 1)
    }

    fn visit_branch(&mut self, task: &Task, elements: &[Element<'_>], out: &mut BoltScan) {
        if elements.is_empty() {
            let message = format!("branch page {} is empty", task.page);
            self.report(FindingKind::DbPageBroken, Some(task.page), message, out);
        }
        let next = elements.iter().skip(1).map(|next| Some(next.key.to_owned()));
        let uppers = next.chain(std::iter::once(task.upper.clone()));
        // The last child is pushed first, so that pages are visited in key order.
        let children: Vec<Task> = elements
            .iter()
            .zip(uppers)
            .map(|(element, upper)| Task {
                page: element.child,
                bucket: task.bucket,
                nesting: task.nesting,
                lower: Some(element.key.to_owned()),
                upper,
            })
            .collect();
        for child in children.into_iter().rev() {
            self.push(child, Some(task.page), out);
        }
    }

    fn visit_leaf(&mut self, task: &Task, elements: &[Element<'_>], out: &mut BoltScan) {
        for element in elements {
            if !element.is_bucket {
                schema::note(&mut out.report, task.bucket, element.key, element.value);
                continue;
            }
            let bucket = if task.bucket == Bucket::Root { Bucket::named(element.key) } else { Bucket::Other };
            if self.members_only && bucket != Bucket::Members {
                continue;
            }
            self.has_key_bucket |= bucket == Bucket::Key;
            self.visit_bucket(task, bucket, element.value, out);
        }
    }

    /// A bucket's value is its root page and a sequence; root 0 means that its only page follows inline.
    fn visit_bucket(&mut self, task: &Task, bucket: Bucket, value: &[u8], out: &mut BoltScan) {
        let nesting = task.nesting.saturating_add(1);
        let Some(root) = page::u64_at(value, 0).filter(|_| value.len() >= 16 && nesting <= MAX_NESTING)
        else {
            let message = format!("page {} holds a malformed bucket", task.page);
            self.report(FindingKind::DbPageBroken, Some(task.page), message, out);
            return;
        };
        if root != 0 {
            let child = Task { page: root, bucket, nesting, lower: None, upper: None };
            self.push(child, Some(task.page), out);
            return;
        }
        let inline = value.get(16..).unwrap_or_default();
        let parsed = Header::parse(inline).filter(|header| header.flags == LEAF);
        match parsed.ok_or_else(|| "no leaf".to_owned()).and_then(|header| page::elements(inline, header)) {
            Ok(elements) => {
                for element in elements.iter().filter(|element| !element.is_bucket) {
                    schema::note(&mut out.report, bucket, element.key, element.value);
                }
            }
            Err(problem) => {
                let message = format!("inline bucket in page {}: {problem}", task.page);
                self.report(FindingKind::DbPageBroken, Some(task.page), message, out);
            }
        }
    }

    /// Reads the stored list of free pages. etcd stores none on Linux (`NoFreelistSync`), but a database
    /// that `bbolt compact` or an old etcd wrote has one.
    fn read_freelist(&mut self, out: &mut BoltScan, used: &mut u64) -> Result<()> {
        let Some(id) = self.meta.freelist else { return Ok(()) };
        if id < 2 || id >= self.meta.pages {
            let message = format!("list of free pages is on page {id}, and there are {}", self.meta.pages);
            self.report(FindingKind::DbFreelistBroken, Some(id), message, out);
            return Ok(());
        }
        self.seen.set(id);
        let mut buffer = Vec::new();
        let Some(header) = self.read_page(id, &mut buffer, out)? else { return Ok(()) };
        if header.flags != FREELIST || !self.mark_overflow(id, header, out) {
            let message = format!("page {id} is no list of free pages (flags {:#x})", header.flags);
            self.report(FindingKind::DbFreelistBroken, Some(id), message, out);
            return Ok(());
        }
        *used += u64::from(header.overflow) + 1;
        if let Err(problem) = self.take_free(&buffer, header) {
            let message = format!("list of free pages on page {id}: {problem}");
            self.report(FindingKind::DbFreelistBroken, Some(id), message, out);
        }
        Ok(())
    }

    fn take_free(&mut self, page: &[u8], header: Header) -> Result<(), String> {
        // A count of 0xFFFF means that the real one is the first entry.
        let (count, start) = if header.count == u16::MAX {
            (page::u64_at(page, HEADER_BYTES).unwrap_or(0), HEADER_BYTES + 8)
        } else {
            (u64::from(header.count), HEADER_BYTES)
        };
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(8));
        let ids = bytes.and_then(|bytes| page.get(start..start.checked_add(bytes)?));
        let ids = ids.ok_or_else(|| format!("{count} entries do not fit"))?;
        let mut before = 1;
        for id in ids.chunks_exact(8).filter_map(|id| page::u64_at(id, 0)) {
            if id <= before || id >= self.meta.pages || self.seen.get(id) {
                return Err(format!("entry {id} is out of order, out of bounds or in use"));
            }
            self.free.set(id);
            before = id;
        }
        Ok(())
    }
}

/// Checks that a page's keys lie between those that its parent names.
fn within<'e>(task: &Task, elements: Vec<Element<'e>>) -> Result<Vec<Element<'e>>, String> {
    let low = elements.first().zip(task.lower.as_ref()).is_some_and(|(first, lower)| first.key < &lower[..]);
    let high = elements.last().zip(task.upper.as_ref()).is_some_and(|(last, upper)| last.key >= &upper[..]);
    if low || high {
        return Err("keys lie outside of what the parent page says".to_owned());
    }
    Ok(elements)
}

/// One bit a page.
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: u64) -> Self {
        Self(vec![0; usize::try_from(count / 64 + 1).unwrap_or(0)])
    }

    fn place(page: u64) -> (usize, u64) {
        (usize::try_from(page / 64).unwrap_or(usize::MAX), 1 << (page % 64))
    }

    fn get(&self, page: u64) -> bool {
        let (word, bit) = Self::place(page);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, page: u64) {
        let (word, bit) = Self::place(page);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }
}
