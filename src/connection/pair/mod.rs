//! Two connections and a [pipe] between them: every short exchange, and random long ones.
//!
//! [`Pair`] does for them what the link, the net and the reactor do, by the same methods and without a socket. It checks
//! after each step that nothing is lost or counted twice, and at the end that neither side waits for the other.

mod pipe;

use std::io;

use bytes::Bytes;
use mio::Poll;
use proptest::prelude::*;

use self::pipe::{End, Ends, Fault, Pipe, Script};
use super::*;
use crate::frame::Cut;
use crate::reason::{DisconnectCause, DisconnectReason};

#[derive(Debug)]
struct Side {
    connection: Connection,
    to_send: std::vec::IntoIter<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    got: Vec<Vec<u8>>,
    /// How many bytes were read that may be delivered.
    heard: usize,
    /// Its user has disconnected it: frames that were held are dropped.
    has_left: bool,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Send(usize),
    Room(usize),
    Arrival(usize),
}

/// How much is done at a time.
#[derive(Debug, Clone)]
struct Budget {
    buffer: usize,
    read: usize,
    write: usize,
    frames: u64,
}

struct Pair {
    sides: [Side; 2],
    /// The first leads from the first side to the second.
    pipes: [Pipe; 2],
    common: Common,
    buffer: Vec<u8>,
    budget: Budget,
}

impl Pair {
    fn new(
        poll: &Poll,
        frames: [Vec<Vec<u8>>; 2],
        scripts: [Script; 2],
        options: ConnectionOptions,
        budget: Budget,
    ) -> Self {
        let common = Common::new(poll.registry().try_clone().expect("a descriptor").into());
        // Of two connections one has to be read under backpressure.
        let mut origins = [Origin::Outbound, Origin::Adopted].into_iter();
        let sides = frames.map(|frames| {
            let (origin, options) = (origins.next().expect("two"), options.clone());
            let terms = Arc::new(Terms::plain(origin, options));
            Side {
                connection: Connection::new(None, Phase::Open, READ_INTEREST, terms, common.now),
                to_send: frames.into_iter(),
                sent: Vec::new(),
                got: Vec::new(),
                heard: 0,
                has_left: false,
            }
        });
        let buffer = vec![0; budget.buffer];
        Self {
            sides,
            pipes: scripts.map(Pipe::new),
            common,
            buffer,
            budget,
        }
    }

    /// Lets one event happen after another, until there is none left.
    fn settle(&mut self, mut choose: impl FnMut(&mut Self) -> usize) {
        loop {
            let happened = choose(self);
            self.serve_both();
            let events = self.events();
            match events.get(happened % events.len().max(1)) {
                Some(event) => self.happen(*event),
                None => break,
            }
        }
        self.check_settled();
    }

