//! When a connection is not read: because its user says so, or because its peer does not read what it is sent.
//!
//! ```text
//!   queued bytes
//!        ^
//!    max +- - - - - - - - - - refused
//!        |         /\
//!   high +- - - - / -\- - - -  from here on congested: not read
//!        |       /    \
//!    low +- - - / - - -\- - -  down to here; then on_drain
//!        +-----/--------\---->
//! ```

use super::Connection;
use crate::config::Overflow;
use crate::error::SendError;
use crate::tick::Tick;

/// The reasons for which a connection is not read. What has arrived stays where it is, in the kernel or in the decoder,
/// and READABLE interest is dropped, so that it costs no wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HeldBack(u8);

impl HeldBack {
    pub(crate) const NOT: Self = Self(0);
    /// By its user.
    pub(crate) const PAUSED: Self = Self(1);
    /// Because it is congested.
    pub(crate) const CONGESTED: Self = Self(1 << 1);

    pub(crate) fn has(self, reason: Self) -> bool {
        self.0 & reason.0 != 0
    }
}

impl Connection {
    pub(crate) fn hold_back(&mut self, reason: HeldBack) {
        self.held_back.0 |= reason.0;
    }

    pub(crate) fn let_go(&mut self, reason: HeldBack, now: Tick) {
        if self.held_back.has(reason) {
            self.held_back.0 &= !reason.0;
            self.restart_clocks(now);
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.held_back.has(HeldBack::PAUSED)
    }

    /// More than the high watermark was queued, and no less than the low one has been since.
    pub(crate) fn is_congested(&self) -> bool {
        self.congested
    }

    pub(super) fn become_congested(&mut self) {
        self.congested = true;
        // What waits behind an open frame may wait for what this very connection has to say.
        let flowing = self.queue.as_ref().map_or(0, |queue| queue.flowing());
        if !self.options.read_under_backpressure && flowing > self.options.low() {
            self.hold_back(HeldBack::CONGESTED);
        }
    }

    /// After a write: is backpressure over?
    pub(super) fn relieve(&mut self, now: Tick) {
        let (low, queue) = (self.options.low(), self.queue.as_ref());
        if queue.is_none_or(|queue| queue.flowing() <= low) {
            self.let_go(HeldBack::CONGESTED, now);
        }
        if self.queued_bytes() <= low {
            self.congested = false;
        }
    }

    /// Refuses a frame for which there is no room, and sees to it that its sender will hear when there is.
    #[inline]
    pub(super) fn check_room(&mut self, freed: u64) -> Result<(), SendError> {
        let (queued, max) = (self.queued_bytes(), self.options.max_queued_bytes);
        if queued - freed < max {
            return Ok(());
        }
        self.become_congested();
        Err(SendError::QueueFull { queued, max })
    }

    /// Whether a frame that is refused for want of room ends the connection.
    pub(crate) fn ends_when_full(&self) -> bool {
        self.options.overflow == Overflow::Disconnect
    }
}
