//! Counters of what a loop has done.

/// What a loop has done since it was made. Every field only grows.
///
/// ```
/// use throng::{Config, EventLoop};
///
/// let mut event_loop = EventLoop::new(Config::default())?;
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
    /// Peers that were accepted and admitted.
    pub accepted: u64,
    /// Peers that were accepted and closed at once, by [`on_accept`](crate::Handler::on_accept) or because there were
    /// [`max_connections`](crate::Config::max_connections) already.
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
}
