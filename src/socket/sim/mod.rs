//! Simulated sockets: a [`Stream`] and a [`ListenSocket`] of a network without an operating system, for
//! [`crate::sim`].
//!
//! A loop makes the same calls on them as on real sockets. Their state is in a [`Network`], which they share with the
//! world that lets time pass. The lock keeps streams `Send`. It is never contended, because a world has one thread.

mod agenda;
mod faults;
mod network;
mod poll;
mod random;
mod socket;
mod trace;

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::{Interest, Token};

use super::Selector;
use crate::config::{ConnectionOptions, ListenOptions};

pub use faults::{Faults, Link};
pub(crate) use network::{Network, Sizes, Written};
pub use random::Random;
pub(crate) use socket::{Id, Party};
pub(crate) use trace::What;

/// A network, shared by its world and all sockets.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Network>>);

impl Shared {
    pub(crate) fn new(network: Network) -> Self {
        Self(Arc::new(Mutex::new(network)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// The access of a host to its network.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) network: Shared,
    pub(crate) host: usize,
}

impl Port {
    pub(super) fn connect(
        &self,
        addr: SocketAddr,
        options: &ConnectionOptions,
    ) -> io::Result<Stream> {
        let owner = Party::Host(self.host);
        Stream::connect(&self.network, owner, None, addr, options.into())
    }

    pub(super) fn listen(
        &self,
        addr: SocketAddr,
        options: &ListenOptions,
        connection: &ConnectionOptions,
    ) -> io::Result<ListenSocket> {
        let most = usize::try_from(options.backlog).unwrap_or(usize::MAX);
        let id = self
            .network
            .lock()
            .listen(self.host, addr, most, connection.into())?;
        Ok(ListenSocket {
            network: self.network.clone(),
            id,
        })
    }
}

/// A simulated stream, opened by a loop of a [`World`](crate::sim::World). Only another loop of the same world can
/// [adopt](crate::Net::adopt) it.
pub struct Stream(Box<Inner>);

struct Inner {
    network: Shared,
    id: Id,
    written: u64,
    /// With TLS, instead of the bytes: what was written of the plaintext.
    plaintext: Option<Written>,
}

impl Stream {
    pub(crate) fn connect(
        network: &Shared,
        owner: Party,
        from: Option<IpAddr>,
        addr: SocketAddr,
        sizes: Sizes,
    ) -> io::Result<Self> {
        let id = network.lock().connect(owner, from, addr, sizes)?;
        Ok(Self::new(network.clone(), id))
    }

    fn new(network: Shared, id: Id) -> Self {
        Self(Box::new(Inner {
            network,
            id,
            written: 0,
            plaintext: None,
        }))
    }

    pub(crate) fn id(&self) -> Id {
        self.0.id
    }

    /// Returns the number of bytes written through this stream.
    pub(crate) fn written(&self) -> u64 {
        self.0.written
    }

    /// Notes how much plaintext was written, at the end of a TLS session, and how many frames count both as written and
    /// as unsent.
    #[cfg(feature = "tls")]
    pub(crate) fn note_plaintext(&mut self, bytes: u64, twice: u64) {
        self.0.plaintext = Some(Written { bytes, twice });
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.network.lock()
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lock().read(self.0.id, buffer)
    }

    pub(super) fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut total = 0;
        for slice in slices.iter_mut().filter(|slice| !slice.is_empty()) {
            // An EOF or an error after the bytes is left for the next call.
            if total > 0 && !self.lock().has_input(self.0.id) {
                break;
            }
            let len = self.read(slice)?;
            total += len;
            if len < slice.len() {
                break;
            }
        }
        Ok(total)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_pieces(&[bytes])
    }

    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let pieces: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.write_pieces(&pieces)
    }

    fn write_pieces(&mut self, pieces: &[&[u8]]) -> io::Result<usize> {
        let written = self.lock().write(self.0.id, pieces)?;
        self.0.written += written as u64;
        Ok(written)
    }

    pub(crate) fn short_is_drained(&self) -> bool {
        self.lock().is_linux
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.lock().peer_addr(self.0.id)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.lock().local_addr(self.0.id)
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.lock().take_error(self.0.id)
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.lock().shutdown_write(self.0.id)
    }

    pub(crate) fn reset_on_close(&self) {
        self.lock().reset_on_close(self.0.id);
    }

    pub(super) fn peer_has_closed(&self) -> bool {
        self.lock().peer_has_closed(self.0.id)
    }

    pub(super) fn register(
        &self,
        selector: &Selector,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let host = self.host(selector)?;
        self.lock().register(self.0.id, host, token, interest);
        Ok(())
    }

    /// Registers the stream of a scripted peer.
    pub(crate) fn watch(&self, host: usize, token: Token) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.lock().register(self.0.id, host, token, interest);
    }

    pub(super) fn deregister(&self) {
        self.lock().deregister(self.0.id);
    }

    fn host(&self, selector: &Selector) -> io::Result<usize> {
        match &selector.simulated {
            Some(port) if Arc::ptr_eq(&port.network.0, &self.0.network.0) => Ok(port.host),
            _ => {
                let message = "expected a stream of this loop's world, got one of another";
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut network = self.0.network.lock();
        let plain = Written {
            bytes: self.0.written,
            twice: 0,
        };
        network.note_written(self.0.id, self.0.plaintext.unwrap_or(plain));
        network.close(self.0.id);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.0.id).finish()
    }
}

/// A simulated listening socket.
#[derive(Debug)]
pub struct ListenSocket {
    network: Shared,
    id: Id,
}

impl ListenSocket {
    /// Listens for scripted peers.
    pub(crate) fn open(network: &Shared, host: usize, addr: SocketAddr) -> io::Result<Self> {
        let id = network
            .lock()
            .listen(host, addr, usize::MAX, Sizes::default())?;
        let network = network.clone();
        Ok(Self { network, id })
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.network.lock().listener_addr(self.id)
    }

    pub(crate) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (id, peer) = self.network.lock().accept(self.id)?;
        Ok((Stream::new(self.network.clone(), id), peer))
    }

    pub(super) fn register(&self, token: Token) {
        self.network.lock().register_listener(self.id, token);
    }

    pub(super) fn deregister(&self) {
        self.network.lock().deregister_listener(self.id);
    }
}

impl Drop for ListenSocket {
    fn drop(&mut self) {
        self.network.lock().close_listener(self.id);
    }
}
