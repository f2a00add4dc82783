//! Counters of what a loop has done.

use std::time::Duration;

/// What a loop has done since it was made. Every field only grows.
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
    /// Time spent in turns, the wait for events not included.
    pub busy: Duration,
    /// Time between turns: spent waiting for events, or in the owner's own loop. Where turns are driven without an
    /// [`EventLoop`](crate::EventLoop), both are zero unless [`note_turn_end`](crate::Reactor::note_turn_end) is called.
    pub waited: Duration,
    /// The longest time a turn took after its wait: so late the loop has been in looking at what happened meanwhile.
    pub longest_turn: Duration,
    /// Calls of the handler that took longer than [`slow_callback`](crate::Config::slow_callback).
    pub slow_callbacks: u64,
    /// Peers that were accepted and admitted.
    pub accepted: u64,
    /// Peers that were accepted and closed at once, by [`on_accept`](crate::Handler::on_accept), because there were
    /// [`max_connections`](crate::Config::max_connections) already, or too many
    /// [from one address](crate::Config::max_connections_per_ip).
    pub refused: u64,
    /// Accepts that failed: the peer was gone again, or the system had no descriptor or memory left.
    pub accept_failures: u64,
    /// How often accepting was paused for want of a descriptor or memory.
    pub accept_pauses: u64,
    /// Outbound connections that were established.
    pub connected: u64,
    /// Connections, in either direction, that have ended; attempts to connect that failed included.
    pub disconnected: u64,
    /// Frames given to [`on_data`](crate::Handler::on_data).
    pub frames_received: u64,
    /// Frames written whole to their sockets.
    pub frames_sent: u64,
    /// Frames that were not sent because a newer one of their slot took their place; see
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
    /// Commands of [`Handle`](crate::Handle)s that could not be carried out, or not for everybody: the connection was gone,
    /// or had no room.
    pub commands_failed: u64,
    /// How often [`Handle`](crate::Handle)s woke the loop: once for a burst of commands.
    pub wake_ups: u64,
}

impl Stats {
    /// The part of its time in which the loop was busy, from 0 to 1: near 1 it cannot take more. Of all its time, or of
    /// that since `before`.
    ///
    /// ```
    /// # use throng::{Config, EventLoop, Stats};
    /// # let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
    /// let before = event_loop.net().stats();
    /// // ... some turns later:
    /// let busy = event_loop.net().stats().busy_fraction(&before);
    /// # assert_eq!(busy, 0.0);
    /// // Of all its time:
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
