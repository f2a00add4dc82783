//! tokio with the codec of `tokio-util`: the loop from its documentation, and one that writes once for many frames.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, FramedRead, FramedWrite, LengthDelimitedCodec};

/// The largest frame.
const MOST: usize = 1 << 30;
/// How many frames wait for a writer at most before it writes.
const AT_ONCE: usize = 64;

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

/// Replies to all that has been read, and only then writes. Larger buffers than the default ones make it slower.
pub(super) async fn echo_batched(stream: TcpStream) -> io::Result<()> {
    let mut frames = Framed::new(stream, codec());
    while let Some(mut frame) = frames.next().await {
        loop {
            frames.feed(frame?.freeze()).await?;
            frame = match frames.next().now_or_never() {
                Some(Some(next)) => next,
                Some(None) => return SinkExt::<Bytes>::flush(&mut frames).await,
                None => break,
            };
        }
        SinkExt::<Bytes>::flush(&mut frames).await?;
    }
    Ok(())
}

/// A channel to each connection.
#[derive(Clone, Default)]
pub(super) struct Members(Arc<Mutex<Vec<UnboundedSender<Bytes>>>>);

/// Sends each frame to all. Whether a writer waits for more frames before it writes is the difference of the two.
pub(super) async fn broadcast(
    stream: TcpStream,
    members: Members,
    is_batched: bool,
) -> io::Result<()> {
    let (sender, receiver) = unbounded_channel();
    let lock = || members.0.lock().unwrap_or_else(PoisonError::into_inner);
    lock().push(sender);
    let (input, output) = stream.into_split();
    let mut input = FramedRead::new(input, codec());
    let output = FramedWrite::new(output, codec());
    let read = async {
        while let Some(frame) = input.next().await {
            let frame = frame?.freeze();
            // That fails where the other end is gone.
            lock().retain(|member| member.send(frame.clone()).is_ok());
        }
        Err::<(), io::Error>(ErrorKind::UnexpectedEof.into())
    };
    let write = async {
        if is_batched {
            write_batched(receiver, output).await
        } else {
            write(receiver, output).await
        }
    };
    try_join(read, write).await?;
    Ok(())
}

type Output = FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>;

async fn write(mut frames: UnboundedReceiver<Bytes>, mut output: Output) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        output.send(frame).await?;
    }
    Ok(())
}

async fn write_batched(mut frames: UnboundedReceiver<Bytes>, mut output: Output) -> io::Result<()> {
    let mut batch = Vec::new();
    while frames.recv_many(&mut batch, AT_ONCE).await > 0 {
        for frame in batch.drain(..) {
            output.feed(frame).await?;
        }
        SinkExt::<Bytes>::flush(&mut output).await?;
    }
    Ok(())
}
