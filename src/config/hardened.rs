//! The preset for the open internet.

use std::time::Duration;

use super::{Config, Overflow};

impl Config {
    /// The settings for a server on the open internet, where nobody can be trusted: a limit for everything that a peer can
    /// make grow or last, but for one: who takes a byte of what waits for it now and then stays, with its
    /// [`max_queued_bytes`](Self::max_queued_bytes). Each number can be set otherwise afterwards.
    ///
    /// ```
    /// use throng::{Config, EventLoop};
    ///
    /// let config = Config::hardened().max_frame_len(4 * 1024);
    /// let event_loop: EventLoop = EventLoop::new(config)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// | Setting | Value | Because |
    /// |---|---|---|
    /// | [`max_connections`](Self::max_connections) | 50,000 | an idle one costs some KiB, nearly all of it in the kernel: a few hundred MiB |
    /// | [`max_connections_per_ip`](Self::max_connections_per_ip) | 64 | households and offices share an address; more is a flood, or a mobile network, for which it can be raised |
    /// | [`memory_budget`](Self::memory_budget) | 256 MiB | what all of them together may hold; fits the smallest rented machine |
    /// | [`max_frame_len`](Self::max_frame_len) | 1 MiB | the longest a message of a game or chat may reasonably be, both ways; for files, raise it and set [`stream_frames_over`](Self::stream_frames_over) |
    /// | [`max_queued_bytes`](Self::max_queued_bytes) | 2 MiB | two seconds of 8 Mbit/s: who is further behind does not catch up; from the half on, who sends is not heard until it has read |
    /// | [`overflow`](Self::overflow) | [`Disconnect`](Overflow::Disconnect) | a server seldom looks at every result of a send: a stream that ends is better than one with a gap |
    /// | [`idle_timeout`](Self::idle_timeout) | 120 s | clients send something each minute, and one may be lost; it also keeps entries in routers alive, many of which forget after five minutes |
    /// | [`frame_stall_timeout`](Self::frame_stall_timeout) | 10 s | with the next one: at least 100 bytes/s, less than the worst honest link |
    /// | [`frame_stall_bytes`](Self::frame_stall_bytes) | 1 KiB | a seventieth of what a modem (56 kbit/s) brings in that time; a slowloris sends a byte |
    /// | [`write_stall_timeout`](Self::write_stall_timeout) | 30 s | TCP has sent again four times by then, after 1, 3, 7 and 15 s (RFC 6298) |
    /// | [`disconnect_timeout`](Self::disconnect_timeout) | 5 s | a last message has time for two retransmissions |
    ///
    /// [`keepalive`](Self::keepalive) and [`user_timeout`](Self::user_timeout) are not set: the idle timeout finds what
    /// they would find, on every platform.
    pub fn hardened() -> Self {
        Self::default()
            .max_connections(50_000)
            .max_connections_per_ip(64)
            .memory_budget(256 * 1024 * 1024)
            .max_frame_len(1024 * 1024)
            .max_queued_bytes(2 * 1024 * 1024)
            .overflow(Overflow::Disconnect)
            .idle_timeout(Duration::from_secs(120))
            .frame_stall_timeout(Duration::from_secs(10))
            .frame_stall_bytes(1024)
            .write_stall_timeout(Duration::from_secs(30))
            .disconnect_timeout(Duration::from_secs(5))
    }
}
