//! The errors of throng, one small type per operation.
//!
//! Why a connection ended is no error of an operation: that is a [`DisconnectReason`](crate::DisconnectReason).

mod framing;
mod mailbox;
mod open;
mod parse_id;
mod register;
mod release;
mod send;

pub use framing::{DecodeError, EncodeError, FirstBytes};
pub use mailbox::MailboxError;
pub use open::{ConnectError, ListenError, OptionsError};
pub use parse_id::ParseIdError;
pub use register::RegisterError;
pub use release::ReleaseError;
pub use send::{Rejected, SendError};
