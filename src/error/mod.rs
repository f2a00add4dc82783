//! The errors of throng, one small type per operation.
//!
//! The reason why a connection ended is not one of them; see [`DisconnectReason`](crate::DisconnectReason).

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
