//! A simulated network for the tests of handlers, and of throng itself. Needs the feature `sim`.
//!
//! The real [`Reactor`](crate::Reactor) and [`Net`](crate::Net) run in it, with real connections, queues and timers and
//! with your handler. Only streams, listeners, the selector and the clock are simulated. There are no threads, no
//! sockets and no real waiting, so a test takes microseconds, and the same seed repeats it exactly.
//!
//! - [`World`] is the network, with its clock.
//! - [`Host`] is an event loop in it. There can be several, connected to each other.
//! - [`Peer`] is a scripted peer: it sends, expects, stalls and resets at the request of a test.
//! - [`Faults`] sets which faults occur, and how often; the seed decides when.
//! - [`Chaos`] drives many random peers.
//! - [`check`] runs a scenario with many seeds, and reports the smallest failing one.
//! - [`Contract`] checks what [`Handler`](crate::Handler) promises, in each callback of each host.
//!
//! Add the feature to your tests:
//!
//! ```toml
//! [dev-dependencies]
//! throng = { version = "0.1", features = ["sim"] }
//! ```
//!
//! The [guide](crate::guide#testing-your-handler) begins with a test of ten lines, and ends with random peers.
//!
//! TLS works as with real sockets: between two hosts of a world, with the options of `tls`. rustls has randomness and a
//! clock of its own. `World::crypto_provider` and `World::time_provider` (with the feature `tls`) replace both, so that the
//! same seed still repeats a run exactly, if the certificate has an Ed25519 key. With another provider, handshakes may
//! differ by some bytes, and so may what follows. A [`Peer`] does not speak TLS.
//!
//! The selector behaves as epoll does: it reports changes once, and room in a send buffer only when a third of it is
//! free. Not simulated: Unix domain sockets, urgent data, name resolution, and sockets that two processes share.

mod chaos;
mod checked;
mod contract;
#[cfg(feature = "tls")]
mod crypto;
mod host;
mod peer;
mod rules;
mod seeds;
mod world;

pub use crate::socket::sim::{Faults, Link, ListenSocket, Random, Stream};
pub use chaos::{Chaos, Log};
pub use contract::Contract;
pub use host::Host;
pub use peer::{End, Listener, Peer};
pub use seeds::check;
pub use world::World;
