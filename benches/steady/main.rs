//! The steady state, without chance: a loop and its clients in one thread, which take turns. Each round makes the same
//! calls, so what a round costs can be counted exactly.
//!
//! ```text
//! steady SCENARIO ROUNDS          prints how many frames the loop has sent, and how many system calls the clients have made
//! ```
//!
//! `benches/counts.py --check` runs this under valgrind and strace. The difference between two numbers of rounds is the cost
//! of the steady state: starting and connecting are in both. It is a program of its own, because what the compiler inlines
//! depends on what else is in a program.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use throng::{Config, ConnectionId, EventLoop, Frame, FrameEncoder, Framing, Handler, Net};

/// The number of connections.
const CLIENTS: usize = 50;
const SMALL: usize = 64;
const LARGE: usize = 32 * 1024;

/// What happens in a round.
struct Round {
    /// How many clients send.
    senders: usize,
    /// What each of them sends, in one write.
    sent: Vec<u8>,
    /// How many frames the loop sends.
    frames: u64,
}

impl Round {
    fn new(senders: usize, count: usize, len: usize, copies: usize) -> Result<Self, Problem> {
        let mut frame = Vec::new();
        FrameEncoder::new(Framing::default()).encode(&vec![7; len], &mut frame)?;
        Ok(Self {
            senders,
            sent: frame.repeat(count),
            frames: (senders * count * copies) as u64,
        })
    }
}

type Problem = Box<dyn Error>;

/// Sends each frame back.
struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if let Err(rejected) = net.send_frame(id, frame) {
            eprintln!("{id}: {rejected}");
        }
    }
}

/// Sends each frame to all connections.
struct Broadcast;

impl Handler for Broadcast {
    fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
        net.broadcast(|_| true, frame);
    }
}

fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, rounds] = &arguments[..] else {
        return Err("steady SCENARIO ROUNDS".into());
    };
    let rounds = rounds.parse()?;
    let (frames, calls) = match &scenario[..] {
        "echo-1" => measure(&mut Echo, &Round::new(CLIENTS, 1, SMALL, 1)?, rounds),
        "echo-32" => measure(&mut Echo, &Round::new(CLIENTS, 32, SMALL, 1)?, rounds),
        "echo-large" => measure(&mut Echo, &Round::new(CLIENTS, 1, LARGE, 1)?, rounds),
        // What one client sends, all receive.
        "broadcast" => measure(&mut Broadcast, &Round::new(1, 8, SMALL, CLIENTS)?, rounds),
        _ => Err("no such scenario".into()),
    }?;
    println!("{{\"frames\":{frames},\"client_calls\":{calls}}}");
    Ok(())
}

/// Makes the rounds. Returns how many frames the loop has sent, and how many system calls the clients have made for that.
fn measure<H: Handler>(handler: &mut H, round: &Round, rounds: u32) -> Result<(u64, u64), Problem> {
    let mut event_loop = EventLoop::new(Config::default())?;
    let listener = event_loop.net().listen("127.0.0.1:0")?;
    let addr = event_loop
        .net()
        .listener(listener)
        .and_then(|it| it.local_addr());
    let addr = addr.ok_or("no address")?;
    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        clients.push(TcpStream::connect(addr)?);
        while event_loop.net().connection_count() < clients.len() {
            event_loop.turn(handler, Some(Duration::from_secs(60)))?;
        }
    }
    let mut received = vec![0; round.sent.len()];
    let mut calls = 0;
    for number in 1..=u64::from(rounds) {
        for client in &mut clients[..round.senders] {
            calls += 1;
            if client.write(&round.sent)? < round.sent.len() {
                return Err("a socket did not take what was sent".into());
            }
        }
        measured_turns(&mut event_loop, handler, number * round.frames)?;
        for client in &mut clients {
            let mut rest = &mut received[..];
            while !rest.is_empty() {
                calls += 1;
                match client.read(rest)? {
                    0 => return Err("the loop has closed a connection".into()),
                    read => rest = &mut rest[read..],
                }
            }
            if received != round.sent {
                return Err("a client received something else".into());
            }
        }
    }
    Ok((u64::from(rounds) * round.frames, calls))
}

/// Turns the loop until it has sent so many frames. Valgrind finds this by its name.
#[inline(never)]
fn measured_turns<H: Handler>(
    event_loop: &mut EventLoop<H>,
    handler: &mut H,
    frames: u64,
) -> std::io::Result<()> {
    while event_loop.net().stats().frames_sent < frames {
        event_loop.turn(handler, Some(Duration::from_secs(60)))?;
    }
    Ok(())
}
