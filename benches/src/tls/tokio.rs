//! The peer of the measurement: an echo server for the same protocol with tokio-rustls, on one thread. It has no limits
//! and no deadlines, and takes a peer at its word about the length of a frame.

use std::io;
use std::sync::Arc;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::ServeOptions;
use crate::parent::Parent;
use crate::problem::Problem;
use crate::report;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    addr: String,
    #[command(flatten)]
    tls: ServeOptions,
    #[command(flatten)]
    parent: Parent,
}

pub(crate) fn run(options: &Options) -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let config = options.tls.config()?;
    let config = config.ok_or_else(|| Problem::usage("expected --tls-cert and --tls-key"))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&options.addr).await?;
        report::say(format_args!("listening on {}", listener.local_addr()?));
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        let mut look_up = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    stream.set_nodelay(true)?;
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            let _ = echo(stream).await;
                        }
                    });
                }
                _ = look_up.tick() => if options.parent.is_gone() {
                    return Ok(());
                },
            }
        }
    })
}

/// Echoes frames. The replies to all frames that are in the buffer are written at once.
async fn echo(stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(16 * 1024, stream);
    let mut replies = Vec::new();
    loop {
        let mut header = [0; 4];
        if let Err(error) = stream.read_exact(&mut header).await {
            let is_end = error.kind() == io::ErrorKind::UnexpectedEof;
            return if is_end { Ok(()) } else { Err(error) };
        }
        let from = replies.len();
        replies.extend_from_slice(&header);
        replies.resize(from + 4 + u32::from_le_bytes(header) as usize, 0);
        stream.read_exact(&mut replies[from + 4..]).await?;
        if stream.buffer().len() < 4 {
            stream.get_mut().write_all(&replies).await?;
            stream.get_mut().flush().await?;
            replies.clear();
        }
    }
}