    fn serve_both(&mut self) {
        let sent: usize = self.sides.iter().map(|side| wire_len(&side.sent)).sum();
        for i in [0, 1] {
            let mut served = 0;
            while self.sides[i].connection.is_runnable() {
                self.serve(i);
                self.check();
                served += 1;
                assert!(served < 10 + 2 * sent, "it spins");
            }
        }
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for i in [0, 1] {
            let is_open = self.sides[i].connection.is_open();
            if is_open && self.sides[i].to_send.len() > 0 {
                events.push(Event::Send(i));
            }
            if self.pipes[i].may_make_room() && self.sides[i].connection.phase != Phase::Closed {
                events.push(Event::Room(i));
            }
            if self.pipes[1 - i].may_arrive() {
                events.push(Event::Arrival(i));
            }
        }
        events
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Send(i) => self.send(i),
            Event::Room(i) => {
                self.pipes[i].make_room();
                self.report(i, Readiness::WRITABLE);
            }
            Event::Arrival(i) => {
                self.pipes[1 - i].arrive();
                self.report(i, self.pipes[1 - i].readiness());
            }
        }
    }

    /// Reports what the selector was asked for, and errors.
    fn report(&mut self, i: usize, mut readiness: Readiness) {
        let connection = &mut self.sides[i].connection;
        if !readiness.is_error() {
            if !connection.interest().is_readable() {
                readiness.remove(Readiness::READ);
            }
            if !connection.interest().is_writable() {
                readiness.remove(Readiness::WRITABLE);
            }
        }
        connection.readiness |= readiness;
    }

    /// Asks the selector for what the connection wants. It answers with what is there.
    fn update_interest(&mut self, i: usize) {
        let connection = &mut self.sides[i].connection;
        if connection.phase != Phase::Closed
            && let Some(wanted) = connection.new_interest()
        {
            connection.note_interest(wanted);
            self.report(i, self.pipes[1 - i].readiness());
        }
    }

    fn send(&mut self, i: usize) {
        let side = &mut self.sides[i];
        let Some(frame) = side.to_send.next() else {
            return;
        };
        let connection = &mut side.connection;
        let is_sent = connection.push_at_once(&frame, &mut self.common) || {
            let payload = Bytes::from(frame.clone());
            connection.push_shared(&mut self.common, &payload).is_ok()
        };
        if is_sent {
            side.sent.push(frame);
        }
        self.update_interest(i);
        self.check();
    }

    fn parts(&mut self, i: usize) -> (&mut Side, Ends<'_>, &mut Common, &mut [u8]) {
        let [first, second] = &mut self.pipes;
        let (outgoing, incoming) = match i {
            0 => (first, second),
            _ => (second, first),
        };
        let ends = Ends { incoming, outgoing };
        (&mut self.sides[i], ends, &mut self.common, &mut self.buffer)
    }

    fn serve(&mut self, i: usize) {
        match self.sides[i].connection.phase {
            Phase::Open => {
                self.receive(i);
                self.flush(i);
            }
            _ => self.drain(i),
        }
        self.update_interest(i);
    }

    fn receive(&mut self, i: usize) {
        let most = self.budget.read;
        let (side, mut ends, common, buffer) = self.parts(i);
        let connection = &mut side.connection;
        if !connection.wants_delivery() || connection.read_ended() {
            return self.look_at_error(i);
        }
        match connection.fill(&mut ends, buffer, most, common) {
            Fill::Bytes { len, read } => {
                side.heard += read;
                self.deliver(i, len, read);
            }
            Fill::Blocked => {}
            Fill::Ended => match connection.end_of_stream() {
                DisconnectCause::PeerClosed
                    if connection.options().allow_half_open && !connection.has_failed_write() => {}
                cause => self.close(i, cause),
            },
            Fill::Failed(error) => self.end(i, Some(DisconnectCause::of_socket(error))),
            Fill::NoMemory(_) => unreachable!("frames are small"),
        }
    }

    fn deliver(&mut self, i: usize, len: usize, read: usize) {
        let Self {
            sides,
            common,
            buffer,
            budget,
            ..
        } = self;
        let Side {
            connection, got, ..
        } = &mut sides[i];
        let (mut input, mut left, mut exhausted) = (&buffer[..len], budget.frames, false);
        while left > 0 && !exhausted && connection.may_deliver() {
            match connection
                .cut(&mut input, &mut common.memory)
                .expect("well formed")
            {
                Some(Cut::Borrowed(payload)) => got.push(payload.to_vec()),
                Some(Cut::Assembled(payload, len)) => {
                    got.push(payload[..len].to_vec());
                    common.buffers.put_input(payload);
                }
                Some(Cut::Chunk(..) | Cut::HeldChunk(..)) => unreachable!("none is streamed"),
                None => {
                    exhausted = true;
                    if !input.is_empty() || connection.is_inside_frame() {
                        connection.note_unfinished(read, common.now);
                    }
                    break;
                }
            }
            connection.note_finished();
            left -= 1;
        }
        connection.keep(input, exhausted, common).expect("memory");
    }

    fn look_at_error(&mut self, i: usize) {
        let incoming = &mut self.pipes[1 - i];
        let connection = &mut self.sides[i].connection;
        if !connection.read_ended() && !connection.has_unread_error() {
            return;
        }
        connection.readiness.remove(Readiness::ERROR);
        if connection.read_ended() {
            connection.readiness.remove(Readiness::READ);
        }
        if incoming.end_arrived && incoming.end().is_some_and(|(_, end)| end == End::Reset) {
            self.fail_write(i, io::ErrorKind::ConnectionReset.into());
        }
    }

    fn flush(&mut self, i: usize) {
        let budget = self.budget.write;
        let (side, mut ends, common, _) = self.parts(i);
        let connection = &mut side.connection;
        if connection.has_queued() || connection.pressure() != Pressure::NONE {
            match connection.flush(&mut ends, budget, common) {
                Flush::Done => {}
                Flush::Blocked | Flush::Waiting | Flush::Budget => return,
                Flush::Failed(failure) => match *failure {
                    Failure::Write(error) => return self.fail_write(i, error),
                    Failure::Connection(cause) => unreachable!("{cause}"),
                },
            }
        }
        match connection.when_written() {
            Written::Stays => {}
            Written::Drains => {
                connection.note_draining();
                self.pipes[i].end = Some(End::Eof);
            }
            Written::Ends => self.end(i, None),
            Written::HalfCloses => unreachable!("neither side is half-closed"),
        }
    }

    fn drain(&mut self, i: usize) {
        self.flush(i);
        let (side, mut ends, common, buffer) = self.parts(i);
        let connection = &mut side.connection;
        if connection.phase == Phase::Closed || !connection.readiness.has(Readiness::READABLE) {
            return;
        }
        let waits_for_flush = connection.phase == Phase::Closing;
        match connection.discard(&mut ends, buffer, common.now) {
            Fill::Ended if !waits_for_flush => self.end(i, None),
            Fill::Failed(error) => self.end(i, Some(DisconnectCause::of_socket(error))),
            _ => {}
        }
    }

    fn fail_write(&mut self, i: usize, error: io::Error) {
        let connection = &mut self.sides[i].connection;
        if connection.outlives_failed_write() {
            connection.fail_write(error, &mut self.common);
        } else {
            self.end(i, Some(DisconnectCause::of_socket(error)));
        }
    }

    fn close(&mut self, i: usize, cause: DisconnectCause) {
        let connection = &mut self.sides[i].connection;
        if connection.has_failed_write() {
            self.end(i, None);
        } else if connection.is_open() {
            connection.close(cause, &mut self.common);
            self.update_interest(i);
        }
    }

    fn end(&mut self, i: usize, cause: Option<DisconnectCause>) {
        let connection = &mut self.sides[i].connection;
        if connection.phase == Phase::Closed {
            return;
        }
        let is_reset = connection.finish(cause, &mut self.common);
        let reason = connection
            .aside
            .as_ref()
            .and_then(|aside| aside.ending.as_ref());
        assert_eq!(
            is_reset,
            reason.is_some_and(|reason| reason.unsent_bytes > 0),
            "cut off"
        );
        let end = if is_reset { End::Reset } else { End::Eof };
        self.pipes[i].end.get_or_insert(end);
        self.pipes[1 - i].has_reader = false;
    }

    fn reason(&self, i: usize) -> Option<&DisconnectReason> {
        self.sides[i].connection.aside.as_ref()?.ending.as_ref()
    }

    /// Each byte and frame that was sent is written, queued, or counted as unsent, and the memory in use is what is held.
    fn check(&self) {
        let mut used = 0;
        for i in [0, 1] {
            let Side {
                connection, sent, ..
            } = &self.sides[i];
            connection.check_invariants();
            let written = self.pipes[i].bytes.len();
            let queue = connection.queue.as_ref();
            let queued = queue.map_or((0, 0), |queue| (queue.bytes(), queue.frames()));
            let dropped = self.reason(i);
            let dropped = dropped.map_or((0, 0), |it| (it.unsent_bytes, it.unsent_frames));
            let unsent = (wire_len(sent) - written, sent.len() - whole(sent, written));
            let unsent = (unsent.0 as u64, unsent.1 as u64);
            assert_eq!((queued.0 + dropped.0, queued.1 + dropped.1), unsent);
            let shared = connection.shared_payloads().map(|it| it.len() as u64);
            used += connection.held_alone() + shared.sum::<u64>();
        }
        assert_eq!(self.common.memory.used(), used);
    }

    /// All that was received is delivered, and neither side waits for an event that does not come.
    fn check_settled(&self) {
        for i in [0, 1] {
            let Side {
                connection,
                got,
                heard,
                has_left,
                ..
            } = &self.sides[i];
            let sent = &self.sides[1 - i].sent;
            let shown = whole(sent, *heard);
            match has_left {
                true => assert!(got.len() <= shown && *got == sent[..got.len()]),
                false => assert_eq!(*got, sent[..shown]),
            }
            let incoming = &self.pipes[1 - i];
            if connection.phase != Phase::Closed {
                assert_ne!(connection.phase, Phase::Closing);
                assert!(!connection.has_queued(), "it is not written to");
                assert_eq!(connection.held_back, HeldBack::NOT, "it is not read");
                assert_eq!(incoming.read, incoming.readable_to());
                assert_eq!(connection.end_is_known(), incoming.end_arrived);
            }
        }
    }

    fn leave(&mut self, i: usize) {
        if self.sides[i].connection.is_open() {
            self.sides[i].has_left = true;
            self.close(i, DisconnectCause::ClosedLocally);
        }
    }

    fn leave_both(&mut self) {
        for i in [1, 0] {
            self.leave(i);
            self.settle(|_| 0);
        }
        for side in &self.sides {
            assert_eq!(side.connection.phase, Phase::Closed);
        }
        assert_eq!(self.common.memory.used(), 0);
    }
}

