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
//! A frame that arrived whole is lent to the handler where it lies in the read buffer. A payload is copied once, into the
//! queue, or not at all if it is large and owned. All of it happens in [`Reactor::finish_turn`], on one thread, between two
//! waits for events.

#![forbid(unsafe_code)]

mod buffers;
mod config;
mod connection;
mod connection_id;
#[cfg(test)]
mod duration_limits;
mod error;
mod event_loop;
mod flood;
mod frame;
mod handler;
mod in_loop;
mod link;
mod mailbox;
mod memory;
mod net;
mod reactor;
mod reason;
mod shards;
mod socket;
mod tick;
mod timers;
mod work;
mod write_queue;

pub use config::{Config, ConnectOptions, ListenOptions, Overflow};
pub use connection::{Backlog, Origin};
pub use connection_id::{ConnectionId, ListenerId};
pub use error::{
    ConnectError, DecodeError, EncodeError, FirstBytes, ListenError, MailboxError, OptionsError,
    ParseIdError, RegisterError, Rejected, ReleaseError, SendError,
};
pub use event_loop::EventLoop;
pub use frame::{
    Chunk, Decoded, Envelope, Frame, FrameDecoder, FrameEncoder, FrameFormat, FrameWriter, Framing,
    LengthPrefix,
};
pub use handler::{Admission, Handler};
pub use mailbox::{Handle, Mailbox, Post};
pub use net::{ConnectionRef, Expired, Net, SendReport, Stats, Timer, TimerId};
pub use reactor::Reactor;
pub use reason::{DisconnectCause, DisconnectReason, Released, Side, Stage};
pub use shards::{
    Balance, JoinError, Shard, ShardError, ShardFailure, ShardHandles, ShardedId, Shards,
    ShardsBuilder,
};
pub use socket::{ListenSocket, Readiness, Stream};

/// The version of mio whose types are in this crate's interface.
pub use mio;

/// The programs of the guide compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/GUIDE.md")]
struct Guide;
