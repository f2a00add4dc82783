//! `Selector`: where the sockets of a loop are opened and registered.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;

use mio::Registry;

use super::{ListenSocket, Sharing, Stream};
use crate::config::{ConnectionOptions, ListenOptions};

/// The registry of the operating system's selector, or a simulated one.
#[derive(Debug)]
pub(crate) struct Selector {
    registry: Registry,
    /// The simulated network in which sockets are opened, if it is not that of the system.
    #[cfg(feature = "sim")]
    pub(super) simulated: Option<super::sim::Port>,
}

impl From<Registry> for Selector {
    fn from(registry: Registry) -> Self {
        Self {
            registry,
            #[cfg(feature = "sim")]
            simulated: None,
        }
    }
}

impl Deref for Selector {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.registry
    }
}

impl Selector {
    /// Opens all sockets in a simulated network from now on.
    #[cfg(feature = "sim")]
    pub(crate) fn simulate(&mut self, port: super::sim::Port) {
        self.simulated = Some(port);
    }

    /// Returns the registry of the system's selector. A simulated loop does not wait for its events.
    pub(super) fn of_system(&self) -> io::Result<&Registry> {
        #[cfg(feature = "sim")]
        if self.simulated.is_some() {
            let message = "expected a simulated socket for a simulated loop, got one of the system";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(&self.registry)
    }

    /// Starts to connect to a peer.
    pub(crate) fn connect(
        &self,
        addr: SocketAddr,
        source: Option<SocketAddr>,
        options: &ConnectionOptions,
    ) -> io::Result<Stream> {
        #[cfg(feature = "sim")]
        if let Some(port) = &self.simulated {
            return port.connect(addr, options).map(Stream::Sim);
        }
        Stream::connect(addr, source, options)
    }

    /// Listens on an address.
    pub(crate) fn bind(
        &self,
        addr: SocketAddr,
        options: &ListenOptions,
        connection: &ConnectionOptions,
    ) -> io::Result<ListenSocket> {
        #[cfg(feature = "sim")]
        if let Some(port) = &self.simulated {
            return port
                .listen(addr, options, connection)
                .map(ListenSocket::Sim);
        }
        ListenSocket::bind(addr, options, connection, Sharing::of(options))
    }
}
