//! tokio without a codec: a task for each connection, buffers that all of them share while they run.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::try_join;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

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
        let stream = Pin::new(&mut *self.0);
        let polled = match pieces {
            [piece] => stream.poll_write(self.1, piece),
            pieces => stream.poll_write_vectored(self.1, pieces),
        };
        match polled {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// The connections that receive broadcasts.
#[derive(Clone, Default)]
pub(super) struct Members(Arc<Mutex<Vec<Arc<Member>>>>);

struct Member {
    stream: TcpStream,
    connection: Mutex<Connection>,
    /// That another task has left something to be written.
    unsent: Notify,
}

/// The task that reads a frame writes it to all connections. What a socket does not take, the task of its connection writes.
pub(super) async fn broadcast(stream: TcpStream, members: Members) -> io::Result<()> {
    let member = Arc::new(Member {
        stream,
        connection: Mutex::default(),
        unsent: Notify::new(),
    });
    lock(&members.0).push(Arc::clone(&member));
    let ended = try_join(member.read(&members), member.write_on()).await;
    lock(&members.0).retain(|other| !Arc::ptr_eq(other, &member));
    ended.map(|((), ())| ())
}

impl Member {
    async fn read(&self, members: &Members) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            BATCH.with_borrow_mut(|batch| {
                while lock(&self.connection)
                    .read(batch, &mut &self.stream)?
                    .is_some()
                {
                    let large = lock(&self.connection).take_large();
                    for member in &*lock(&members.0) {
                        member.write(large.unsent().into_iter().chain(batch.pieces()));
                    }
                    lock(&self.connection).put_large(large);
                }
                Ok::<_, io::Error>(())
            })?;
        }
    }

    fn write<'p>(&self, pieces: impl Iterator<Item = &'p [u8]> + Clone) {
        // What fails here fails in its own task too.
        if let Ok(false) = lock(&self.connection).send(pieces, &mut &self.stream) {
            self.unsent.notify_one();
        }
    }

    async fn write_on(&self) -> io::Result<()> {
        loop {
            self.unsent.notified().await;
            while !lock(&self.connection).flush(&mut &self.stream)? {
                self.stream.writable().await?;
            }
        }
    }
}

impl Socket for &TcpStream {
    fn read(&mut self, first: &mut [u8], second: &mut [u8]) -> io::Result<usize> {
        self.try_read_vectored(&mut [IoSliceMut::new(first), IoSliceMut::new(second)])
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [piece] => self.try_write(piece),
            pieces => self.try_write_vectored(pieces),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
