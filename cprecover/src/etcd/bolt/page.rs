//! One page and its elements.

/// Size of a page header: id u64, flags u16, count u16, overflow u32.
pub(super) const HEADER_BYTES: usize = 16;
/// Size of a branch or leaf element.
const ELEMENT_BYTES: usize = 16;

/// Page types (bbolt `internal/common/page.go`).
pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const FREELIST: u16 = 0x10;

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A page's header. bbolt writes in the machine's byte order; Kubernetes runs on little-endian machines
/// and s390x, whose databases this crate reports as "not a bbolt file".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    pub(super) overflow: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// One element of a branch or leaf page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) key: &'a [u8],
    /// A leaf's value; empty in a branch.
    pub(super) value: &'a [u8],
    /// A branch's child.
    pub(super) child: u64,
    /// Whether a leaf's value is a bucket.
    pub(super) is_bucket: bool,
}

/// Reads the elements of a page; fails at the first one that is out of bounds or out of order.
///
/// bbolt writes keys and values behind the elements in the same order and without overlaps, so that all
/// keys of a page together are no longer than the page; a page that breaks this is damaged.
pub(super) fn elements(page: &[u8], header: Header) -> Result<Vec<Element<'_>>, String> {
    let count = usize::from(header.count);
    let leaf = header.flags == LEAF;
    let mut found = Vec::with_capacity(count.min(page.len() / ELEMENT_BYTES));
    let mut free_from = HEADER_BYTES + count * ELEMENT_BYTES;
    let mut before: Option<&[u8]> = None;
    for place in 0..count {
        let base = HEADER_BYTES + place * ELEMENT_BYTES;
        let element = element_at(page, base, leaf, &mut free_from)
            .ok_or_else(|| format!("element {place} of {count} reaches outside of its page"))?;
        if before.is_some_and(|before| before >= element.key) {
            return Err(format!("key {place} of {count} is not greater than the one before it"));
        }
        before = Some(element.key);
        found.push(element);
    }
    Ok(found)
}

fn element_at<'a>(page: &'a [u8], base: usize, leaf: bool, free_from: &mut usize) -> Option<Element<'a>> {
    let field = |at: usize| u32_at(page, base + at).and_then(|value| usize::try_from(value).ok());
    // Leaf: flags, pos, ksize, vsize. Branch: pos, ksize, pgid.
    let (pos, key_bytes, value_bytes) =
        if leaf { (field(4)?, field(8)?, field(12)?) } else { (field(0)?, field(4)?, 0) };
    let start = base.checked_add(pos)?;
    let value_at = start.checked_add(key_bytes)?;
    let end = value_at.checked_add(value_bytes)?;
    if start < *free_from {
        return None;
    }
    *free_from = end;
    Some(Element {
        key: page.get(start..value_at)?,
        value: page.get(value_at..end)?,
        child: if leaf { 0 } else { u64_at(page, base + 8)? },
        is_bucket: leaf && field(0)? & 1 == 1,
    })
}
