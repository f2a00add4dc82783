//! One connection: its decoder, its queue, and its phase.
//!
//! ```text
//!                      on_connect            disconnect, or the peer's FIN      queue flushed, and ours to close
//!     [Connecting] ------------------> [Open] -----------------------> [Closing] -------------------> [Draining]
//!          |                             |                                 |                              |
//!          +--- failed, timed out -------+--- reset, bad frame, abort -----+--- flushed, or timed out ----+-> [Closed]
//!                                        |                                                                    ^
//!                                        +--- release -----------------> [Releasing] -- flushed, or timed out +
//! ```
//!
//! It does not know the handler or the loop. [`fill`](Connection::fill) reads bytes, [`cut`](Connection::cut) cuts
//! frames, [`with_queue`](Connection::with_queue) queues them, and [`flush`](Connection::flush) writes them. `net/` and
//! `reactor/` decide when.

mod ahead;
mod backpressure;
mod common;
mod deadlines;
mod ending;
mod fanout;
mod fill;
mod flush;
#[cfg(debug_assertions)]
mod invariants;
mod io;
#[cfg(feature = "sim")]
mod ledger;
mod meter;
#[cfg(test)]
mod pair;
mod queueing;
#[cfg(feature = "tls")]
mod secured;
mod stream;
mod terms;
mod write_half;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use mio::Interest;

use crate::config::ConnectionOptions;
use crate::error::DecodeError;
use crate::fanout::Span;
use crate::frame::{Cut, FrameDecoder, Framing, WholeFrames};
use crate::memory::Memory;
use crate::peer_addr::PeerAddr;
#[cfg(feature = "proxy")]
use crate::proxy::Proxying;
use crate::socket::{NO_INTEREST, READ_INTEREST, Readiness};
use crate::tick::Tick;
use crate::timers::{NO_TIMER, TimerKey};
use crate::write_queue::WriteQueue;
use ending::Aside;
use fill::Expects;
use write_half::WriteHalf;

pub(crate) use backpressure::{HeldBack, Pressure};
pub(crate) use common::Common;
pub(crate) use deadlines::Clock;
pub(crate) use ending::{EndOfStream, Written};
pub(crate) use fill::Fill;
pub(crate) use flush::{Failure, Flush};
pub(crate) use io::Io;
#[cfg(feature = "sim")]
pub(crate) use ledger::Ledger;
pub(crate) use meter::Charge;
pub use queueing::Backlog;
pub use terms::Origin;
pub(crate) use terms::Terms;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Outbound, not established.
    Connecting,
    Open,
    /// Closes when the queue is written. Nothing more is delivered.
    Closing,
    /// Is released when the queue is written. Nothing more is delivered or read.
    Releasing,
    /// We have half-closed, and wait for the peer's EOF.
    Draining,
    /// The socket is closed; the slot waits to be reported and freed.
    Closed,
}

/// What is special about reading a connection. One byte, so that the path of every event checks it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading(u8);

impl Reading {
    const PLAIN: Self = Self(0);
    /// The peer's EOF was read.
    const ENDED: Self = Self(1);
    /// It has a [rate limit](meter).
    const METERED: Self = Self(1 << 1);

    fn of(options: &ConnectionOptions) -> Self {
        if options.max_frames_per_second.is_some() || options.max_bytes_per_second.is_some() {
            Self::METERED
        } else {
            Self::PLAIN
        }
    }

    #[inline]
    fn has(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }
}

/// The order of the fields is their order in memory: what each event needs fits into two cache lines, together with the
/// generation of the slot. With ten thousand connections in turn, each line is a cache miss.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Connection {
    pub(crate) phase: Phase,
    /// What events have reported and no read or write has refuted yet.
    pub(crate) readiness: Readiness,
    /// It is in a list of sources to be served.
    pub(crate) listed: bool,
    /// It used at least half of its budget when it was last served, or much was queued for it when its socket was full.
    /// It is served after light ones.
    pub(crate) is_heavy: bool,
    /// How large the next frame probably is.
    expects: Expects,
    /// It is in the dirty list, or will be flushed anyway.
    pub(crate) dirty: bool,
    /// Whether it can be written to.
    write_half: WriteHalf,
    /// What is special about reading it.
    reading: Reading,
    /// A frame was begun and is not complete.
    inside_frame: bool,
    /// Its backpressure.
    pressure: Pressure,
    /// Why it is held back, if it is.
    held_back: HeldBack,
    /// The interest registered with the selector.
    interest: Interest,
    /// The fast path may queue a small frame if no more than this is queued afterwards: less than makes the connection
    /// congested. Zero disables the fast path: unless the connection is open, after a failed write, and while a frame
    /// is open.
    at_once_up_to: u32,
    /// When a byte was last read or written.
    active_at: Tick,
    /// The frames to write that are in the fan-out buffer. None while there is a queue.
    fanout: Span,
    /// The frames to write; `None` while there are none.
    queue: Option<Box<WriteQueue>>,
    decoder: FrameDecoder,

    terms: Arc<Terms>,
    aside: Option<Box<Aside>>,
    pub(crate) timer: Option<TimerKey>,
    peer: PeerAddr,
    /// The first of the user's timers that belong to it, or [`NO_TIMER`].
    pub(crate) first_timer: u32,
    /// When the current period of an unfinished frame began, and how many bytes of the frame have arrived since; see
    /// [`frame_stall_timeout`](crate::Config::frame_stall_timeout).
    period_began: Tick,
    period_bytes: u32,
}

