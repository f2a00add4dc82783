//! Clients that send much: on one connection, or through the server to each other.

use std::net::Shutdown;
use std::time::Duration;

use super::server::{ECHO, RELAY};
use super::wire::{Random, Wire};
use super::{Tally, Work};
use crate::problem::Problem;

/// How one direction of a stream is used.
#[derive(Clone, Copy)]
struct Flow {
    /// How many frames at most.
    frames: u64,
    /// The longest frame, in bytes.
    longest: u64,
    /// How long the reader pauses now and then.
    pause: Duration,
}

/// Sends frames until there are enough, or the time is up, and one that says that it was the last. Closes its side.
fn write(mut wire: Wire, seed: u64, flow: Flow, work: &Work<'_>) -> Result<(), Problem> {
    let mut random = Random::new(seed);
    let mut sent = 0;
    while sent < flow.frames && work.goes_on() {
        let burst = 1 + random.below(8);
        let payloads: Vec<_> = (0..burst).map(|_| random.frame(flow.longest)).collect();
        wire.send_all(payloads.iter().map(Vec::as_slice))?;
        sent += burst;
    }
    wire.send(LAST)?;
    wire.0.shutdown(Shutdown::Write)?;
    Ok(())
}

const LAST: &[u8] = b"this was the last frame of this stream";

/// Receives what [`write`](write()) has sent with the same seed.
fn read(mut wire: Wire, seed: u64, flow: Flow) -> Result<Tally, Problem> {
    let mut random = Random::new(seed);
    let mut pauses = Random::new(seed ^ 1);
    let mut tally = Tally {
        connections: 1,
        ..Tally::default()
    };
    loop {
        let burst = 1 + random.below(8);
        for number in 0..burst {
            let payload = wire.receive()?;
            let payload = payload.ok_or_else(|| Problem::failed("a stream has no last frame"))?;
            tally.frames += 1;
            tally.bytes += payload.len() as u64 + 4;
            // It comes instead of a burst.
            if number == 0 && payload == LAST {
                wire.expect_end()?;
                return Ok(tally);
            }
            if payload != random.frame(flow.longest) {
                return Err(Problem::failed(format!(
                    "frame {} of a stream has changed",
                    tally.frames
                )));
            }
        }
        if !flow.pause.is_zero() && pauses.below(50) == 0 {
            std::thread::sleep(flow.pause);
        }
    }
}

/// Sends and receives at the same time: what is written to `to` arrives at `from`.
fn stream(
    to: &Wire,
    from: &Wire,
    seed: u64,
    flow: Flow,
    work: &Work<'_>,
) -> Result<Tally, Problem> {
    let (to, from) = (Wire(to.0.try_clone()?), Wire(from.0.try_clone()?));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(to, seed, flow, work));
        let tally = read(from, seed, flow);
        let written = writer.join();
        written.unwrap_or_else(|_| Err(Problem::failed("a writer panicked")))?;
        tally
    })
}

fn echo_as(mut work: Work<'_>, flow: Flow) -> Result<Tally, Problem> {
    let mut all = Tally::default();
    while work.goes_on() {
        let wire = Wire::connect(work.addr, ECHO, 0)?;
        let seed = work.random.next();
        all.add(stream(&wire, &wire, seed, flow, &work)?);
    }
    Ok(all)
}

pub(super) fn echo(work: Work<'_>) -> Result<Tally, Problem> {
    echo_as(
        work,
        Flow {
            frames: 20_000,
            longest: 64 << 10,
            pause: Duration::ZERO,
        },
    )
}

/// Frames that the server does not hold, and some that it does.
pub(super) fn large_frames(work: Work<'_>) -> Result<Tally, Problem> {
    echo_as(
        work,
        Flow {
            frames: 1000,
            longest: 32 << 20,
            pause: Duration::ZERO,
        },
    )
}

/// Reads more slowly than it sends: the server has to stop reading, and to go on.
pub(super) fn slow_reader(work: Work<'_>) -> Result<Tally, Problem> {
    echo_as(
        work,
        Flow {
            frames: 5000,
            longest: 512 << 10,
            pause: Duration::from_millis(200),
        },
    )
}

/// Two connections that the server connects with each other; each sends to the other at the same time.
pub(super) fn relay(mut work: Work<'_>) -> Result<Tally, Problem> {
    let mut all = Tally::default();
    while work.goes_on() {
        let number = work.random.next();
        let mut one = Wire::connect(work.addr, RELAY, number)?;
        let mut other = Wire::connect(work.addr, RELAY, number)?;
        // The server takes a peer for gone that has closed its side before it has a partner.
        one.send(b"are you there?")?;
        other.expect(b"are you there?")?;
        let flow = Flow {
            frames: 3000,
            longest: 1 << 20,
            pause: Duration::from_millis(work.random.below(2) * 100),
        };
        let (there, back) = (work.random.next(), work.random.next());
        let tallies = std::thread::scope(|scope| {
            let there = scope.spawn(|| stream(&one, &other, there, flow, &work));
            let back = stream(&other, &one, back, flow, &work);
            let there = there.join();
            (
                there.unwrap_or_else(|_| Err(Problem::failed("a stream panicked"))),
                back,
            )
        });
        all.add(tallies.0?);
        all.add(tallies.1?);
    }
    Ok(all)
}
