//! What a load is asked to do.

use std::net::SocketAddr;

use throng::{Config, ConnectOptions};

use super::traffic::Kind;

/// What to do to a server.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Where the server may be. The first address that can be reached is loaded.
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) shape: Shape,
    /// Of so many frames of a connection one is timed; `None` for none. Reading the clock takes its time.
    pub(crate) time_every: Option<u32>,
    /// How to connect.
    pub(crate) options: ConnectOptions,
}

/// How many connections do what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) connections: u32,
    /// How many of them send, if not all.
    pub(crate) active: Option<u32>,
    pub(crate) pace: Pace,
    /// Bytes of payload.
    pub(crate) size: u32,
}

/// What makes a frame be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// One that came back: so many are in flight on each connection.
    InFlight(u32),
    /// The time: so many are due each second, on all connections together.
    PerSecond(u32),
}

impl Shape {
    /// All connections get back what they send.
    pub(crate) fn echo(connections: u32, pace: Pace, size: u32) -> Self {
        Self {
            kind: Kind::Echo,
            connections,
            active: None,
            pace,
            size,
        }
    }
}

impl Pace {
    /// What it asks of the library. To read while answers are not read by the other side would let both wait for ever.
    pub(super) fn config(self) -> Config {
        let config = Config::default().read_under_backpressure(true);
        match self {
            // All that is to be in flight may wait here.
            Self::InFlight(_) => config.max_queued_bytes(u64::MAX),
            Self::PerSecond(_) => config,
        }
    }
}
