//! The effects that the engine needs, on the machine that it runs on.

use crate::node::NodeOptions;
use crate::sys::{Clock, Commands, SystemClock, SystemCommands, millis};

/// A node and the means to look at it and to change it.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// Where things are.
    pub node: &'a NodeOptions,
    /// Runs programs (systemctl, crictl, kubeadm).
    pub commands: &'a dyn Commands,
    /// Time.
    pub clock: &'a dyn Clock,
}

impl<'a> Host<'a> {
    /// Returns this machine's effects for `node`.
    #[must_use]
    pub fn new(node: &'a NodeOptions) -> Self {
        Self { node, commands: &SystemCommands, clock: &SystemClock }
    }

    /// Returns milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        millis(self.clock.unix())
    }
}
