//! The demo: a server in a process of its own, thousands of clients in this one, and what happened.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::load::{Load, Pace, Shape, Spec};
use crate::problem::Problem;
use crate::process::Server;
use crate::report::{self, grouped};
use crate::values::seconds;
use crate::{limits, usage};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections; as many as the open-file limit allows, if that is less.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Frames in flight on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pipeline: u32,
    /// Bytes of payload of a frame.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=(1 << 30)))]
    size: u32,
    /// How long the load lasts.
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 10_000,
            pipeline: 1,
            size: 64,
            seconds: Duration::from_secs(5),
        }
    }
}

pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    let connections = limits::fit(options.connections);
    let server = Server::start("serve")?;
    report::say(format_args!(
        "server        {} (process {})",
        server.addr,
        server.pid()
    ));

    let memory_before = usage::anonymous_bytes(server.pid());
    let spec = Spec {
        addrs: vec![server.addr],
        shape: Shape::echo(connections, Pace::InFlight(options.pipeline), options.size),
        time_every: Some(1),
        options: throng::ConnectOptions::default(),
    };
    let mut load = Load::connect(&spec)?;
    let memory_after = usage::anonymous_bytes(server.pid());
    let per_connection = memory_after
        .zip(memory_before)
        .map(|(after, before)| after.saturating_sub(before) / u64::from(connections));
    report::say(format_args!(
        "connections   {}, of {} each in the server while idle",
        grouped(connections.into()),
        per_connection.map_or("unmeasured memory".into(), |bytes| format!("{bytes} bytes")),
    ));

    report::say(format_args!(
        "load          {} in flight on each, {} bytes, for {:?}",
        options.pipeline, options.size, options.seconds
    ));
    let cpu_before = usage::cpu_time(server.pid());
    let figures = load.measure_with_progress(options.seconds)?;
    let cpu = usage::cpu_time(server.pid())
        .zip(cpu_before)
        .map(|(after, before)| after - before);

    figures.say(options.size);
    let frames_per_cpu_second = cpu
        .filter(|cpu| !cpu.is_zero())
        .map(|cpu| figures.frames as f64 / cpu.as_secs_f64());
    match cpu.zip(frames_per_cpu_second) {
        Some((cpu, frames)) => report::say(format_args!(
            "server CPU    {:.0} % of one core, {} frames per CPU-second",
            share(cpu, figures.elapsed),
            grouped(frames as u64),
        )),
        None => report::say(format_args!("server CPU    not measured on this system")),
    }
    report::write_json(
        json,
        &json!({
            "connections": connections,
            "pipeline": options.pipeline,
            "size": options.size,
            "bytes_per_idle_connection": per_connection,
            "load": figures.as_json(options.size),
            "server_cpu_seconds": cpu.map(|cpu| cpu.as_secs_f64()),
            "frames_per_server_cpu_second": frames_per_cpu_second,
        }),
    )
}

/// In percent.
fn share(part: Duration, whole: Duration) -> f64 {
    100.0 * part.as_secs_f64() / whole.as_secs_f64()
}
