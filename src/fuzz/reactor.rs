//! A whole loop with connections on socket pairs, whose peers and handler do what the input says. What each side
//! receives is compared with what the other side has sent.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::format::Format;
use super::input::Input;
use crate::frame::{FrameDecoder, FrameEncoder, Framing};
use crate::{
    Backlog, Chunk, Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason,
    Expired, Frame, Handler, Net, Reactor, Timer,
};

const MAX_PEERS: usize = 6;

/// Makes connections, sends and receives, closes in all ways, and lets time pass.
pub fn reactor(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut world) = World::new(&mut input) else {
        return;
    };
    while !input.is_empty() && world.steps < 300 {
        world.step(&mut input);
    }
    world.finish();
}

/// What is known of a connection.
struct Known {
    /// Frames from the peer that were delivered.
    received: u32,
    /// The part of a frame that came in chunks so far.
    coming: Vec<u8>,
    /// Frames that a send has accepted, as the peer should receive them.
    accepted: Vec<Vec<u8>>,
    is_connected: bool,
    reason: Option<DisconnectReason>,
}

/// The handler: checks the order of the callbacks and every frame, and echoes some of them.
struct Checker {
    known: HashMap<ConnectionId, Known>,
    /// Bits that say what is done in the next callbacks.
    habits: u64,
}

/// The frame of a peer with this number.
fn payload(number: u32, len: usize) -> Vec<u8> {
    let mut payload = format!("{number}:{len}:").into_bytes();
    payload.resize(payload.len() + len, b'a' + (number % 26) as u8);
    payload
}

/// Reads the number and the length of a frame from itself, and checks its content.
fn number_of(frame: &[u8]) -> u32 {
    let text = std::str::from_utf8(frame).expect("text");
    let mut fields = text.split(':').map(str::parse);
    let (Some(Ok(number)), Some(Ok(len))) = (fields.next(), fields.next()) else {
        panic!("a frame without a number");
    };
    assert!(
        payload(number, len as usize) == frame,
        "frame {number} is damaged"
    );
    number
}

impl Checker {
    fn of(&mut self, id: ConnectionId) -> &mut Known {
        let known = self.known.get_mut(&id).expect("a connection that exists");
        assert!(known.reason.is_none(), "a callback after the end");
        known
    }

    fn note(&mut self, id: ConnectionId, frame: &[u8]) {
        let known = self.of(id);
        assert!(known.is_connected, "a frame before on_connect");
        assert_eq!(
            number_of(frame),
            known.received,
            "a frame is lost or out of order"
        );
        known.received += 1;
    }

    fn send(&mut self, net: &mut Net, id: ConnectionId, payload: &[u8], way: usize) {
        let sent = match way {
            0 => net.send(id, payload).is_ok(),
            1 => net.send_bytes(id, payload.to_vec().into()).is_ok(),
            2 => net.send_with(id, |out| out.write_all(payload)).is_ok(),
            3 => {
                let reader = std::io::Cursor::new(payload.to_vec());
                net.send_reader(id, payload.len() as u64, reader).is_ok()
            }
            4 => net.disconnect_with(id, payload, Backlog::Flush).is_ok(),
            _ => {
                let (first, second) = payload.split_at(payload.len() / 2);
                let begun = net.begin_frame(id, payload.len() as u64).is_ok();
                let pushed = begun
                    && net.push_chunk(id, first).is_ok()
                    && net.push_chunk(id, second).is_ok();
                if begun && !pushed {
                    // The queue is full, and the frame stays open.
                    net.abort(id);
                }
                pushed && net.finish_frame(id).is_ok()
            }
        };
        if sent && let Some(known) = self.known.get_mut(&id) {
            assert!(known.reason.is_none(), "a frame is accepted after the end");
            known.accepted.push(payload.to_vec());
        }
    }

    /// Does in a callback what the habits say.
    fn react(&mut self, net: &mut Net, id: ConnectionId) {
        self.habits = self.habits.rotate_left(5);
        match self.habits & 0x1F {
            0 => drop(net.pause(id)),
            1 => drop(net.disconnect(id)),
            2 if self.habits & 0x20 == 0 => drop(net.abort(id)),
            3 => drop(net.half_close(id)),
            4 => drop(net.set_timer(Timer::after(Duration::from_millis(5)).on(id), 1)),
            5 => {
                for other in net.connections() {
                    net.resume(other);
                }
            }
            6 => {
                let report = net.broadcast(|_| true, b"0:0:");
                let accepted = self.known.iter().filter(|(id, _)| net.is_connected(**id));
                assert!(report.queued <= accepted.count());
            }
            _ => {}
        }
    }
}

