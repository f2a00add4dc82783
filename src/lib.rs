#![doc = include_str!("../README.md")]

mod buffers;
mod config;
mod connection;
mod connection_id;
mod dispatch;
mod error;
mod event_loop;
mod frame;
mod handler;
mod net;
mod reason;
mod socket;
mod timers;
mod write_queue;

pub use config::{Config, ConnectOptions, ListenOptions};
pub use connection::Origin;
pub use connection_id::{ConnectionId, ListenerId};
pub use error::{
    ConnectError, DecodeError, EncodeError, FirstBytes, ListenError, OptionsError, Rejected,
    SendError,
};
pub use event_loop::EventLoop;
pub use frame::{
    Decoded, Envelope, Frame, FrameDecoder, FrameEncoder, FrameFormat, FrameWriter, Framing,
    LengthPrefix,
};
pub use handler::{Admission, Handler};
pub use net::{Net, SendReport, Stats};
pub use reason::{DisconnectCause, DisconnectReason, Side, Stage};
