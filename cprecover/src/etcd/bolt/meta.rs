//! The two meta pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::page::{HEADER_BYTES, u32_at, u64_at};

/// bbolt `internal/common/types.go`: `Magic`, `Version`, `PgidNoFreelist`.
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const NO_FREELIST: u64 = u64::MAX;

/// Bytes of a meta page that mean something: its header and the meta itself.
const META_BYTES: usize = 64;

/// What a valid meta page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_bytes: u32,
    /// The root bucket's page.
    pub(super) root: u64,
    /// The page of the stored list of free pages.
    pub(super) freelist: Option<u64>,
    /// The high-water mark: no page at or above it is in use.
    pub(super) pages: u64,
    pub(super) transaction: u64,
}

/// Both meta pages, each valid or with what is wrong with it.
#[derive(Debug)]
pub(super) struct MetaPages {
    pub(super) first: Result<Meta, String>,
    pub(super) second: Result<Meta, String>,
}

/// Reads both meta pages; where the second one is follows from the page size in the first, or, when that
/// is broken, from trying all page sizes (bbolt `db.go`, `getPageSizeFromSecondMeta`).
pub(super) fn read(file: &File, size: u64) -> io::Result<MetaPages> {
    let first = read_at(file, size, 0)?;
    if let Ok(meta) = &first {
        let second = read_at(file, size, u64::from(meta.page_bytes))?;
        return Ok(MetaPages { first, second });
    }
    for shift in 0..16 {
        let page_bytes = 1024_u32 << shift;
        let second = read_at(file, size, u64::from(page_bytes))?;
        if second.as_ref().is_ok_and(|meta| meta.page_bytes == page_bytes) {
            return Ok(MetaPages { first, second });
        }
    }
    Ok(MetaPages { first, second: Err("not found at any page size".to_owned()) })
}

fn read_at(file: &File, size: u64, at: u64) -> io::Result<Result<Meta, String>> {
    let mut bytes = [0_u8; HEADER_BYTES + META_BYTES];
    let end = at.saturating_add(80);
    if end > size {
        return Ok(Err(format!("file ends at byte {size}, before it")));
    }
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err("file ends in it".to_owned())),
        Err(error) => Err(error),
    }
}

fn parse(page: &[u8]) -> Result<Meta, String> {
    let cut = || "cut off".to_owned();
    let meta = page.get(HEADER_BYTES..HEADER_BYTES + META_BYTES).ok_or_else(cut)?;
    let (n32, n64) = (|at| u32_at(meta, at).ok_or_else(cut), |at| u64_at(meta, at).ok_or_else(cut));
    if n32(0)? != MAGIC {
        return Err("not a bbolt file".to_owned());
    }
    if n32(4)? != VERSION {
        return Err(format!("bbolt format version {}, not {VERSION}", n32(4)?));
    }
    let (stored, computed) = (n64(56)?, fnv1a(meta.get(..56).ok_or_else(cut)?));
    if stored != computed {
        return Err(format!("checksum is {stored:016x}, but the page gives {computed:016x}"));
    }
    let page_bytes = n32(8)?;
    if !page_bytes.is_power_of_two() || !(1024..=1 << 25).contains(&page_bytes) {
        return Err(format!("page size {page_bytes}"));
    }
    Ok(Meta {
        page_bytes,
        root: n64(16)?,
        freelist: Some(n64(32)?).filter(|page| *page != NO_FREELIST),
        pages: n64(40)?,
        transaction: n64(48)?,
    })
}

/// FNV-1a in 64 bits, which bbolt takes from Go's `hash/fnv`.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
