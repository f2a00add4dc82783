//! Where the cases run, and what they measure.

use std::time::Duration;

use super::verdict::Verdict;
use crate::load::{Pace, Shape};
use crate::loader::Loader;
use crate::problem::Problem;
use crate::process::Server;
use crate::{limits, pin};

/// No socket is waited for longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long is measured at a time. Others take the processor of the server a few times per second.
const STRETCH: Duration = Duration::from_millis(100);

/// Where the cases run.
pub(super) struct Bench {
    pub(super) quick: bool,
    /// That of the servers, and that of the others.
    pub(super) processors: Option<(usize, usize)>,
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
        if let Some((processor, _)) = self.processors {
            server.pin(processor);
        }
        Ok(server)
    }

    /// A server on the processor of the attackers, which yields to the clients that measure as the attackers do. It reads as
    /// little at a time as they do.
    pub(super) fn serve_aside(&self) -> Result<Server, Problem> {
        let settings = ["--read-buffer", "32KiB", "--read-budget", "32KiB"];
        let server = Server::start_with("serve", &settings, None)?;
        if let Some((_, processor)) = self.processors {
            server.pin(processor);
        }
        pin::yield_to_all(server.pid());
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
        pin::precede_all(pinger.pid());
        pinger.work(self.time(1))?;
        pinger.forget()?;
        let (mut calm, mut under) = (Vec::new(), Vec::new());
        for _ in 0..if self.quick { 1 } else { 5 } {
            calm.push(self.undisturbed(server, &mut pinger)?);
            attack(true)?;
            under.push(self.undisturbed(server, &mut pinger)?);
            attack(false)?;
        }
        Ok((median(calm), median(under)))
    }

    /// The 99th percentile of the latency while no other process had the server's processor for long. The system gives it
    /// to them for some milliseconds at a time, even if the server has a far higher priority, and the more often the busier
    /// the server is. If nearly all stretches are like that, some of them count.
    fn undisturbed(&self, server: &Server, pinger: &mut Loader) -> Result<Duration, Problem> {
        let stretches = self.time(3).as_millis() / STRETCH.as_millis();
        let (least, mut counted) = (stretches / 6, 0);
        for left in (0..4 * stretches).rev() {
            let before = server.waits();
            pinger.work(STRETCH)?;
            let waits = before.zip(server.waits());
            let is_disturbed = waits.is_some_and(|(before, after)| after.are_long_since(before));
            if is_disturbed && counted + left >= least {
                pinger.forget()?;
                continue;
            }
            counted += 1;
            if counted == stretches {
                break;
            }
        }
        let [_, p99] = pinger.latency()?;
        Ok(p99)
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
