//! The load generator: outbound connections that send frames, check what comes back and send the next.
//!
//! Closed-loop, a connection has a fixed number of frames in flight, and sends one for each that comes back: the server
//! sets the pace. Open-loop, frames are due at a fixed rate, whatever the server does, and the time until one is back
//! counts from when it was due: a server that stalls is not spared the frames it would have got meanwhile.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use throng::{Config, ConnectionId, DisconnectReason, EventLoop, Frame, Handler, Net};

use crate::cli::{self, LoadOptions};
use crate::problem::Problem;
use crate::progress::Progress;
use crate::report::{self, grouped};
use crate::{limits, pause, usage};

/// Attempts to connect under way at a time: fewer than a listener's backlog, so that none is dropped and tried again.
const CONNECTING_AT_ONCE: usize = 256;
/// How long nothing may happen before a server is taken for dead.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest wait of a turn, so that progress is shown and the end is noticed.
const TICK: Duration = Duration::from_millis(20);

/// What to do to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) addr: SocketAddr,
    pub(crate) connections: u32,
    pub(crate) pace: Pace,
    /// Bytes of payload.
    pub(crate) size: u32,
    /// Whether to note how long each frame takes.
    pub(crate) latency: bool,
}

/// What makes a frame be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// One that came back: so many are in flight on each connection.
    InFlight(u32),
    /// The time: so many are due each second, on all connections together.
    PerSecond(u32),
}

impl Pace {
    pub(crate) fn of(options: &LoadOptions) -> Self {
        match options.rate {
            Some(rate) => Self::PerSecond(rate),
            None => Self::InFlight(options.pipeline),
        }
    }
}

/// What came of it, over some time.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) frames: u64,
    pub(crate) elapsed: Duration,
    /// Processor time of this process.
    pub(crate) own_cpu: Option<Duration>,
    /// From when a frame was sent, or due, to having it back, in nanoseconds.
    latency: Option<Histogram<u64>>,
}

impl Figures {
    /// Below which so much of the frames were, if that was measured.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<Duration> {
        let histogram = self.latency.as_ref()?;
        Some(Duration::from_nanos(histogram.value_at_quantile(quantile)))
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.frames as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn as_json(&self, size: u32) -> Value {
        let latency = self.latency.as_ref().map(|histogram| {
            json!({
                "p50": histogram.value_at_quantile(0.5),
                "p99": histogram.value_at_quantile(0.99),
                "p99_9": histogram.value_at_quantile(0.999),
                "max": histogram.max(),
            })
        });
        json!({
            "frames": self.frames,
            "seconds": self.elapsed.as_secs_f64(),
            "frames_per_second": self.per_second(),
            "payload_bytes_per_second": self.per_second() * f64::from(size),
            "latency_ns": latency,
        })
    }

    pub(crate) fn say(&self, size: u32) {
        report::say(format_args!(
            "throughput    {} frames/s, {:.1} MB/s each way",
            grouped(self.per_second() as u64),
            self.per_second() * f64::from(size) / 1e6,
        ));
        if let Some(histogram) = &self.latency {
            let at = |quantile| micros(histogram.value_at_quantile(quantile));
            report::say(format_args!(
                "latency       p50 {}, p99 {}, p99.9 {}, max {}",
                at(0.5),
                at(0.99),
                at(0.999),
                micros(histogram.max()),
            ));
        }
    }
}

fn micros(nanos: u64) -> String {
    match nanos {
        0..10_000_000 => format!("{:.0} µs", nanos as f64 / 1e3),
        _ => format!("{:.1} ms", nanos as f64 / 1e6),
    }
}

