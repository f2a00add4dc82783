//! Shutting down all connections gracefully.

use std::time::{Duration, Instant};

use log::info;

use super::{Deadline, Net};
use crate::connection::Phase;
use crate::connection_id::ConnectionId;
use crate::reason::DisconnectCause;
use crate::timers::{TimerKey, later};

/// A shutdown in progress.
#[derive(Debug)]
pub(super) struct Shutdown {
    deadline: Instant,
    timer: TimerKey,
}

impl Net {
    /// Shuts the loop down gracefully: closes the listeners and [disconnects](Self::disconnect) all connections. When
    /// all are closed, or after `timeout`, the loop [stops](Self::stop) at the end of a turn, so that
    /// [`run`](crate::EventLoop::run) returns.
    ///
    /// Everything sent before is written, while the peers take it. Peers in the backlog of a listener are reset, as by
    /// [`close_listener`](Self::close_listener). Until the loop stops, no peer is accepted, and
    /// [`listen`](Self::listen) and [`connect`](Self::connect) return an error. Connection attempts in progress are
    /// dropped.
    ///
    /// [`on_disconnect`](crate::Handler::on_disconnect) is called for each connection, with the cause
    /// [`ShutDown`](crate::DisconnectCause::ShutDown), or
    /// [`DrainTimedOut`](crate::DisconnectCause::DrainTimedOut) if it did not close in time. `timeout` replaces
    /// [`disconnect_timeout`](crate::Config::disconnect_timeout).
    ///
    /// Calling it again can only shorten the timeout: `shutdown(Duration::ZERO)` drops the remaining connections.
    /// Timers and your own sources continue meanwhile, and stay. Afterwards the loop can be used again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net};
    ///
    /// struct Game;
    ///
    /// impl Handler for Game {
    ///     fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
    ///         if &*frame == b"shut down" {
    ///             net.broadcast(|_| true, b"good night");
    ///             net.shutdown(Duration::from_secs(10));
    ///         }
    ///     }
    /// }
    ///
    /// let mut event_loop = EventLoop::new(Config::default())?;
    /// event_loop.net().listen("127.0.0.1:0")?;
    /// // It can also be called outside of callbacks.
    /// event_loop.net().shutdown(Duration::from_secs(10));
    /// event_loop.run(&mut Game)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&mut self, timeout: Duration) {
        let deadline = later(self.now, timeout);
        match &self.shutdown {
            Some(shutdown) if shutdown.deadline <= deadline => return,
            Some(shutdown) => {
                let timer = shutdown.timer;
                self.timers.cancel(timer);
            }
            None => {
                let count = self.connections.len();
                info!("shutting down {count} connections within {timeout:?}");
            }
        }
        let timer = self.timers.insert(deadline, Deadline::Shutdown(timeout));
        self.shutdown = Some(Shutdown { deadline, timer });
        self.close_everything();
        // Even without connections, no peer is accepted until the end of the turn.
        self.schedule.turn_is_due = true;
    }

    /// Returns whether a [`shutdown`](Self::shutdown) is in progress.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    fn close_everything(&mut self) {
        self.close_listeners();
        // Those of listeners that were released before.
        #[cfg(feature = "proxy")]
        self.refuse_arrivals(None);
        for id in self.in_phase(|phase| matches!(phase, Phase::Connecting | Phase::Open)) {
            if self.is_connected(id) {
                self.close(id, DisconnectCause::ShutDown);
                self.mark_dirty(id);
            } else {
                self.end(id, Some(DisconnectCause::ShutDown));
            }
        }
    }

    /// Sets the timer of an expired shutdown again, in case a reader panics meanwhile.
    pub(crate) fn postpone_shutdown(&mut self, after: Duration) {
        if let Some(shutdown) = &mut self.shutdown {
            let again = later(self.now, Duration::from_secs(1));
            shutdown.timer = self.timers.insert(again, Deadline::Shutdown(after));
        }
    }

    /// Stops the loop if all connections are closed.
    #[inline]
    pub(super) fn finish_shutdown(&mut self) {
        let is_over = self.shutdown.is_some() && self.connections.len() == 0;
        if let Some(shutdown) = self.shutdown.take_if(|_| is_over) {
            self.timers.cancel(shutdown.timer);
            self.schedule.stopping = true;
        }
    }

    pub(crate) fn in_phase(&self, is_meant: impl Fn(Phase) -> bool) -> Vec<ConnectionId> {
        let meant = self
            .connections
            .iter()
            .filter(|(_, connection)| is_meant(connection.phase));
        meant.map(|(id, _)| id).collect()
    }
}
