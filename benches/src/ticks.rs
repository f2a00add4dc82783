//! How late an interval fires while the loop has other things to do: echo load from another process.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;
use throng::{
    Config, ConnectionId, DisconnectReason, EventLoop, Expired, Frame, Handler, Net, Timer,
};

use crate::limits;
use crate::problem::Problem;
use crate::process::Process;
use crate::report::{self, grouped};
use crate::values::seconds;
use crate::watch::{self, Watch};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Ticks a second.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1000))]
    hz: u32,
    /// For how long.
    #[arg(long, default_value = "60", value_parser = seconds)]
    seconds: Duration,
    /// How many connections echo meanwhile, a frame in flight on each.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
}

const TICK: u64 = 0;
const END: u64 = 1;

struct World {
    ticks: u64,
    missed: u64,
    /// In microseconds.
    lateness: Histogram<u64>,
    /// Without its load the loop is not measured.
    problem: Option<String>,
}

impl Handler for World {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if let Err(rejected) = net.send_frame(id, frame) {
            log::warn!("{id}: {rejected}");
        }
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        if expired.key == END {
            return net.stop();
        }
        self.ticks += 1;
        self.missed += expired.missed;
        let late = Instant::now().saturating_duration_since(expired.due);
        self.lateness.saturating_record(late.as_micros() as u64);
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.problem
            .get_or_insert_with(|| format!("connection {id} of the load ended: {reason}"));
        net.stop();
    }
}

pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    let mut event_loop = EventLoop::new(Config::default())?;
    let net = event_loop.net();
    let listener = net.listen("127.0.0.1:0").map_err(std::io::Error::from)?;
    let addr = net
        .listener(listener)
        .and_then(|it| it.local_addr())
        .ok_or_else(|| Problem::failed("no address"))?;
    let seconds = options.seconds.as_secs_f64();
    let connections = limits::fit(options.connections);
    let mut load = Process::start(&[
        "load",
        "--addr",
        &addr.to_string(),
        "--connections",
        &connections.to_string(),
        // It ends after the measurement, and is ended with this process.
        "--seconds",
        &(seconds + 60.0).to_string(),
    ])?;
    let mut world = World {
        ticks: 0,
        missed: 0,
        lateness: Histogram::new(3).map_err(|error| Problem::failed(error.to_string()))?,
        problem: None,
    };
    // The load connects first.
    let mut watch = Watch::new();
    while event_loop.net().connection_count() < connections as usize {
        event_loop.turn(&mut world, Some(watch::TICK))?;
        load.expect_alive()?;
        let connected = event_loop.net().connection_count() as u64;
        limits::expect_accepting(&event_loop.net().stats())?;
        watch.expect(connected, "no connection of the load was established")?;
    }
    let before = event_loop.net().stats();
    let net = event_loop.net();
    net.set_timer(Timer::interval(Duration::from_secs(1) / options.hz), TICK);
    net.set_timer(options.seconds, END);
    event_loop.run(&mut world)?;
    if let Some(problem) = world.problem {
        return Err(Problem::failed(problem));
    }

    let stats = event_loop.net().stats();
    let quantile = |q| world.lateness.value_at_quantile(q);
    let frames = stats.frames_received - before.frames_received;
    report::say(format_args!(
        "{} ticks at {} Hz, {} missed, beside {} echoes a second over {} connections; busy {:.0} %",
        world.ticks,
        options.hz,
        world.missed,
        grouped((frames as f64 / seconds) as u64),
        connections,
        100.0 * stats.busy_fraction(&before),
    ));
    report::say(format_args!(
        "late by p50 {} µs, p99 {} µs, at most {} µs",
        quantile(0.5),
        quantile(0.99),
        world.lateness.max(),
    ));
    report::write_json(
        json,
        &json!({
            "hz": options.hz,
            "seconds": seconds,
            "connections": connections,
            "ticks": world.ticks,
            "missed": world.missed,
            "frames": frames,
            "late_us": { "p50": quantile(0.5), "p99": quantile(0.99), "most": world.lateness.max() },
        }),
    )
}
