//! An echo server that can be monitored: a second listener of the same loop answers `GET /metrics`, for Prometheus.
//!
//! ```text
//! cargo run --example metrics [ADDR [METRICS_ADDR]]          defaults: 127.0.0.1:5000, 127.0.0.1:9000
//! curl http://127.0.0.1:9000/metrics
//! ```
//!
//! A request has at most 8 KiB, and five seconds to arrive. Any client that can reach the second address can read the
//! statistics: bind it to an internal one.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io};

use throng::{
    Config, ConnectionId, DisconnectReason, EventLoop, Expired, Frame, Framing, Handler,
    ListenOptions, ListenerId, Net, Origin, Timer,
};

const LONGEST_REQUEST: usize = 8 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

struct Echo {
    /// The listener for metrics.
    metrics: ListenerId,
    /// The connections of that listener whose request is incomplete, each with what has arrived of it.
    requests: HashMap<ConnectionId, Vec<u8>>,
}

impl Handler for Echo {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let origin = net.connection(id).map(|connection| connection.origin());
        if origin == Some(Origin::Listener(self.metrics)) {
            self.requests.insert(id, Vec::new());
            net.set_timer(Timer::after(REQUEST_TIMEOUT).on(id), 0);
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let Some(request) = self.requests.get_mut(&id) else {
            if let Err(rejected) = net.send_frame(id, frame) {
                log::warn!("{id}: {rejected}");
            }
            return;
        };
        request.extend_from_slice(&frame);
        let is_complete = request.windows(4).any(|bytes| bytes == b"\r\n\r\n");
        if is_complete && request.len() <= LONGEST_REQUEST {
            let request = String::from_utf8_lossy(request).into_owned();
            self.answer(net, id, &request);
        } else if request.len() > LONGEST_REQUEST {
            self.respond(net, id, "431 Request Header Fields Too Large", PLAIN, "");
        }
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        if let Some(id) = expired.connection {
            self.respond(net, id, "408 Request Timeout", PLAIN, "");
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, _: DisconnectReason) {
        self.requests.remove(&id);
    }
}

const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Echo {
    /// Answers a complete request.
    fn answer(&mut self, net: &mut Net, id: ConnectionId, request: &str) {
        let mut words = request.split_whitespace();
        match (words.next(), words.next()) {
            (Some("GET"), Some("/metrics")) => {
                // Prometheus asks for OpenMetrics; others may not know it.
                let wants_openmetrics = request.contains("application/openmetrics-text");
                let (stats, mut text) = (net.stats(), String::new());
                let (written, kind) = if wants_openmetrics {
                    (stats.write_openmetrics(&mut text), OPENMETRICS)
                } else {
                    (stats.write_prometheus(&mut text), PLAIN)
                };
                match written {
                    Ok(()) => self.respond(net, id, "200 OK", kind, &text),
                    Err(_) => self.respond(net, id, "500 Internal Server Error", PLAIN, ""),
                }
            }
            (Some("GET"), Some(_)) => self.respond(net, id, "404 Not Found", PLAIN, ""),
            _ => self.respond(net, id, "405 Method Not Allowed", PLAIN, ""),
        }
    }

    /// Sends a response and closes the connection.
    fn respond(&mut self, net: &mut Net, id: ConnectionId, status: &str, kind: &str, body: &str) {
        self.requests.remove(&id);
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        if let Err(error) = net.send(id, (head + body).as_bytes()) {
            log::warn!("{id}: {error}");
        }
        net.disconnect(id);
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let addr = env::args().nth(1);
    let metrics = env::args().nth(2);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:5000");
    match serve(addr, metrics.as_deref().unwrap_or("127.0.0.1:9000")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("metrics: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(addr: &str, metrics: &str) -> io::Result<()> {
    let mut event_loop = EventLoop::new(Config::default())?;
    let net = event_loop.net();
    let listener = net.listen(addr)?;
    let metrics = net.listen_with(metrics, ListenOptions::default().framing(Framing::raw()))?;
    for listener in [listener, metrics] {
        if let Some(addr) = net.listener(listener).and_then(|it| it.local_addr()) {
            println!("listening on {addr}");
        }
    }
    let mut echo = Echo {
        metrics,
        requests: HashMap::new(),
    };
    event_loop.run(&mut echo)
}
