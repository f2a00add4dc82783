//! Listeners: opening them, accepting, and what to do when the system cannot give another descriptor.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use log::{debug, info, warn};
use mio::Interest;
use mio::event::Source as _;
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Type};

use super::{Deadline, Net};
use crate::config::ListenOptions;
use crate::connection::{Connection, Origin, Phase, Terms};
use crate::connection_id::{ConnectionId, ListenerId, Source};
use crate::error::{ListenError, OptionsError};
use crate::socket::{self, READ_INTEREST, Socket};

#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    pub(super) local_addr: SocketAddr,
    terms: Arc<Terms>,
    /// It stands in the ready list.
    pub(crate) listed: bool,
    /// Peers may wait: no accept has seen WouldBlock since the last event.
    pub(crate) readable: bool,
    /// It waits for a descriptor to become free.
    paused: bool,
    /// That it paused was logged, and it has not caught up since.
    pause_reported: bool,
    /// Whether accepted sockets have TCP_NODELAY from the listener, once one was looked at.
    inherits_nodelay: Option<bool>,
}

/// What one accept brought.
#[derive(Debug)]
pub(crate) enum Accepted {
    Peer(TcpStream, SocketAddr),
    /// Nobody, but the next one may be there.
    Nobody,
    /// No more for now.
    Blocked,
}

impl Net {
    /// Listens on an address, with the default [`ListenOptions`]: `"127.0.0.1:5000"`, `"[::]:5000"` for IPv4 and IPv6, or
    /// port 0 for any free one, which [`local_addr`](Self::local_addr) tells.
    ///
    /// A name that has several addresses is listened on at the first that works. To resolve one may block.
    ///
    /// # Errors
    /// If the address cannot be resolved or is in use.
    pub fn listen(&mut self, addr: impl ToSocketAddrs) -> Result<ListenerId, ListenError> {
        self.listen_with(addr, ListenOptions::default())
    }