fn options() -> ConnectionOptions {
    ConnectionOptions {
        framing: Framing::length_prefix().u16().into(),
        ..ConnectionOptions::default()
    }
}

/// How long frames are on the wire.
fn wire_len(frames: &[Vec<u8>]) -> usize {
    frames.iter().map(|frame| 2 + frame.len()).sum()
}

/// How many frames end within so many bytes.
fn whole(frames: &[Vec<u8>], bytes: usize) -> usize {
    let ends = frames.iter().scan(0, |end, frame| {
        *end += 2 + frame.len();
        Some(*end)
    });
    ends.take_while(|end| *end <= bytes).count()
}

/// Two frames of up to two bytes each way, split in each possible way, with each fault at each byte of one direction.
#[test]
fn every_short_exchange_ends_as_its_fault_says() {
    let poll = Poll::new().expect("a descriptor");
    for (one, other) in (0..=2).flat_map(|one| (0..=2).map(move |other| (one, other))) {
        let frames = [
            vec![vec![1; one], vec![2; other]],
            vec![vec![3; other], vec![4; one]],
        ];
        let len = wire_len(&frames[0]);
        let faults = [Fault::Eof, Fault::ReadFails, Fault::WriteFails];
        let at_each = |fault| (0..=len).map(move |at| Some((fault, at)));
        let faults: Vec<_> = faults.into_iter().flat_map(at_each).chain([None]).collect();
        for split in 0_usize..1 << (len - 1) {
            let cuts: Vec<usize> = (1..len).filter(|at| split >> (at - 1) & 1 == 1).collect();
            for variant in 0..VARIANTS {
                for fault in &faults {
                    exchange(&poll, &frames, &cuts, variant, *fault);
                }
            }
        }
    }
}

