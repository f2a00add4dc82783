//! What peers on the internet do to a server, done to one that runs in a process of its own, and whether it bears it: each
//! case has its bounds, and the program fails if one is not kept.
//!
//! The server has a processor to itself. Attackers share the other one with the clients that measure, which have priority:
//! over all other processes, if this one may grant it.

mod bench;
mod descriptors;
mod firehoses;
mod giants;
mod liars;
mod never_reads;
mod peak;
mod slowloris;
mod units;
mod verdict;

use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::problem::Problem;
use crate::{pin, report};
use bench::Bench;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to do; all of it, unless given.
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// With a fraction of the bytes and the time: to see that it works, not what it costs.
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// A peer sends 400 MiB to an echo server and reads nothing.
    NeverReads,
    /// 500 peers promise a frame of 4 GiB each and send 100 bytes of it.
    Liars,
    /// Frames of 8 GiB through a relay, both ways at once; a frame of 1.1 GiB that is held whole.
    Giants,
    /// 2,000 peers begin a frame and send a byte now and then; others are slow and honest.
    Slowloris,
    /// 500 clients want to be served by a process that may have 64 descriptors.
    Descriptors,
    /// Peers send as fast as they can, 6 of them and 100.
    Firehoses,
}

pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
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
        processors,
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
