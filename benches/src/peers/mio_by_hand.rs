//! mio alone: a lean loop over a slab of connections.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use super::by_hand::{Connection, Socket, Wait};
use crate::batch::Batch;
use crate::reply::Reply;

const LISTENER: Token = Token(usize::MAX);
const EVENTS: usize = 1024;

pub(super) fn serve(listener: std::net::TcpListener, reply: Reply) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(listener);
    let registry = poll.registry().try_clone()?;
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut server = Server {
        registry,
        peers: Vec::new(),
        free: Vec::new(),
        batch: Batch::new(),
    };
    let mut events = Events::with_capacity(EVENTS);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            let Token(slot) = event.token();
            if event.token() == LISTENER {
                server.accept(&listener)?;
                continue;
            }
            let served = match reply {
                Reply::Echo => server.echo(slot, event),
                Reply::Broadcast => server.broadcast(slot, event),
            };
            // An error, or the end of the stream, is the end of the connection.
            if served.is_err() && server.peers[slot].take().is_some() {
                server.free.push(slot);
            }
        }
    }
}

struct Server {
    registry: Registry,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    batch: Batch,
}

struct Peer {
    stream: TcpStream,
    connection: Connection,
    waits: Wait,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let slot = self.free.pop().unwrap_or(self.peers.len());
            self.registry
                .register(&mut stream, Token(slot), Interest::READABLE)?;
            let peer = Some(Peer {
                stream,
                connection: Connection::default(),
                waits: Wait::Readable,
            });
            match self.peers.get_mut(slot) {
                Some(free) => *free = peer,
                None => self.peers.push(peer),
            }
        }
    }

    fn echo(&mut self, slot: usize, event: &Event) -> io::Result<()> {
        let Some(Peer {
            stream,
            connection,
            waits,
        }) = &mut self.peers[slot]
        else {
            return Ok(());
        };
        // The end of the stream may have come with the data, and gives no event of its own.
        let until_it_blocks = event.is_read_closed();
        let wait = connection.echo(&mut self.batch, stream, until_it_blocks)?;
        watch(&self.registry, stream, slot, waits, wait)
    }

    fn broadcast(&mut self, slot: usize, event: &Event) -> io::Result<()> {
        if let Some(peer) = &mut self.peers[slot]
            && peer.connection.flush(&mut peer.stream)?
        {
            watch(
                &self.registry,
                &mut peer.stream,
                slot,
                &mut peer.waits,
                Wait::Readable,
            )?;
        }
        loop {
            let Some(Peer {
                stream, connection, ..
            }) = &mut self.peers[slot]
            else {
                return Ok(());
            };
            let Some(is_drained) = connection.read(&mut self.batch, stream)? else {
                return Ok(());
            };
            let large = connection.take_large();
            for (slot, other) in self.peers.iter_mut().enumerate() {
                if let Some(peer) = other {
                    let pieces = large.unsent().into_iter().chain(self.batch.pieces());
                    let sent = peer.connection.send(pieces, &mut peer.stream);
                    let wait = match sent {
                        Ok(true) => Wait::Readable,
                        Ok(false) => Wait::Writable,
                        Err(_) => {
                            *other = None;
                            self.free.push(slot);
                            continue;
                        }
                    };
                    watch(
                        &self.registry,
                        &mut peer.stream,
                        slot,
                        &mut peer.waits,
                        wait,
                    )?;
                }
            }
            if let Some(sender) = &mut self.peers[slot] {
                sender.connection.put_large(large);
            }
            if is_drained && !event.is_read_closed() {
                return Ok(());
            }
        }
    }
}

/// Changes what a connection waits for. It always waits for input.
fn watch(
    registry: &Registry,
    stream: &mut TcpStream,
    slot: usize,
    waits: &mut Wait,
    wait: Wait,
) -> io::Result<()> {
    if *waits != wait {
        *waits = wait;
        let interest = match wait {
            Wait::Readable => Interest::READABLE,
            Wait::Writable => Interest::READABLE | Interest::WRITABLE,
        };
        registry.reregister(stream, Token(slot), interest)?;
    }
    Ok(())
}

impl Socket for TcpStream {
    fn read(&mut self, first: &mut [u8], second: &mut [u8]) -> io::Result<usize> {
        if first.is_empty() {
            Read::read(self, second)
        } else {
            self.read_vectored(&mut [IoSliceMut::new(first), IoSliceMut::new(second)])
        }
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [] => Ok(0),
            [piece] => Write::write(self, piece),
            pieces => self.write_vectored(pieces),
        }
    }
}
