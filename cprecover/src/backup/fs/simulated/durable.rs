//! What the simulated file system makes durable.

use std::io;
use std::sync::atomic::Ordering;

use super::state::Body;
use super::{Handle, Simulated};
use crate::backup::fs::{Durable, Stat, Work};

impl Durable for Simulated {
    fn start_writeback(&self, _of: &Handle) {}

    fn sync(&self, of: &Handle) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = state.inode_mut(of.inode)?;
        match &inode.body {
            Body::File(bytes) => inode.durable = Some(bytes.clone()),
            _ => state.sync_names(of.inode),
        }
        Ok(())
    }

    fn each(&self, _work: Work, count: usize, job: &(dyn Fn(usize) + Sync)) {
        // One after the other: what a crash leaves in between is one of the states that any order leaves.
        if self.backwards { (0..count).rev().for_each(job) } else { (0..count).for_each(job) }
    }

    fn sync_everything(&self, _of: &Handle) -> io::Result<bool> {
        drop(self.step()?);
        if self.has_syncfs {
            self.settle();
        }
        Ok(self.has_syncfs)
    }

    fn may_hide_a_write(&self, _stat: &Stat) -> bool {
        // Every second file is re-read, so that failures and crashes there are simulated too.
        self.calls.load(Ordering::Relaxed).is_multiple_of(2)
    }

    fn let_time_pass(&self) {}
}
