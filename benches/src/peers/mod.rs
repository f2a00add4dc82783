//! Servers that do the work of this crate's by other means, each as someone would write it who knows the library well.
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

/// All by name, and whether they can broadcast.
const ALL: [(&str, bool); 5] = [
    ("tokio-codec", false),
    ("tokio-batched", false),
    ("tokio-by-hand", false),
    ("mio-by-hand", true),
    ("message-io", true),
];

/// The names of all, and whether they can broadcast.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, bool)> {
    ALL.into_iter()
}

pub(crate) fn run(options: &Options) -> Result<(), Problem> {
    let can_broadcast = matches!(options.name, Name::MioByHand | Name::MessageIo);
    if options.mode == Reply::Broadcast && !can_broadcast {
        return Err(Problem::usage("this server does not broadcast"));
    }
    options.parent.end_with_it();
    if options.name == Name::MessageIo {
        return message_io::serve(&options.addr, options.mode);
    }
    let listener = listen::at(&options.addr)?;
    match options.name {
        Name::TokioCodec => tokio_server::serve(listener, tokio_codec::echo),
        Name::TokioBatched => tokio_server::serve(listener, tokio_codec::echo_batched),
        Name::TokioByHand => tokio_server::serve(listener, tokio_by_hand::echo),
        Name::MioByHand => mio_by_hand::serve(listener, options.mode),
        Name::MessageIo => Ok(()),
    }?;
    Ok(())
}
