//! TLS: the session of a connection, between its socket and its decrypted bytes.
//!
//! ```text
//!   socket --read--> ciphertext of the loop --> rustls --> plaintext, read like the bytes of a socket
//!   socket <-write-- ciphertext of the loop <-- rustls <-- plaintext, written like to a socket
//!                    what the socket does not take stays in `pending`
//! ```
//!
//! rustls implements the protocol. The session makes the system calls, in large pieces, and counts the bytes it holds.

mod handshake;
mod hello;
#[cfg(feature = "sim")]
mod ledger;
mod pending;
mod records;
mod session;

pub(crate) use handshake::{Failure, Stage, Step};
pub(crate) use hello::{alert, has_client_hello};
#[cfg(feature = "sim")]
pub(crate) use ledger::Passed;
pub(crate) use session::{Buffers, Held, Session};