    /// Listens on an address; see [`listen`](Self::listen). A loop may have many listeners, each with its own framing.
    ///
    /// # Errors
    /// As `listen`, and if the options contradict each other.
    pub fn listen_with(
        &mut self,
        addr: impl ToSocketAddrs,
        options: ListenOptions,
    ) -> Result<ListenerId, ListenError> {
        let terms = self.terms_of_next(&options).map_err(ListenError::Options)?;
        if self.is_shutting_down() {
            return Err(ListenError::ShuttingDown);
        }
        let addrs = addr.to_socket_addrs().map_err(ListenError::Resolve)?;
        let nothing = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut result = Err(ListenError::Resolve(nothing));
        for addr in addrs {
            result = self
                .open(addr, &options, &terms)
                .map_err(|error| ListenError::Bind { addr, error });
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn open(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        terms: &Arc<Terms>,
    ) -> io::Result<ListenerId> {
        let mut socket = bind(addr, options)?;
        // What the platform cannot do is found here, not with the first peer.
        socket::tune(SockRef::from(&socket), &terms.options)?;
        let local_addr = socket.local_addr()?;
        let token = Source::Listener(self.listeners.next_id()).token();
        socket.register(&self.common.registry, token, Interest::READABLE)?;
        let id = self.listeners.insert(Listener {
            socket,
            local_addr,
            terms: Arc::clone(terms),
            listed: false,
            readable: false,
            paused: false,
            pause_reported: false,
            inherits_nodelay: None,
        });
        info!("listening on {local_addr}");
        Ok(id)
    }

    /// The terms for those who will come through the next listener.
    fn terms_of_next(&self, options: &ListenOptions) -> Result<Arc<Terms>, OptionsError> {
        let options = options.connection(&self.config)?;
        let origin = Origin::Listener(self.listeners.next_id());
        Ok(Arc::new(Terms { origin, options }))
    }

    /// Stops listening. Connections that came through the listener stay.
    ///
    /// Returns `false` if it is closed already.
    pub fn close_listener(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.get_mut(id) else {
            debug!("close_listener: no such listener");
            return false;
        };
        // The listener itself is closed with its slot; a retired slot keeps it, deregistered.
        let _ = listener.socket.deregister(&self.common.registry);
        info!("no longer listening on {}", listener.local_addr);
        self.listeners.free(id);
        true
    }

    /// Takes note that peers wait at a listener.
    pub(super) fn list_listener(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id) else {
            return;
        };
        listener.readable = true;
        if !listener.listed && !listener.paused {
            listener.listed = true;
            self.ready.push(Source::Listener(id));
        }
    }

    /// Accepts one peer, or tells why not. A peer above a limit is turned away here.
    pub(crate) fn accept(&mut self, id: ListenerId) -> Accepted {
        let Some(listener) = self.listeners.get_mut(id) else {
            return Accepted::Blocked;
        };
        match listener.socket.accept() {
            Ok((stream, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                let connections = self.occupied();
                let checked = self.admissions.check(&self.config, connections, peer);
                if let Err(refusal) = checked {
                    self.refuse(peer, format_args!("{refusal}"));
                    return Accepted::Nobody;
                }
                Accepted::Peer(stream, peer)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listener.readable = false;
                listener.pause_reported = false;
                Accepted::Blocked
            }
            Err(error) if concerns_one_peer(&error) => {
                self.stats.accept_failures += 1;
                warn!("accepting a peer failed: {error}");
                Accepted::Nobody
            }
            Err(error) => {
                self.pause_accepting(id, &error);
                Accepted::Blocked
            }
        }
    }

    /// Counts and logs a peer that is turned away.
    pub(crate) fn refuse(&mut self, peer: SocketAddr, why: std::fmt::Arguments<'_>) {
        self.stats.refused += 1;
        warn!("refused {peer}: {why}");
    }

    /// Gives an accepted peer a slot.
    pub(crate) fn admit(
        &mut self,
        listener_id: ListenerId,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<ConnectionId> {
        // The listener may have been closed by the callback that admitted the peer.
        let listener = self.listeners.get_mut(listener_id)?;
        let terms = Arc::clone(&listener.terms);
        let result = listener.set_up(&stream).and_then(|()| {
            let socket = Socket::Tcp(stream);
            self.add(Connection::new(
                socket,
                peer,
                Phase::Open,
                READ_INTEREST,
                terms,
                self.common.now,
            ))
        });
        match result {
            Ok(id) => {
                self.stats.accepted += 1;
                self.admissions.joined(&self.config, peer);
                self.watch_new(id);
                info!("{id} connected from {peer}");
                Some(id)
            }
            Err(error) => {
                self.stats.accept_failures += 1;
                warn!("accepting {peer} failed: {error}");
                None
            }
        }
    }

    /// The system has no descriptor or memory for another connection. The peers that wait make no further event, so the
    /// listener tries again when a connection closes, or after a while.
    fn pause_accepting(&mut self, id: ListenerId, error: &io::Error) {
        self.stats.accept_failures += 1;
        let retry = self.config.accept_retry;
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.paused = true;
            self.stats.accept_pauses += 1;
            if !listener.pause_reported {
                listener.pause_reported = true;
                let addr = listener.local_addr;
                warn!(
                    "accepting on {addr} pauses until a connection closes, or for {retry:?}: {error}"
                );
            }
        }
        if self.accept_retry.is_none() {
            let timer = self.timers.insert(self.now + retry, Deadline::AcceptRetry);
            self.accept_retry = Some(timer);
        }
    }

    /// Lets the listeners that paused try again.
    pub(super) fn resume_accepting(&mut self) {
        let Some(timer) = self.accept_retry.take() else {
            return;
        };
        self.timers.cancel(timer);
        for (id, listener) in self.listeners.iter_mut() {
            listener.paused = false;
            if listener.readable && !listener.listed {
                listener.listed = true;
                self.ready.push(Source::Listener(id));
            }
        }
    }
}

impl Listener {
    /// Whether another accept may bring a peer.
    pub(crate) fn is_runnable(&self) -> bool {
        self.readable && !self.paused
    }

    /// Sees to TCP_NODELAY, and to what else is asked for. Most systems let accepted sockets inherit TCP_NODELAY, which
    /// saves a call for each.
    fn set_up(&mut self, stream: &TcpStream) -> io::Result<()> {
        socket::tune(SockRef::from(stream), &self.terms.options)?;
        if self.inherits_nodelay.is_none() {
            self.inherits_nodelay = Some(stream.nodelay().unwrap_or(false));
        }
        match self.inherits_nodelay {
            Some(true) => Ok(()),
            _ => stream.set_nodelay(true),
        }
    }
}

fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // On Windows the option of this name would let a second server steal the address.
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(options.only_v6)?;
    }
    if options.reuse_port {
        set_reuse_port(&socket)?;
    }
    SockRef::from(&socket).set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(all(
    unix,
    not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))
))]
fn set_reuse_port(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(all(
    unix,
    not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))
)))]
fn set_reuse_port(_: &socket2::Socket) -> io::Result<()> {
    let message = "this platform has no SO_REUSEPORT";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// The peer gave up while it waited, or was turned away by a firewall. The next one is not concerned. Everything else
/// is taken for want of resources, so that an error nobody thought of cannot make the loop spin.
fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TimedOut
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}
