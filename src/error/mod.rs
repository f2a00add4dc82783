//! The errors of throng: a small type for each group of operations that fail in the same ways.
//!
//! A way to fail has one name. No variant is declared by two of these enums, except one that wraps the same type.
//!
//! The reason why a connection ended is not one of them; see [`DisconnectReason`](crate::DisconnectReason).

mod framing;
mod mailbox;
mod open;
mod parse_id;
mod register;
mod send;

pub use framing::{DecodeError, EncodeError, FirstBytes, OutOfMemory};
pub use mailbox::MailboxError;
pub use open::{OpenError, OptionsError};
pub use parse_id::ParseIdError;
pub use register::RegisterError;
pub use send::{Rejected, SendError};
