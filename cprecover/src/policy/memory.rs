//! What all memories of one answer may take together: `StoreLimits` bounds each by itself.

use wasmtime::{ResourceLimiter, Result, StoreLimits};

/// [`StoreLimits`], and a bound of the sum.
pub(super) struct AllMemories {
    each: StoreLimits,
    limit: usize,
    bytes: usize,
}

impl AllMemories {
    pub(super) const fn new(each: StoreLimits, limit: usize) -> Self {
        Self { each, limit, bytes: 0 }
    }
}

impl ResourceLimiter for AllMemories {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        let is_allowed = self.each.memory_growing(current, desired, maximum)?;
        if is_allowed && bytes > self.limit {
            let limit = self.limit;
            let text = format!("forcing trap when growing memory to {bytes} bytes in all, more than {limit}");
            return Err(wasmtime::Error::msg(text));
        }
        if is_allowed {
            self.bytes = bytes;
        }
        Ok(is_allowed)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.each.memory_grow_failed(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.each.table_growing(current, desired, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.each.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.each.instances()
    }

    fn tables(&self) -> usize {
        self.each.tables()
    }

    fn memories(&self) -> usize {
        self.each.memories()
    }
}
