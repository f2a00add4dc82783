//! `Listener`: a scripted listener.

use std::net::SocketAddr;

use super::{PATIENCE, Peer};
use crate::sim::World;
use crate::socket::sim::ListenSocket;

/// A scripted listener, to which loops can connect.
#[derive(Debug)]
pub struct Listener {
    world: World,
    socket: ListenSocket,
}

impl Listener {
    pub(in crate::sim) fn new(world: World, socket: ListenSocket) -> Self {
        Self { world, socket }
    }

    /// Returns its address.
    ///
    /// # Panics
    /// Never.
    pub fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("an open listener")
    }

    /// Returns the next peer, if one has connected.
    pub fn try_accept(&self) -> Option<Peer> {
        let (stream, _) = self.socket.accept().ok()?;
        Some(self.world.adopt(stream, false))
    }

    /// Lets time pass until a loop connects.
    ///
    /// # Panics
    /// If none connects within ten minutes of simulated time.
    #[track_caller]
    pub fn accept(&self) -> Peer {
        let mut peer = None;
        self.world.run_until(PATIENCE, || {
            peer = self.try_accept();
            peer.is_some()
        });
        match peer {
            Some(peer) => peer,
            None => panic!("expected a connection, but there is none after {PATIENCE:?}"),
        }
    }
}
