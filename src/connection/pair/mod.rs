//! Two connections and a [pipe] between them: every [short] exchange, and random [long] ones.
//!
//! [`Pair`] [does for them](serve) what the link, the net and the reactor do, by the same methods and without a socket. It
//! [checks] after each step that nothing is lost or counted twice, and at the end that neither side waits for the other.

mod checks;
mod long;
mod pipe;
mod serve;
mod short;

use bytes::Bytes;
use mio::Poll;

use self::checks::wire_len;
use self::pipe::{Ends, Pipe, Script};
use super::*;
use crate::reason::DisconnectCause;

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
