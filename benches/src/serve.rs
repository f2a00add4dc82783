//! The server: echoes, broadcasts or forgets frames until it is told to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use throng::{Config, ConnectionId, EventLoop, Frame, Handler, ListenOptions, Net, Stats};

use crate::cli::{Mode, Parent, ServeOptions};
use crate::problem::Problem;
use crate::report::{self, grouped};

/// A signal ends the wait for events. One that comes just before the wait is seen this much later. There is no thread
/// that waits for it: a process that has two pays more for each system call.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(options: &ServeOptions, json: Option<&Path>) -> Result<(), Problem> {
    let mut config = Config::default();
    if let Some(connections) = options.max_connections {
        config = config.max_connections(connections);
    }
    let mut listen = ListenOptions::default();
    if let Some(peers) = options.backlog {
        listen = listen.backlog(peers);
    }
    if let Some(bytes) = options.max_frame_len {
        listen = listen.max_frame_len(bytes);
    }
    let mut event_loop = EventLoop::new(config)?;
    let net = event_loop.net();
    let listener = net
        .listen_with(&options.addr, listen)
        .map_err(|error| Problem::usage(error.to_string()))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    if let Some(addr) = net.local_addr(listener) {
        report::say(format_args!("listening on {addr}"));
    }
    match options.mode {
        Mode::Echo => serve(&mut event_loop, &mut Echo, &stop, options.parent)?,
        Mode::Broadcast => serve(&mut event_loop, &mut Broadcast, &stop, options.parent)?,
        Mode::Sink => serve(&mut event_loop, &mut Sink, &stop, options.parent)?,
    }
    tell(&event_loop.net().stats(), json)
}

/// Runs the loop until it is told to stop, or nobody is left to want it.
fn serve<H: Handler>(
    event_loop: &mut EventLoop,
    handler: &mut H,
    stop: &AtomicBool,
    parent: Parent,
) -> std::io::Result<()> {
    let mut looked_up = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        event_loop.turn(handler, Some(LOOK_UP_EVERY))?;
        let now = event_loop.net().now();
        if now - looked_up >= LOOK_UP_EVERY {
            looked_up = now;
            if parent.is_gone() {
                break;
            }
        }
    }
    Ok(())
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
            "accept_failures": stats.accept_failures,
            "disconnected": stats.disconnected,
            "frames_received": stats.frames_received,
            "frames_sent": stats.frames_sent,
            "bytes_received": stats.bytes_received,
            "bytes_sent": stats.bytes_sent,
            "reads": stats.reads,
            "writes": stats.writes,
            "turns": stats.turns,
        }),
    )
}

/// Sends each frame back.
struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if let Err(rejected) = net.send_frame(id, frame) {
            log::warn!("{id}: {rejected}");
        }
    }
}

/// Sends each frame to everybody, its sender included.
struct Broadcast;

impl Handler for Broadcast {
    fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
        net.broadcast(|_| true, frame);
    }
}

/// Forgets each frame.
struct Sink;

impl Handler for Sink {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}
