//! Counters of a loop.

use std::time::Duration;

/// Counters of a loop since it was created. No field ever decreases.
///
/// ```
/// use throng::{Config, EventLoop};
///
/// let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
/// let before = event_loop.net().stats();
/// // ... some turns later:
/// let frames = event_loop.net().stats().frames_received - before.frames_received;
/// # assert_eq!(frames, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop.
    pub turns: u64,
    /// Time spent in turns, without the wait for events.
    pub busy: Duration,
    /// Time between turns: waiting for events, or in your own loop. If you drive turns without an
    /// [`EventLoop`](crate::EventLoop), `busy` and `waited` are zero unless you call
    /// [`note_turn_end`](crate::Reactor::note_turn_end).
    pub waited: Duration,
    /// The longest duration of a turn, without its wait. An event that arrives during a turn waits at most that long.
    pub longest_turn: Duration,
    /// Callbacks that took longer than [`slow_callback`](crate::Config::slow_callback).
    pub slow_callbacks: u64,
    /// Peers that were accepted and admitted.
    pub accepted: u64,
    /// Peers that were accepted and closed immediately: refused by [`on_accept`](crate::Handler::on_accept), or above
    /// [`max_connections`](crate::Config::max_connections) or
    /// [`max_connections_per_ip`](crate::Config::max_connections_per_ip).
    pub refused: u64,
    /// Accepts that failed: the peer had closed, or the system had no file descriptor or memory left.
    pub accept_failures: u64,
    /// How often accepting was paused for lack of a file descriptor or memory.
    pub accept_pauses: u64,
    /// Outbound connections that were established.
    pub connected: u64,
    /// TLS handshakes that were completed, in either direction.
    #[cfg(feature = "tls")]
    pub handshakes: u64,
    /// Connections in either direction that have ended, including failed connection attempts.
    pub disconnected: u64,
    /// Frames passed to [`on_data`](crate::Handler::on_data).
    pub frames_received: u64,
    /// Frames written completely to their sockets.
    pub frames_sent: u64,
    /// Frames that were replaced by a newer frame of their slot and not sent; see
    /// [`send_latest`](crate::Net::send_latest).
    pub frames_replaced: u64,
    /// Bytes read from sockets, headers included.
    pub bytes_received: u64,
    /// Bytes written to sockets, headers included.
    pub bytes_sent: u64,
    /// Calls that read from a socket.
    pub reads: u64,
    /// Calls that wrote to a socket.
    pub writes: u64,
    /// Commands of [`Handle`](crate::Handle)s that were run.
    pub commands: u64,
    /// Commands of [`Handle`](crate::Handle)s that failed, at least for some connections: the connection was closed, or
    /// its queue was full.
    pub commands_failed: u64,
    /// How often [`Handle`](crate::Handle)s woke the loop: once per burst of commands.
    pub wake_ups: u64,
}

impl Stats {
    /// Returns the fraction of time in which the loop was busy since `before`, from 0 to 1. Near 1 the loop is at its
    /// limit. For the whole time, pass `Stats::default()`.
    ///
    /// ```
    /// # use throng::{Config, EventLoop, Stats};
    /// # let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
    /// let before = event_loop.net().stats();
    /// // ... some turns later:
    /// let busy = event_loop.net().stats().busy_fraction(&before);
    /// # assert_eq!(busy, 0.0);
    /// // Since the loop was created:
    /// let busy = event_loop.net().stats().busy_fraction(&Stats::default());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn busy_fraction(&self, before: &Self) -> f64 {
        let busy = self.busy.saturating_sub(before.busy).as_secs_f64();
        let waited = self.waited.saturating_sub(before.waited).as_secs_f64();
        if busy + waited > 0.0 {
            busy / (busy + waited)
        } else {
            0.0
        }
    }
}
