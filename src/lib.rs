// The included documents define their links at the end, relative to the repository. The same names are defined here
// first, as rustdoc links: in Markdown the first definition of a name wins.
//! [guide]: crate::guide
//! [driving]: crate::guide#three-ways-to-drive-it
//! [queued]: crate::guide#bytes-queued-per-connection
//! [testing]: crate::guide#testing-your-handler
//! [protocol]: crate::protocol
//! [benchmarks]: crate::benchmarks
//! [design]: crate::design
//! [examples]: https://docs.rs/crate/throng/latest/source/examples/
//! [MIT]: https://opensource.org/license/mit
//! [Apache 2.0]: https://www.apache.org/licenses/LICENSE-2.0
#![doc = include_str!("../README.md")]
//!
//! # The path of a byte
//!
//! ```text
//! in    socket -> read buffer of the loop -> frame decoder -> Handler::on_data
//!                                       |          ^
//!                                       +-- held --+   only what is left of a frame that did not arrive whole
//!
//! out   Net::send -> write queue of the connection -> one write -> socket
//! ```
//!
//! A frame that arrived whole is passed to the handler in place, inside the read buffer. A payload that is sent is
//! copied once, into the queue, or not at all if it is large and owned. All of this happens in
//! [`Reactor::finish_turn`], on one thread, between two polls. The [design] page has details.

#![forbid(unsafe_code)]

#[macro_use]
mod mutation;

mod buffers;
mod config;
mod connection;
mod connection_id;
#[cfg(test)]
mod duration_limits;
mod error;
mod event_loop;
mod fanout;
mod flood;
mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod handler;
mod in_loop;
mod link;
mod mailbox;
mod memory;
mod net;
mod peer_addr;
#[cfg(feature = "proxy")]
mod proxy;
mod rate;
mod reactor;
mod read_buffer;
mod reason;
mod shards;
#[cfg(feature = "sim")]
pub mod sim;
mod socket;
mod stats;
mod tick;
mod timers;
#[cfg(feature = "tls")]
mod tls;
mod work;
mod write_queue;

pub use config::{Config, ConnectOptions, Excess, ListenOptions, Overflow};
pub use connection::{Backlog, Origin};
pub use connection_id::{ConnectionId, ListenerId};
pub use error::{
    DecodeError, EncodeError, FirstBytes, MailboxError, OpenError, OptionsError, OutOfMemory,
    ParseIdError, RegisterError, Rejected, SendError,
};
pub use event_loop::EventLoop;
pub use frame::{
    Chunk, Decoded, Envelope, Frame, FrameDecoder, FrameEncoder, FrameFormat, FrameWriter, Framing,
    LengthPrefix, Lines,
};
pub use handler::{Admission, Handler};
pub use mailbox::{Answer, Handle, Mailbox, Post, Ready};
#[cfg(feature = "tls")]
pub use net::Tls;
pub use net::{ConnectionRef, Expired, ListenerRef, Net, SendReport, Timer, TimerId};
#[cfg(feature = "proxy")]
pub use proxy::{IpNetwork, ParseNetworkError, ProxyHeader, ProxyProtocol};
pub use reactor::Reactor;
pub use reason::{DisconnectCause, DisconnectReason, RateLimit, Released, Side, Stage};
pub use shards::{
    Balance, JoinError, Shard, ShardError, ShardFailure, ShardHandles, ShardedId, Shards,
    ShardsBuilder,
};
pub use socket::{ListenSocket, Readiness, Stream};
pub use stats::{ConnectionsByStage, DisconnectsByCause, RefusalsByReason, Stats, TurnTimes};

/// Re-export of mio, whose types are part of this crate's API.
pub use mio;

/// Re-export of rustls, whose types are part of this crate's API with the feature `tls`.
#[cfg(feature = "tls")]
pub use rustls;

/// Hardening a server against its peers, operating it, and embedding the loop in other programs.
///
/// [`restart`]: https://docs.rs/crate/throng/latest/source/examples/restart.rs
/// [`socket_activation`]: https://docs.rs/crate/throng/latest/source/examples/socket_activation.rs
/// [`game_tick`]: https://docs.rs/crate/throng/latest/source/examples/game_tick.rs
/// [`embed_tokio`]: https://docs.rs/crate/throng/latest/source/examples/embed_tokio.rs
/// [`embed_smol`]: https://docs.rs/crate/throng/latest/source/examples/embed_smol.rs
/// [`embed_calloop`]: https://docs.rs/crate/throng/latest/source/examples/embed_calloop.rs
/// [`embed_mio`]: https://docs.rs/crate/throng/latest/source/examples/embed_mio.rs
/// [`metrics`]: https://docs.rs/crate/throng/latest/source/examples/metrics.rs
/// [`shards`]: https://docs.rs/crate/throng/latest/source/examples/shards.rs
/// [`simulated_game`]: https://docs.rs/crate/throng/latest/source/examples/simulated_game.rs
#[doc = include_str!("../docs/GUIDE.md")]
pub mod guide {}

/// The bytes on the wire, with clients in Python and C#.
///
#[doc = include_str!("../docs/PROTOCOL.md")]
pub mod protocol {}

/// How throng works inside: terms, data path, turn, invariants, and decisions with their costs.
///
/// [README]: crate
/// [guide]: crate::guide
/// [protocol]: crate::protocol
/// [benchmarks]: crate::benchmarks
/// [Planted faults]: crate::mutations
#[doc = include_str!("../docs/DESIGN.md")]
pub mod design {}

/// Results of measurements, with the commands that produced them.
///
/// [driving]: crate::guide#three-ways-to-drive-it
#[doc = concat!("[scale]: data:image/svg+xml,", include_str!("../docs/scale.uri"))]
#[doc = include_str!("../docs/BENCHMARKS.md")]
pub mod benchmarks {}

/// Faults that were planted on purpose, and how many simulated worlds it takes to find each.
#[doc = include_str!("../docs/MUTATIONS.md")]
pub mod mutations {}
