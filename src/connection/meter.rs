//! Rate limits: how many frames and bytes a peer may send per second.
//!
//! A connection with a limit is *metered*: it is read by a separate code path, so that other connections pay nothing.
//! Its meter exists while its buckets are not full.

use std::time::Duration;

use super::{Connection, HeldBack};
use crate::config::Excess;
use crate::rate::Bucket;
use crate::reason::{DisconnectCause, RateLimit};
use crate::tick::Tick;

/// The least to read at once, in bytes. What exceeds the limit becomes a debt.
const LEAST_READ: u64 = 512;

/// The shortest pause. A peer that sends without end then causes at most a hundred wake-ups per second.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// The tokens that are left of both limits.
#[derive(Debug)]
pub(super) struct Meter {
    frames: Bucket,
    bytes: Bucket,
}

/// What a metered connection may do now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub(crate) frames: u64,
    pub(crate) bytes: usize,
}

/// The outcome of charging what was read and delivered.
#[derive(Debug)]
pub(crate) enum Charge {
    Paid,
    /// It is held back until its [clock](super::Clock) releases it. The clock has to be checked after this time.
    Pause(Duration),
    Over(DisconnectCause),
}

/// The rate of a limit that is not set.
const UNLIMITED: u64 = u64::MAX;

impl Connection {
    /// Returns the frames and bytes per second.
    fn rates(&self) -> (u64, u64) {
        let options = &self.terms.options;
        (
            options.max_frames_per_second.unwrap_or(UNLIMITED),
            options.max_bytes_per_second.unwrap_or(UNLIMITED),
        )
    }

    fn ends_on_excess(&self) -> bool {
        self.terms.options.excess == Excess::Disconnect
    }

    /// Returns the meter, refilled.
    fn meter(&mut self, now: Tick) -> &mut Meter {
        let (frames, bytes) = self.rates();
        let aside = self.aside.get_or_insert_default();
        let meter = aside.meter.get_or_insert_with(|| Meter {
            frames: Bucket::full(frames, now),
            bytes: Bucket::full(bytes, now),
        });
        meter.frames.refill(frames, now);
        meter.bytes.refill(bytes, now);
        meter
    }

    /// Returns what a metered connection may read and deliver now. A connection that ends on excess may exceed its
    /// limits, so that the excess is detected.
    pub(crate) fn allowance(&mut self, now: Tick) -> Allowance {
        let beyond = u64::from(self.ends_on_excess());
        let meter = self.meter(now);
        let bytes = meter.bytes.tokens().max(LEAST_READ);
        Allowance {
            frames: meter.frames.tokens() + beyond,
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }

    /// Charges what was read and delivered.
    pub(crate) fn charge(&mut self, bytes: usize, frames: u64, now: Tick) -> Charge {
        let ends_on_excess = self.ends_on_excess();
        let (max_frames, max_bytes) = self.rates();
        let meter = self.meter(now);
        meter.frames.take(frames);
        meter.bytes.take(bytes as u64);
        if ends_on_excess {
            let limit = if meter.frames.is_in_debt() {
                RateLimit::Frames(max_frames)
            } else if meter.bytes.is_in_debt() {
                RateLimit::Bytes(max_bytes)
            } else {
                return Charge::Paid;
            };
            return Charge::Over(DisconnectCause::RateExceeded { limit });
        }
        match self.time_to_pay() {
            Some(left) => {
                self.hold_back(HeldBack::THROTTLED);
                Charge::Pause(left.max(SHORTEST_PAUSE))
            }
            None => Charge::Paid,
        }
    }

    /// Returns how long it takes, from the last refill, until more may be read. `None`: it may be read now.
    fn time_to_pay(&self) -> Option<Duration> {
        let meter = self.aside.as_ref()?.meter.as_ref()?;
        let (frames, bytes) = self.rates();
        let left = meter
            .frames
            .time_to_token(frames)
            .max(meter.bytes.time_to_token(bytes));
        (!left.is_zero()).then_some(left)
    }

    pub(crate) fn is_throttled(&self) -> bool {
        self.held_back.has(HeldBack::THROTTLED)
    }

    /// Returns how long a throttled connection is still held back.
    pub(crate) fn throttled_for(&mut self, now: Tick) -> Option<Duration> {
        if !self.is_throttled() {
            return None;
        }
        self.meter(now);
        self.time_to_pay()
    }

    #[cfg(debug_assertions)]
    pub(super) fn has_meter(&self) -> bool {
        self.aside
            .as_ref()
            .is_some_and(|aside| aside.meter.is_some())
    }

    /// Drops the meter if it is full.
    pub(super) fn trim_meter(&mut self, now: Tick) {
        let (frames, bytes) = self.rates();
        let Some(aside) = self.aside.as_mut().filter(|aside| aside.meter.is_some()) else {
            return;
        };
        aside.meter.take_if(|meter| {
            meter.frames.refill(frames, now);
            meter.bytes.refill(bytes, now);
            meter.frames.is_full(frames) && meter.bytes.is_full(bytes)
        });
        self.aside.take_if(|aside| aside.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, ConnectOptions};
    use crate::connection::{Clock, Origin, Phase, Terms};
    use crate::socket::READ_INTEREST;

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    #[test]
    fn meter_exists_only_while_it_is_not_full() {
        let options = ConnectOptions::default().max_frames_per_second(10);
        let options = options.connection(&Config::default()).expect("valid");
        let terms = Terms::plain(Origin::Adopted, options);
        let mut connection =
            Connection::new(None, Phase::Open, READ_INTEREST, Arc::new(terms), at(0));
        assert!(connection.aside.is_none());
        assert_eq!(connection.allowance(at(0)).frames, 10);
        assert!(matches!(
            connection.charge(1_000_000, 9, at(0)),
            Charge::Paid
        ));
        let charge = connection.charge(0, 1, at(0));
        assert!(matches!(charge, Charge::Pause(left) if left == Duration::from_millis(100)));
        let clock = connection.look_at_clock(at(99));
        assert!(matches!(clock, Clock::Ahead(left) if left == Duration::from_millis(2)));
        assert_eq!(connection.throttled_for(at(100)), None);
        connection.let_go(HeldBack::THROTTLED, at(100));
        connection.look_at_clock(at(999));
        assert!(connection.aside.is_some());
        connection.look_at_clock(at(1000));
        assert!(connection.aside.is_none());
    }
}
