//! The loop: events, and whom the replies go to.

use std::io;
use std::os::fd::RawFd;

use super::batch::Batch;
use super::peer::Peer;
use super::pool::Pool;
use super::system::{self, ADD, CLOSED, LISTEN, NO_EVENT, READ, READABLE, WRITE};
use crate::parent::Parent;
use crate::reply::Reply;

const EVENTS: usize = 1024;
const ACCEPTS: usize = 64;
/// How long a wait for events is, in milliseconds, before it is looked whether anybody still wants this server.
const LOOK_UP_EVERY: i32 = 1000;

/// By descriptor.
type Peers = Vec<Option<Box<Peer>>>;

pub(super) fn serve(listener: RawFd, reply: Reply, parent: Parent) -> io::Result<()> {
    let epoll = system::selector()?;
    system::control(epoll, ADD, listener, LISTEN)?;
    let mut peers = Peers::new();
    let (mut batch, mut pool) = (Batch::new(), Pool::new());
    let mut events = [NO_EVENT; EVENTS];
    loop {
        let count = system::wait(epoll, &mut events, LOOK_UP_EVERY)?;
        if count == 0 && parent.is_gone() {
            return Ok(());
        }
        for event in &events[..count] {
            let (fd, what) = (event.u64 as RawFd, event.events);
            if fd == listener {
                accept(epoll, listener, &mut peers)?;
                continue;
            }
            let served = match reply {
                Reply::Echo => echo(&mut peers[fd as usize], what, &mut batch, &mut pool),
                Reply::Broadcast => broadcast(&mut peers, fd, what, &mut batch, &mut pool),
            };
            // An error, or the end of the stream, is the end of the connection.
            if served.is_err() {
                peers[fd as usize] = None;
            }
        }
    }
}

fn accept(epoll: RawFd, listener: RawFd, peers: &mut Peers) -> io::Result<()> {
    for _ in 0..ACCEPTS {
        let Ok(fd) = system::accept(listener) else {
            break;
        };
        let slot = fd as usize;
        if peers.len() <= slot {
            peers.resize_with(slot + 1, || None);
        }
        peers[slot] = Some(Box::new(Peer::new(fd, epoll)));
        system::control(epoll, ADD, fd, READ)?;
    }
    Ok(())
}

fn echo(
    peer: &mut Option<Box<Peer>>,
    what: u32,
    batch: &mut Batch,
    pool: &mut Pool,
) -> io::Result<()> {
    let Some(peer) = peer else {
        return Ok(());
    };
    if what & WRITE != 0 {
        peer.write_on(pool)?;
    }
    while what & READABLE != 0 {
        let is_drained = peer.read(batch, pool)?;
        if !batch.is_empty() {
            peer.reply(batch, pool)?;
        }
        // The end of the stream may have come with the data, and gives no event of its own.
        if is_drained && what & CLOSED == 0 {
            break;
        }
    }
    Ok(())
}

fn broadcast(
    peers: &mut Peers,
    fd: RawFd,
    what: u32,
    batch: &mut Batch,
    pool: &mut Pool,
) -> io::Result<()> {
    if let Some(peer) = &mut peers[fd as usize]
        && what & WRITE != 0
    {
        peer.write_on(pool)?;
    }
    while what & READABLE != 0
        && let Some(sender) = &mut peers[fd as usize]
    {
        let is_drained = sender.read(batch, pool)?;
        if !batch.is_empty() {
            for slot in &mut *peers {
                if let Some(peer) = slot
                    && peer.reply_copy(batch, pool).is_err()
                {
                    *slot = None;
                }
            }
            batch.first.take().into_iter().for_each(|it| pool.put(it));
        }
        if is_drained && what & CLOSED == 0 {
            break;
        }
    }
    Ok(())
}
