//! Opening sockets: connecting, listening, accepting.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Listener, Network, Sizes};
use crate::socket::sim::agenda::Event;
use crate::socket::sim::socket::{Id, Party};

impl Network {
    /// Starts to connect.
    pub(crate) fn connect(
        &mut self,
        owner: Party,
        from: Option<IpAddr>,
        addr: SocketAddr,
        sizes: Sizes,
    ) -> io::Result<Id> {
        let mut outcome: fn(Id, SocketAddr) -> Event = Event::Syn;
        if let Party::Host(host) = owner {
            self.check_files(host)?;
            if self.random.one_in(self.faults.failed_connects) {
                let serial = self.next_serial();
                self.disturbed.insert(serial);
                match self.random.below(3) {
                    0 => return Err(io::ErrorKind::NetworkUnreachable.into()),
                    1 => outcome = |id, _| Event::Refused(id),
                    _ => outcome = |id, _| Event::Lost(id),
                }
            }
        }
        let mut local = self.address_of(owner);
        if let Some(ip) = from {
            local.set_ip(ip);
        }
        let id = self.open(owner, local, addr, sizes);
        self.count_file(id, true);
        self.note_socket(id, "connecting");
        let at = self.now + self.link.latency;
        self.schedule(at, outcome(id, addr));
        Ok(id)
    }

    pub(crate) fn listen(
        &mut self,
        host: usize,
        mut addr: SocketAddr,
        most: usize,
        sizes: Sizes,
    ) -> io::Result<Id> {
        if addr.port() == 0 {
            addr.set_port(self.next_port());
        }
        if self.by_addr.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let serial = self.next_serial();
        let index = self.listeners.insert(Listener {
            serial,
            addr,
            host,
            backlog: VecDeque::new(),
            most: most.max(1),
            sizes,
            registration: None,
        });
        self.by_addr.insert(addr, index);
        Ok(Id { index, serial })
    }

    pub(crate) fn listener_addr(&self, id: Id) -> Option<SocketAddr> {
        Some(self.listeners.get(id.index)?.addr)
    }

    /// Accepts a peer.
    pub(crate) fn accept(&mut self, id: Id) -> io::Result<(Id, SocketAddr)> {
        let Some(listener) = self.listeners.get(id.index) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let host = listener.host;
        self.check_files(host)?;
        if host > 0 && self.random.one_in(self.faults.failed_accepts) {
            match self.random.below(3) {
                0 => return Err(no_file()),
                1 => return Err(io::ErrorKind::OutOfMemory.into()),
                _ => {
                    if let Some(peer) = self.listeners[id.index].backlog.pop_front() {
                        self.disturbed_both(peer);
                        self.doom_other(peer);
                        self.free(peer);
                        self.note_socket(peer, "left before it was accepted");
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
            }
        }
        let Some(peer) = self.listeners[id.index].backlog.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        self.progress += 1;
        self.count_file(peer, true);
        self.note_socket(peer, "accepted");
        let addr = self.of_stream(peer)?.peer;
        Ok((peer, addr))
    }

    pub(crate) fn close_listener(&mut self, id: Id) {
        let Some(listener) = self.listeners.try_remove(id.index) else {
            return;
        };
        self.by_addr.remove(&listener.addr);
        for peer in listener.backlog {
            self.doom_other(peer);
            self.free(peer);
        }
    }

    /// Returns the address of a host's own end.
    fn address_of(&mut self, owner: Party) -> SocketAddr {
        let ip = match owner {
            Party::Host(host) => Ipv4Addr::from(0x0A00_0001 + host as u32),
            Party::Peer(peer) => Ipv4Addr::from(0x0A80_0001 + peer as u32),
        };
        SocketAddr::new(IpAddr::V4(ip), self.next_port())
    }

    fn check_files(&mut self, host: usize) -> io::Result<()> {
        let host = &self.hosts[host];
        if host.open_files >= host.max_files {
            return Err(no_file());
        }
        Ok(())
    }
}

fn no_file() -> io::Error {
    io::Error::other("no file descriptor left")
}
