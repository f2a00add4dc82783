//! The server: echoes, broadcasts, relays or forgets frames until it is told to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use throng::{Handler, IpNetwork, ListenOptions, ProxyProtocol, Stats};

use crate::driver::{Driver, Level};
use crate::modes::{Broadcast, Echo, Relay, Sink};
use crate::parent::Parent;
use crate::problem::Problem;
use crate::report::{self, grouped};
use crate::settings::Settings;
use crate::values::seconds;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 for any free one.
    #[arg(long, default_value = "127.0.0.1:5000")]
    addr: String,
    /// What to do with a frame.
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    mode: Mode,
    /// What drives it.
    #[arg(long, value_enum, default_value_t = Level::Turn)]
    driver: Level,
    /// How many peers may wait to be accepted.
    #[arg(long)]
    backlog: Option<u32>,
    /// Peers from this network are proxies, which begin with a PROXY header: 127.0.0.1 or 10.0.0.0/8. May be repeated.
    #[arg(long, value_name = "NETWORK")]
    proxy_protocol: Vec<IpNetwork>,
    /// How long peers have to read what is queued, after a signal.
    #[arg(long, default_value = "5", value_parser = seconds)]
    shutdown_timeout: Duration,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: crate::tls::ServeOptions,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    parent: Parent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Send it back.
    Echo,
    /// Send it to all connections, its sender included.
    Broadcast,
    /// Forget it.
    Sink,
    /// Send it to one other: connections are paired in the order in which they come.
    Relay,
}

/// A signal ends the wait for events. One that comes just before the wait is seen this much later. There is no thread
/// that waits for it: a process that has two pays more for each system call.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);

/// Serves until SIGINT or SIGTERM, and then shuts down.
pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    let stats = match options.mode {
        Mode::Echo => start(&mut Echo, options),
        Mode::Broadcast => start(&mut Broadcast, options),
        Mode::Sink => start(&mut Sink, options),
        Mode::Relay => start(&mut Relay::default(), options),
    }?;
    tell(&stats, json)
}

fn start<H: Handler>(handler: &mut H, options: &Options) -> Result<Stats, Problem> {
    let mut listen = ListenOptions::default();
    if let Some(peers) = options.backlog {
        listen = listen.backlog(peers);
    }
    if !options.proxy_protocol.is_empty() {
        let proxies = options.proxy_protocol.iter().copied();
        listen = listen.proxy_protocol(ProxyProtocol::trusting(proxies));
    }
    #[cfg(feature = "tls")]
    {
        listen = options.tls.apply(listen)?;
    }
    let config = options.settings.config();
    let mut driver =
        Driver::new(options.driver, config).map_err(|error| Problem::usage(error.to_string()))?;
    let net = driver.net();
    let listener = net
        .listen_with(&options.addr, listen)
        .map_err(|error| Problem::usage(error.to_string()))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    if let Some(addr) = net.listener(listener).and_then(|it| it.local_addr()) {
        report::say(format_args!("listening on {addr}"));
    }
    serve(&mut driver, handler, options, &stop)?;
    Ok(driver.net().stats())
}

/// Runs the loop until a signal or the end of its parent. After a second signal it does not wait for peers.
fn serve<H: Handler>(
    driver: &mut Driver<H>,
    handler: &mut H,
    options: &Options,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut looked_up = Instant::now();
    let mut ending = false;
    loop {
        driver.drive(handler, LOOK_UP_EVERY)?;
        let net = driver.net();
        let mut told = stop.swap(false, Ordering::Relaxed);
        if net.now() - looked_up >= LOOK_UP_EVERY {
            looked_up = net.now();
            told |= options.parent.is_gone();
        }
        if told && net.is_shutting_down() {
            net.shutdown(Duration::ZERO);
        } else if told {
            net.shutdown(options.shutdown_timeout);
        }
        ending |= told;
        if ending && !net.is_shutting_down() {
            return Ok(());
        }
    }
}

fn tell(stats: &Stats, json: Option<&Path>) -> Result<(), Problem> {
    report::say(format_args!(
        "served {} connections, {} refused; {} frames in, {} out; {} bytes in, {} out",
        grouped(stats.accepted),
        grouped(stats.refused),
        grouped(stats.frames_received),
        grouped(stats.frames_sent),
        grouped(stats.bytes_received),
        grouped(stats.bytes_sent),
    ));
    report::write_json(
        json,
        &json!({
            "accepted": stats.accepted,
            "refused": stats.refused,
            "proxy_checks": stats.proxy_checks,
            "accept_failures": stats.accept_failures,
            "disconnected": stats.disconnected,
            "frames_received": stats.frames_received,
            "frames_sent": stats.frames_sent,
            "bytes_received": stats.bytes_received,
            "bytes_sent": stats.bytes_sent,
            "reads": stats.reads,
            "writes": stats.writes,
            "turns": stats.turns,
            "accept_pauses": stats.accept_pauses,
            "slow_callbacks": stats.slow_callbacks,
            "busy_seconds": stats.busy.as_secs_f64(),
            "waited_seconds": stats.waited.as_secs_f64(),
            "longest_turn_seconds": stats.longest_turn.as_secs_f64(),
        }),
    )
}