impl Connection {
    pub(crate) fn new(
        peer: Option<SocketAddr>,
        phase: Phase,
        interest: Interest,
        terms: Arc<Terms>,
        now: Tick,
    ) -> Self {
        let options = &terms.options;
        let mut connection = Self {
            phase: Phase::Connecting,
            readiness: Readiness::default(),
            listed: false,
            is_heavy: false,
            dirty: false,
            expects: Expects::Small,
            write_half: WriteHalf::Ready,
            reading: Reading::of(options),
            inside_frame: false,
            active_at: Tick::default(),
            period_began: Tick::default(),
            period_bytes: 0,
            pressure: Pressure::NONE,
            held_back: HeldBack::default(),
            interest,
            at_once_up_to: 0,
            first_timer: NO_TIMER,
            timer: None,
            decoder: FrameDecoder::new(options.framing.clone())
                .max_frame_len(options.max_frame_len)
                .stream_frames_over(options.stream_frames_over),
            fanout: Span::default(),
            queue: None,
            terms,
            aside: None,
            peer: peer.into(),
        };
        if phase == Phase::Open {
            connection.open(now);
        }
        connection
    }

    fn open(&mut self, now: Tick) {
        self.phase = Phase::Open;
        self.active_at = now;
        self.allow_at_once();
    }

    pub(crate) fn options(&self) -> &ConnectionOptions {
        &self.terms.options
    }

