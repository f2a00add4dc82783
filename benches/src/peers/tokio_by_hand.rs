//! tokio without a codec: a task for each connection, buffers that all of them share while they run.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::by_hand::{Connection, Socket};
use crate::batch::Batch;

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

pub(super) async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut connection = Connection::default();
    poll_fn(|context| {
        let mut socket = Polled(&mut stream, context);
        // The read that blocks is what makes tokio wake this task. It makes no system call: tokio knows from a short
        // read that the socket is empty.
        let echoed = BATCH.with_borrow_mut(|batch| connection.echo(batch, &mut socket, true));
        match echoed {
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    })
    .await
}

/// A stream, and the task to wake when it can go on.
struct Polled<'s, 'c, 'w>(&'s mut TcpStream, &'c mut Context<'w>);

impl Socket for Polled<'_, '_, '_> {
    fn read(&mut self, first: &mut [u8], second: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(if first.is_empty() { second } else { first });
        match Pin::new(&mut *self.0).poll_read(self.1, &mut buffer) {
            Poll::Ready(result) => result.map(|()| buffer.filled().len()),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut stream = Pin::new(&mut *self.0);
        let polled = match pieces {
            [] => Poll::Ready(Ok(0)),
            [piece] => stream.as_mut().poll_write(self.1, piece),
            pieces => stream.as_mut().poll_write_vectored(self.1, pieces),
        };
        match polled {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}
