//! `Chaos`: many random peers at once.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::{End, Peer, Random, World};
use crate::frame::Framing;

/// How long the connections of the peers may take to end after the last step, in simulated time.
const PATIENCE: Duration = Duration::from_secs(3 * 60 * 60);

type Payloads = Box<dyn FnMut(&mut Random) -> Vec<u8>>;

/// Many peers that connect, send, stall, half-close, stop inside a frame, close and reset at random.
///
/// Afterwards the world is [calmed](World::calm): each peer that is still connected reads everything and half-closes.
/// [`run`](Self::run) returns what each peer has sent and received, to be compared with what the handler has seen.
///
/// ```
/// use throng::sim::{Chaos, End, check};
/// use throng::{Config, ConnectionId, Frame, Handler, Net};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
///         let _ = net.send_frame(id, frame);
///     }
/// }
///
/// check(20, |world| {
///     let host = world.host(Config::default(), Echo);
///     host.with(|_, net| net.listen("127.0.0.1:5000")).unwrap();
///     for peer in Chaos::new("127.0.0.1:5000").peers(20).steps(200).run(world) {
///         let received = peer.received();
///         assert!(peer.sent.starts_with(&received));
///         if peer.end() == Some(End::Closed) {
///             assert_eq!(received, peer.sent, "EOF means that nothing is missing");
///         }
///     }
/// });
/// ```
pub struct Chaos {
    addr: String,
    peers: usize,
    steps: usize,
    pause: Duration,
    framing: Framing,
    payloads: Payloads,
    is_polite: bool,
}

/// What a peer of [`Chaos`] has done.
#[derive(Debug)]
#[non_exhaustive]
pub struct Log {
    /// The peer.
    pub peer: Peer,
    /// The frames that it was told to send, in order. If it has closed its connection or was reset, the last of them
    /// may be lost.
    pub sent: Vec<Vec<u8>>,
    /// The peer has neither closed nor reset the connection itself, nor stopped inside a frame.
    pub is_polite: bool,
    /// It sends no more.
    is_done: bool,
}

impl Log {
    /// Returns the frames that it has received.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.peer.received()
    }

    /// Returns how its connection has ended; `None` if it is still open, because the other side does not close it.
    pub fn end(&self) -> Option<End> {
        self.peer.end()
    }
}

impl Chaos {
    /// Creates ten peers that connect to an address, and make a hundred steps together. Their payloads are random
    /// lowercase letters, mostly short, up to 10,000.
    ///
    /// # Panics
    /// [`run`](Self::run) panics if the address is not valid.
    pub fn new(addr: impl fmt::Display) -> Self {
        Self {
            addr: addr.to_string(),
            peers: 10,
            steps: 100,
            pause: Duration::from_millis(100),
            framing: Framing::default(),
            payloads: Box::new(letters),
            is_polite: false,
        }
    }

    /// Sets the highest number of peers; it is random, and smaller in a scenario that is being shrunk.
    pub fn peers(mut self, most: usize) -> Self {
        self.peers = most;
        self
    }

    /// Sets the highest number of steps.
    pub fn steps(mut self, most: usize) -> Self {
        self.steps = most;
        self
    }

    /// Sets the longest pause between two steps. Default: 100 ms.
    pub fn pause(mut self, longest: Duration) -> Self {
        self.pause = longest;
        self
    }

    /// Sets the framing.
    pub fn framing(mut self, framing: impl Into<Framing>) -> Self {
        self.framing = framing.into();
        self
    }

    /// Sets what the peers send.
    pub fn payloads(mut self, payloads: impl FnMut(&mut Random) -> Vec<u8> + 'static) -> Self {
        self.payloads = Box::new(payloads);
        self
    }

    /// Prevents peers from closing or resetting their connections, and from stopping inside a frame. Peers still stall.
    pub fn polite(mut self) -> Self {
        self.is_polite = true;
        self
    }

    /// Runs the peers, and returns what each has done.
    pub fn run(self, world: &World) -> Vec<Log> {
        self.run_with(world, |_| {})
    }

    /// Like [`run`](Self::run), but calls a closure of the test after each step.
    ///
    /// While connections end after the last step, it is called about once a second.
    pub fn run_with(mut self, world: &World, mut between: impl FnMut(&World)) -> Vec<Log> {
        let most = world.up_to(self.peers);
        let mut logs: Vec<Log> = Vec::new();
        for _ in 0..world.up_to(self.steps) {
            let mut random = world.random().fork();
            let chosen = random.below(most);
            match logs.get_mut(chosen) {
                Some(log) => self.act(log, &mut random),
                None => logs.push(self.join(world)),
            }
            between(world);
            // Often several act at once.
            if !random.one_in(2) {
                let pause = random.duration(self.pause);
                world.run_for(pause);
            }
        }
        world.calm();
        for log in &logs {
            log.peer.unstall().half_close();
        }
        let peers: Vec<Peer> = logs.iter().map(|log| log.peer.clone()).collect();
        let end = world.elapsed() + PATIENCE;
        let all_have_ended = || peers.iter().all(|peer| peer.end().is_some());
        while !world.run_until(Duration::from_secs(1), all_have_ended) && world.elapsed() < end {
            between(world);
        }
        logs
    }

    fn join(&self, world: &World) -> Log {
        let addr: SocketAddr = self.addr.parse().expect("an address");
        let peer = world.connect(addr);
        peer.framing(self.framing.clone());
        Log {
            peer,
            sent: Vec::new(),
            is_polite: true,
            is_done: false,
        }
    }

    fn act(&mut self, log: &mut Log, random: &mut Random) {
        let peer = log.peer.clone();
        match random.below(if self.is_polite { 24 } else { 28 }) {
            0..=11 => self.send(log, random, 1),
            12..=14 => self.send(log, random, 20),
            15..=17 => {
                peer.stall();
            }
            18 | 19 => {
                peer.stall().read_only(random.length(100_000));
            }
            20..=22 => {
                peer.unstall();
            }
            23 => {
                log.is_done = true;
                peer.half_close();
            }
            24 => {
                // A part of a frame, and nothing more.
                if !log.is_done {
                    let frame = self.encoded(random);
                    peer.send_raw(&frame[..random.below(frame.len())])
                        .half_close();
                }
                (log.is_polite, log.is_done) = (false, true);
            }
            25 => {
                (log.is_polite, log.is_done) = (false, true);
                peer.close();
            }
            26 => {
                (log.is_polite, log.is_done) = (false, true);
                peer.reset();
            }
            _ => {
                peer.interrupt(random.duration(Duration::from_secs(10)));
            }
        }
    }

    fn send(&mut self, log: &mut Log, random: &mut Random, most: usize) {
        for _ in 0..random.length(most) {
            if !log.is_done {
                let payload = (self.payloads)(random);
                log.peer.send(&payload);
                log.sent.push(payload);
            }
        }
    }

    fn encoded(&mut self, random: &mut Random) -> Vec<u8> {
        let payload = (self.payloads)(random);
        let mut frame = Vec::new();
        let encoder = crate::frame::FrameEncoder::new(self.framing.clone());
        encoder
            .encode(&payload, &mut frame)
            .expect("a payload for this framing");
        frame
    }
}

/// Returns a random payload without special bytes.
fn letters(random: &mut Random) -> Vec<u8> {
    let mut payload = vec![0; random.length(10_000) - 1];
    random.fill(&mut payload);
    payload.iter().map(|byte| b'a' + byte % 26).collect()
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("addr", &self.addr)
            .field("peers", &self.peers)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}
