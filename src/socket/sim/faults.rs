//! The faults of a simulated network, and the properties of its links.

use std::time::Duration;

/// The faults of a simulated network, and how often they occur.
///
/// A number `n` means once in `n` cases on average; 0 means never. [`none`](Self::none) is the default of a
/// [`World`](crate::sim::World), [`all`](Self::all) that of [`check`](crate::sim::check).
///
/// ```
/// use throng::sim::{Faults, World};
///
/// let mut faults = Faults::none();
/// faults.resets = 100;
/// let world = World::new(7).faults(faults);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Segments, and thus reads, that are cut to a random length, often one byte.
    pub short_segments: u32,
    /// Writes that take only a part, although the send buffer has room, as under memory pressure.
    pub short_writes: u32,
    /// Reads that return only a part of what has arrived. They occur only in worlds in which a short read does not
    /// prove that the socket is empty: with every second seed; see [`linux`](Self::linux).
    pub short_reads: u32,
    /// Whether a short read or write proves that one more would block, as on Linux. `None`: the seed decides.
    pub linux: Option<bool>,
    /// Whether events are reported in random order.
    pub reorder: bool,
    /// Polls that report only some of the pending events.
    pub short_polls: u32,
    /// Polls that report an event without a cause.
    pub spurious_events: u32,
    /// Polls that report an event of a socket that was closed meanwhile.
    pub stale_events: u32,
    /// Segments after which a host on the path resets the connection.
    pub resets: u32,
    /// Writes after which a reset arrives immediately, so that the next one fails in the same turn. Not part of
    /// [`all`](Self::all).
    pub sudden_resets: u32,
    /// Segments after which a direction is interrupted, for up to [`longest_stall`](Self::longest_stall).
    pub stalls: u32,
    /// The longest interruption. Default: 30 s.
    pub longest_stall: Duration,
    /// Connection attempts that are refused, never answered, or cannot be started.
    pub failed_connects: u32,
    /// Accepts that fail: the peer has closed, or there is no file descriptor or memory.
    pub failed_accepts: u32,
    /// Turns before which the process is suspended: after the poll, so that its events are out of date.
    pub suspensions: u32,
    /// The longest suspension. Default: 3 s.
    pub longest_suspension: Duration,
    /// Turns before which the clock jumps forward while the network stands still.
    pub clock_jumps: u32,
    /// The longest jump. Default: 5 s.
    pub longest_jump: Duration,
    /// Whether each socket gets buffers of a random size, from some hundred bytes up to those of the [`Link`].
    pub small_buffers: bool,
    /// Whether the latency of each segment varies, up to four times that of the link.
    pub jitter: bool,
}

impl Faults {
    /// No faults. Segments are whole, and arrive after the latency of the link.
    pub fn none() -> Self {
        Self {
            short_segments: 0,
            short_writes: 0,
            short_reads: 0,
            linux: Some(true),
            reorder: false,
            short_polls: 0,
            spurious_events: 0,
            stale_events: 0,
            resets: 0,
            sudden_resets: 0,
            stalls: 0,
            longest_stall: Duration::from_secs(30),
            failed_connects: 0,
            failed_accepts: 0,
            suspensions: 0,
            longest_suspension: Duration::from_secs(3),
            clock_jumps: 0,
            longest_jump: Duration::from_secs(5),
            small_buffers: false,
            jitter: false,
        }
    }

    /// All faults that keep connections intact: bytes arrive late, in pieces and irregularly, but none is lost.
    /// Interruptions are shorter than a second, suspensions and jumps shorter than 100 ms.
    pub fn delays() -> Self {
        Self {
            short_segments: 3,
            short_writes: 4,
            short_reads: 3,
            linux: None,
            reorder: true,
            short_polls: 4,
            spurious_events: 8,
            stale_events: 16,
            stalls: 64,
            longest_stall: Duration::from_secs(1),
            suspensions: 16,
            longest_suspension: Duration::from_millis(100),
            clock_jumps: 64,
            longest_jump: Duration::from_millis(100),
            small_buffers: true,
            jitter: true,
            ..Self::none()
        }
    }

    /// All faults.
    pub fn all() -> Self {
        let none = Self::none();
        Self {
            resets: 400,
            stalls: 100,
            longest_stall: none.longest_stall,
            failed_connects: 8,
            failed_accepts: 4,
            suspensions: 24,
            longest_suspension: none.longest_suspension,
            clock_jumps: 200,
            longest_jump: none.longest_jump,
            ..Self::delays()
        }
    }
}

/// The properties of a simulated link: of one direction of a connection, and of the sockets at its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// The time until a segment arrives. Default: 1 ms.
    pub latency: Duration,
    /// Bytes per second; 0 means no limit, which is the default.
    pub bandwidth: u64,
    /// The size of the send buffer, in bytes: sent bytes stay in it until they have arrived. Default: 64 KiB. The
    /// option [`send_buffer`](crate::ListenOptions::send_buffer) overrides it.
    pub send_buffer: usize,
    /// The size of the receive buffer, in bytes. Default: 64 KiB. The option
    /// [`receive_buffer`](crate::ListenOptions::receive_buffer) overrides it.
    pub receive_buffer: usize,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            bandwidth: 0,
            send_buffer: 64 * 1024,
            receive_buffer: 64 * 1024,
        }
    }
}
