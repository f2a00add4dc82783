//! The comparison: the same work against several servers, in turn, with ratios.
//!
//! The figure is frames per second of the server's processor time, which does not depend on how fast the load is. In each
//! round every server is started afresh, twice, bound to one processor, with a load generator of its own on another. Then they
//! work in turn, a slice of time each, again and again, so that a machine that slows down slows all of them; a server
//! that is not loaded uses no processor. The ratio is formed within a round.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::load::Pace;
use crate::loader::Loader;
use crate::problem::Problem;
use crate::process::Server;
use crate::report::{self, grouped};
use crate::values::seconds;
use crate::{limits, pin, usage};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each server is measured in each cell.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The exit code is 1 if a cell's ratio is below this (large frames: below 0.80, if that is less).
    #[arg(long)]
    floor: Option<f64>,
    /// Compares the ways to embed the loop with `EventLoop::run`, instead of the loop with its peers.
    #[arg(long)]
    drivers: bool,
    /// Only these cells, as CONNECTIONS_PIPELINE_SIZE.
    #[arg(long, value_delimiter = ',', value_parser = Cell::parse)]
    cells: Vec<Cell>,
    /// How long each measurement lasts.
    #[arg(long, default_value = "1.5", value_parser = seconds)]
    seconds: Duration,
}

/// Who takes part: a name, and the words that make it serve. The last is what the others are measured by, and the lowest
/// of their ratios is judged.
type Contestants = [(&'static str, &'static [&'static str])];

const PEERS: &Contestants = &[("throng", &["serve"]), ("raw epoll", &["yardstick"])];

const DRIVERS: &Contestants = &[
    ("turn, outer", &["serve", "--driver", "outer"]),
    ("attached", &["serve", "--driver", "attached"]),
    ("run", &["serve", "--driver", "run"]),
];

/// Load before the measurement, so that buffers and caches are as they will be.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long one server is loaded before the next has its turn.
const SLICE: Duration = Duration::from_millis(100);
/// From this many bytes on a frame is large, and judged by the floor below.
const LARGE_FROM: u32 = 256 * 1024;
const LARGE_FLOOR: f64 = 0.80;

/// A shape of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    connections: u32,
    pipeline: u32,
    size: u32,
}

/// What is measured unless cells are named.
const CELLS: [Cell; 5] = [
    Cell::new(50, 32, 64),
    Cell::new(1_000, 1, 64),
    Cell::new(10_000, 1, 64),
    Cell::new(10_000, 8, 64),
    Cell::new(4, 1, 1 << 20),
];

impl Cell {
    const fn new(connections: u32, pipeline: u32, size: u32) -> Self {
        Self {
            connections,
            pipeline,
            size,
        }
    }

    /// Reads `CONNECTIONS_PIPELINE_SIZE`.
    fn parse(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u32>, _> = text.split('_').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[connections, pipeline, size])
                if connections > 0 && (1..=1024).contains(&pipeline) && size <= 1 << 30 =>
            {
                Ok(Self::new(connections, pipeline, size))
            }
            _ => Err("expected CONNECTIONS_PIPELINE_SIZE, such as 1000_1_64".into()),
        }
    }

    /// The ratio that is good enough, given the one asked for.
    fn floor(&self, floor: f64) -> f64 {
        if self.size >= LARGE_FROM {
            floor.min(LARGE_FLOOR)
        } else {
            floor
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.connections, self.pipeline, self.size)
    }
}