impl Handler for Checker {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let known = self.of(id);
        assert!(
            !std::mem::replace(&mut known.is_connected, true),
            "it was connected"
        );
        self.react(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.note(id, &frame);
        if self.habits & 0x40 != 0 {
            self.send(net, id, &frame, 0);
        }
        self.react(net, id);
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        let known = self.of(id);
        assert_eq!(
            chunk.offset(),
            known.coming.len() as u64,
            "a gap or an overlap"
        );
        known.coming.extend_from_slice(&chunk);
        if chunk.is_last() {
            let frame = std::mem::take(&mut known.coming);
            self.note(id, &frame);
        }
        self.react(net, id);
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        self.of(id);
        self.react(net, id);
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        self.of(id);
        self.react(net, id);
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        if let Some(id) = expired.connection {
            self.of(id);
            self.react(net, id);
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.of(id).reason = Some(reason);
    }
}

/// The other end of a connection.
struct Peer {
    id: ConnectionId,
    stream: UnixStream,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    /// Encoded frames that are not written yet.
    unwritten: Vec<u8>,
    sent: u32,
    received: Vec<Vec<u8>>,
    has_finished: bool,
    has_ended: bool,
}

impl Peer {
    fn write(&mut self, most: usize) {
        let most = most.min(self.unwritten.len());
        match self.stream.write(&self.unwritten[..most]) {
            Ok(written) => drop(self.unwritten.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The connection was closed or reset.
            Err(_) => self.unwritten.clear(),
        }
    }

    /// Reads once. Returns whether there may be more.
    fn read(&mut self, most: usize) -> bool {
        let mut buffer = vec![0; most];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                self.has_ended |= most > 0;
                false
            }
            Ok(read) => {
                let mut input = &buffer[..read];
                while let Some(frame) = self.decoder.decode(&mut input).expect("valid frames") {
                    self.received.push(frame.to_vec());
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.has_ended = true;
                false
            }
        }
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.has_finished, true) {
            // It fails if the other side has reset the connection.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

struct World {
    poll: Poll,
    events: Events,
    reactor: Reactor,
    handler: Checker,
    now: Instant,
    options: ConnectOptions,
    framing: Framing,
    peers: Vec<Peer>,
    steps: usize,
}

impl World {
    fn new(input: &mut Input<'_>) -> Option<Self> {
        let framing = match Format::any(input) {
            // The content of the frames has to be valid in the format.
            Format::Delimiter(_) => Framing::delimiter(0),
            // A peer may end inside a frame, which is not to be delivered.
            Format::Lines { .. } => Framing::lines().into(),
            format => format.framing(),
        };
        let mut config = Config::default().frames_per_turn(1 + input.below(20));
        config = match input.below(4) {
            0 => config.read_budget(512).write_budget(512).read_buffer(512),
            1 => config.read_budget(512 + 16 * input.below(256)),
            _ => config,
        };
        if input.below(4) == 0 {
            config = config.memory_budget(1000 * u64::from(input.byte()));
        }
        let mut options = ConnectOptions::default().framing(framing.clone());
        options = options.allow_half_open(input.flag());
        if input.flag() {
            options = options.stream_frames_over(input.limit());
        }
        if input.flag() {
            let limit = 1000 + 100 * u64::from(input.byte());
            options = options.max_queued_bytes(limit).high_watermark(limit / 2);
        }
        if input.below(4) == 0 {
            let timeout = Duration::from_millis(1 + u64::from(input.byte()));
            options = options.idle_timeout(timeout).write_stall_timeout(timeout);
            options = options.disconnect_timeout(timeout);
        }
        let poll = Poll::new().ok()?;
        let now = Instant::now();
        Some(Self {
            reactor: Reactor::attach(poll.registry(), config, now).ok()?,
            poll,
            events: Events::with_capacity(1 + input.below(8)),
            handler: Checker {
                known: HashMap::new(),
                habits: input.number() ^ 0x5555_1234_8421_9999,
            },
            now,
            options,
            framing,
            peers: Vec::new(),
            steps: 0,
        })
    }

    fn step(&mut self, input: &mut Input<'_>) {
        self.steps += 1;
        let what = input.below(16);
        if what == 0 || self.peers.is_empty() {
            return self.join(input);
        }
        let which = input.below(self.peers.len());
        let peer = &mut self.peers[which];
        let (id, net) = (peer.id, self.reactor.net());
        match what {
            1..4 if !peer.has_finished => {
                for _ in 0..1 + input.below(4) {
                    let frame = payload(peer.sent, input.len());
                    if peer.encoder.encode(&frame, &mut peer.unwritten).is_ok() {
                        peer.sent += 1;
                    }
                }
                peer.write(if input.flag() {
                    usize::MAX
                } else {
                    input.len()
                });
            }
            4 => peer.write(input.len()),
            5 => drop(peer.read(1 + input.len())),
            6 if input.below(4) == 0 => peer.finish(),
            7 => {
                let frame = payload(input.byte().into(), input.len());
                self.handler.send(net, id, &frame, input.below(6));
            }
            8 => match input.below(8) {
                0 => drop(net.disconnect(id)),
                1 => drop(net.abort(id)),
                2 => drop(net.half_close(id)),
                3 | 4 => drop(net.pause(id)),
                5 => drop(net.release(id)),
                _ => drop(net.resume(id)),
            },
            9 => drop(net.resume(id)),
            10 => self.turn(Duration::from_millis(input.byte().into())),
            _ => self.turn(Duration::ZERO),
        }
    }

    /// Connects another peer, some of whose bytes were read before.
    fn join(&mut self, input: &mut Input<'_>) {
        if self.peers.len() == MAX_PEERS {
            return;
        }
        let Ok((ours, stream)) = UnixStream::pair() else {
            return;
        };
        stream.set_nonblocking(true).expect("a live socket");
        let encoder = FrameEncoder::new(self.framing.clone());
        let (mut early, mut sent) = (Vec::new(), 0);
        for _ in 0..input.below(4) {
            if encoder
                .encode(&payload(sent, input.len()), &mut early)
                .is_ok()
            {
                sent += 1;
            }
        }
        let unwritten = early.split_off(input.len().min(early.len()));
        let adopted = self
            .reactor
            .net()
            .adopt_with(ours, self.options.clone(), &early);
        let id = adopted.expect("a stream that is connected");
        let known = Known {
            received: 0,
            coming: Vec::new(),
            accepted: Vec::new(),
            is_connected: false,
            reason: None,
        };
        assert!(
            self.handler.known.insert(id, known).is_none(),
            "an id is used twice"
        );
        self.peers.push(Peer {
            id,
            stream,
            encoder,
            decoder: FrameDecoder::new(self.framing.clone()),
            unwritten,
            sent,
            received: Vec::new(),
            has_finished: false,
            has_ended: false,
        });
    }

    fn turn(&mut self, passed: Duration) {
        self.now += passed;
        let polled = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        if polled.is_err() {
            self.events.clear();
        }
        self.reactor.begin_turn(self.now);
        for event in &self.events {
            self.reactor.handle_event(event);
        }
        self.reactor.finish_turn(&mut self.handler);
    }

    /// Lets all peers read and write everything, and closes all connections.
    fn finish(&mut self) {
        self.reactor.net().shutdown(Duration::from_secs(100));
        for round in 0.. {
            assert!(round < 20_000, "the loop does not come to its end");
            self.turn(Duration::ZERO);
            for peer in &mut self.peers {
                peer.write(usize::MAX);
                while peer.read(65_536) {}
                if peer.unwritten.is_empty() {
                    peer.finish();
                }
            }
            let mut all = self.handler.known.values_mut();
            // The stream of a released connection is closed here.
            if all.all(Known::has_ended) && self.peers.iter().all(|peer| peer.has_ended) {
                break;
            }
        }
        assert_eq!(self.reactor.net().connection_count(), 0);
        assert_eq!(
            self.reactor.net().stats().memory_bytes,
            0,
            "memory is in use"
        );
        for peer in &self.peers {
            let known = &self.handler.known[&peer.id];
            let reason = known.reason.as_ref().expect("each connection has an end");
            assert!(known.received <= peer.sent);
            // A broadcast is not recorded for each connection.
            let received: Vec<_> = peer.received.iter().filter(|it| *it != b"0:0:").collect();
            let accepted: Vec<_> = known.accepted.iter().filter(|it| *it != b"0:0:").collect();
            assert!(
                accepted.starts_with(&received),
                "the peer received something else"
            );
            let is_clean = matches!(
                reason.cause,
                DisconnectCause::ClosedLocally
                    | DisconnectCause::ShutDown
                    | DisconnectCause::PeerClosed
            );
            if is_clean && reason.unsent_frames == 0 {
                assert_eq!(received.len(), accepted.len(), "a frame is lost");
            }
        }
    }
}

impl Known {
    /// Returns whether the end was reported. Closes the stream if it was released.
    fn has_ended(&mut self) -> bool {
        let Some(reason) = &mut self.reason else {
            return false;
        };
        if let DisconnectCause::Released(_) = reason.cause {
            reason.cause = DisconnectCause::Aborted;
        }
        true
    }
}
