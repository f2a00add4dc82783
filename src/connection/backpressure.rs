//! When a connection is held back: paused by the user, congested, throttled, or released.
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

/// The reasons why a connection is held back. Bytes that have arrived stay in the kernel or in the decoder. READABLE
/// interest is removed, so that they cause no wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HeldBack(u8);

impl HeldBack {
    pub(crate) const NOT: Self = Self(0);
    /// Paused by the user.
    pub(crate) const PAUSED: Self = Self(1);
    /// Congested.
    pub(crate) const CONGESTED: Self = Self(1 << 1);
    /// Released: the bytes are for other code.
    pub(crate) const RELEASED: Self = Self(1 << 2);
    /// Its peer has sent more than its [rate limit](super::meter) allows, and has not paid for it yet.
    pub(crate) const THROTTLED: Self = Self(1 << 3);

    pub(crate) fn has(self, reason: Self) -> bool {
        self.0 & reason.0 != 0
    }
}

/// The state that ends when the queue has room again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pressure(u8);

impl Pressure {
    pub(crate) const NONE: Self = Self(0);
    /// More than the high watermark was queued, and the queue has not fallen to the low one since. Frames behind an
    /// open frame do not count: the open frame may depend on input from this very connection.
    pub(crate) const CONGESTED: Self = Self(1);
    /// A frame was refused, and there has been no room since.
    pub(crate) const REFUSED: Self = Self(1 << 1);

    fn has(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }

    fn add(&mut self, what: Self) {
        self.0 |= what.0;
    }

    fn remove(&mut self, what: Self) {
        self.0 &= !what.0;
    }

    /// Returns whether it has eased compared to `before`.
    pub(crate) fn has_eased(self, before: Self) -> bool {
        before.0 & !self.0 != 0
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

    pub(crate) fn is_congested(&self) -> bool {
        self.pressure.has(Pressure::CONGESTED)
    }

    pub(crate) fn pressure(&self) -> Pressure {
        self.pressure
    }

    #[cold]
    pub(super) fn become_congested(&mut self) {
        self.pressure.add(Pressure::CONGESTED);
        if !self.terms.reads_under_backpressure() {
            self.hold_back(HeldBack::CONGESTED);
        }
    }

    /// Checks after a write whether backpressure has ended.
    pub(super) fn relieve(&mut self, now: Tick) {
        let low = self.terms.options.low();
        if self.flowing() <= low {
            self.pressure.remove(Pressure::CONGESTED);
            self.let_go(HeldBack::CONGESTED, now);
        }
        if self.occupied() <= low {
            self.pressure.remove(Pressure::REFUSED);
        }
    }

    /// Returns an error if there is no room for a frame, and ensures that `on_drain` is called when there is.
    #[inline]
    pub(super) fn check_room(&mut self, freed: u64) -> Result<(), SendError> {
        let queued = self.occupied();
        if queued - freed < self.terms.options.max_queued_bytes {
            return Ok(());
        }
        self.pressure.add(Pressure::REFUSED);
        Err(self.full(queued))
    }

    /// The same for a chunk of the open frame. Frames queued behind it take none of its room. The first chunk is always
    /// accepted, because the frame was.
    pub(super) fn check_room_in_front(&mut self) -> Result<(), SendError> {
        let flowing = self.flowing();
        let queue = self.queue.as_ref();
        if flowing < self.terms.options.max_queued_bytes
            || queue.is_some_and(|queue| queue.awaits_first_piece())
        {
            return Ok(());
        }
        Err(self.full(flowing))
    }

    #[cold]
    fn full(&mut self, queued: u64) -> SendError {
        if self.flowing() >= self.terms.options.congested_from() {
            self.become_congested();
        }
        let max = self.terms.options.max_queued_bytes;
        SendError::QueueFull { queued, max }
    }

    /// The bytes that count against the limit: queued bytes, and one window per queued reader.
    fn occupied(&self) -> u64 {
        let queue = self.queue.as_ref();
        let queued = queue.map_or(0, |queue| queue.bytes().saturating_add(queue.reserved()));
        queued + self.fanout_bytes()
    }

    /// Returns whether frames are refused until something is written.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.queue.is_some() && self.occupied() >= self.terms.options.max_queued_bytes
    }

    pub(super) fn flowing(&self) -> u64 {
        let queue = self.queue.as_ref();
        queue.map_or(0, |queue| queue.flowing()) + self.fanout_bytes()
    }

    /// Returns whether a frame that is refused for lack of room ends the connection.
    #[inline]
    pub(crate) fn ends_when_full(&self) -> bool {
        self.terms.options.overflow == Overflow::Disconnect
    }
}