/// What else makes a difference: whether a short read or write proves anything; whether the end comes with the last bytes
/// (and half-open connections are allowed); in which order events come.
const VARIANTS: usize = 8;

fn exchange(
    poll: &Poll,
    frames: &[Vec<Vec<u8>>; 2],
    cuts: &[usize],
    variant: usize,
    fault: Option<(Fault, usize)>,
) {
    let [short_is_drained, end_rides, takes_turns] = [1, 2, 4].map(|bit| variant & bit != 0);
    let script = Script {
        write_cuts: cuts.to_vec(),
        read_cuts: cuts.to_vec(),
        short_is_drained,
        end_rides,
        capacity: usize::MAX,
        fault: None,
    };
    let faulty = Script {
        fault,
        ..script.clone()
    };
    let options = ConnectionOptions {
        allow_half_open: end_rides,
        ..options()
    };
    let budget = Budget {
        buffer: 64,
        read: 64,
        write: 4096,
        frames: 64,
    };
    let mut pair = Pair::new(poll, frames.clone(), [faulty, script], options, budget);
    for i in [0, 0, 1, 1] {
        pair.send(i);
    }
    let mut event = 0;
    pair.settle(|_| {
        event += usize::from(takes_turns);
        event
    });
    pair.check_fault(fault);
    pair.leave_both();
}