    /// Returns the address of the peer, if it has one.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer.into()
    }

    pub(crate) fn origin(&self) -> Origin {
        self.terms.origin
    }

    #[cfg(feature = "proxy")]
    pub(crate) fn proxying(&self) -> &Proxying {
        &self.terms.proxying
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Returns whether frames may be delivered to the handler.
    pub(crate) fn may_deliver(&self) -> bool {
        self.phase == Phase::Open && self.held_back == HeldBack::NOT
    }

    /// Returns whether it can make progress without a further event.
    #[inline]
    pub(crate) fn is_runnable(&self) -> bool {
        match self.phase {
            Phase::Connecting | Phase::Open | Phase::Draining => {
                let to_read = if self.held_back == HeldBack::NOT {
                    self.has_input()
                } else {
                    self.readiness.has(Readiness::ERROR)
                };
                to_read || (self.queue.is_some() && self.has_work() && self.may_write())
            }
            Phase::Closing => {
                let to_write = self.queue.is_none() || self.has_work() || self.is_left_open();
                // If the peer is not read, it may never come to read.
                self.readiness.has(Readiness::READABLE) || (self.may_write() && to_write)
            }
            Phase::Releasing => self.may_write() && self.has_work(),
            Phase::Closed => false,
        }
    }

    /// Returns whether a fill may return something to deliver.
    pub(crate) fn wants_delivery(&self) -> bool {
        self.held_back == HeldBack::NOT && self.has_input()
    }

    #[inline]
    pub(crate) fn has_input(&self) -> bool {
        self.readiness.has(Readiness::READABLE | Readiness::AHEAD)
    }

    /// Returns the bytes that this connection holds: queued, or received of an incomplete frame.
    pub(crate) fn held(&self) -> u64 {
        self.queued_bytes() + self.unshown()
    }

    /// Returns the held bytes that no other connection can hold as well.
    pub(crate) fn held_alone(&self) -> u64 {
        let queued = self.queue.as_ref().map_or(0, |queue| queue.copied());
        queued + self.fanout_bytes() + self.unshown()
    }

    /// Returns the payloads queued by reference, which other connections may hold as well.
    pub(crate) fn shared_payloads(&self) -> impl Iterator<Item = &Bytes> {
        self.queue.iter().flat_map(|queue| queue.shared_payloads())
    }

    /// Returns the bytes that have arrived and were not delivered.
    pub(crate) fn unshown(&self) -> u64 {
        (self.decoder.held_bytes() + self.ahead_len()) as u64
    }

    pub(crate) fn framing(&self) -> &Framing {
        self.decoder.framing()
    }

    pub(crate) fn limit(&self) -> u64 {
        self.decoder.limit()
    }

    /// Changes the framing. Undelivered bytes are cut again.
    pub(crate) fn set_framing(
        &mut self,
        framing: Framing,
        common: &mut Common,
    ) -> Result<(), DecodeError> {
        let held = self.decoder.held_bytes();
        let anew = self.decoder.set_framing(
            framing,
            self.terms.options.max_frame_len,
            self.terms.options.stream_frames_over,
        );
        if self.decoder.held_bytes() == 0 {
            common.memory.sub_input(held);
        }
        self.put_ahead(anew?, common)
    }

    /// Returns the fast path for whole frames, if there is one.
    #[inline]
    pub(crate) fn whole_frames(&self) -> Option<WholeFrames> {
        self.decoder.whole_frames()
    }

    /// Cuts the next frame from the held bytes and `input`.
    #[inline]
    pub(crate) fn cut<'i>(
        &mut self,
        input: &mut &'i [u8],
        memory: &mut Memory,
    ) -> Result<Option<Cut<'i>>, DecodeError> {
        let before = self.decoder.held_bytes();
        let cut = self.decoder.cut(input);
        let after = self.decoder.held_bytes();
        if after != before {
            memory.add_input(after);
            memory.sub_input(before);
        }
        cut
    }

    /// Keeps the bytes of a read that were not delivered. If the delivery was exhausted, they are the beginning of a
    /// frame, and the decoder holds them. If it was interrupted, they come before the bytes of the next read.
    pub(crate) fn keep(
        &mut self,
        rest: &[u8],
        exhausted: bool,
        common: &mut Common,
    ) -> Result<(), DecodeError> {
        if rest.is_empty() {
            return Ok(());
        }
        if !exhausted {
            return self.put_back(rest, common);
        }
        let len = self.decoder.expected_len();
        self.expects = Expects::after(len);
        let large = len.and_then(|len| common.buffers.take_large(len));
        let buffer = large.unwrap_or_else(|| common.buffers.take_input());
        self.decoder.hold(rest, buffer)?;
        common.memory.add_input(rest.len());
        Ok(())
    }

    /// Marks the connection attempt as successful.
    pub(crate) fn establish(&mut self, now: Tick) {
        self.open(now);
        self.readiness = Readiness::default();
        self.note_ahead();
    }

    /// Returns the interest registered with the selector.
    #[inline]
    pub(crate) fn interest(&self) -> Interest {
        self.interest
    }

    /// Returns the interest to be registered with the selector, if it has changed.
    #[inline]
    pub(crate) fn new_interest(&self) -> Option<Interest> {
        let mut wanted = if self.held_back == HeldBack::NOT {
            READ_INTEREST
        } else {
            NO_INTEREST
        };
        if self.write_half == WriteHalf::Blocked {
            wanted = wanted.add(Interest::WRITABLE);
        }
        (wanted != self.interest && self.phase != Phase::Connecting).then_some(wanted)
    }

    pub(crate) fn note_interest(&mut self, interest: Interest) {
        self.interest = interest;
    }

    /// Returns whether the stream is inside a frame.
    pub(crate) fn is_inside_frame(&self) -> bool {
        self.decoder.is_inside_frame()
    }

    /// Returns whether the peer's EOF was read.
    #[inline]
    pub(crate) fn read_ended(&self) -> bool {
        self.reading.has(Reading::ENDED)
    }

    /// Returns whether it is read by a path of its own: it is metered, or has ended.
    #[inline]
    pub(crate) fn reads_with_care(&self) -> bool {
        self.reading != Reading::PLAIN
    }

    /// Returns whether the peer's EOF was read, or an event has reported it.
    pub(crate) fn end_is_known(&self) -> bool {
        self.read_ended() || self.readiness.has(Readiness::READ_CLOSED)
    }

    /// Returns whether undelivered bytes are still needed.
    pub(crate) fn wants_input(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Releasing)
    }

    fn drop_input(&mut self, common: &mut Common) {
        let held = self.decoder.take_held();
        common.memory.sub_input(held.len());
        common.buffers.put_input(held);
        self.drop_ahead(common);
    }
}

/// The size of the part of a connection that each event needs.
#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
pub(crate) const HOT: usize = std::mem::offset_of!(Connection, terms);
