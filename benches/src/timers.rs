//! What timers cost: a million of them are set, cancelled, or left to fire, on a clock moved by hand.
//!
//! Under `valgrind --tool=callgrind` the difference between two phases, or two counts, is what a phase costs in
//! instructions; `benches/counts.sh` does that.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;
use throng::mio::Poll;
use throng::{Config, ConnectionId, Expired, Frame, Handler, Net, Reactor, TimerId};

use crate::problem::Problem;
use crate::report;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many timers.
    #[arg(long, default_value_t = 1_000_000)]
    count: u32,
    /// What becomes of them after they were set.
    #[arg(long, value_enum, default_value_t = Phase::Expire)]
    phase: Phase,
}

/// What is done with timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// They are set, and that is all.
    Insert,
    /// They are cancelled.
    Cancel,
    /// They fire.
    Expire,
}

/// The timers are due within so many milliseconds.
const SPAN_MS: u64 = 60_000;

#[derive(Default)]
struct Fired(u64);

impl Handler for Fired {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_timer(&mut self, _: &mut Net, _: Expired) {
        self.0 += 1;
    }
}

/// Times each phase up to the one that is asked for.
pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    let count = u64::from(options.count);
    let poll = Poll::new()?;
    let start = Instant::now();
    let mut reactor = Reactor::attach(poll.registry(), Config::default(), start)?;
    let mut spent = Vec::new();
    let mut timers: Vec<TimerId> = Vec::with_capacity(options.count as usize);
    let each = |began: Instant| began.elapsed().as_nanos() as f64 / count.max(1) as f64;

    let began = Instant::now();
    for key in 0..count {
        // Scattered over the span: Knuth's multiplicative hash.
        let after = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) % SPAN_MS;
        timers.push(reactor.net().set_timer(Duration::from_millis(after), key));
    }
    spent.push(("insert", each(began)));
    match options.phase {
        Phase::Insert => {}
        Phase::Cancel => {
            let began = Instant::now();
            for timer in &timers {
                black_box(reactor.net().cancel_timer(*timer));
            }
            spent.push(("cancel", each(began)));
        }
        Phase::Expire => {
            let mut fired = Fired::default();
            let began = Instant::now();
            let mut now = start;
            while fired.0 < count {
                now += Duration::from_millis(1);
                reactor.begin_turn(now);
                reactor.finish_turn(&mut fired);
            }
            spent.push(("expire", each(began)));
        }
    }
    for (phase, nanos) in &spent {
        report::say(format_args!("{phase:<8}{nanos:>8.1} ns each"));
    }
    let phases = spent
        .into_iter()
        .map(|(phase, nanos)| (phase.to_string(), nanos.into()));
    report::write_json(
        json,
        &json!({ "count": count, "nanoseconds_each": phases.collect::<serde_json::Map<String, serde_json::Value>>() }),
    )
}
