//! The yardstick: a server for the same protocol on raw epoll, with the least work that is correct.
//!
//! It has no limits, no deadlines, no disconnect reasons and no handler, and it trusts the length that a peer declares.
//! What it does, it does in the fastest way known:
//!
//! - Readiness is edge-triggered. A read that returns less than it asked for is the last one of an event.
//! - A read goes into a buffer of 256 KiB that all connections share. A large frame is read into a buffer of its own,
//!   and the same call (`readv`) reads what follows it into the shared buffer.
//! - All replies of a read are written by one call (`writev`). Replies to small frames are copied together; large ones
//!   are written from where they were read.
//! - A large frame that the socket does not take at once stays in its buffer until it is written. Buffers are recycled,
//!   so that in the steady state there is no fresh memory to fault in.

#[cfg(target_os = "linux")]
mod peer;
#[cfg(target_os = "linux")]
mod pool;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod system;

use clap::Args;

use crate::parent::Parent;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Args)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) struct Options {
    #[arg(long)]
    addr: String,
    #[arg(long, value_enum, default_value_t = Reply::Echo)]
    mode: Reply,
    #[command(flatten)]
    parent: Parent,
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_: &Options) -> Result<(), Problem> {
    Err(Problem::usage(
        "the raw server needs epoll, which only Linux has",
    ))
}

#[cfg(target_os = "linux")]
pub(crate) fn run(options: &Options) -> Result<(), Problem> {
    use std::os::fd::AsRawFd;

    use crate::listen;

    let listener = listen::at(&options.addr)?;
    Ok(server::serve(
        listener.as_raw_fd(),
        options.mode,
        options.parent,
    )?)
}
