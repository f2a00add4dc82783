//! The preset for the open internet.

use std::time::Duration;

use super::{Config, Overflow};

impl Config {
    /// Returns the settings for a server on the open internet with untrusted peers. They limit every resource a peer
    /// can tie up, with one exception: a peer that accepts a queued byte now and then stays connected, with up to
    /// [`max_queued_bytes`](Self::max_queued_bytes) queued. Individual values can be overridden afterwards.
    ///
    /// ```
    /// use throng::{Config, EventLoop};
    ///
    /// let config = Config::hardened().max_frame_len(4 * 1024);
    /// let event_loop: EventLoop = EventLoop::new(config)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// | Setting | Value | Reason |
    /// |---|---|---|
    /// | [`max_connections`](Self::max_connections) | 50,000 | an idle connection costs some KiB, nearly all of it in the kernel: a few hundred MiB in total |
    /// | [`max_connections_per_ip`](Self::max_connections_per_ip) | 64 | households and offices share an address; more is a flood, or a mobile network, for which you can raise it |
    /// | [`max_accepts_per_second_per_ip`](Self::max_accepts_per_second_per_ip) | 64 | all of these may reconnect at once after a restart; a flood of connections that close again at once is refused before it costs more |
    /// | [`max_frames_per_second`](Self::max_frames_per_second) | 1,000 | sixteen times what a game with 60 ticks per second sends; a thousandth of what one core handles |
    /// | [`max_bytes_per_second`](Self::max_bytes_per_second) | 1 MiB | a frame of the greatest length each second; 8 Mbit/s |
    /// | [`memory_budget`](Self::memory_budget) | 256 MiB | the total for all connections; fits the smallest rented machine |
    /// | [`max_frame_len`](Self::max_frame_len) | 1 MiB | the longest reasonable message of a game or chat, in both directions; for files, raise it and set [`stream_frames_over`](Self::stream_frames_over) |
    /// | [`max_queued_bytes`](Self::max_queued_bytes) | 2 MiB | two seconds at 8 Mbit/s: a peer that is further behind does not catch up; from half of this on, throng stops reading from the peer until it has read |
    /// | [`overflow`](Self::overflow) | [`Disconnect`](Overflow::Disconnect) | servers rarely check every result of a send: a disconnect is better than a gap in the stream |
    /// | [`idle_timeout`](Self::idle_timeout) | 120 s | clients send something each minute, and one message may be lost; it also keeps entries in routers alive, many of which expire after five minutes |
    /// | [`frame_stall_timeout`](Self::frame_stall_timeout) | 10 s | together with the next setting: at least 100 bytes/s, less than the worst honest link |
    /// | [`frame_stall_bytes`](Self::frame_stall_bytes) | 1 KiB | a seventieth of what a modem (56 kbit/s) transfers in that time; a slowloris sends a byte |
    /// | [`write_stall_timeout`](Self::write_stall_timeout) | 30 s | TCP has retransmitted four times by then, after 1, 3, 7 and 15 s (RFC 6298) |
    /// | [`disconnect_timeout`](Self::disconnect_timeout) | 5 s | leaves time for two retransmissions of a last message |
    ///
    /// A peer that exceeds a rate is read more slowly ([`Excess::Pause`](super::Excess::Pause)). Connections between
    /// servers need higher rates or none: `max_frames_per_second(None)`.
    ///
    /// [`keepalive`](Self::keepalive) and [`user_timeout`](Self::user_timeout) are not set: the idle timeout detects
    /// the same peers, on every platform.
    pub fn hardened() -> Self {
        Self::default()
            .max_connections(50_000)
            .max_connections_per_ip(64)
            .max_accepts_per_second_per_ip(64)
            .max_frames_per_second(1000)
            .max_bytes_per_second(1024 * 1024)
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
