//! Frames of one WAL file.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::super::wire::{Field, Fields};
use crate::sys::Deadline;

/// A record as it stands in its frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) kind: u64,
    pub(super) crc: u32,
    pub(super) data: &'a [u8],
}

/// Why a file cannot be followed further.
#[derive(Debug)]
pub(super) enum Broken {
    /// The file ends inside a frame.
    Cut { wanted: u64, left: u64 },
    /// A length that no record has.
    Length { wanted: u64, left: u64 },
    /// The frame holds no record.
    Record,
    /// The record's content is not of its kind, or there is no such kind.
    Content { kind: u64 },
    /// The record's CRC is wrong.
    Crc { stored: u32, computed: u32 },
    /// The file does not continue the one before it.
    Chain { stored: u32, computed: u32 },
    /// The file belongs to another member or cluster than the one before it.
    MetadataConflict,
    /// It cannot be read.
    Io(io::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { wanted, left } => {
                write!(f, "record is cut off: {wanted} bytes wanted, {left} left in the file")
            }
            Self::Length { wanted, left } => {
                write!(f, "record claims {wanted} bytes where {left} are left in the file")
            }
            Self::Record => f.write_str("frame holds no record"),
            Self::Content { kind } => write!(f, "record of type {kind} cannot be read"),
            Self::Crc { stored, computed } => {
                write!(f, "record CRC is {stored:08x}, but its data give {computed:08x}")
            }
            Self::Chain { stored, computed } => {
                write!(
                    f,
                    "file starts with CRC {stored:08x}, but the file before it ends with {computed:08x}"
                )
            }
            Self::MetadataConflict => {
                f.write_str("file names another member or cluster than those before it")
            }
            Self::Io(source) => write!(f, "{source}"),
        }
    }
}

/// Entries were limited to 10 MB up to etcd 3.5, so that a longer claim is damage, not a cut-off write.
const LARGEST_TORN_BYTES: u64 = 10 << 20;

/// Writes reach the disk by sectors of this size (etcd `server/storage/wal/decoder.go`).
const SECTOR: u64 = 512;

/// Reads frames one after the other.
pub(super) struct Frames {
    reader: BufReader<File>,
    size: u64,
    /// Where the next frame starts.
    offset: u64,
    /// Record and padding of the last frame.
    body: Vec<u8>,
    /// Where `body` starts in the file.
    body_at: u64,
}

impl Frames {
    pub(super) fn open(path: &Path) -> crate::Result<Self> {
        let file = File::open(path).map_err(|source| crate::Error::path("open", path, source))?;
        let size = file.metadata().map_err(|source| crate::Error::path("stat", path, source))?.len();
        Ok(Self {
            reader: BufReader::with_capacity(1 << 18, file),
            size,
            offset: 0,
            body: Vec::new(),
            body_at: 0,
        })
    }

    /// Returns the end of the last whole frame.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the next record; `None` at the end of the file or of its used part.
    pub(super) fn next_record(&mut self) -> Result<Option<Record<'_>>, Broken> {
        let left = self.size.saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        if left < 8 {
            return Err(Broken::Cut { wanted: 8, left });
        }
        let mut length = [0_u8; 8];
        self.reader.read_exact(&mut length).map_err(Broken::Io)?;
        let length = u64::from_le_bytes(length);
        if length == 0 {
            return Ok(None);
        }
        let record = length & !(0xff << 56);
        let padding = if length >> 63 == 1 { (length >> 56) & 7 } else { 0 };
        let wanted = record.saturating_add(padding);
        let left = left - 8;
        self.body.clear();
        if wanted > left {
            let cut = wanted < LARGEST_TORN_BYTES;
            return Err(if cut { Broken::Cut { wanted, left } } else { Broken::Length { wanted, left } });
        }
        self.body_at = self.offset + 8;
        // The length is at most what the file still holds, so that a lie costs no memory.
        let read = self.reader.by_ref().take(wanted).read_to_end(&mut self.body).map_err(Broken::Io)?;
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        if read < wanted {
            return Err(Broken::Cut { wanted, left: read });
        }
        let record = usize::try_from(record).ok().and_then(|count| self.body.get(..count));
        let record = record.and_then(parse).ok_or(Broken::Record)?;
        self.offset += 8 + wanted;
        Ok(Some(record))
    }

    /// Reports whether the frame that was read last was cut off while it was written: the file ends in
    /// it, or one of the sectors it spans was never written.
    pub(super) fn is_torn(&self, broken: &Broken) -> bool {
        match broken {
            Broken::Cut { .. } => true,
            Broken::Record | Broken::Crc { .. } => {
                let to_boundary = usize::try_from(SECTOR - self.body_at % SECTOR).unwrap_or(1);
                let (first, rest) = self.body.split_at(to_boundary.min(self.body.len()));
                let mut sectors = std::iter::once(first).chain(rest.chunks(512));
                sectors.any(|sector| !sector.is_empty() && sector.iter().all(|byte| *byte == 0))
            }
            _ => false,
        }
    }

    /// Looks for a byte that is not zero from here to the end of the file.
    pub(super) fn find_non_zero(&mut self, deadline: &Deadline) -> io::Result<Option<u64>> {
        let mut chunk = vec![0_u8; 1 << 18];
        // Comparing slices is a memcmp; a look at each of 64 MB of bytes would take most of the check.
        let zeros = vec![0_u8; chunk.len()];
        let mut at = self.offset.saturating_add(8);
        // The file was `size` bytes when it was opened; what a running process appends is not looked at.
        while at < self.size && deadline.check("read WAL").is_ok() {
            let read = self.reader.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            if chunk.get(..read) != zeros.get(..read)
                && let Some(found) = chunk.iter().take(read).position(|byte| *byte != 0)
            {
                return Ok(Some(at + u64::try_from(found).unwrap_or(0)));
            }
            at += u64::try_from(read).unwrap_or(u64::MAX);
        }
        Ok(None)
    }
}

/// `walpb.Record`: type = 1, crc = 2, data = 3.
fn parse(bytes: &[u8]) -> Option<Record<'_>> {
    let mut record = Record { kind: 0, crc: 0, data: &[] };
    for field in Fields::new(bytes) {
        match field.ok()? {
            (1, Field::Varint(kind)) => record.kind = kind,
            (2, Field::Varint(crc)) => record.crc = u32::try_from(crc).ok()?,
            (3, Field::Bytes(data)) => record.data = data,
            (1..=3, _) => return None,
            _ => {}
        }
    }
    Some(record)
}
