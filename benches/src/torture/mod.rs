//! What peers on the internet do to a server, done to one that runs in a process of its own, and whether it bears it: each
//! case has its bounds, and the program fails if one is not kept.
//!
//! The server has a processor to itself. What attacks it shares the other one with those who measure, and gives way to them.

mod descriptors;
mod firehoses;
mod giants;
mod liars;
mod never_reads;
mod slowloris;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;

use crate::cli::{Case, TortureOptions};
use crate::load::Pace;
use crate::loader::Loader;
use crate::problem::Problem;
use crate::process::Server;
use crate::report;
use crate::{limits, pin, usage};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// No socket is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(options: &TortureOptions, json: Option<&Path>) -> Result<(), Problem> {
    let cases = if options.cases.is_empty() {
        Case::value_variants()
    } else {
        &options.cases
    };
    let processors = pin::two_processors();
    if let Some((_, load)) = processors {
        pin::pin(0, load);
    }
    let bench = Bench {
        quick: options.quick,
        processor: processors.map(|(server, _)| server),
    };
    let mut verdicts = Vec::new();
    for case in cases {
        let found = match case {
            Case::NeverReads => never_reads::run(&bench),
            Case::Liars => liars::run(&bench),
            Case::Giants => giants::run(&bench),
            Case::Slowloris => slowloris::run(&bench),
            Case::Descriptors => descriptors::run(&bench),
            Case::Firehoses => firehoses::run(&bench),
        }?;
        let name = case.to_possible_value();
        let name = name.as_ref().map_or("", |value| value.get_name());
        for verdict in found {
            report::say(format_args!("{name:<14}{verdict}"));
            verdicts.push((name.to_string(), verdict));
        }
    }
    let rows = verdicts.iter().map(|(case, verdict)| {
        json!({
            "case": case,
            "what": verdict.what,
            "seen": verdict.seen,
            "bound": verdict.bound,
            "unit": verdict.unit,
            "kept": verdict.is_kept(),
        })
    });
    let rows: Vec<_> = rows.collect();
    report::write_json(json, &json!({ "quick": options.quick, "bounds": rows }))?;
    let broken = verdicts.iter().filter(|(_, verdict)| !verdict.is_kept());
    match broken.count() {
        0 => Ok(()),
        count => Err(Problem::failed(format!(
            "{count} of {} bounds were not kept",
            verdicts.len()
        ))),
    }
}

/// A bound, and what was seen.
#[derive(Debug)]
struct Verdict {
    what: String,
    seen: f64,
    bound: f64,
    unit: &'static str,
    /// More is better.
    is_least: bool,
}

impl Verdict {
    /// Not more than `bound`.
    fn at_most(what: impl Into<String>, seen: f64, bound: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            seen,
            bound,
            unit,
            is_least: false,
        }
    }

    /// Not less than `bound`.
    fn at_least(what: impl Into<String>, seen: f64, bound: f64, unit: &'static str) -> Self {
        Self {
            is_least: true,
            ..Self::at_most(what, seen, bound, unit)
        }
    }

    fn memory(what: impl Into<String>, seen: u64, bound: u64) -> Self {
        let mebibytes = |bytes| bytes as f64 / MIB as f64;
        Self::at_most(what, mebibytes(seen), mebibytes(bound), "MiB")
    }

    fn is_kept(&self) -> bool {
        if self.is_least {
            self.seen >= self.bound
        } else {
            self.seen <= self.bound
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, unit) = (&self.what, self.unit);
        let relation = if self.is_least { "least" } else { "most" };
        write!(f, "{what:<54} {:>9.2} {unit}", self.seen)?;
        if self.bound.is_infinite() {
            return f.write_str(", not judged");
        }
        let outcome = if self.is_kept() { "kept" } else { "NOT KEPT" };
        write!(f, ", at {relation} {:.2}: {outcome}", self.bound)
    }
}

/// Where the cases run.
struct Bench {
    quick: bool,
    /// That of the servers.
    processor: Option<usize>,
}

impl Bench {
    fn serve(&self, settings: &[&str]) -> Result<Server, Problem> {
        self.serve_after(None, settings)
    }

    fn serve_after(&self, shell: Option<&str>, settings: &[&str]) -> Result<Server, Problem> {
        let server = Server::start_with("serve", settings, shell)?;
        if let Some(processor) = self.processor {
            server.pin(processor);
        }
        Ok(server)
    }

    /// A number of bytes, or a small part of it.
    fn bytes(&self, bytes: u64) -> u64 {
        if self.quick { bytes / 64 } else { bytes }
    }

    /// A time, or a part of it.
    fn time(&self, seconds: u64) -> Duration {
        let all = Duration::from_secs(seconds);
        if self.quick { all / 8 } else { all }
    }

    /// A number of connections, as far as the limit on open files allows that many beside others.
    fn connections(&self, connections: u32, others: u32) -> u32 {
        limits::fit_beside(connections, 1, others)
    }

    /// The 99th percentile of the latency that a thousand connections see which send at a fixed rate, without an attack and
    /// under it: medians of several rounds, in turn.
    fn disturbance(
        &self,
        server: &Server,
        mut attack: impl FnMut(bool) -> Result<(), Problem>,
    ) -> Result<(Duration, Duration), Problem> {
        // They are in a process of their own.
        let pingers = self.connections(1000, 0);
        let mut pinger = Loader::start(server, pingers, Pace::PerSecond(5000), 64)?;
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
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// How an attack changed a latency. A quick look at it is not enough to judge.
fn slowdown(bench: &Bench, what: &str, (calm, under): (Duration, Duration), bound: f64) -> Verdict {
    let bound = if bench.quick { f64::INFINITY } else { bound };
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let ratio = under.as_secs_f64() / calm.as_secs_f64().max(1e-9);
    let what = format!(
        "{what} (p99 {:.0} µs, without it {:.0})",
        micros(under),
        micros(calm)
    );
    Verdict::at_most(what, ratio, bound, "times")
}

/// The most memory a process has while this lives.
struct Peak {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    before: u64,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    fn watch(server: &Server) -> Result<Self, Problem> {
        let pid = server.pid();
        let before = usage::anonymous_bytes(pid)
            .ok_or_else(|| Problem::failed("this system does not tell how much memory is used"))?;
        let (stop, most) = (Arc::default(), Arc::new(AtomicU64::new(before)));
        let (stopped, noted): (Arc<AtomicBool>, _) = (Arc::clone(&stop), Arc::clone(&most));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                noted.fetch_max(usage::anonymous_bytes(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Ok(Self {
            stop,
            most,
            before,
            thread: Some(thread),
        })
    }

    /// All of it.
    fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// What has been added since the beginning.
    fn growth(&self) -> u64 {
        self.most() - self.before
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_kept_up_to_itself_in_either_direction() {
        let most = |seen| Verdict::at_most("peers left", seen, 2.0, "peers");
        let least = |seen| Verdict::at_least("peers served", seen, 2.0, "peers");
        assert!(most(2.0).is_kept() && !most(2.1).is_kept());
        assert!(least(2.0).is_kept() && !least(1.9).is_kept());
        assert!(
            most(f64::NAN)
                .to_string()
                .ends_with("at most 2.00: NOT KEPT")
        );
    }
}
