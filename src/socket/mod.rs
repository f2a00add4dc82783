//! The sockets under connections and listeners. Below the listeners nothing else makes system calls.

mod claim;
#[cfg(unix)]
mod descriptor;
mod listening;
mod readiness;
mod stream;
mod tuning;

use std::fmt;
use std::net::SocketAddr;

use mio::Interest;

pub(crate) use claim::{claim, give_up};
pub use listening::ListenSocket;
pub(crate) use listening::Sharing;
pub use readiness::Readiness;
pub use stream::Stream;

/// What is asked of the selector while nothing waits to be written.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const READ_INTEREST: Interest = Interest::READABLE.add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const READ_INTEREST: Interest = Interest::READABLE;

/// What is asked of the selector while a connection is neither read nor waits to be written: something that hardly ever
/// happens, since nothing at all cannot be asked for. Errors are told of all the same.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const NO_INTEREST: Interest = Interest::PRIORITY;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const NO_INTEREST: Interest = Interest::WRITABLE;

/// An address to be shown to people.
pub(crate) struct Shown(pub(crate) Option<SocketAddr>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("a Unix domain socket"),
        }
    }
}
