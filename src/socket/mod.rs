//! The sockets of connections and listeners. In the layers below the listeners, only this module makes system calls.

mod claim;
#[cfg(unix)]
mod descriptor;
mod eof;
mod handle;
mod listening;
mod no_signal;
mod readiness;
mod selector;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod stream;
mod tuning;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::net::SocketAddr;

use mio::Interest;

pub(crate) use claim::{claim, give_up};
pub(crate) use eof::peer_has_closed;
pub use listening::ListenSocket;
pub(crate) use listening::{Local, Sharing};
pub use readiness::Readiness;
pub(crate) use selector::Selector;
pub use stream::Stream;
#[cfg(unix)]
pub(crate) use unix::SocketFile;

/// The interest while no write is pending.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const READ_INTEREST: Interest = Interest::READABLE.add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const READ_INTEREST: Interest = Interest::READABLE;

/// The interest while throng neither reads from a connection nor has a write pending. An empty interest is not
/// possible, so this is an event that hardly ever occurs. Errors are reported regardless.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const NO_INTEREST: Interest = Interest::PRIORITY;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const NO_INTEREST: Interest = Interest::WRITABLE;

/// An address for display.
pub(crate) struct Shown(pub(crate) Option<SocketAddr>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("a peer without an address"),
        }
    }
}
