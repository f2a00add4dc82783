//! A round: every system started afresh, twice, and loaded in turn.

use std::time::{Duration, Instant};

use super::cell::{Cell, Work};
use super::system::System;
use crate::loader::Loader;
use crate::problem::Problem;
use crate::process::Server;
use crate::{pin, usage};

/// How long, and where, each system is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    /// Load before the measurement, so that buffers and caches are as they will be.
    pub(super) warm_up: Duration,
    /// Of each system in each round.
    pub(super) length: Duration,
    /// Whether each round is measured a second time, with the systems started in the opposite order.
    pub(super) both_orders: bool,
    /// One for the servers, one for the load.
    pub(super) processors: Option<(usize, usize)>,
}

/// Before each slice goes this part of its length, which is not measured.
const LEAD_IN: u32 = 5;

/// What was measured of one system.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// One for each pass, in which every system is loaded for a slice of time.
    pub(super) slices: Vec<Slice>,
    /// The median and the 99th percentile, one for each time it was started.
    pub(super) latencies: Vec<[Duration; 2]>,
    /// Memory of each idle connection, one for each time it was started.
    pub(super) idle_bytes: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    frames: u64,
    cpu: Duration,
    elapsed: Duration,
    load_cpu: Duration,
}

impl Slice {
    pub(super) fn frames_per_cpu_second(&self) -> f64 {
        self.frames as f64 / self.cpu.as_secs_f64().max(1e-9)
    }

    /// How busy the load generator's processor was, from 0 to 1.
    pub(super) fn load_share(&self) -> f64 {
        self.load_cpu.as_secs_f64() / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Measures a cell, in all rounds.
///
/// Half of a round, if it has two, is with the systems started in their order, half with the last one first: with ten thousand
/// connections it makes a difference of several percent whose sockets the kernel has made first.
pub(super) fn measure(
    systems: &[System],
    cell: &Cell,
    plan: &Plan,
) -> Result<Vec<Measured>, Problem> {
    let mut measured = vec![Measured::default(); systems.len()];
    let orders = if plan.both_orders {
        &[false, true][..]
    } else {
        &[false]
    };
    let length = plan.length / orders.len() as u32;
    let slice = cell.slice().min(length);
    let passes = length.as_nanos().div_ceil(slice.as_nanos());
    for _ in 0..plan.rounds {
        for &is_reversed in orders {
            let mut order: Vec<usize> = (0..systems.len()).collect();
            if is_reversed {
                order.reverse();
            }
            let mut running = Vec::new();
            for which in order {
                let system = &systems[which];
                let started = Running::start(system, cell, plan).map_err(|problem| {
                    Problem::failed(format!("{}, {cell}: {problem}", system.name))
                })?;
                running.push((which, started));
            }
            for pass in 0..passes as usize {
                for turn in 0..running.len() {
                    // The order changes too.
                    let next = (turn + pass) % running.len();
                    let (which, system) = &mut running[next];
                    measured[*which].slices.push(system.work(slice)?);
                }
            }
            for (which, mut system) in running {
                measured[which].latencies.push(system.loader.latency()?);
                measured[which].idle_bytes.extend(system.idle_bytes);
            }
        }
    }
    Ok(measured)
}

/// A server and its load.
struct Running {
    server: Server,
    loader: Loader,
    idle_bytes: Option<f64>,
}

impl Running {
    fn start(system: &System, cell: &Cell, plan: &Plan) -> Result<Self, Problem> {
        // A process begins where the one that starts it is, with all its threads.
        if let Some((processor, _)) = plan.processors {
            pin::pin(0, processor);
        }
        let server = system.start(cell);
        if let Some((_, processor)) = plan.processors {
            pin::pin(0, processor);
        }
        let server = server?;
        let before = usage::anonymous_bytes(server.pid());
        let mut loader = Loader::start(&server, cell.shape())?;
        let after = (cell.work == Work::Idle).then(|| settled_bytes(server.pid()));
        let idle_bytes = after.flatten().zip(before).map(|(after, before)| {
            after.saturating_sub(before) as f64 / f64::from(cell.connections)
        });
        loader.work(plan.warm_up)?;
        loader.latency()?;
        Ok(Self {
            server,
            loader,
            idle_bytes,
        })
    }

    /// Works for a moment before it is measured: what was idle has cold caches, and may have released memory.
    fn work(&mut self, slice: Duration) -> Result<Slice, Problem> {
        self.loader.work(slice / LEAD_IN)?;
        let before = self.cpu()?;
        let work = self.loader.work(slice)?;
        Ok(Slice {
            frames: work.frames,
            cpu: self.cpu()? - before,
            elapsed: work.elapsed,
            load_cpu: work.cpu,
        })
    }

    fn cpu(&self) -> Result<Duration, Problem> {
        usage::cpu_time(self.server.pid()).ok_or_else(|| {
            Problem::failed("this system does not tell the processor time of a process")
        })
    }
}

/// The memory of a process that has had time to accept all connections: it has stopped to use its processor.
fn settled_bytes(pid: u32) -> Option<u64> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + PATIENCE;
    let mut cpu = usage::cpu_time(pid);
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = usage::cpu_time(pid);
        if now == cpu || Instant::now() > deadline {
            return usage::anonymous_bytes(pid);
        }
        cpu = now;
    }
}
