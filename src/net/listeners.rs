//! Listeners that are open: pausing, releasing and closing them.

use std::sync::atomic::Ordering;

use log::{debug, info};

use super::Net;
use crate::connection_id::ListenerId;
use crate::socket::ListenSocket;
#[cfg(unix)]
use crate::socket::SocketFile;

impl Net {
    /// Stops accepting on a listener until [`resume_listener`](Self::resume_listener). Peers wait in the backlog
    /// meanwhile and cause no wake-ups. When the backlog is full, the system refuses or ignores further peers. To refuse
    /// peers at once, use [`on_accept`](crate::Handler::on_accept) or
    /// [`max_connections`](crate::Config::max_connections).
    ///
    /// A peer for which `on_accept` is running is still admitted or refused by its result. Connections stay open.
    ///
    /// ```
    /// use throng::{ConnectionId, DisconnectReason, Frame, Handler, ListenerId, Net};
    ///
    /// /// Lets the next players wait while a game is full.
    /// struct Game { listener: ListenerId }
    ///
    /// impl Handler for Game {
    ///     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
    ///
    ///     fn on_connect(&mut self, net: &mut Net, _: ConnectionId) {
    ///         if net.connection_count() == 4 {
    ///             net.pause_listener(self.listener);
    ///         }
    ///     }
    ///
    ///     fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, _: DisconnectReason) {
    ///         net.resume_listener(self.listener);
    ///     }
    /// }
    /// ```
    ///
    /// Returns `false` if the listener is closed.
    pub fn pause_listener(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.get_mut(id) else {
            debug!("pause_listener: no such listener");
            return false;
        };
        listener.held = true;
        listener.registered = false;
        if let Some(socket) = &mut listener.socket {
            socket.deregister(&self.common.registry);
        }
        if let Some(presence) = &listener.presence {
            presence.store(false, Ordering::Relaxed);
        }
        true
    }

    /// Continues to accept after [`pause_listener`](Self::pause_listener), in the order in which peers have arrived.
    ///
    /// Returns `false` if the listener is closed.
    pub fn resume_listener(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.get_mut(id) else {
            debug!("resume_listener: no such listener");
            return false;
        };
        listener.held = false;
        if let Some(presence) = &listener.presence {
            presence.store(true, Ordering::Relaxed);
        }
        // The next accept registers it; no event reports the peers that are waiting.
        self.list_listener(id);
        true
    }

    /// Detaches a listener and returns its socket, for example to pass it to another process that continues to listen.
    /// Connections that were accepted stay open. Peers in the backlog stay there, and are not lost as long as the
    /// socket, or a duplicate of it, is open. The socket is non-blocking. The file of a Unix domain socket stays.
    ///
    /// ```
    /// use throng::{Config, EventLoop, ListenOptions};
    ///
    /// let mut old: EventLoop = EventLoop::new(Config::default())?;
    /// let listener = old.net().listen("127.0.0.1:0")?;
    /// let mut new: EventLoop = EventLoop::new(Config::default())?;
    /// let socket = old.net().release_listener(listener).expect("it is open");
    /// new.net().adopt_listener(socket, ListenOptions::default())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Returns `None` if the listener is closed. Also returns `None`, and changes nothing, if it has no socket: with
    /// [`Balance::HandOver`](crate::Balance::HandOver) only the listener of the first shard has one.
    pub fn release_listener(&mut self, id: ListenerId) -> Option<ListenSocket> {
        let Some(listener) = self.listeners.get_mut(id) else {
            debug!("release_listener: no such listener");
            return None;
        };
        let mut socket = listener.socket.take()?;
        socket.deregister(&self.common.registry);
        info!("released the listener on {}", listener.local);
        #[cfg(unix)]
        listener.file.take().into_iter().for_each(SocketFile::keep);
        self.free_listener(id);
        Some(socket)
    }

    /// Stops listening. Connections that were accepted stay open.
    ///
    /// Peers in the backlog are lost: the kernel has established their connections, but they were not accepted. On
    /// Linux they see a reset, even if they have sent data. The backlog outlives the listener only if another file
    /// descriptor keeps the socket open: a duplicate, or another process that shares it. To keep it open, use
    /// [`release_listener`](Self::release_listener).
    ///
    /// Returns `false` if the listener is closed.
    pub fn close_listener(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.get_mut(id) else {
            debug!("close_listener: no such listener");
            return false;
        };
        if let Some(socket) = &mut listener.socket {
            socket.deregister(&self.common.registry);
            info!("no longer listening on {}", listener.local);
        }
        self.free_listener(id);
        #[cfg(feature = "proxy")]
        self.refuse_arrivals(Some(id));
        true
    }

    pub(crate) fn close_listeners(&mut self) {
        let listeners: Vec<ListenerId> = self.listeners.iter().map(|(id, _)| id).collect();
        for id in listeners {
            self.close_listener(id);
        }
    }

    /// Frees the slot of a listener.
    fn free_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id) {
            // A retired slot keeps its listener, deregistered; otherwise the listener is dropped with its slot.
            listener.handed.clear();
            listener.presence = None;
            #[cfg(unix)]
            drop(listener.file.take());
        }
        self.listeners.free(id);
    }
}