impl Pair {
    /// What a fault of the first direction costs, and what it does not.
    fn check_fault(&self, fault: Option<(Fault, usize)>) {
        let [first, second] = &self.sides;
        let len = wire_len(&first.sent);
        let arrives = fault.map_or(len, |(_, at)| at);
        assert_eq!(second.got, &first.sent[..whole(&first.sent, arrives)]);
        match fault {
            // The second connection has ended, but what it had written arrives.
            Some((Fault::ReadFails, _)) => {
                let written = self.pipes[1].bytes.len();
                assert_eq!(first.got, &second.sent[..whole(&second.sent, written)]);
            }
            _ => assert_eq!(first.got, second.sent),
        }
        match fault {
            Some((Fault::WriteFails, at)) if at < len => {
                assert!(first.connection.is_open() && first.connection.has_failed_write());
                let reason = self.reason(0).expect("a reason");
                assert!(matches!(reason.cause, DisconnectCause::Reset(_)));
                assert_eq!(reason.unsent_bytes, (len - at) as u64);
            }
            Some((Fault::Eof, at)) if (0..=2).all(|n| wire_len(&first.sent[..n]) != at) => {
                let reason = self.reason(1).expect("a reason");
                assert!(matches!(
                    reason.cause,
                    DisconnectCause::PeerClosedInsideFrame { .. }
                ));
            }
            _ => {}
        }
    }
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![4 => 0..20_usize, 4 => 0..400_usize, 1 => 4000..9000_usize];
    let frame = (len, any::<u8>()).prop_map(|(len, first)| {
        let bytes = (0..len).map(|at| first.wrapping_add(at as u8));
        bytes.collect::<Vec<u8>>()
    });
    prop::collection::vec(frame, 0..12)
}

fn script() -> impl Strategy<Value = Script> {
    let cuts = || prop::collection::btree_set(1..2000_usize, 0..40);
    let fault = prop_oneof![
        Just(Fault::Eof),
        Just(Fault::ReadFails),
        Just(Fault::WriteFails)
    ];
    (
        (cuts(), cuts()),
        any::<bool>(),
        prop_oneof![1..20_usize, 20..2000_usize, Just(usize::MAX)],
        prop::option::of((fault, 0..2000_usize)),
    )
        .prop_map(
            |((write_cuts, read_cuts), end_rides, capacity, fault)| Script {
                write_cuts: write_cuts.into_iter().collect(),
                read_cuts: read_cuts.into_iter().collect(),
                short_is_drained: false,
                end_rides,
                capacity,
                fault,
            },
        )
}

proptest! {
    /// In any order of events, with small budgets and buffers, with backpressure, and with a user that disconnects.
    #[test]
    fn long_exchange_loses_nothing(
        frames in [frames(), frames()],
        mut scripts in [script(), script()],
        short_is_drained: bool,
        high_watermark in prop::option::of(1..500_u64),
        allow_half_open: bool,
        budget in (64..300_usize, 1..300_usize, 1..300_usize, 1..8_u64)
            .prop_map(|(buffer, read, write, frames)| Budget { buffer, read, write, frames }),
        order in prop::collection::vec(any::<u8>(), 0..200),
        leaves in prop::option::of((0..2_usize, 0..100_usize)),
    ) {
        for script in &mut scripts {
            script.short_is_drained = short_is_drained;
        }
        let has_fault = scripts.iter().any(|script| script.fault.is_some());
        let options = ConnectionOptions { high_watermark, allow_half_open, ..options() };
        let poll = Poll::new().expect("a descriptor");
        let mut pair = Pair::new(&poll, frames.clone(), scripts, options, budget);
        let mut event = 0;
        pair.settle(|pair| {
            if let Some((side, at)) = leaves && at == event {
                pair.leave(side);
            }
            event += 1;
            order.get(event).map_or(0, |order| usize::from(*order))
        });
        for (i, side) in pair.sides.iter().enumerate() {
            let peer = &pair.sides[1 - i];
            // One that has left drops what it holds, and a fault of either direction may end both.
            if !has_fault && !side.has_left {
                prop_assert_eq!(&side.got, &peer.sent);
                prop_assert!(peer.has_left || peer.sent == frames[1 - i]);
            }
        }
        pair.leave_both();
    }
}
