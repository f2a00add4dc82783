//! One end of a simulated connection, and the conditions that a selector reports for it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::BitOr;
use std::time::Duration;

use mio::{Interest, Token};

use crate::socket::Readiness;

/// The owner of a socket or a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// An event loop, by its number.
    Host(usize),
    /// A scripted peer, by its number.
    Peer(usize),
}

/// Refers to a socket or a listener; one that was closed meanwhile is not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(super) index: usize,
    pub(super) serial: u64,
}

/// What epoll knows of a source.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) host: usize,
    pub(super) token: Token,
    pub(super) interest: Interest,
    /// It is in the list of sources to be checked by the next poll.
    pub(super) queued: bool,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) serial: u64,
    pub(super) owner: Party,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// The other end; `None` before it exists and after it is closed.
    pub(super) other: Option<Id>,
    pub(super) registration: Option<Registration>,
    pub(super) is_connecting: bool,

    /// Bytes that have arrived.
    pub(super) input: VecDeque<u8>,
    pub(super) receive_buffer: usize,
    /// The other end's FIN has arrived.
    pub(super) fin_received: bool,
    /// A read has returned EOF or an error.
    pub(super) end_was_read: bool,

    /// Bytes that were written and have not arrived; the first `in_flight` of them are on their way.
    pub(super) output: VecDeque<u8>,
    pub(super) in_flight: usize,
    pub(super) send_buffer: usize,
    /// No more is accepted until a byte has arrived, even if there is room.
    pub(super) is_choked: bool,
    /// A write was refused or cut, so that room will be reported.
    pub(super) lacks_room: bool,
    pub(super) write_closed: bool,
    pub(super) fin_left: bool,
    pub(super) fin_arrived: bool,
    pub(super) latency: Duration,
    pub(super) bandwidth: u64,
    pub(super) busy_until: Duration,
    pub(super) last_arrival: Duration,
    pub(super) stalled_until: Duration,

    /// The connection was reset, or could not be established.
    pub(super) is_reset: bool,
    /// The error that the next operation returns.
    pub(super) error: Option<io::ErrorKind>,
    pub(super) resets_on_close: bool,
    /// It uses one of its host's file descriptors.
    pub(super) has_file: bool,
    /// Its owner has closed it.
    pub(super) is_closed: bool,
    /// A reset is on its way to this end, because the other end is closed.
    pub(super) is_doomed: bool,
}

/// A set of conditions, like those of epoll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mask(u8);

impl Mask {
    pub(super) const NONE: Self = Self(0);
    pub(super) const IN: Self = Self(1);
    pub(super) const OUT: Self = Self(1 << 1);
    pub(super) const RDHUP: Self = Self(1 << 2);
    pub(super) const HUP: Self = Self(1 << 3);
    pub(super) const ERR: Self = Self(1 << 4);
    pub(super) const ALL: Self = Self(0x1F);

    /// Returns which of these conditions are reported to a source with this interest. Errors always are.
    pub(super) fn reported(self, interest: Interest) -> Self {
        let mut wanted = Self::ERR | Self::HUP;
        if interest.is_readable() {
            wanted = wanted | Self::IN | Self::RDHUP;
        }
        if interest.is_writable() {
            wanted = wanted | Self::OUT;
        }
        Self(self.0 & wanted.0)
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Translates the conditions as mio does.
    pub(super) fn readiness(self) -> Readiness {
        let mut readiness = Readiness::default();
        let mut note = |present, condition| {
            if present {
                readiness |= condition;
            }
        };
        note(self.has(Self::IN), Readiness::READABLE);
        note(self.has(Self::OUT), Readiness::WRITABLE);
        note(
            self.has(Self::HUP) || (self.has(Self::IN) && self.has(Self::RDHUP)),
            Readiness::READ_CLOSED | Readiness::READABLE,
        );
        note(self.has(Self::HUP), Readiness::WRITABLE);
        note(
            self.has(Self::ERR),
            Readiness::ERROR | Readiness::READABLE | Readiness::WRITABLE,
        );
        readiness
    }
}

impl BitOr for Mask {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Socket {
    /// Returns the room in the send buffer.
    pub(super) fn room(&self) -> usize {
        if self.is_choked {
            return 0;
        }
        self.send_buffer.saturating_sub(self.output.len())
    }

    /// Returns whether a selector reports room: Linux does so when a third of the send buffer is free.
    pub(super) fn has_reportable_room(&self) -> bool {
        self.room() * 3 >= self.send_buffer.max(1)
    }

    /// Returns the conditions that hold now.
    pub(super) fn mask(&self) -> Mask {
        let mut mask = Mask::NONE;
        if self.is_connecting {
            return mask;
        }
        let mut add = |present, condition| {
            if present {
                mask = mask | condition;
            }
        };
        let has_ended = self.fin_received || self.is_reset;
        let sends_nothing = self.write_closed || self.is_reset;
        add(has_ended || !self.input.is_empty(), Mask::IN);
        add(has_ended, Mask::RDHUP);
        add(sends_nothing || self.has_reportable_room(), Mask::OUT);
        add(has_ended && sends_nothing, Mask::HUP);
        add(self.error.is_some(), Mask::ERR);
        mask
    }

    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take().map(io::Error::from)
    }
}
