//! The load generator: outbound connections that send frames, check what comes back and send the next.
//!
//! Closed-loop, a connection has a fixed number of frames in flight, and sends one for each that comes back: the server
//! sets the pace. Open-loop, frames are due at a fixed rate, whatever the server does, and the time until one is back
//! counts from when it was due: a server that stalls is not spared the frames it would have got meanwhile. What cannot be
//! sent is counted, and the load goes on.

mod clients;
mod figures;
mod schedule;
mod spec;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use throng::{ConnectOptions, EventLoop};

use crate::problem::Problem;
use crate::progress::Progress;
use crate::report::{self, grouped};
use crate::values::{self, seconds};
use crate::watch::{TICK, Watch};
use crate::{limits, pause, usage};
use clients::Clients;
pub(crate) use figures::Figures;
pub(crate) use spec::{Pace, Spec};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:5000")]
    pub(crate) addr: String,
    /// How many connections; as many as the open-file limit allows, if that is less.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Frames in flight on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pipeline: u32,
    /// So many frames a second, on all connections together, instead of a number in flight; latency counts from when a
    /// frame was due. Frames that cannot be sent are counted as errors.
    #[arg(long, conflicts_with = "pipeline", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Bytes of payload of a frame.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=(1 << 30)))]
    pub(crate) size: u32,
    /// How long the load lasts.
    #[arg(long, default_value = "10", value_parser = seconds)]
    seconds: Duration,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: crate::tls::LoadOptions,
}

impl Options {
    pub(crate) fn pace(&self) -> Pace {
        match self.rate {
            Some(rate) => Pace::PerSecond(rate),
            None => Pace::InFlight(self.pipeline),
        }
    }

    /// How to connect.
    pub(crate) fn connect(&self) -> Result<ConnectOptions, Problem> {
        #[cfg(feature = "tls")]
        return self.tls.connect(&self.addr);
        #[cfg(not(feature = "tls"))]
        Ok(ConnectOptions::default())
    }
}

/// Attempts to connect under way at a time: fewer than a listener's backlog, so that none is dropped and tried again.
const CONNECTING_AT_ONCE: usize = 256;
/// How long an open loop waits, after its end, for answers that still come.
const OVERTIME: Duration = Duration::from_secs(2);

/// Loads a server and tells how it did.
pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    let spec = Spec {
        addrs: values::resolve(&options.addr)?,
        connections: limits::fit(options.connections),
        pace: options.pace(),
        size: options.size,
        latency: true,
        options: options.connect()?,
    };
    let started = Instant::now();
    let mut load = Load::connect(&spec)?;
    let took = started.elapsed();
    report::say(format_args!(
        "connected     {} to {} in {took:.1?}",
        grouped(spec.connections.into()),
        load.addr
    ));
    let figures = load.measure_with_progress(options.seconds)?;
    figures.say(spec.size);
    report::write_json(
        json,
        &json!({
            "addr": load.addr.to_string(),
            "connections": spec.connections,
            "connect_seconds": took.as_secs_f64(),
            "pipeline": options.rate.is_none().then_some(options.pipeline),
            "rate": options.rate,
            "size": spec.size,
            "load": figures.as_json(spec.size),
        }),
    )
}

/// Connections under load.
pub(crate) struct Load {
    event_loop: EventLoop,
    clients: Clients,
    addr: SocketAddr,
}

impl Load {
    /// Opens all connections. They stay idle for now.
    pub(crate) fn connect(spec: &Spec) -> Result<Self, Problem> {
        let mut event_loop = EventLoop::new(spec.pace.config())?;
        let mut clients = Clients::new(spec);
        let addr = reach(&mut event_loop, &mut clients, spec)?;
        let mut load = Self {
            event_loop,
            clients,
            addr,
        };
        let total = spec.connections as usize;
        let mut progress = Progress::new(total as u64);
        let mut started = load.clients.connected;
        let mut watch = Watch::new();
        while load.clients.connected < total {
            while started < total && started - load.clients.connected < CONNECTING_AT_ONCE {
                let net = load.event_loop.net();
                let id = net.connect_with(addr, spec.options.clone());
                id.map_err(std::io::Error::from)?;
                started += 1;
            }
            turn(&mut load.event_loop, &mut load.clients, TICK)?;
            let connected = load.clients.connected as u64;
            watch.expect(connected, "no connection was established")?;
            progress.at(connected, || {
                format!("              {} connections", grouped(connected))
            });
        }
        Ok(load)
    }

