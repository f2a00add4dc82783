//! A load generator in a process of its own, which works when it is told to. `compare` has one for each server, so that
//! it can go back and forth between them.
//!
//! It says `ready` when it is connected. Then each line it reads is a number of milliseconds; it loads the server for as
//! long and answers with the frames that came back, the time that took, and its own processor time. To the line `latency` it answers with the median and the 99th percentile of the
//! latency since it was last asked, in nanoseconds, but for those after which the line `forget` came.

use std::io::BufRead;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::load::{self, Figures, Load, Pace, Shape, Spec};
use crate::problem::Problem;
use crate::process::{Process, Server};
use crate::{report, values};

/// Where so many frames are in flight on a connection, only some of them are timed: reading the clock takes time too.
const MANY: u32 = 8;
/// One in so many then. It shares no factor with the usual numbers in flight, so that each place in a batch is timed.
const OF_MANY: u32 = 7;

/// The process itself: works until its input ends.
pub(crate) fn run(options: &load::Options) -> Result<(), Problem> {
    let shape = options.shape()?;
    let mut load = Load::connect(&Spec {
        addrs: values::resolve(&options.addr)?,
        shape,
        time_every: match shape.pace {
            Pace::InFlight(MANY..) => Some(OF_MANY),
            _ => Some(1),
        },
        options: options.connect()?,
    })?;
    report::say(format_args!("ready"));
    let (mut all, mut last) = (None::<Figures>, None::<Figures>);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line == "forget" {
            last = None;
            continue;
        }
        match (&mut all, last.take()) {
            (Some(all), Some(last)) => all.add(&last),
            (None, Some(last)) => all = Some(last),
            (_, None) => {}
        }
        if line == "latency" {
            let all = all.take();
            let quantile = |it| all.as_ref().and_then(|all| all.quantile(it));
            let [p50, p99] = [0.5, 0.99].map(|it| quantile(it).unwrap_or_default());
            report::say(format_args!("{} {}", p50.as_nanos(), p99.as_nanos()));
            continue;
        }
        let millis = line
            .parse()
            .map_err(|_| Problem::usage("expected milliseconds"))?;
        let figures = load.measure(Duration::from_millis(millis))?;
        // They would be taken for those of the next stretch.
        if let Some(1..) = figures.open_loop.map(|outcome| outcome.unanswered) {
            return Err(Problem::failed("the server falls behind the load"));
        }
        report::say(format_args!(
            "{} {} {}",
            figures.frames,
            figures.elapsed.as_nanos(),
            figures.own_cpu.unwrap_or_default().as_nanos(),
        ));
        last = Some(figures);
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
}

impl Loader {
    /// Starts one and waits until it is connected.
    pub(crate) fn start(server: &Server, shape: Shape) -> Result<Self, Problem> {
        let (option, number) = match shape.pace {
            Pace::InFlight(frames) => ("--pipeline", frames),
            Pace::PerSecond(frames) => ("--rate", frames),
        };
        let traffic = shape.kind.to_possible_value();
        let traffic = traffic.as_ref().map_or("echo", PossibleValue::get_name);
        let active = shape.active.map(|active| active.to_string());
        let (addr, connections) = (server.addr.to_string(), shape.connections.to_string());
        let (number, size) = (number.to_string(), shape.size.to_string());
        let mut arguments = vec!["loader", "--addr", &addr, "--connections", &connections];
        arguments.extend([option, &number, "--size", &size, "--traffic", traffic]);
        if let Some(active) = &active {
            arguments.extend(["--active", active]);
        }
        let mut process = Process::start(&arguments)?;
        while process.hear()? != "ready" {}
        Ok(Self(process))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    pub(crate) fn work(&mut self, length: Duration) -> Result<Work, Problem> {
        let [frames, elapsed, cpu] = self.ask(&length.as_millis().to_string())?;
        Ok(Work {
            frames,
            elapsed: Duration::from_nanos(elapsed),
            cpu: Duration::from_nanos(cpu),
        })
    }

    /// Leaves the last stretch of work out of the [latency](Self::latency).
    pub(crate) fn forget(&mut self) -> Result<(), Problem> {
        self.0.tell("forget")
    }

    /// The median and the 99th percentile of the latency since this was last asked.
    pub(crate) fn latency(&mut self) -> Result<[Duration; 2], Problem> {
        Ok(self.ask("latency")?.map(Duration::from_nanos))
    }

    fn ask<const N: usize>(&mut self, line: &str) -> Result<[u64; N], Problem> {
        self.0.tell(line)?;
        let line = self.0.hear()?;
        let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        let numbers = numbers.ok().and_then(|numbers| numbers.try_into().ok());
        numbers.ok_or_else(|| Problem::failed(format!("the load generator says {line:?}")))
    }
}
