//! Servers that do the work of this crate's by other means, each as an experienced user of the library would write it.
//!
//! All of them speak the default framing and run on one thread. None has a limit, a deadline or a disconnect reason.

mod by_hand;
mod message_io;
mod mio_by_hand;
mod tokio_by_hand;
mod tokio_codec;
mod tokio_server;

use clap::{Args, ValueEnum};

use crate::listen;
use crate::parent::Parent;
use crate::problem::Problem;
use crate::reply::Reply;

#[derive(Debug, Args)]
pub(crate) struct Options {
    name: Name,
    #[arg(long)]
    addr: String,
    #[arg(long, value_enum, default_value_t = Reply::Echo)]
    mode: Reply,
    #[command(flatten)]
    parent: Parent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    TokioCodec,
    TokioBatched,
    TokioByHand,
    MioByHand,
    MessageIo,
}

/// The names of all.
pub(crate) const NAMES: [&str; 5] = [
    "tokio-codec",
    "tokio-batched",
    "tokio-by-hand",
    "mio-by-hand",
    "message-io",
];

pub(crate) fn run(options: &Options) -> Result<(), Problem> {
    options.parent.end_with_it();
    if options.name == Name::MessageIo {
        return message_io::serve(&options.addr, options.mode);
    }
    let listener = listen::at(&options.addr)?;
    match (options.name, options.mode) {
        (Name::TokioCodec, Reply::Echo) => tokio_server::serve(listener, tokio_codec::echo),
        (Name::TokioBatched, Reply::Echo) => {
            tokio_server::serve(listener, tokio_codec::echo_batched)
        }
        (Name::TokioCodec | Name::TokioBatched, Reply::Broadcast) => {
            let members = tokio_codec::Members::default();
            let is_batched = options.name == Name::TokioBatched;
            tokio_server::serve(listener, |stream| {
                tokio_codec::broadcast(stream, members.clone(), is_batched)
            })
        }
        (Name::TokioByHand, Reply::Echo) => tokio_server::serve(listener, tokio_by_hand::echo),
        (Name::TokioByHand, Reply::Broadcast) => {
            let members = tokio_by_hand::Members::default();
            tokio_server::serve(listener, |stream| {
                tokio_by_hand::broadcast(stream, members.clone())
            })
        }
        (Name::MioByHand, mode) => mio_by_hand::serve(listener, mode),
        (Name::MessageIo, _) => Ok(()),
    }?;
    Ok(())
}
