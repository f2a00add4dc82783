//! A soak: for minutes, clients of all kinds use one server at the same time, and check every byte. The server has few
//! descriptors, and runs out of them again and again.
//!
//! It is done in cycles. At the end of each, all clients have left: the server must have no connection, no memory and no
//! descriptor of them any more, and its heap must not grow from cycle to cycle.

mod clients;
mod crowd;
mod metrics;
mod server;
mod wire;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::problem::Problem;
use crate::process::Server;
use crate::report::{self, grouped};
use crate::usage;
use crate::values::minutes;
use metrics::{Control, DISCONNECTS, PAUSES};
use wire::Random;

pub(crate) use server::{Options as ServerOptions, run as serve};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For how long; the last cycle is finished.
    #[arg(long, default_value = "1", value_parser = minutes)]
    minutes: Duration,
    /// Decides what the clients send and when they leave. The order of events is up to the system.
    #[arg(long)]
    seed: Option<u64>,
}

/// The descriptors that the server may have.
const DESCRIPTORS: u32 = 256;
const CYCLE: Duration = Duration::from_secs(20);
/// No socket is waited for longer, and no end.
const PATIENCE: Duration = Duration::from_secs(180);
/// What the heap of the server may have grown by at the end of a cycle, since the end of the first.
const GROWTH: u64 = 16 << 20;

/// What the clients have seen, or one of them.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    connections: u64,
    frames: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

/// What a client works with.
struct Work<'c> {
    addr: std::net::SocketAddr,
    random: Random,
    until: Instant,
    /// Another client has failed.
    failed: &'c AtomicBool,
}

impl Work<'_> {
    /// Returns whether there is time left.
    fn goes_on(&self) -> bool {
        Instant::now() < self.until && !self.failed.load(Ordering::Relaxed)
    }
}

type Client = fn(Work<'_>) -> Result<Tally, Problem>;

/// Each client, with its name and how many there are of it.
const CLIENTS: [(&str, usize, Client); 8] = [
    ("echo", 3, clients::echo),
    ("large frames", 1, clients::large_frames),
    ("slow reader", 2, clients::slow_reader),
    ("churn", 3, crowd::churn),
    ("broadcast", 2, crowd::broadcast),
    ("relay", 2, clients::relay),
    ("kick", 2, crowd::kick),
    ("descriptors", 1, crowd::exhaust_descriptors),
];

pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    let seed = options.seed.unwrap_or_else(|| {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        time.map_or(1, |time| time.as_nanos() as u64)
    });
    report::say(format_args!("seed {seed}"));
    let limit = format!("ulimit -n {DESCRIPTORS}");
    let mut server = Server::start_with("soak-server", &[], Some(&limit))?;
    let mut control = Control::connect(server.addr)?;
    control.expect_quiet()?;
    let descriptors = usage::descriptors(server.pid());

    let began = Instant::now();
    let mut random = Random::new(seed);
    let mut all = Tally::default();
    let (mut first_heap, mut heap, mut cycles) = (None, None, 0);
    while began.elapsed() < options.minutes {
        let time = CYCLE.min(options.minutes);
        let cycle = cycle(server.addr, &mut random, Instant::now() + time);
        server.expect_alive()?;
        match cycle {
            Ok(tally) => all.add(tally),
            Err(problem) => {
                // The server may know why.
                let causes = control.ask()?.labelled(DISCONNECTS);
                let known = metrics::expect_known(&causes);
                let more = known.map_or_else(|known| format!("; {known}"), |()| String::new());
                return Err(Problem::failed(format!("seed {seed}: {problem}{more}")));
            }
        }
        cycles += 1;
        let stats = control.expect_quiet()?;
        let left = usage::descriptors(server.pid());
        if left != descriptors {
            return Err(Problem::failed(format!(
                "descriptors are left open: {left:?}, at the beginning {descriptors:?}"
            )));
        }
        // Memory without use is returned after a second or two.
        if options.minutes > CYCLE {
            std::thread::sleep(Duration::from_secs(3));
        }
        heap = usage::anonymous_bytes(server.pid());
        first_heap = first_heap.or(heap);
        report::say(format_args!(
            "{:>5} s  {} connections, {} frames, {} MiB checked; heap {} KiB; {} pauses of accepting",
            began.elapsed().as_secs(),
            grouped(all.connections),
            grouped(all.frames),
            grouped(all.bytes >> 20),
            grouped(heap.unwrap_or(0) >> 10),
            stats.value(PAUSES),
        ));
        if heap
            .zip(first_heap)
            .is_some_and(|(now, first)| now > first + GROWTH)
        {
            return Err(Problem::failed(format!(
                "the heap has grown from {first_heap:?} to {heap:?} bytes"
            )));
        }
    }
    let stats = control.expect_quiet()?;
    let causes = stats.labelled(DISCONNECTS);
    for (cause, ended) in causes.iter().filter(|(_, ended)| *ended > 0) {
        report::say(format_args!("{:>9}  ended: {cause}", grouped(*ended)));
    }
    metrics::expect_known(&causes)?;
    report::write_json(
        json,
        &json!({
            "seed": seed,
            "seconds": began.elapsed().as_secs_f64(),
            "cycles": cycles,
            "connections": all.connections,
            "frames": all.frames,
            "bytes": all.bytes,
            "first_heap": first_heap,
            "heap": heap,
            "accept_pauses": stats.value(PAUSES),
            "disconnects": causes.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        }),
    )
}

/// Lets all clients work until the time is up.
fn cycle(
    addr: std::net::SocketAddr,
    random: &mut Random,
    until: Instant,
) -> Result<Tally, Problem> {
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (name, count, client) in CLIENTS {
            for _ in 0..count {
                let work = Work {
                    addr,
                    random: Random::new(random.next()),
                    until,
                    failed: &failed,
                };
                let failed = &failed;
                let thread = scope.spawn(move || {
                    let outcome = client(work);
                    failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                    outcome
                });
                threads.push((name, thread));
            }
        }
        let mut all = Tally::default();
        let mut problems = Vec::new();
        for (name, thread) in threads {
            match thread.join() {
                Ok(Ok(tally)) => all.add(tally),
                Ok(Err(problem)) => problems.push(format!("{name}: {problem}")),
                Err(_) => problems.push(format!("{name}: a client panicked")),
            }
        }
        match problems.is_empty() {
            true => Ok(all),
            false => Err(Problem::failed(problems.join("; "))),
        }
    })
}
