//! The settings of a listener, and of an outbound or adopted connection.

use std::net::SocketAddr;
use std::time::Duration;

use super::Config;
use super::connection::{ConnectionOptions, Overrides};
use crate::error::OptionsError;
#[cfg(feature = "proxy")]
use crate::proxy::Proxying;

/// The settings of a listener and of the connections it accepts. Settings that are not set default to those of the
/// loop's [`Config`].
///
/// ```
/// use throng::{Config, EventLoop, Framing, ListenOptions};
///
/// let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
/// let lines = ListenOptions::default().framing(Framing::lines()).max_frame_len(1024);
/// event_loop.net().listen_with("127.0.0.1:0", lines)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ListenOptions {
    pub(super) connection: Overrides,
    pub(crate) backlog: u32,
    pub(crate) only_v6: bool,
    pub(crate) reuse_port: bool,
    #[cfg(unix)]
    pub(crate) replace_stale_socket: bool,
    #[cfg(unix)]
    pub(crate) remove_socket_file: bool,
    #[cfg(unix)]
    pub(crate) socket_file_mode: Option<u32>,
    #[cfg(feature = "proxy")]
    pub(crate) proxying: Proxying,
    #[cfg(feature = "tls")]
    pub(crate) security: super::Security,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            connection: Overrides::default(),
            backlog: 4096,
            only_v6: false,
            reuse_port: false,
            #[cfg(unix)]
            replace_stale_socket: false,
            #[cfg(unix)]
            remove_socket_file: true,
            #[cfg(unix)]
            socket_file_mode: None,
            #[cfg(feature = "proxy")]
            proxying: Proxying::None,
            #[cfg(feature = "tls")]
            security: super::Security::default(),
        }
    }
}

impl ListenOptions {
    /// Sets the length of the accept queue: the number of peers that can wait to be accepted. Default: 4096, so that a
    /// burst of connects is not lost. The system may reduce it (Linux: to `net.core.somaxconn`).
    pub fn backlog(mut self, peers: u32) -> Self {
        self.backlog = peers;
        self
    }

    /// Sets whether a listener on an IPv6 address refuses IPv4 peers. Default: false, so `[::]` accepts both on every
    /// platform.
    pub fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = only;
        self
    }

    /// Lets several listeners share the address; each gets a part of the peers (`SO_REUSEPORT`). Default: false.
    ///
    /// On platforms without this option, listening fails with `Unsupported`.
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Lets [`listen_unix`](crate::Net::listen_unix) replace the socket file left by a crashed server. Default: false,
    /// so an existing file is an error.
    ///
    /// A file is replaced if it is a socket that refuses a connection. A live server keeps its file, and may see the
    /// attempt as a peer that disconnects immediately. This is not a lock: if two servers start at the same moment, the
    /// second may replace the file of the first.
    #[cfg(unix)]
    pub fn replace_stale_socket(mut self, replace: bool) -> Self {
        self.replace_stale_socket = replace;
        self
    }

    /// Sets whether the file that [`listen_unix`](crate::Net::listen_unix) created is removed when the listener closes
    /// or the loop is dropped, if it is still the same file. Default: true.
    ///
    /// Turn it off if the socket is passed to another process that continues to listen at the path.
    #[cfg(unix)]
    pub fn remove_socket_file(mut self, remove: bool) -> Self {
        self.remove_socket_file = remove;
        self
    }

    /// Sets the permissions of the file that [`listen_unix`](crate::Net::listen_unix) creates, as for `chmod`: `0o660`
    /// lets the owner and the group connect. They are set before a peer can connect. Default: `None`, which means as
    /// the umask determines.
    ///
    /// Linux requires write permission to connect. Some other systems ignore the mode of the file; there, only the mode
    /// of its directory protects it.
    #[cfg(unix)]
    pub fn socket_file_mode(mut self, mode: impl Into<Option<u32>>) -> Self {
        self.socket_file_mode = mode.into();
        self
    }

    pub(crate) fn connection(&self, config: &Config) -> Result<ConnectionOptions, OptionsError> {
        #[cfg(feature = "proxy")]
        self.proxying.check()?;
        self.connection.over(&config.connection)
    }
}

/// The settings of an outbound connection. Settings that are not set default to those of the loop's [`Config`].
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub(super) connection: Overrides,
    pub(crate) timeout: Duration,
    pub(crate) bind: Option<SocketAddr>,
    #[cfg(feature = "proxy")]
    pub(crate) proxying: Proxying,
    #[cfg(feature = "tls")]
    pub(crate) security: super::Security,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            connection: Overrides::default(),
            timeout: Duration::from_secs(10),
            bind: None,
            #[cfg(feature = "proxy")]
            proxying: Proxying::None,
            #[cfg(feature = "tls")]
            security: super::Security::default(),
        }
    }
}

impl ConnectOptions {
    /// Sets how long establishing the connection may take. Default: 10 s; operating systems try for minutes.
    /// [`Duration::MAX`] leaves it to the operating system. With zero, an attempt fails in the next turn unless it has
    /// succeeded by then.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the local address from which [`connect_with`](crate::Net::connect_with) connects; with port 0 the system
    /// chooses a free port. Default: `None`, so the system chooses both. Unix domain sockets and
    /// [adopted](crate::Net::adopt) streams ignore it.
    ///
    /// Use it if the machine has several addresses: to be seen under a certain one, or to open more connections to one
    /// server than there are ephemeral ports per local address (on Linux about 28,000).
    ///
    /// ```
    /// use std::net::{Ipv4Addr, SocketAddr};
    /// use throng::{OpenError, ConnectOptions, ConnectionId, Net};
    ///
    /// /// Spreads a load over the addresses of this machine.
    /// fn connect_nth(net: &mut Net, server: SocketAddr, n: usize) -> Result<ConnectionId, OpenError> {
    ///     let sources = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
    ///     let source = SocketAddr::from((sources[n % sources.len()], 0));
    ///     net.connect_with(server, ConnectOptions::default().bind(source))
    /// }
    /// ```
    ///
    /// Connecting fails with `InvalidInput` if the address is not of the peer's family, and with `AddrNotAvailable` if
    /// it is not an address of this machine.
    pub fn bind(mut self, source: impl Into<Option<SocketAddr>>) -> Self {
        self.bind = source.into();
        self
    }

    pub(crate) fn connection(&self, config: &Config) -> Result<ConnectionOptions, OptionsError> {
        self.connection.over(&config.connection)
    }
}