/// One server under one load, in one round.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    frames: u64,
    cpu: Duration,
    elapsed: Duration,
    load_cpu: Duration,
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.cpu += other.cpu;
        self.elapsed += other.elapsed;
        self.load_cpu += other.load_cpu;
    }

    fn frames_per_cpu_second(&self) -> f64 {
        self.frames as f64 / self.cpu.as_secs_f64().max(1e-9)
    }

    /// How busy the load generator's processor was, from 0 to 1.
    fn load_share(&self) -> f64 {
        self.load_cpu.as_secs_f64() / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// A server and its load.
struct Contestant {
    server: Server,
    loader: Loader,
    measured: Measured,
}

impl Contestant {
    fn start(
        words: &[&str],
        cell: Cell,
        processors: Option<(usize, usize)>,
    ) -> Result<Self, Problem> {
        let (subcommand, more) = words.split_first().unwrap_or((&"serve", &[]));
        let server = Server::start_with(subcommand, more, None)?;
        if let Some((processor, _)) = processors {
            server.pin(processor);
        }
        let mut loader = Loader::start(
            &server,
            cell.connections,
            Pace::InFlight(cell.pipeline),
            cell.size,
        )?;
        loader.work(WARM_UP)?;
        Ok(Self {
            server,
            loader,
            measured: Measured::default(),
        })
    }

    fn work(&mut self) -> Result<(), Problem> {
        let before = self.cpu()?;
        let work = self.loader.work(SLICE)?;
        self.measured.cpu += self.cpu()? - before;
        self.measured.frames += work.frames;
        self.measured.elapsed += work.elapsed;
        self.measured.load_cpu += work.cpu;
        Ok(())
    }

    fn cpu(&self) -> Result<Duration, Problem> {
        usage::cpu_time(self.server.pid()).ok_or_else(|| {
            Problem::failed("this system does not tell the processor time of a process")
        })
    }
}

/// Measures all cells and judges them by the floor.
pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    if options
        .floor
        .is_some_and(|floor| !floor.is_finite() || floor < 0.0)
    {
        return Err(Problem::usage("--floor: expected a ratio, such as 0.95"));
    }
    let contestants = if options.drivers { DRIVERS } else { PEERS };
    let processors = pin::two_processors();
    if let Some((_, load)) = processors {
        pin::pin(0, load);
    } else {
        report::say(format_args!(
            "server and load share their processors: nothing can be pinned here"
        ));
    }
    let cells = if options.cells.is_empty() {
        &CELLS[..]
    } else {
        &options.cells
    };
    report::say(format_args!(
        "frames per server CPU-second, medians of {} rounds; cells are connections_in-flight_bytes",
        options.rounds
    ));
    report::say(format_args!("{}", header(contestants)));
    let mut results = Vec::new();
    let mut low = Vec::new();
    for &cell in cells {
        let cell = Cell {
            connections: limits::fit(cell.connections),
            ..cell
        };
        let rounds = (0..options.rounds)
            .map(|round| {
                measure_round(
                    contestants,
                    cell,
                    round as usize,
                    options.seconds,
                    processors,
                )
            })
            .collect::<Result<Vec<_>, _>>()?;
        let summary = Summary::of(&rounds);
        report::say(format_args!("{}", summary.line(cell)));
        if let Some(floor) = options.floor.map(|floor| cell.floor(floor))
            && summary.ratio() < floor
        {
            low.push(format!("{cell}: {:.3} is below {floor}", summary.ratio()));
        }
        results.push(summary.as_json(contestants, cell, &rounds));
    }
    report::write_json(json, &json!({ "rounds": options.rounds, "cells": results }))?;
    if low.is_empty() {
        Ok(())
    } else {
        Err(Problem::failed(low.join("; ")))
    }
}

/// Every contestant, measured once, in their order.
type Round = Vec<Measured>;

/// Half of a round is with the contestants started in their order, half with the last one first: with ten thousand
/// connections it makes a difference of several percent whose sockets the kernel has made first.
fn measure_round(
    contestants: &Contestants,
    cell: Cell,
    number: usize,
    length: Duration,
    processors: Option<(usize, usize)>,
) -> Result<Round, Problem> {
    let mut round = vec![Measured::default(); contestants.len()];
    let slices = (length / 2).as_millis().div_ceil(SLICE.as_millis()) as usize;
    for is_reversed in [false, true] {
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if is_reversed {
            order.reverse();
        }
        let started = order.iter().map(|which| {
            let (name, words) = contestants[*which];
            Contestant::start(words, cell, processors)
                .map_err(|problem| Problem::failed(format!("{name}, {cell}: {problem}")))
        });
        let mut started = started.collect::<Result<Vec<_>, _>>()?;
        for slice in 0..slices {
            for turn in 0..started.len() {
                let next = (turn + slice + number) % started.len();
                started[next].work()?;
            }
        }
        for (which, one) in order.into_iter().zip(started) {
            round[which].add(one.measured);
        }
    }
    Ok(round)
}

