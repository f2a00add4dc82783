//! Traffic between a loop and peers on the same thread.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use throng::{
    Config, ConnectionId, EventLoop, Frame, FrameEncoder, Framing, Handler, ListenOptions, Net,
};

use super::by_hand::Loop;
use super::{PATIENCE, framed, turn_until};

/// A loop whose turns are made by the test.
pub trait Turns {
    fn net(&mut self) -> &mut Net;

    /// Makes turns until `done` returns `true`.
    fn turn_until<H: Handler + 'static>(&mut self, handler: &mut H, done: impl FnMut(&Net) -> bool);
}

impl Turns for Loop {
    fn net(&mut self) -> &mut Net {
        self.reactor.net()
    }

    fn turn_until<H: Handler + 'static>(
        &mut self,
        handler: &mut H,
        mut done: impl FnMut(&Net) -> bool,
    ) {
        self.settle(handler, |_, net| done(net));
    }
}

impl Turns for EventLoop {
    fn net(&mut self) -> &mut Net {
        self.net()
    }

    fn turn_until<H: Handler + 'static>(
        &mut self,
        handler: &mut H,
        mut done: impl FnMut(&Net) -> bool,
    ) {
        turn_until(self, handler, |_, net| done(net));
    }
}

/// Returns options with a framing, and without a limit on queues.
pub fn unbounded(framing: impl Into<Framing>) -> ListenOptions {
    ListenOptions::default()
        .framing(framing)
        .max_queued_bytes(u64::MAX)
}

/// How a frame is sent back.
#[derive(Debug, Clone, Copy)]
pub enum Echo {
    Send,
    SendFrame,
    SendWith,
}

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        match self {
            Self::Send => net.send(id, &frame).expect("it is open"),
            Self::SendFrame => net.send_frame(id, frame).expect("it is open"),
            Self::SendWith => net
                .send_with(id, |out| out.write_all(&frame))
                .expect("it is open"),
        }
    }
}

/// Discards all frames.
pub struct Sink;

impl Handler for Sink {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

/// How frames arrive: how many at once, and where the peer pauses within them.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub depth: usize,
    pub cut: Option<usize>,
}

/// Peers that send frames and read them back, all connections at once.
pub struct Rounds {
    peers: Vec<TcpStream>,
    wire: Vec<u8>,
    cut: usize,
    received: Vec<u8>,
}

impl Rounds {
    pub fn new(peers: Vec<TcpStream>, framing: &Framing, arrival: Arrival) -> Self {
        let encoder = FrameEncoder::new(framing.clone());
        let mut wire = Vec::new();
        for number in 0..arrival.depth {
            let payload = [b'A' + number as u8; 64];
            encoder.encode(&payload, &mut wire).expect("it can be sent");
        }
        Self {
            peers,
            cut: arrival.cut.unwrap_or(wire.len()),
            received: vec![0; wire.len()],
            wire,
        }
    }

    /// Makes one round: sends all frames of all peers, and reads them back.
    pub fn go(&mut self, turns: &mut impl Turns, handler: &mut (impl Handler + 'static)) {
        let before = turns.net().stats();
        let mut sent = before.bytes_received;
        let (first, second) = self.wire.split_at(self.cut);
        for piece in [first, second] {
            for peer in &mut self.peers {
                peer.write_all(piece).expect("to write");
                sent += piece.len() as u64;
            }
            turns.turn_until(handler, |net| net.stats().bytes_received == sent);
        }
        let all = before.bytes_sent + (self.peers.len() * self.wire.len()) as u64;
        turns.turn_until(handler, |net| net.stats().bytes_sent == all);
        for peer in &mut self.peers {
            peer.read_exact(&mut self.received).expect("to read");
            assert_eq!(self.received, self.wire);
        }
    }
}

/// Returns the number of bytes transferred; zero on `WouldBlock`.
pub fn some(result: io::Result<usize>) -> usize {
    match result {
        Ok(0) => panic!("the stream has ended"),
        Ok(n) => n,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

/// A peer on the loop's thread that writes and reads whatever is possible.
pub struct Pump {
    peer: TcpStream,
    buffer: Vec<u8>,
}

impl Pump {
    pub fn new(peer: TcpStream) -> Self {
        peer.set_nonblocking(true).expect("a live socket");
        Self {
            peer,
            buffer: vec![0; 256 * 1024],
        }
    }

    /// Sends `out`, and reads bytes that must equal `expected`.
    pub fn run(
        &mut self,
        looped: &mut Loop,
        handler: &mut (impl Handler + 'static),
        out: &[u8],
        expected: &[u8],
    ) {
        let (mut written, mut read) = (0, 0);
        let received = looped.net().stats().bytes_received;
        let deadline = Instant::now() + PATIENCE;
        while written < out.len()
            || read < expected.len()
            || looped.net().stats().bytes_received < received + out.len() as u64
        {
            assert!(Instant::now() < deadline, "it did not happen in time");
            let before = written + read;
            if written < out.len() {
                written += some(self.peer.write(&out[written..]));
            }
            let room = self.buffer.len().min(expected.len() - read);
            if room > 0 {
                let n = some(self.peer.read(&mut self.buffer[..room]));
                assert!(
                    self.buffer[..n] == expected[read..read + n],
                    "it came back changed"
                );
                read += n;
            }
            // The loop cannot see that its peer can make progress.
            let idle = u64::from(written + read == before);
            looped.turn(Duration::from_millis(idle), handler);
        }
    }
}

/// Returns a loop with one connection, after some traffic.
pub fn settled(handler: &mut (impl Handler + 'static)) -> (Loop, ConnectionId, Pump) {
    let mut looped = Loop::new(Config::default());
    let addr = looped.listen_with(unbounded(Framing::default()));
    let mut peer = looped.connect(handler, addr, 1).pop().expect("one");
    peer.write_all(&framed(&[7; 64])).expect("to write");
    looped.turn_until(handler, |net| net.stats().frames_received == 1);
    let id = looped.net().connections()[0];
    looped.net().send(id, &[7; 64]).expect("it is open");
    let mut pump = Pump::new(peer);
    let echoed = looped.net().stats().bytes_sent as usize;
    let expected = framed(&[7; 64]).repeat(1 + echoed / 68);
    pump.run(&mut looped, handler, &[], &expected);
    looped.trim(handler);
    (looped, id, pump)
}
