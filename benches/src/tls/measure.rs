//! Measures TLS: handshakes, memory of idle connections, and frames, each beside a server with tokio-rustls.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::load::{Load, Pace, Shape, Spec};
use crate::problem::Problem;
use crate::process::Server;
use crate::report::{self, grouped};
use crate::values::seconds;
use crate::{limits, pin, usage};

use super::LoadOptions;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many connections.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// How often each server is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each load lasts.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
}

/// The servers: a name, the words that start them, and whether they speak TLS.
const SERVERS: [(&str, &str, bool); 3] = [
    ("throng", "serve", true),
    ("tokio-rustls", "tokio-rustls", true),
    ("throng, no TLS", "serve", false),
];

/// The loads: frames in flight on each connection, and their size.
const LOADS: [(u32, u32); 6] = [
    (1, 64),
    (32, 64),
    (1, 4096),
    (1, 16_384),
    (1, 65_536),
    (1, 1_048_576),
];

/// The most bytes in flight. With larger frames there are fewer connections.
const IN_FLIGHT: u32 = 128 * 1024 * 1024;

/// What was measured of a server.
#[derive(Default)]
struct Figures {
    handshakes: Vec<f64>,
    memory: Vec<f64>,
    frames: [Vec<f64>; LOADS.len()],
}

pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    let files = Files::make()?;
    let connections = limits::fit(options.connections);
    let mut all: Vec<Figures> = SERVERS.iter().map(|_| Figures::default()).collect();
    for _ in 0..options.rounds {
        for ((_, words, has_tls), figures) in SERVERS.iter().zip(&mut all) {
            measure(
                words,
                *has_tls,
                connections,
                options.seconds,
                &files,
                figures,
            )?;
        }
    }
    report::say(format_args!(
        "{connections} connections; medians of {} rounds, per second of the server's processor time",
        options.rounds
    ));
    let mut results = Vec::new();
    for ((name, ..), figures) in SERVERS.iter().zip(&mut all) {
        let (opened, memory) = (median(&mut figures.handshakes), median(&mut figures.memory));
        let frames = figures.frames.each_mut().map(|rates| median(rates));
        report::say(format_args!(
            "{name:<15} {:>8} opened, {:>7} bytes each; frames{}",
            grouped(opened as u64),
            grouped(memory as u64),
            shown(&frames),
        ));
        results.push(json!({
            "server": name,
            "opened_per_second": opened,
            "bytes_per_connection": memory,
            "frames_per_second": frames,
        }));
    }
    report::write_json(
        json,
        &json!({ "connections": connections, "servers": results }),
    )
}

fn measure(
    words: &str,
    has_tls: bool,
    connections: u32,
    length: Duration,
    files: &Files,
    figures: &mut Figures,
) -> Result<(), Problem> {
    let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
    let arguments = [
        "--tls-cert",
        certificate.to_str().unwrap_or_default(),
        "--tls-key",
        key.to_str().unwrap_or_default(),
    ];
    let arguments = if has_tls { &arguments[..] } else { &[] };
    let load = LoadOptions {
        tls: has_tls,
        ca: Some(certificate.clone()),
        tls_name: None,
    };
    for ((pipeline, size), frames) in LOADS.into_iter().zip(&mut figures.frames) {
        let server = Server::start_with(words, arguments, None)?;
        if let Some((first, second)) = pin::two_processors() {
            server.pin(first);
            pin::pin(0, second);
        }
        // The first connection fills what a process fills once.
        let mut spec = Spec {
            addrs: vec![server.addr],
            shape: Shape::echo(1, Pace::InFlight(pipeline), size),
            time_every: None,
            options: load.connect(&server.addr.to_string())?,
        };
        let _first = Load::connect(&spec)?;
        let (cpu, memory) = (cpu(&server), usage::anonymous_bytes(server.pid()));
        let fitting = IN_FLIGHT / (pipeline * size);
        spec.shape.connections = connections.min(fitting);
        let mut load = Load::connect(&spec)?;
        let per_second = |count: f64, before: Duration| {
            count / (self::cpu(&server) - before).as_secs_f64().max(1e-9)
        };
        if spec.shape.connections == connections {
            figures.handshakes.push(per_second(connections.into(), cpu));
            let grown = usage::anonymous_bytes(server.pid()).zip(memory);
            let grown = grown.map_or(0, |(now, before)| now.saturating_sub(before));
            figures.memory.push(grown as f64 / f64::from(connections));
        }
        let cpu = self::cpu(&server);
        let done = load.measure(length)?;
        frames.push(per_second(done.frames as f64, cpu));
    }
    Ok(())
}

/// The rates of all loads, for a line of the report.
fn shown(rates: &[f64]) -> String {
    let loads = LOADS.iter().zip(rates);
    let shown = loads.map(|((pipeline, size), rate)| {
        format!(" {pipeline} x {size} bytes: {}", grouped(*rate as u64))
    });
    shown.collect::<Vec<_>>().join(",")
}

fn cpu(server: &Server) -> Duration {
    usage::cpu_time(server.pid()).unwrap_or_default()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A certificate for the loopback address, and its key, in a folder that is removed on drop.
struct Files(PathBuf);

impl Files {
    fn make() -> Result<Self, Problem> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
        let made = made.map_err(|error| Problem::failed(error.to_string()))?;
        let path = std::env::temp_dir().join(format!("throng-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        let files = Self(path);
        std::fs::write(files.path("cert.pem"), made.cert.pem())?;
        std::fs::write(files.path("key.pem"), made.signing_key.serialize_pem())?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
