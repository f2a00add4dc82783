//! Listeners: opening them, accepting, and what to do when the system cannot give another descriptor.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use log::{debug, info, warn};

use super::{Deadline, Net};
use crate::config::ListenOptions;
use crate::connection::{Origin, Phase, Terms};
use crate::connection_id::{ConnectionId, ListenerId, Source};
use crate::error::{ListenError, Rejected};
use crate::socket::{ListenSocket, Shown, Stream};

/// An accepted socket, and the address of its peer if it has one.
pub(crate) type Peer = (Stream, Option<SocketAddr>);

/// Takes a peer, or gives it back.
pub(crate) type HandOver = Box<dyn FnMut(Peer) -> Option<Peer> + Send>;

pub(crate) struct Listener {
    /// None, if all peers are handed in.
    socket: Option<ListenSocket>,
    /// Peers that others have accepted.
    handed: VecDeque<Peer>,
    /// Who is offered each peer first.
    hand_over: Option<HandOver>,
    /// The address, if it is one of the network.
    pub(super) local_addr: Option<SocketAddr>,
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

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// What one accept brought.
#[derive(Debug)]
pub(crate) enum Accepted {
    Peer(Stream, Option<SocketAddr>),
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
        let terms = self.terms_of_next(&options)?;
        let addrs = addr.to_socket_addrs().map_err(ListenError::Resolve)?;
        let nothing = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut result = Err(ListenError::Resolve(nothing));
        for addr in addrs {
            result = ListenSocket::bind(addr, &options)
                .and_then(|socket| Ok(self.open_listener(socket, Arc::clone(&terms))?))
                .map_err(|error| ListenError::Bind { addr, error });
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Listens on the path of a Unix domain socket; see [`listen`](Self::listen). The peers have no address, keepalive
    /// and user timeout do not apply, and there are no resets: a stream that is cut off looks like one that ended.
    ///
    /// A file that is left of an earlier server has to be removed first, and is not removed when this one closes.
    ///
    /// # Errors
    /// If there is a file at `path`, or none can be made; if the options contradict each other.
    #[cfg(unix)]
    pub fn listen_unix(
        &mut self,
        path: impl AsRef<std::path::Path>,
        options: ListenOptions,
    ) -> Result<ListenerId, ListenError> {
        let terms = self.terms_of_next(&options)?;
        let path = path.as_ref();
        let opened = ListenSocket::bind_unix(path, &options)
            .and_then(|socket| Ok(self.open_listener(socket, terms)?));
        opened.map_err(|error| ListenError::BindUnix {
            path: path.into(),
            error,
        })
    }

    /// Takes over a socket that listens already: one that was passed on by the system (socket activation), or bound by a
    /// test. [`backlog`](ListenOptions::backlog), [`only_v6`](ListenOptions::only_v6) and
    /// [`reuse_port`](ListenOptions::reuse_port) are what they were.
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
    /// If the options contradict each other, or if the system refuses; the socket is given back.
    pub fn adopt_listener(
        &mut self,
        socket: impl Into<ListenSocket>,
        options: ListenOptions,
    ) -> Result<ListenerId, Rejected<ListenSocket, ListenError>> {
        let socket = socket.into();
        match self.terms_of_next(&options) {
            Ok(terms) => self
                .open_listener(socket, terms)
                .map_err(|rejected| rejected.map(ListenError::Adopt)),
            Err(error) => Err(Rejected::new(error, socket)),
        }
    }

    /// Lets peers come in that others have accepted, by [`hand_in`](Self::hand_in).
    pub(crate) fn listen_by_hand(
        &mut self,
        options: &ListenOptions,
    ) -> Result<ListenerId, ListenError> {
        let terms = self.terms_of_next(options)?;
        Ok(self.add_listener(None, None, terms))
    }

    /// Lets each peer of a listener be offered to others first.
    pub(crate) fn hand_over(&mut self, id: ListenerId, hand_over: HandOver) {
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.hand_over = Some(hand_over);
        }
    }

    /// Lets a peer come in that was accepted elsewhere. It is asked for admission as all are.
    pub(crate) fn hand_in(&mut self, id: ListenerId, peer: Peer) {
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.handed.push_back(peer);
            self.list_listener(id);
        }
    }

