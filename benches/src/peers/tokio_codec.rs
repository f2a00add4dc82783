//! tokio with the codec of `tokio-util`: the loop from its documentation, and one that writes once for many frames.

use std::io;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// The largest frame.
const MOST: usize = 1 << 30;
/// What the batched loop reads at a time, and writes at a time.
const BUFFER: usize = 64 * 1024;

fn codec() -> LengthDelimitedCodec {
    let mut codec = LengthDelimitedCodec::builder();
    codec.little_endian().max_frame_length(MOST).new_codec()
}

pub(super) async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut frames = Framed::new(stream, codec());
    while let Some(frame) = frames.next().await {
        frames.send(frame?.freeze()).await?;
    }
    Ok(())
}

/// Replies to all that has been read, and only then writes.
pub(super) async fn echo_batched(stream: TcpStream) -> io::Result<()> {
    let mut frames = Framed::with_capacity(stream, codec(), BUFFER);
    frames.set_backpressure_boundary(BUFFER);
    while let Some(mut frame) = frames.next().await {
        loop {
            frames.feed(frame?.freeze()).await?;
            frame = match frames.next().now_or_never() {
                Some(Some(next)) => next,
                Some(None) => return flush(&mut frames).await,
                None => break,
            };
        }
        flush(&mut frames).await?;
    }
    Ok(())
}

async fn flush(frames: &mut Framed<TcpStream, LengthDelimitedCodec>) -> io::Result<()> {
    SinkExt::<Bytes>::flush(frames).await
}
