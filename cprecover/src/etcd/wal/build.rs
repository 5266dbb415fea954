//! Writes WAL files for tests.

use super::super::wire::build;
use super::{CRC, ENTRY, METADATA, SNAPSHOT, STATE};

/// Writes the records of a log, continuing the chain of CRCs.
#[derive(Default)]
pub(in crate::etcd) struct WalWriter {
    pub(in crate::etcd) bytes: Vec<u8>,
    crc: u32,
}

impl WalWriter {
    /// Starts a file as etcd does: CRC, metadata and the empty snapshot.
    pub(in crate::etcd) fn first(member: u64, cluster: u64) -> Self {
        let mut wal = Self::default();
        wal.crc_record();
        wal.metadata(member, cluster);
        wal.snapshot(0, 0);
        wal
    }

    /// Starts the next file.
    pub(in crate::etcd) fn next(&self) -> Self {
        let mut wal = Self { bytes: Vec::new(), crc: self.crc };
        wal.crc_record();
        wal
    }

    pub(in crate::etcd) fn crc_record(&mut self) {
        let crc = self.crc;
        self.frame(CRC, crc, None);
    }

    pub(in crate::etcd) fn metadata(&mut self, member: u64, cluster: u64) {
        let mut data = Vec::new();
        build::number(&mut data, 1, member);
        build::number(&mut data, 2, cluster);
        self.record(METADATA, &data);
    }

    pub(in crate::etcd) fn snapshot(&mut self, term: u64, index: u64) {
        let mut data = Vec::new();
        build::number(&mut data, 1, index);
        build::number(&mut data, 2, term);
        if index > 0 {
            // etcd 3.5 and newer add conf_state, which older readers skip.
            let mut voters = Vec::new();
            build::number(&mut voters, 1, 7);
            build::bytes(&mut data, 3, &voters);
        }
        self.record(SNAPSHOT, &data);
    }

    pub(in crate::etcd) fn entry(&mut self, term: u64, index: u64, payload: &[u8]) {
        let mut data = Vec::new();
        build::number(&mut data, 1, 0);
        build::number(&mut data, 2, term);
        build::number(&mut data, 3, index);
        build::bytes(&mut data, 4, payload);
        self.record(ENTRY, &data);
    }

    pub(in crate::etcd) fn state(&mut self, term: u64, vote: u64, commit: u64) {
        let mut data = Vec::new();
        build::number(&mut data, 1, term);
        build::number(&mut data, 2, vote);
        build::number(&mut data, 3, commit);
        self.record(STATE, &data);
    }

    pub(in crate::etcd) fn record(&mut self, kind: u64, data: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, data);
        self.frame(kind, self.crc, Some(data));
    }

    fn frame(&mut self, kind: u64, crc: u32, data: Option<&[u8]>) {
        let mut record = Vec::new();
        build::number(&mut record, 1, kind);
        build::number(&mut record, 2, u64::from(crc));
        if let Some(data) = data {
            build::bytes(&mut record, 3, data);
        }
        let padding = (8 - record.len() % 8) % 8;
        let mut length = record.len() as u64;
        if padding > 0 {
            length |= (0x80 | padding as u64) << 56;
        }
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.extend(std::iter::repeat_n(0, padding));
    }
}