    /// Sets a socket up, registers it and gives it a slot.
    fn open_listener(
        &mut self,
        mut socket: ListenSocket,
        terms: Arc<Terms>,
    ) -> Result<ListenerId, Rejected<ListenSocket, io::Error>> {
        let mut open = || {
            socket.set_up(&terms.options)?;
            let local_addr = socket.local_addr()?;
            let token = Source::Listener(self.listeners.next_id()).token();
            socket.register(&self.common.registry, token)?;
            Ok(local_addr)
        };
        match open() {
            Ok(local_addr) => {
                info!("listening on {}", Shown(local_addr));
                Ok(self.add_listener(Some(socket), local_addr, terms))
            }
            Err(error) => Err(Rejected::new(error, socket)),
        }
    }

    fn add_listener(
        &mut self,
        socket: Option<ListenSocket>,
        local_addr: Option<SocketAddr>,
        terms: Arc<Terms>,
    ) -> ListenerId {
        self.listeners.insert(Listener {
            socket,
            handed: VecDeque::new(),
            hand_over: None,
            local_addr,
            terms,
            listed: false,
            readable: false,
            paused: false,
            pause_reported: false,
            inherits_nodelay: None,
        })
    }

    /// The terms for those who will come through the next listener.
    fn terms_of_next(&self, options: &ListenOptions) -> Result<Arc<Terms>, ListenError> {
        let options = options
            .connection(&self.config)
            .map_err(ListenError::Options)?;
        if self.is_shutting_down() {
            return Err(ListenError::ShuttingDown);
        }
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
        listener.handed.clear();
        if let Some(socket) = &mut listener.socket {
            socket.deregister(&self.common.registry);
            info!("no longer listening on {}", Shown(listener.local_addr));
        }
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
        match listener.next_peer() {
            Ok(None) => Accepted::Nobody,
            Ok(Some((stream, peer))) => {
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
    pub(crate) fn refuse(&mut self, peer: Option<SocketAddr>, why: std::fmt::Arguments<'_>) {
        self.stats.refused += 1;
        warn!("refused {}: {why}", Shown(peer));
    }

    /// Gives an accepted peer a slot.
    pub(crate) fn admit(
        &mut self,
        listener_id: ListenerId,
        stream: Stream,
        peer: Option<SocketAddr>,
    ) -> Option<ConnectionId> {
        // The listener may have been closed by the callback that admitted the peer.
        let listener = self.listeners.get_mut(listener_id)?;
        let terms = Arc::clone(&listener.terms);
        let result = listener
            .set_up(&stream)
            .and_then(|()| Ok(self.add(stream, peer, Phase::Open, terms)?));
        match result {
            Ok(id) => {
                self.stats.accepted += 1;
                self.admissions.joined(&self.config, peer);
                self.watch_new(id);
                info!("{id} connected from {}", Shown(peer));
                Some(id)
            }
            Err(error) => {
                self.stats.accept_failures += 1;
                warn!("accepting {} failed: {error}", Shown(peer));
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
                let addr = Shown(listener.local_addr);
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
    /// The next peer, in whichever way they come. `None`: it went elsewhere.
    fn next_peer(&mut self) -> io::Result<Option<Peer>> {
        if let Some(peer) = self.handed.pop_front() {
            return Ok(Some(peer));
        }
        let Some(socket) = &self.socket else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let peer = socket.accept()?;
        Ok(match &mut self.hand_over {
            Some(hand_over) => hand_over(peer),
            None => Some(peer),
        })
    }

    /// Whether another accept may bring a peer.
    pub(crate) fn is_runnable(&self) -> bool {
        self.readable && !self.paused
    }

    /// Sees to what an accepted socket needs. Most systems let it inherit TCP_NODELAY, which is found out with the first.
    fn set_up(&mut self, stream: &Stream) -> io::Result<()> {
        let inherits = *self
            .inherits_nodelay
            .get_or_insert_with(|| stream.has_nodelay());
        stream.set_up(&self.terms.options, inherits)
    }
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
