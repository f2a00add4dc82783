//! What a server other than this crate's does with a frame.

use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reply {
    /// Sends it back.
    Echo,
    /// Sends it to all connections, its sender included.
    Broadcast,
}
