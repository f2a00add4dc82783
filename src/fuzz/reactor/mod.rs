//! A whole loop with connections on socket pairs, whose peers and handler do what the input says. What each side
//! receives is compared with what the other side has sent.

mod handler;
mod peer;

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use self::handler::{Checker, Known};
use self::peer::{Peer, payload};
use super::format::Format;
use super::input::Input;
use crate::frame::{FrameDecoder, FrameEncoder, Framing};
use crate::{Config, ConnectOptions, DisconnectCause, Reactor};

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