struct Summary {
    /// Median frames per CPU-second of each contestant.
    frames: Vec<f64>,
    /// Each contestant but the last to the last.
    ratios: Vec<Ratio>,
    load_share: f64,
}

/// The median of the rounds, the least and the most.
struct Ratio {
    median: f64,
    least: f64,
    most: f64,
}

impl Ratio {
    fn of(rounds: &[Round], contestant: usize) -> Self {
        let ratios = rounds.iter().filter_map(|round| {
            let reference = round.last()?.frames_per_cpu_second();
            Some(round[contestant].frames_per_cpu_second() / reference)
        });
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        Self {
            least: ratios.first().copied().unwrap_or(f64::NAN),
            most: ratios.last().copied().unwrap_or(f64::NAN),
            median: median(ratios),
        }
    }
}

impl Summary {
    fn of(rounds: &[Round]) -> Self {
        let contestants = rounds.first().map_or(0, Vec::len);
        let frames = |contestant: usize| {
            let frames = rounds
                .iter()
                .map(|round| round[contestant].frames_per_cpu_second());
            median(frames.collect())
        };
        let shares = rounds
            .iter()
            .flatten()
            .map(|measured| measured.load_share());
        Self {
            frames: (0..contestants).map(frames).collect(),
            ratios: (1..contestants)
                .map(|contestant| Ratio::of(rounds, contestant - 1))
                .collect(),
            load_share: median(shares.collect()),
        }
    }

    /// The lowest of the ratios: the one that is judged.
    fn ratio(&self) -> f64 {
        let ratios = self.ratios.iter().map(|ratio| ratio.median);
        ratios.min_by(f64::total_cmp).unwrap_or(f64::NAN)
    }

    fn line(&self, cell: Cell) -> String {
        let mut line = format!("{:>14}", cell.to_string());
        for frames in &self.frames {
            line += &format!("{:>14}", grouped(*frames as u64));
        }
        for ratio in &self.ratios {
            let Ratio {
                median,
                least,
                most,
            } = ratio;
            line += &format!("{median:>8.3}{least:>8.3} to {most:.3}");
        }
        line + &format!("{:>8.0} %", self.load_share * 100.0)
    }

    fn as_json(&self, contestants: &Contestants, cell: Cell, rounds: &[Round]) -> Value {
        let names = contestants.iter().enumerate();
        let contestants = names.map(|(i, (name, _))| {
            let frames: Vec<f64> = rounds
                .iter()
                .map(|round| round[i].frames_per_cpu_second())
                .collect();
            let ratio = self.ratios.get(i).map(
                |ratio| json!({ "median": ratio.median, "least": ratio.least, "most": ratio.most }),
            );
            json!({
                "name": name,
                "median": self.frames[i],
                "frames_per_cpu_second": frames,
                "ratio": ratio,
            })
        });
        json!({
            "cell": cell.to_string(),
            "contestants": contestants.collect::<Vec<_>>(),
            "ratio": self.ratio(),
            "load_processor_share": self.load_share,
        })
    }
}

fn header(contestants: &Contestants) -> String {
    let mut line = format!("{:>14}", "cell");
    for (name, _) in contestants {
        line += &format!("{name:>14}");
    }
    for _ in 1..contestants.len() {
        line += &format!("{:>8}{:>17}", "ratio", "least to most");
    }
    line + &format!("{:>10}", "load CPU")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_is_parsed_from_three_numbers() {
        assert_eq!(Cell::parse("50_32_64"), Ok(Cell::new(50, 32, 64)));
        for wrong in [
            "",
            "50_32",
            "0_1_64",
            "1_0_64",
            "1_2000_64",
            "a_b_c",
            "1_1_1_1",
        ] {
            assert!(Cell::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn median_is_the_middle_value() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
