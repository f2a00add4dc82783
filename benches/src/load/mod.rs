//! The load generator: outbound connections that send frames, check what comes back and send the next.
//!
//! Closed-loop, a connection has a fixed number of frames in flight, and sends one for each that comes back: the server
//! sets the pace. Open-loop, frames are due at a fixed rate, whatever the server does, and the time until one is back
//! counts from when it was due: a server that stalls is not spared the frames it would have got meanwhile. What cannot be
//! sent is counted, and the load goes on.

mod broadcast;
mod churn;
mod echo;
mod figures;
mod schedule;
mod spec;
mod tally;
mod traffic;

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
pub(crate) use figures::Figures;
pub(crate) use spec::{Pace, Shape, Spec};
pub(crate) use traffic::Kind;
use traffic::Traffic;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:5000")]
    pub(crate) addr: String,
    /// How many connections; as many as the open-file limit allows, if that is less.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// What the connections do.
    #[arg(long, value_enum, default_value_t = Kind::Echo)]
    traffic: Kind,
    /// How many of them send; the others are idle. All, unless given; an echo only.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    active: Option<u32>,
    /// Frames in flight on each connection, or sent at a time if they are broadcast.
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
    pub(crate) fn shape(&self) -> Result<Shape, Problem> {
        if self.traffic != Kind::Echo && (self.rate.is_some() || self.active.is_some()) {
            return Err(Problem::usage(
                "--rate and --active are for the traffic echo only",
            ));
        }
        Ok(Shape {
            kind: self.traffic,
            connections: self.connections,
            active: self.active,
            pace: match self.rate {
                Some(rate) => Pace::PerSecond(rate),
                None => Pace::InFlight(self.pipeline),
            },
            size: self.size,
        })
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
    let shape = options.shape()?;
    let shape = Shape {
        connections: limits::fit(shape.connections),
        ..shape
    };
    let spec = Spec {
        addrs: values::resolve(&options.addr)?,
        shape,
        time_every: Some(1),
        options: options.connect()?,
    };
    let started = Instant::now();
    let mut load = Load::connect(&spec)?;
    let took = started.elapsed();
    report::say(format_args!(
        "connected     {} to {} in {took:.1?}",
        grouped(shape.connections.into()),
        load.addr
    ));
    let figures = load.measure_with_progress(options.seconds)?;
    figures.say(shape.size);
    report::write_json(
        json,
        &json!({
            "addr": load.addr.to_string(),
            "connections": shape.connections,
            "connect_seconds": took.as_secs_f64(),
            "pipeline": options.rate.is_none().then_some(options.pipeline),
            "rate": options.rate,
            "size": shape.size,
            "load": figures.as_json(shape.size),
        }),
    )
}

/// Connections under load.
pub(crate) struct Load {
    event_loop: EventLoop,
    traffic: Box<dyn Traffic>,
    pace: Pace,
    addr: SocketAddr,
}

impl Load {
    /// Opens all connections. They stay idle for now.
    pub(crate) fn connect(spec: &Spec) -> Result<Self, Problem> {
        let pace = spec.shape.pace;
        let mut event_loop = EventLoop::new(pace.config())?;
        let mut traffic = spec.shape.kind.traffic(spec);
        let addr = reach(&mut event_loop, &mut *traffic, spec)?;
        let mut load = Self {
            event_loop,
            traffic,
            pace,
            addr,
        };
        let total = spec.shape.connections as usize;
        let mut progress = Progress::new(total as u64);
        let mut connected = load.traffic.tally().connected;
        let mut started = connected;
        let mut watch = Watch::new();
        while connected < total {
            while started < total && started - connected < CONNECTING_AT_ONCE {
                let net = load.event_loop.net();
                let id = net.connect_with(addr, spec.options.clone());
                id.map_err(std::io::Error::from)?;
                started += 1;
            }
            turn(&mut load.event_loop, &mut *load.traffic, TICK)?;
            connected = load.traffic.tally().connected;
            watch.expect(connected as u64, "no connection was established")?;
            progress.at(connected as u64, || {
                format!("              {} connections", grouped(connected as u64))
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
        let traffic = &mut *self.traffic;
        if let Some(latency) = &mut traffic.tally().latency {
            latency.reset();
        }
        let frames = traffic.tally().frames;
        let own_cpu = usage::cpu_time(std::process::id());
        let start = Instant::now();
        let mut watch = Watch::new();
        let mut idle = Duration::ZERO;
        traffic.start(self.event_loop.net(), start, length);
        while traffic.tally().is_sending || traffic.tally().in_flight > 0 {
            let due = traffic.send_due(self.event_loop.net(), Instant::now());
            let now = Instant::now();
            let wait = due.map_or(TICK, |due| due.saturating_duration_since(now).min(TICK));
            let wait = pause::until_readable(&self.event_loop, wait);
            if due.is_some() {
                idle += now.elapsed();
            }
            turn(&mut self.event_loop, traffic, wait)?;
            let elapsed = start.elapsed();
            let tally = traffic.tally();
            match self.pace {
                Pace::InFlight(_) => {
                    watch.expect(tally.frames, "no frame came back")?;
                    tally.is_sending = elapsed < length;
                }
                // Frames that are not answered by then are counted: a server that does not answer is a result.
                Pace::PerSecond(_) if elapsed > length + OVERTIME => break,
                Pace::PerSecond(_) => {}
            }
            tell(elapsed, tally.frames - frames);
        }
        let now = usage::cpu_time(std::process::id());
        let idle = idle.as_secs_f64() / length.as_secs_f64();
        let tally = traffic.tally();
        Ok(Figures {
            frames: tally.frames - frames,
            elapsed: start.elapsed(),
            own_cpu: now.zip(own_cpu).map(|(now, before)| now - before),
            latency: tally.latency.clone(),
            open_loop: traffic.outcome(idle),
        })
    }
}

/// Opens the first connection, to the first address at which it is established. A name often has several, and the server
/// listens at one of them.
fn reach(
    event_loop: &mut EventLoop,
    traffic: &mut (dyn Traffic + 'static),
    spec: &Spec,
) -> Result<SocketAddr, Problem> {
    let mut open = |addr| {
        let id = event_loop.net().connect_with(addr, spec.options.clone());
        id.map_err(std::io::Error::from)?;
        let mut watch = Watch::new();
        while traffic.tally().connected == 0 {
            turn(event_loop, traffic, TICK)?;
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

fn turn(
    event_loop: &mut EventLoop,
    traffic: &mut (dyn Traffic + 'static),
    wait: Duration,
) -> Result<(), Problem> {
    event_loop.turn(traffic, Some(wait))?;
    match traffic.tally().problem.take() {
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
            shape: Shape::echo(3, Pace::InFlight(1), 64),
            time_every: None,
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
        let spec = spec(vec![refusing(), refusing(), addr]);
        let mut load = Load::connect(&spec).expect("one listens");
        assert_eq!((load.addr, load.traffic.tally().connected), (addr, 3));
    }

    #[test]
    fn load_names_each_address_that_cannot_be_reached() {
        let addrs = vec![refusing(), refusing()];
        let problem = Load::connect(&spec(addrs.clone())).err();
        let problem = problem.expect("a refused connection").to_string();
        for addr in addrs {
            assert!(problem.contains(&addr.to_string()), "{problem}");
        }
    }
}
