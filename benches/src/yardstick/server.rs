//! The loop: events, and whom the replies go to.

use std::io;
use std::os::fd::RawFd;

use super::peer::Peer;
use super::pool::Pool;
use super::system::{self, ADD, CLOSED, LISTEN, NO_EVENT, READ, WRITE};
use crate::batch::Batch;
use crate::parent::Parent;
use crate::reply::Reply;

const EVENTS: usize = 1024;
const ACCEPTS: usize = 64;
/// How long a wait for events is, in milliseconds, before the server checks whether its parent still runs.
const LOOK_UP_EVERY: i32 = 1000;

pub(super) fn serve(listener: RawFd, reply: Reply, parent: Parent) -> io::Result<()> {
    let mut server = Server {
        epoll: system::selector()?,
        reply,
        peers: Vec::new(),
        batch: Batch::new(),
        pool: Pool::new(),
    };
    system::control(server.epoll, ADD, listener, LISTEN)?;
    let mut events = [NO_EVENT; EVENTS];
    loop {
        let count = system::wait(server.epoll, &mut events, LOOK_UP_EVERY)?;
        if count == 0 && parent.is_gone() {
            return Ok(());
        }
        for event in &events[..count] {
            let (fd, what) = (event.u64 as RawFd, event.events);
            if fd == listener {
                server.accept(listener)?;
            } else if server.serve(fd, what).is_err() {
                // An error, or the end of the stream, is the end of the connection.
                server.peers[fd as usize] = None;
            }
        }
    }
}

struct Server {
    epoll: RawFd,
    reply: Reply,
    /// By descriptor.
    peers: Vec<Option<Box<Peer>>>,
    batch: Batch,
    pool: Pool,
}

impl Server {
    fn accept(&mut self, listener: RawFd) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            let Ok(fd) = system::accept(listener) else {
                break;
            };
            let slot = fd as usize;
            if self.peers.len() <= slot {
                self.peers.resize_with(slot + 1, || None);
            }
            self.peers[slot] = Some(Box::new(Peer::new(fd, self.epoll)));
            system::control(self.epoll, ADD, fd, READ)?;
        }
        Ok(())
    }

    fn serve(&mut self, fd: RawFd, what: u32) -> io::Result<()> {
        let slot = fd as usize;
        if what & WRITE != 0
            && let Some(peer) = &mut self.peers[slot]
            && !peer.write_on(&mut self.pool)?
        {
            return Ok(());
        }
        while let Some(peer) = &mut self.peers[slot]
            && peer.is_written()
        {
            let is_drained = peer.read(&mut self.batch, &mut self.pool)?;
            if !self.batch.is_empty() {
                match self.reply {
                    Reply::Echo => peer.reply(&mut self.batch, &mut self.pool)?,
                    Reply::Broadcast => self.broadcast(),
                }
            }
            // The end of the stream may have come with the data, and gives no event of its own.
            if is_drained && what & CLOSED == 0 {
                break;
            }
        }
        Ok(())
    }

    fn broadcast(&mut self) {
        for slot in &mut self.peers {
            if let Some(peer) = slot
                && peer.reply_copy(&self.batch, &mut self.pool).is_err()
            {
                *slot = None;
            }
        }
        if let Some(frame) = self.batch.first.take() {
            self.pool.put(frame);
        }
    }
}