/// Loads a server and tells how it did.
pub(crate) fn run(options: &LoadOptions, json: Option<&Path>) -> Result<(), Problem> {
    let spec = Spec {
        addr: cli::resolve(&options.addr)?,
        connections: limits::fit(options.connections),
        pace: Pace::of(options),
        size: options.size,
        latency: true,
    };
    let mut load = Load::connect(spec)?;
    report::say(format_args!(
        "connected     {} to {}",
        grouped(spec.connections.into()),
        spec.addr
    ));
    let figures = load.measure_with_progress(options.seconds)?;
    figures.say(spec.size);
    report::write_json(
        json,
        &json!({
            "addr": spec.addr.to_string(),
            "connections": spec.connections,
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
}

impl Load {
    /// Opens all connections. They stay idle for now.
    pub(crate) fn connect(spec: Spec) -> Result<Self, Problem> {
        let mut load = Self {
            event_loop: EventLoop::new(Config::default())?,
            clients: Clients::new(spec),
        };
        let total = spec.connections as usize;
        let mut progress = Progress::new(total as u64);
        let mut started = 0;
        let mut watch = Watch::new();
        while load.clients.connected < total {
            while started < total && started - load.clients.connected < CONNECTING_AT_ONCE {
                let id = load.event_loop.net().connect(spec.addr);
                id.map_err(|error| Problem::failed(error.to_string()))?;
                started += 1;
            }
            load.turn(TICK)?;
            watch.expect(
                load.clients.connected as u64,
                "no connection was established",
            )?;
            progress.at(load.clients.connected as u64, || {
                format!(
                    "              {} connections",
                    grouped(load.clients.connected as u64)
                )
            });
        }
        Ok(load)
    }

    /// Runs the load for a while, then waits for what is still under way: no frame may be missing.
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
        if let Some(latency) = &mut self.clients.latency {
            latency.reset();
        }
        let frames = self.clients.frames;
        let own_cpu = usage::cpu_time(std::process::id());
        let start = Instant::now();
        let mut watch = Watch::new();
        self.clients.start(self.event_loop.net(), start);
        while self.clients.is_sending || self.clients.in_flight > 0 {
            let wait = self.clients.send_due(self.event_loop.net(), start);
            let wait = pause::until_readable(&self.event_loop, wait);
            self.turn(wait)?;
            watch.expect(self.clients.frames, "no frame came back")?;
            let elapsed = start.elapsed();
            self.clients.is_sending = elapsed < length;
            tell(elapsed, self.clients.frames - frames);
        }
        let now = usage::cpu_time(std::process::id());
        Ok(Figures {
            frames: self.clients.frames - frames,
            elapsed: start.elapsed(),
            own_cpu: now.zip(own_cpu).map(|(now, before)| now - before),
            latency: self.clients.latency.clone(),
        })
    }

    fn turn(&mut self, wait: Duration) -> Result<(), Problem> {
        self.event_loop.turn(&mut self.clients, Some(wait))?;
        match self.clients.problem.take() {
            Some(message) => Err(Problem::failed(message)),
            None => Ok(()),
        }
    }
}

/// Finds out that nothing moves any more.
struct Watch {
    last: u64,
    since: Instant,
}

impl Watch {
    fn new() -> Self {
        Self {
            last: 0,
            since: Instant::now(),
        }
    }

    fn expect(&mut self, count: u64, otherwise: &str) -> Result<(), Problem> {
        if count != self.last {
            self.last = count;
            self.since = Instant::now();
        } else if self.since.elapsed() > PATIENCE {
            return Err(Problem::failed(format!("{otherwise} for {PATIENCE:?}")));
        }
        Ok(())
    }
}

/// All connections of a load.
struct Clients {
    spec: Spec,
    /// By the index of their ids.
    clients: Vec<Client>,
    connected: usize,
    frames: u64,
    in_flight: u64,
    is_sending: bool,
    /// All connections, and how many frames were due so far, if the time sets the pace.
    ids: Vec<ConnectionId>,
    due: u64,
    /// What is sent: a stamp, then a pattern.
    payload: Vec<u8>,
    latency: Option<Histogram<u64>>,
    /// What went wrong first.
    problem: Option<String>,
}

#[derive(Default)]
struct Client {
    sent: u32,
    received: u32,
    /// When the frames under way were sent, or due.
    since: VecDeque<Instant>,
}

impl Clients {
    fn new(spec: Spec) -> Self {
        // Up to an hour, to three digits. These bounds are valid, so there is an histogram.
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000_000, 3).ok();
        Self {
            spec,
            clients: Vec::new(),
            connected: 0,
            frames: 0,
            in_flight: 0,
            is_sending: false,
            ids: Vec::new(),
            due: 0,
            payload: (0..spec.size).map(|i| (i % 251) as u8).collect(),
            latency: spec.latency.then(histogram).flatten(),
            problem: None,
        }
    }

    /// Begins to send. What is in flight at a time is put in flight; each frame that comes back is followed by another.
    fn start(&mut self, net: &mut Net, now: Instant) {
        self.is_sending = true;
        self.due = 0;
        self.ids = net.connections();
        if let Pace::InFlight(frames) = self.spec.pace {
            for id in net.connections() {
                for _ in 0..frames {
                    self.send(net, id, now);
                }
            }
        }
    }

    /// Sends what has become due since `start`. Returns how long to wait for events.
    fn send_due(&mut self, net: &mut Net, start: Instant) -> Duration {
        let Pace::PerSecond(rate) = self.spec.pace else {
            return TICK;
        };
        let rate = f64::from(rate);
        while self.is_sending && self.due as f64 / rate <= start.elapsed().as_secs_f64() {
            let id = self.ids[self.due as usize % self.ids.len()];
            self.send(
                net,
                id,
                start + Duration::from_secs_f64(self.due as f64 / rate),
            );
            self.due += 1;
        }
        let next = Duration::from_secs_f64(self.due as f64 / rate);
        next.saturating_sub(start.elapsed()).min(TICK)
    }

    fn send(&mut self, net: &mut Net, id: ConnectionId, since: Instant) {
        let client = &mut self.clients[id.index()];
        if self.latency.is_some() {
            client.since.push_back(since);
        }
        write_stamp(&mut self.payload, id, client.sent);
        client.sent = client.sent.wrapping_add(1);
        self.in_flight += 1;
        if let Err(error) = net.send(id, &self.payload) {
            self.problem.get_or_insert_with(|| error.to_string());
        }
    }

    /// Whether this is the frame that was sent first of those in flight.
    fn is_expected(&mut self, id: ConnectionId, frame: &[u8]) -> bool {
        let client = &mut self.clients[id.index()];
        write_stamp(&mut self.payload, id, client.received);
        client.received != client.sent && frame == self.payload
    }
}

/// The first eight bytes, or as many as there are, tell frames and connections apart.
fn write_stamp(payload: &mut [u8], id: ConnectionId, number: u32) {
    let stamp = u64::from(number) | (id.index() as u64) << 32;
    let len = payload.len().min(8);
    payload[..len].copy_from_slice(&stamp.to_le_bytes()[..len]);
}

impl Handler for Clients {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.connected += 1;
        if self.clients.len() <= id.index() {
            self.clients.resize_with(id.index() + 1, Client::default);
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if !self.is_expected(id, &frame) {
            self.problem.get_or_insert_with(|| {
                format!("connection {id} got {frame:?}, which is not the frame it had sent")
            });
            return;
        }
        let client = &mut self.clients[id.index()];
        client.received = client.received.wrapping_add(1);
        self.frames += 1;
        self.in_flight -= 1;
        let mut now = net.now();
        if let Some(latency) = &mut self.latency
            && let Some(since) = client.since.pop_front()
        {
            now = Instant::now();
            latency.saturating_record((now - since).as_nanos() as u64);
        }
        if self.is_sending && matches!(self.spec.pace, Pace::InFlight(_)) {
            self.send(net, id, now);
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let addr = self.spec.addr;
        let left = net.len();
        self.problem.get_or_insert_with(|| {
            format!("connection {id} to {addr} ended: {reason} ({left} others are open)")
        });
    }
}
