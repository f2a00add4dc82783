//! Listeners: opening, adopting, closing. [`accept`](super::accept) accepts their peers.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use log::info;

use super::{Net, Refusal};
use crate::config::ListenOptions;
use crate::connection::{Origin, Terms};
use crate::connection_id::{ListenerId, Source};
use crate::error::{OpenError, Rejected};
#[cfg(unix)]
use crate::socket::SocketFile;
use crate::socket::{ListenSocket, Local, Stream};

/// An accepted socket, and the address of its peer if it has one.
pub(crate) type Peer = (Stream, Option<SocketAddr>);

/// Takes a peer, or returns it.
pub(crate) type HandOver = Box<dyn FnMut(Peer) -> Option<Peer> + Send>;

pub(crate) struct Listener {
    /// The socket file, if it is removed with the listener. It is removed before the socket is closed.
    #[cfg(unix)]
    pub(super) file: Option<SocketFile>,
    /// `None` if all peers are handed in.
    pub(super) socket: Option<ListenSocket>,
    /// Peers that were accepted by another loop.
    pub(super) handed: VecDeque<Peer>,
    /// Is offered each accepted peer first.
    pub(super) hand_over: Option<HandOver>,
    /// Tells the loops that hand in peers whether this listener takes them. It is dropped with the listener.
    pub(super) presence: Option<Arc<AtomicBool>>,
    /// The address or path it listens on.
    pub(super) local: Local,
    pub(super) terms: Arc<Terms>,
    /// It is in a list of sources to be served.
    pub(crate) listed: bool,
    /// Peers may be waiting: no accept has returned `WouldBlock` since the last event.
    pub(crate) readable: bool,
    /// The user has paused it.
    pub(super) held: bool,
    /// The selector reports its peers. If not, it is registered before the next accept.
    pub(super) registered: bool,
    /// It waits for a file descriptor to become free.
    pub(super) paused: bool,
    /// The pause was logged, and the listener has not caught up since.
    pub(super) pause_reported: bool,
    /// Whether accepted sockets inherit `TCP_NODELAY` from the listener; `None` until the first was checked.
    pub(super) inherits_nodelay: Option<bool>,
    /// Accepted sockets may have inherited `SO_LINGER` from the listener, as set before it was adopted.
    pub(super) peers_linger: bool,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl Net {
    /// Listens on an address, with the default [`ListenOptions`]. Examples: `"127.0.0.1:5000"`; `"[::]:5000"` for IPv4
    /// and IPv6; port 0 for any free port, which [`ListenerRef::local_addr`](crate::ListenerRef::local_addr) returns.
    ///
    /// If a name has several addresses, the first that works is used. Resolving a name may block.
    ///
    /// # Errors
    /// If the address cannot be resolved or is in use.
    pub fn listen(&mut self, addr: impl ToSocketAddrs) -> Result<ListenerId, OpenError> {
        self.listen_with(addr, ListenOptions::default())
    }

    /// Listens on an address with the given options; see [`listen`](Self::listen). A loop may have many listeners, each
    /// with its own framing.
    ///
    /// # Errors
    /// As [`listen`](Self::listen), and if the options contradict each other.
    pub fn listen_with(
        &mut self,
        addr: impl ToSocketAddrs,
        options: ListenOptions,
    ) -> Result<ListenerId, OpenError> {
        let terms = self.terms_of_next(&options)?;
        let addrs = addr.to_socket_addrs().map_err(OpenError::Resolve)?;
        let nothing = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut result = Err(OpenError::Resolve(nothing));
        for addr in addrs {
            let socket = self.common.registry.bind(addr, &options, &terms.options);
            result = socket
                .and_then(|socket| Ok(self.open_listener(socket, Arc::clone(&terms))?))
                .map_err(|error| OpenError::Bind { addr, error });
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Listens on the path of a Unix domain socket; see [`listen`](Self::listen). Peers have no address. Keepalive and
    /// user timeout do not apply. There are no resets: the peer of an aborted connection sees EOF.
    ///
    /// The socket file is removed when the listener closes or the loop is dropped, unless
    /// [`remove_socket_file`](ListenOptions::remove_socket_file) is turned off or another file has replaced it. A file
    /// that a crashed server has left is an error, unless [`replace_stale_socket`](ListenOptions::replace_stale_socket)
    /// is set.
    ///
    /// On Linux, a path that begins with a NUL byte is an abstract name, which has no file: `"\0game"`.
    ///
    /// # Errors
    /// If a file exists at `path`, if the socket file cannot be created, or if the options contradict each other.
    /// `InvalidInput` if `path` is empty, contains a NUL, or is longer than the system allows (about 100 bytes).
    #[cfg(unix)]
    pub fn listen_unix(
        &mut self,
        path: impl AsRef<std::path::Path>,
        options: ListenOptions,
    ) -> Result<ListenerId, OpenError> {
        let terms = self.terms_of_next(&options)?;
        let path = path.as_ref();
        let opened = ListenSocket::bind_unix(path, &options).and_then(|(socket, file)| {
            let id = self.open_listener(socket, terms)?;
            self.own_file(id, file, &options);
            Ok(id)
        });
        opened.map_err(|error| OpenError::BindUnix {
            path: path.into(),
            error,
        })
    }

    /// Ties the socket file to the listener, so that it is removed with it, unless the options say otherwise.
    #[cfg(unix)]
    pub(crate) fn own_file(
        &mut self,
        id: ListenerId,
        file: Option<SocketFile>,
        options: &ListenOptions,
    ) {
        match (self.listeners.get_mut(id), file) {
            (Some(listener), file) if options.remove_socket_file => listener.file = file,
            (_, file) => file.into_iter().for_each(SocketFile::keep),
        }
    }

    /// Takes over a listening socket, for example from socket activation or from a test. Its
    /// [`backlog`](ListenOptions::backlog), [`only_v6`](ListenOptions::only_v6) and
    /// [`reuse_port`](ListenOptions::reuse_port) stay unchanged. The socket is made non-blocking, and its connections
    /// do not linger (`SO_LINGER`). On Unix it is closed in child processes (`FD_CLOEXEC`): otherwise a child would
    /// keep the port open, without serving it, after this process has ended.
    ///
    /// ```
    /// use throng::{Config, EventLoop, ListenOptions};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
    /// event_loop.net().adopt_listener(listener, ListenOptions::default())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the options contradict each other, or if the system reports an error; the socket is returned in the error.
    pub fn adopt_listener(
        &mut self,
        socket: impl Into<ListenSocket>,
        options: ListenOptions,
    ) -> Result<ListenerId, Rejected<ListenSocket, OpenError>> {
        let socket = socket.into();
        match self.terms_of_next(&options) {
            Ok(terms) => self
                .open_listener(socket, terms)
                .map_err(|rejected| rejected.map(OpenError::Adopt)),
            Err(error) => Err(Rejected::new(error, socket)),
        }
    }

    /// Adds a listener without a socket, for peers that other loops have accepted at this address and pass to
    /// [`hand_in`](Self::hand_in). Those loops see from `presence` whether it still exists and is not paused.
    pub(crate) fn listen_by_hand(
        &mut self,
        options: &ListenOptions,
        local: Local,
        presence: Arc<AtomicBool>,
    ) -> Result<ListenerId, OpenError> {
        let terms = self.terms_of_next(options)?;
        let id = self.add_listener(None, local, terms);
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.presence = Some(presence);
        }
        Ok(id)
    }

    /// Offers each peer of a listener to `hand_over` first.
    pub(crate) fn hand_over(&mut self, id: ListenerId, hand_over: HandOver) {
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.hand_over = Some(hand_over);
        }
    }

    /// Queues a peer that was accepted elsewhere. It passes the same admission control as any other.
    pub(crate) fn hand_in(&mut self, id: ListenerId, peer: Peer) {
        match self.listeners.get_mut(id) {
            Some(listener) => {
                listener.handed.push_back(peer);
                self.list_listener(id);
            }
            None => self.refuse(peer.1, &Refusal::ListenerClosed),
        }
    }

    /// Sets up a socket, registers it and gives it a slot.
    fn open_listener(
        &mut self,
        mut socket: ListenSocket,
        terms: Arc<Terms>,
    ) -> Result<ListenerId, Rejected<ListenSocket, io::Error>> {
        let peers_linger = socket.lingers();
        let mut open = || {
            socket.set_up(&terms.options)?;
            let local = socket.local()?;
            let token = Source::Listener(self.listeners.next_id()).token();
            socket.register(&self.common.registry, token)?;
            Ok(local)
        };
        match open() {
            Ok(local) => {
                info!("listening on {local}");
                let id = self.add_listener(Some(socket), local, terms);
                if let Some(listener) = self.listeners.get_mut(id) {
                    listener.peers_linger = peers_linger;
                }
                Ok(id)
            }
            Err(error) => Err(Rejected::new(error, socket)),
        }
    }

    fn add_listener(
        &mut self,
        socket: Option<ListenSocket>,
        local: Local,
        terms: Arc<Terms>,
    ) -> ListenerId {
        self.listeners.insert(Listener {
            #[cfg(unix)]
            file: None,
            socket,
            handed: VecDeque::new(),
            hand_over: None,
            presence: None,
            local,
            terms,
            listed: false,
            readable: false,
            held: false,
            registered: true,
            paused: false,
            pause_reported: false,
            inherits_nodelay: None,
            peers_linger: false,
        })
    }

    /// Returns the terms of the connections of a new listener.
    fn terms_of_next(&self, options: &ListenOptions) -> Result<Arc<Terms>, OpenError> {
        let connection = options
            .connection(&self.config)
            .map_err(OpenError::Options)?;
        if self.is_shutting_down() {
            return Err(OpenError::ShuttingDown);
        }
        let origin = Origin::Listener(self.listeners.next_id());
        Ok(Arc::new(Terms {
            origin,
            options: connection,
            #[cfg(feature = "proxy")]
            proxying: options.proxying.clone(),
            #[cfg(feature = "tls")]
            security: options.security.clone(),
        }))
    }

    /// Lists a listener at which peers are waiting.
    pub(super) fn list_listener(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id) else {
            return;
        };
        listener.readable = true;
        if !listener.listed && listener.is_runnable() {
            listener.listed = true;
            self.work.add_to_next_turn(Source::Listener(id));
        }
    }
}
