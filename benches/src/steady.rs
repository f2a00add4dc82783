//! The steady state, without chance: a loop and its clients in one thread, which take turns. Each round makes the same
//! calls, so what a round costs can be counted exactly.
//!
//! `benches/counts.py --check` runs this under valgrind and strace. The difference between two numbers of rounds is the cost
//! of the steady state: starting and connecting are in both.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use throng::{Config, EventLoop, FrameEncoder, Framing, Handler};

use crate::modes::{Broadcast, Echo};
use crate::problem::Problem;
use crate::report;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What the clients send, and what comes of it.
    #[arg(value_enum)]
    scenario: Scenario,
    /// How many rounds.
    #[arg(long, default_value_t = 100)]
    rounds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Each client sends a frame of 64 bytes, and receives it.
    #[value(name = "echo-1")]
    Echo1,
    /// Each client sends 32 frames of 64 bytes, and receives them.
    #[value(name = "echo-32")]
    Echo32,
    /// Each client sends a frame of 32 KiB, and receives it.
    EchoLarge,
    /// One client sends 8 frames of 64 bytes, and all receive them.
    Broadcast,
}

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

impl Scenario {
    fn round(self) -> Result<Round, Problem> {
        let (senders, count, len, copies) = match self {
            Self::Echo1 => (CLIENTS, 1, SMALL, 1),
            Self::Echo32 => (CLIENTS, 32, SMALL, 1),
            Self::EchoLarge => (CLIENTS, 1, LARGE, 1),
            Self::Broadcast => (1, 8, SMALL, CLIENTS),
        };
        let mut frame = Vec::new();
        FrameEncoder::new(Framing::default())
            .encode(&vec![7; len], &mut frame)
            .map_err(|error| Problem::failed(error.to_string()))?;
        Ok(Round {
            senders,
            sent: frame.repeat(count),
            frames: (senders * count * copies) as u64,
        })
    }
}

pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    let round = options.scenario.round()?;
    let (frames, calls) = match options.scenario {
        Scenario::Broadcast => measure(&mut Broadcast, &round, options.rounds),
        Scenario::Echo1 | Scenario::Echo32 | Scenario::EchoLarge => {
            measure(&mut Echo, &round, options.rounds)
        }
    }?;
    report::say(format_args!("{frames} frames in {} rounds", options.rounds));
    report::write_json(json, &json!({ "frames": frames, "client_calls": calls }))
}

/// Makes the rounds. Returns how many frames the loop has sent, and how many system calls the clients have made for that.
fn measure<H: Handler>(handler: &mut H, round: &Round, rounds: u32) -> Result<(u64, u64), Problem> {
    let mut event_loop = EventLoop::new(Config::default())?;
    let listener = event_loop.net().listen("127.0.0.1:0");
    let listener = listener.map_err(std::io::Error::from)?;
    let addr = event_loop.net().local_addr(listener);
    let addr = addr.ok_or_else(|| Problem::failed("no address"))?;
    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        clients.push(TcpStream::connect(addr)?);
        while event_loop.net().len() < clients.len() {
            event_loop.turn(handler, Some(Duration::from_secs(60)))?;
        }
    }
    let mut received = vec![0; round.sent.len()];
    let mut calls = 0;
    for number in 1..=u64::from(rounds) {
        for client in &mut clients[..round.senders] {
            calls += 1;
            if client.write(&round.sent)? < round.sent.len() {
                return Err(Problem::failed("a socket did not take what was sent"));
            }
        }
        measured_turns(&mut event_loop, handler, number * round.frames)?;
        for client in &mut clients {
            let mut rest = &mut received[..];
            while !rest.is_empty() {
                calls += 1;
                match client.read(rest)? {
                    0 => return Err(Problem::failed("the loop has closed a connection")),
                    read => rest = &mut rest[read..],
                }
            }
            if received != round.sent {
                return Err(Problem::failed("a client received something else"));
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
