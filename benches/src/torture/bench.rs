//! Where the cases run, and what they measure.

use std::time::Duration;

use super::verdict::Verdict;
use crate::limits;
use crate::load::{Pace, Shape};
use crate::loader::Loader;
use crate::problem::Problem;
use crate::process::Server;

/// No socket is waited for longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the cases run.
pub(super) struct Bench {
    pub(super) quick: bool,
    /// That of the servers.
    pub(super) processor: Option<usize>,
}

impl Bench {
    pub(super) fn serve(&self, settings: &[&str]) -> Result<Server, Problem> {
        self.serve_after(None, settings)
    }

    pub(super) fn serve_after(
        &self,
        shell: Option<&str>,
        settings: &[&str],
    ) -> Result<Server, Problem> {
        let server = Server::start_with("serve", settings, shell)?;
        if let Some(processor) = self.processor {
            server.pin(processor);
        }
        Ok(server)
    }

    /// A number of bytes, or a small part of it.
    pub(super) fn bytes(&self, bytes: u64) -> u64 {
        if self.quick { bytes / 64 } else { bytes }
    }

    /// A time, or a part of it.
    pub(super) fn time(&self, seconds: u64) -> Duration {
        let all = Duration::from_secs(seconds);
        if self.quick { all / 8 } else { all }
    }

    /// A number of connections, as far as the limit on open files allows that many beside others.
    pub(super) fn connections(&self, connections: u32, others: u32) -> u32 {
        limits::fit_beside(connections, 1, others)
    }

    /// The 99th percentile of the latency that a thousand connections see which send at a fixed rate, without an attack and
    /// under it: medians of several rounds, in turn.
    pub(super) fn disturbance(
        &self,
        server: &Server,
        mut attack: impl FnMut(bool) -> Result<(), Problem>,
    ) -> Result<(Duration, Duration), Problem> {
        // They are in a process of their own.
        let pingers = self.connections(1000, 0);
        let mut pinger = Loader::start(server, Shape::echo(pingers, Pace::PerSecond(5000), 64))?;
        pinger.work(self.time(1))?;
        let (mut calm, mut under) = (Vec::new(), Vec::new());
        for _ in 0..if self.quick { 1 } else { 5 } {
            calm.push(pinger.work(self.time(3))?.p99);
            attack(true)?;
            under.push(pinger.work(self.time(3))?.p99);
            attack(false)?;
        }
        Ok((median(calm), median(under)))
    }

    /// How an attack changed a latency. A quick look at it is not enough to judge.
    pub(super) fn slowdown(
        &self,
        what: &str,
        (calm, under): (Duration, Duration),
        bound: f64,
    ) -> Verdict {
        let bound = if self.quick { f64::INFINITY } else { bound };
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let ratio = under.as_secs_f64() / calm.as_secs_f64().max(1e-9);
        let what = format!(
            "{what} (p99 {:.0} µs, without it {:.0})",
            micros(under),
            micros(calm)
        );
        Verdict::at_most(what, ratio, bound, "times")
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
