//! The kinds of traffic, and what a load has to know of them.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use throng::{ConnectionId, Handler, Net};

use super::broadcast::Broadcast;
use super::churn::Churn;
use super::echo::Echo;
use super::schedule::Outcome;
use super::spec::Spec;
use super::tally::Tally;

/// What the connections of a load do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Each sends, and gets back what it has sent.
    Echo,
    /// One sends, and all get it (for a server that broadcasts).
    Broadcast,
    /// Each sends a frame, gets it back, closes, and connects anew.
    Churn,
}

impl Kind {
    pub(super) fn traffic(self, spec: &Spec) -> Box<dyn Traffic> {
        match self {
            Self::Echo => Box::new(Echo::new(spec)),
            Self::Broadcast => Box::new(Broadcast::new(spec)),
            Self::Churn => Box::new(Churn::new(spec)),
        }
    }
}

pub(super) trait Traffic: Handler {
    fn tally(&mut self) -> &mut Tally;

    /// Begins to send, for a while. All connections are established.
    fn start(&mut self, net: &mut Net, now: Instant, length: Duration);

    /// Sends what is due, if the time sets the pace. Returns when the next frame is.
    fn send_due(&mut self, _: &mut Net, _: Instant) -> Option<Instant> {
        None
    }

    /// What became of the frames that were due, if the time set the pace.
    fn outcome(&mut self, _idle: f64) -> Option<Outcome> {
        None
    }
}

/// What is sent: the first eight bytes, or as many as there are, tell frames and connections apart.
pub(super) fn payload(spec: &Spec) -> Vec<u8> {
    (0..spec.shape.size).map(|i| (i % 251) as u8).collect()
}

pub(super) fn write_stamp(payload: &mut [u8], id: ConnectionId, number: u32) {
    let stamp = u64::from(number) | (id.index() as u64) << 32;
    let len = payload.len().min(8);
    payload[..len].copy_from_slice(&stamp.to_le_bytes()[..len]);
}
