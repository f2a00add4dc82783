//! What a connection owes: frames that were accepted and neither written nor replaced.

use super::{Connection, Pressure};
use crate::fanout::FanoutBuffer;

/// The frames that were accepted and not written: queued, or dropped and counted in the reason of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ledger {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl Connection {
    pub(crate) fn ledger(&self, fanout: &FanoutBuffer) -> Ledger {
        let queue = self.queue.as_ref();
        let ending = self.aside.as_ref().and_then(|aside| aside.ending.as_ref());
        let queued = queue.map_or((0, 0), |queue| (queue.frames(), queue.unsent_bytes()));
        let dropped = ending.map_or((0, 0), |it| (it.unsent_frames, it.unsent_bytes));
        Ledger {
            frames: (queued.0 + fanout.count(self.fanout) + dropped.0)
                .wrapping_sub(self.encrypted_frames()),
            bytes: queued.1.saturating_add(self.fanout_bytes() + dropped.1),
        }
    }

    fn encrypted_frames(&self) -> u64 {
        #[cfg(feature = "tls")]
        if let Some(aside) = &self.aside
            && aside.ending.is_some()
        {
            return aside.encrypted_frames;
        }
        0
    }

    /// Notes how many of the unsent frames were encrypted.
    #[cfg(feature = "tls")]
    pub(crate) fn note_encrypted(&mut self, frames: u64) {
        if let Some(aside) = &mut self.aside {
            aside.encrypted_frames = frames;
        }
    }

    /// Returns whether something is queued that could be written now.
    pub(crate) fn has_bytes_to_write(&self) -> bool {
        !self.fanout.is_empty() || self.has_work()
    }

    /// Returns whether it is congested, and whether a frame was refused. `on_drain` will be called for each.
    pub(crate) fn pressures(&self) -> [bool; 2] {
        let is_congested = self.is_congested();
        let only_congested = [Pressure::NONE, Pressure::CONGESTED].contains(&self.pressure);
        [is_congested, !only_congested]
    }
}
