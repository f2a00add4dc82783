//! A load generator in a process of its own, which works when it is told to. `compare` has one for each server, so that
//! it can go back and forth between them.
//!
//! It says `ready` when it is connected. Then each line it reads is a number of milliseconds; it loads the server for as
//! long and answers with the frames that came back, the time that took, its own processor time, and the 99th percentile
//! of the latency (0 where the frames are not timed), in nanoseconds.

use std::io::BufRead;
use std::time::Duration;

use crate::load::{self, Load, Pace, Spec};
use crate::problem::Problem;
use crate::process::{Process, Server};
use crate::{report, values};

/// The process itself: works until nobody tells it anything any more.
pub(crate) fn run(options: &load::Options) -> Result<(), Problem> {
    let mut load = Load::connect(&Spec {
        addrs: values::resolve(&options.addr)?,
        connections: options.connections,
        pace: options.pace(),
        size: options.size,
        // Reading the clock for each frame takes its time, where that is what is measured.
        latency: options.rate.is_some(),
        options: options.connect()?,
    })?;
    report::say(format_args!("ready"));
    for line in std::io::stdin().lock().lines() {
        let millis = line?
            .parse()
            .map_err(|_| Problem::usage("expected milliseconds"))?;
        let figures = load.measure(Duration::from_millis(millis))?;
        // They would be taken for those of the next stretch.
        if let Some(1..) = figures.open_loop.map(|outcome| outcome.unanswered) {
            return Err(Problem::failed("the server falls behind the load"));
        }
        report::say(format_args!(
            "{} {} {} {}",
            figures.frames,
            figures.elapsed.as_nanos(),
            figures.own_cpu.unwrap_or_default().as_nanos(),
            figures.quantile(0.99).unwrap_or_default().as_nanos(),
        ));
    }
    Ok(())
}

/// The process as seen from the one that started it.
pub(crate) struct Loader(Process);

/// What one stretch of work came to.
pub(crate) struct Work {
    pub(crate) frames: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    pub(crate) p99: Duration,
}

impl Loader {
    /// Starts one and waits until it is connected.
    pub(crate) fn start(
        server: &Server,
        connections: u32,
        pace: Pace,
        size: u32,
    ) -> Result<Self, Problem> {
        let (option, number) = match pace {
            Pace::InFlight(frames) => ("--pipeline", frames),
            Pace::PerSecond(frames) => ("--rate", frames),
        };
        let mut process = Process::start(&[
            "loader",
            "--addr",
            &server.addr.to_string(),
            "--connections",
            &connections.to_string(),
            option,
            &number.to_string(),
            "--size",
            &size.to_string(),
        ])?;
        while process.hear()? != "ready" {}
        Ok(Self(process))
    }

    pub(crate) fn work(&mut self, length: Duration) -> Result<Work, Problem> {
        self.0.tell(&length.as_millis().to_string())?;
        let line = self.0.hear()?;
        let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[frames, elapsed, cpu, p99]) => Ok(Work {
                frames,
                elapsed: Duration::from_nanos(elapsed),
                cpu: Duration::from_nanos(cpu),
                p99: Duration::from_nanos(p99),
            }),
            _ => Err(Problem::failed(format!("the load generator says {line:?}"))),
        }
    }
}