    /// Runs the load for a while, then waits for the frames still in flight. Closed-loop, none may be missing; open-loop,
    /// those that are not back in time are counted.
    pub(crate) fn measure(&mut self, length: Duration) -> Result<Figures, Problem> {
        self.measure_and(length, |_, _| {})
    }

    pub(crate) fn measure_with_progress(&mut self, length: Duration) -> Result<Figures, Problem> {
        let mut progress = Progress::new(length.as_millis() as u64);
        self.measure_and(length, |elapsed, frames| {
            progress.at(elapsed.as_millis() as u64, || {
                let rate = frames as f64 / elapsed.as_secs_f64().max(1e-3);
                format!("              {} frames/s", grouped(rate as u64))
            });
        })
    }

    fn measure_and(
        &mut self,
        length: Duration,
        mut tell: impl FnMut(Duration, u64),
    ) -> Result<Figures, Problem> {
        let clients = &mut self.clients;
        if let Some(latency) = &mut clients.latency {
            latency.reset();
        }
        let frames = clients.frames;
        let own_cpu = usage::cpu_time(std::process::id());
        let start = Instant::now();
        let mut watch = Watch::new();
        let mut idle = Duration::ZERO;
        clients.start(self.event_loop.net(), start, length);
        while clients.is_sending || clients.in_flight > 0 {
            let due = clients.send_due(self.event_loop.net(), Instant::now());
            let now = Instant::now();
            let wait = due.map_or(TICK, |due| due.saturating_duration_since(now).min(TICK));
            let wait = pause::until_readable(&self.event_loop, wait);
            if due.is_some() {
                idle += now.elapsed();
            }
            turn(&mut self.event_loop, clients, wait)?;
            let elapsed = start.elapsed();
            match clients.pace {
                Pace::InFlight(_) => {
                    watch.expect(clients.frames, "no frame came back")?;
                    clients.is_sending = elapsed < length;
                }
                // Frames that are not answered by then are counted: a server that does not answer is a result.
                Pace::PerSecond(_) if elapsed > length + OVERTIME => break,
                Pace::PerSecond(_) => {}
            }
            tell(elapsed, clients.frames - frames);
        }
        let now = usage::cpu_time(std::process::id());
        let idle = idle.as_secs_f64() / length.as_secs_f64();
        Ok(Figures {
            frames: clients.frames - frames,
            elapsed: start.elapsed(),
            own_cpu: now.zip(own_cpu).map(|(now, before)| now - before),
            latency: clients.latency.clone(),
            open_loop: clients.outcome(idle),
        })
    }
}

/// Opens the first connection, to the first address at which it is established. A name often has several, and the server
/// listens at one of them.
fn reach(
    event_loop: &mut EventLoop,
    clients: &mut Clients,
    spec: &Spec,
) -> Result<SocketAddr, Problem> {
    let mut open = |addr| {
        let id = event_loop.net().connect_with(addr, spec.options.clone());
        id.map_err(std::io::Error::from)?;
        let mut watch = Watch::new();
        while clients.connected == 0 {
            turn(event_loop, clients, TICK)?;
            watch.expect(0, "no connection was established")?;
        }
        Ok(addr)
    };
    let mut problems = Vec::new();
    for &addr in &spec.addrs {
        match open(addr) {
            Ok(addr) => return Ok(addr),
            Err(problem) => problems.push(Problem::to_string(&problem)),
        }
    }
    Err(Problem::failed(problems.join("; ")))
}

fn turn(event_loop: &mut EventLoop, clients: &mut Clients, wait: Duration) -> Result<(), Problem> {
    event_loop.turn(clients, Some(wait))?;
    match clients.problem.take() {
        Some(message) => Err(Problem::failed(message)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn spec(addrs: Vec<SocketAddr>) -> Spec {
        Spec {
            addrs,
            connections: 3,
            pace: Pace::InFlight(1),
            size: 64,
            latency: false,
            options: ConnectOptions::default(),
        }
    }

    /// Returns an address on which no socket listens, unless another process binds it.
    fn refusing() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("its address")
    }

    #[test]
    fn load_tries_all_addresses_of_a_name() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let load = Load::connect(&spec(vec![refusing(), refusing(), addr])).expect("one listens");
        assert_eq!((load.addr, load.clients.connected), (addr, 3));
    }

    #[test]
    fn load_names_each_address_that_cannot_be_reached() {
        let addrs = vec![refusing(), refusing()];
        let problem = Load::connect(&spec(addrs.clone())).err();
        let problem = problem.expect("nobody listens").to_string();
        for addr in addrs {
            assert!(problem.contains(&addr.to_string()), "{problem}");
        }
    }
}
