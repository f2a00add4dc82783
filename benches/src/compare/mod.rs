//! The comparison: the same work against several servers, in turn, with ratios.
//!
//! The figure is frames per second of the server's processor time, which does not depend on how fast the load is. In each
//! round every server is started afresh, twice, bound to one processor, with a load generator of its own on another. Then
//! they work in turn, a slice of time each, again and again, so that a machine that slows down slows all of them; a server
//! that is not loaded uses no processor. Each such pass yields a ratio of each server to the first one. The median of
//! these ratios is the result, the quartiles say how far apart they are.

mod cell;
mod round;
mod summary;
mod system;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::problem::Problem;
use crate::report;
use crate::values::seconds;
use crate::{limits, pin};
use cell::{CELLS, Cell};
use round::Plan;
use summary::Summary;
use system::Build;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each server is started anew, and measured, in each cell.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each server is measured in a round, in seconds.
    #[arg(long, default_value = "1.5", value_parser = seconds)]
    seconds: Duration,
    /// A first impression: one short round.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Only these cells, as [idle_|broadcast_|churn_]CONNECTIONS_IN-FLIGHT_BYTES.
    #[arg(long, value_delimiter = ',', value_parser = Cell::parse)]
    cells: Vec<Cell>,
    /// Only these servers, beside the one to which all are compared.
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Another build of this program, whose server takes part under this name. Can be given several times.
    #[arg(long, value_name = "NAME=PATH", value_parser = Build::parse)]
    build: Vec<Build>,
    /// Compares the ways to embed the loop with `EventLoop::run`, instead of the loop with its peers.
    #[arg(long, conflicts_with = "build")]
    drivers: bool,
    /// The exit code is 1 if a ratio of this crate's server is below this (large frames: below 0.80, if that is less).
    #[arg(long)]
    floor: Option<f64>,
    /// Writes the matrix to this file, as tables in Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl Options {
    fn plan(&self) -> Plan {
        let processors = pin::two_processors();
        match self.quick {
            true => Plan {
                rounds: 1,
                warm_up: Duration::from_millis(50),
                length: Duration::from_millis(400),
                processors,
            },
            false => Plan {
                rounds: self.rounds,
                warm_up: Duration::from_millis(200),
                length: self.seconds,
                processors,
            },
        }
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
    let systems = if options.drivers {
        system::drivers()
    } else {
        system::peers(&options.build)
    };
    let systems = system::select(systems, &options.systems)?;
    let plan = options.plan();
    if let Some((_, load)) = plan.processors {
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
        "frames per server CPU-second, relative to {}: medians of the passes of {} rounds; cells are connections_in-flight_bytes",
        systems[0].name, plan.rounds
    ));
    report::say(format_args!("{}", table::header()));
    let mut summaries = Vec::new();
    let mut low = Vec::new();
    for &cell in cells {
        let cell = cell.with_connections(limits::fit(cell.connections));
        let measured = round::measure(&systems, &cell, &plan)?;
        let summary = Summary::of(cell, &systems, &measured);
        report::say(format_args!("{}", table::lines(&summary)));
        if let Some(floor) = options.floor.map(|floor| cell.floor(floor))
            && summary.ratio() < floor
        {
            low.push(format!("{cell}: {:.3} is below {floor}", summary.ratio()));
        }
        summaries.push(summary);
    }
    let as_json: Vec<_> = summaries.iter().map(Summary::as_json).collect();
    report::write_json(json, &json!({ "rounds": plan.rounds, "cells": as_json }))?;
    if let Some(path) = &options.markdown {
        report::write(path, &table::markdown(&summaries))?;
    }
    if low.is_empty() {
        Ok(())
    } else {
        Err(Problem::failed(low.join("; ")))
    }
}
