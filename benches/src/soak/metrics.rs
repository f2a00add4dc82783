//! What the server says of itself: the text of its statistics.

use std::net::SocketAddr;
use std::time::Instant;

use super::PATIENCE;
use super::server::STATS;
use super::wire::Wire;
use crate::problem::Problem;

/// Ends that clients of a soak cause. Any other is a fault.
const KNOWN: [&str; 4] = [
    "peer_closed",
    "peer_closed_inside_frame",
    "reset",
    "closed_locally",
];

/// How often the server has run out of descriptors.
pub(super) const PAUSES: &str = "throng_accept_pauses_total";

/// The ended connections by their cause.
pub(super) const DISCONNECTS: &str = "throng_disconnects_total";

/// A connection that asks for the statistics.
pub(super) struct Control(Wire);

impl Control {
    pub(super) fn connect(addr: SocketAddr) -> Result<Self, Problem> {
        Ok(Self(Wire::connect(addr, STATS, 0)?))
    }

    pub(super) fn ask(&mut self) -> Result<Metrics, Problem> {
        self.0.send(b"?")?;
        let text = self.0.receive()?.unwrap_or_default();
        Ok(Metrics(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Waits until only this connection is left, and nothing is held for others.
    pub(super) fn expect_quiet(&mut self) -> Result<Metrics, Problem> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.ask()?;
            let stages = ["connecting", "closing", "open"];
            let stages = stages.map(|stage| {
                let sample = format!("throng_connections{{stage=\"{stage}\"}}");
                stats.value(&sample)
            });
            let held = stats.value("throng_memory_bytes");
            if stages == [0, 0, 1] && held == 0 {
                return Ok(stats);
            }
            if Instant::now() > deadline {
                return Err(Problem::failed(format!(
                    "the server is left with connections (connecting, closing, open): {stages:?}, and holds {held} bytes"
                )));
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// The text of the statistics.
pub(super) struct Metrics(String);

impl Metrics {
    /// Returns the value of a sample; zero if there is none.
    pub(super) fn value(&self, sample: &str) -> u64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(sample));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Returns the samples of a metric, by their label.
    pub(super) fn labelled(&self, name: &str) -> Vec<(String, u64)> {
        let samples = self.0.lines().filter_map(|line| {
            let (label, value) = line.strip_prefix(name)?.split_once("\"} ")?;
            let (_, label) = label.split_once("=\"")?;
            Some((label.to_string(), value.parse().ok()?))
        });
        samples.collect()
    }
}

/// Fails if a connection has ended for a reason for which none should.
pub(super) fn expect_known(causes: &[(String, u64)]) -> Result<(), Problem> {
    let mut others = causes.iter().filter(|(_, ended)| *ended > 0);
    match others.find(|(cause, _)| !KNOWN.contains(&cause.as_str())) {
        None => Ok(()),
        Some((cause, ended)) => Err(Problem::failed(format!(
            "{ended} connections have ended with the cause {cause}"
        ))),
    }
}
