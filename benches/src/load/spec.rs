//! What a load is asked to do.

use std::net::SocketAddr;

use throng::{Config, ConnectOptions};

/// What to do to a server.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Where the server may be. The first address that can be reached is loaded.
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) connections: u32,
    pub(crate) pace: Pace,
    /// Bytes of payload.
    pub(crate) size: u32,
    /// Whether to note how long each frame takes.
    pub(crate) latency: bool,
    /// How to connect.
    pub(crate) options: ConnectOptions,
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
