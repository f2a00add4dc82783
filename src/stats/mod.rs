//! Counters and measurements of a loop. Pure.
//!
//! [`Stats`] is declared once, as a list. The struct, differences, sums and the text for a monitoring system are made
//! from that list, so none of them can lack a field.

mod by_label;
mod openmetrics;
mod turn_times;

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::time::Duration;

pub use by_label::{ConnectionsByStage, DisconnectsByCause, RefusalsByReason};
pub use turn_times::TurnTimes;

use openmetrics::{Format, Kind, Text, Value};

/// Declares [`Stats`]. Each field has one of these kinds:
///
/// - `counter` only grows, and can be subtracted;
/// - `histogram` is a group of counters;
/// - `gauge` is a present value, and can be added to those of other loops;
/// - `peak` is the largest of some values.
///
/// The doc comment of a field is also its description in the text for a monitoring system: one paragraph.
macro_rules! stats {
    (@since counter $now:expr, $earlier:expr) => { $now.minus($earlier) };
    (@since histogram $now:expr, $earlier:expr) => { $now.minus($earlier) };
    (@since $kind:ident $now:expr, $earlier:expr) => { $now };
    (@add peak $one:expr, $other:expr) => { $one.max($other) };
    (@add $kind:ident $one:expr, $other:expr) => { $one.plus($other) };
    (
        $(#[$attribute:meta])*
        pub struct Stats {
            $($(#[doc = $doc:literal])+ $kind:ident $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Stats {
            /// Returns what was counted since `earlier`. Values that are not counters are those of `self`: the gauges,
            /// and `longest_turn`.
            ///
            /// ```
            /// use throng::{Config, EventLoop};
            ///
            /// let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
            /// let earlier = event_loop.net().stats();
            /// // ... some turns later:
            /// let period = event_loop.net().stats().since(&earlier);
            /// println!("{} frames received, {} peers reset", period.frames_received, period.disconnects.reset);
            /// println!("99 % of all turns took at most {:?}", period.turn_times.quantile(0.99));
            /// # Ok::<(), std::io::Error>(())
            /// ```
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($field: stats!(@since $kind self.$field, earlier.$field),)+ }
            }

            fn write(&self, text: &mut Text<'_>) -> fmt::Result {
                $(
                    let help = concat!($($doc),+);
                    let mut family = text.family::<$type>(stringify!($field), Kind::$kind, help)?;
                    self.$field.write(&mut family, self)?;
                )+
                text.end()
            }
        }

        /// The sum of two loops, for example of two [shards](crate::Shards). `longest_turn` is the larger of both.
        impl Add for Stats {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($field: stats!(@add $kind self.$field, other.$field),)+ }
            }
        }

        /// The name and the kind of each field.
        #[cfg(test)]
        const FIELDS: &[(&str, Kind)] = &[$((stringify!($field), Kind::$kind)),+];
    };
}

stats! {
    /// Statistics of a loop: counters since it was created, and gauges of its present state.
    ///
    /// [`since`](Self::since) returns what was counted in a period. The statistics of several loops can be added.
    /// [`write_openmetrics`](Self::write_openmetrics) renders them for a monitoring system.
    ///
    /// [`Net::stats`](crate::Net::stats) returns them in a time that does not depend on the number of connections.
    pub struct Stats {
        /// Turns of the loop.
        counter turns: u64,
        /// Time spent in turns, without the wait for events.
        counter busy: Duration,
        /// Time between turns: waiting for events, or in your own loop. If you drive turns without an
        /// [`EventLoop`](crate::EventLoop), all times are zero unless you call
        /// [`note_turn_end`](crate::Reactor::note_turn_end).
        counter waited: Duration,
        /// Turns by their duration, without the wait.
        histogram turn_times: TurnTimes,
        /// The longest duration of a turn, without its wait. An event that arrives during a turn waits at most that
        /// long.
        peak longest_turn: Duration,
        /// Callbacks that took longer than [`slow_callback`](crate::Config::slow_callback).
        counter slow_callbacks: u64,
        /// Peers that were accepted and admitted.
        counter accepted: u64,
        /// Peers that were accepted and not admitted.
        counter refused: u64,
        /// Refused peers by reason: `refused` is the sum.
        counter refusals: RefusalsByReason,
        /// Connections that a proxy made on its own behalf, to check whether this server is reachable. They were closed
        /// without a callback (feature `proxy`).
        counter proxy_checks: u64,
        /// Accepts that failed: the peer had closed, or the system had no file descriptor or memory left.
        counter accept_failures: u64,
        /// How often accepting was paused for lack of a file descriptor or memory.
        counter accept_pauses: u64,
        /// Outbound and adopted connections that were established.
        counter connected: u64,
        /// TLS handshakes that were completed, in either direction. Zero without the feature `tls`.
        counter handshakes: u64,
        /// Connections in either direction that have ended, including failed connection attempts.
        counter disconnected: u64,
        /// Ended connections by [cause](crate::DisconnectCause): `disconnected` is the sum.
        counter disconnects: DisconnectsByCause,
        /// Frames passed to [`on_data`](crate::Handler::on_data).
        counter frames_received: u64,
        /// Frames written completely to their sockets.
        counter frames_sent: u64,
        /// Frames that were replaced by a newer frame of their slot and not sent; see
        /// [`send_latest`](crate::Net::send_latest).
        counter frames_replaced: u64,
        /// How often reading a connection was paused because its peer exceeded
        /// [`max_frames_per_second`](crate::Config::max_frames_per_second) or
        /// [`max_bytes_per_second`](crate::Config::max_bytes_per_second).
        counter throttled: u64,
        /// Bytes read from sockets, headers included.
        counter bytes_received: u64,
        /// Bytes written to sockets, headers included.
        counter bytes_sent: u64,
        /// Calls that read from a socket.
        counter reads: u64,
        /// Calls that wrote to a socket.
        counter writes: u64,
        /// Commands of [`Handle`](crate::Handle)s that were run.
        counter commands: u64,
        /// Commands of [`Handle`](crate::Handle)s that failed, at least for some connections: the connection was closed,
        /// or its queue was full.
        counter commands_failed: u64,
        /// How often [`Handle`](crate::Handle)s woke the loop: once per burst of commands.
        counter wake_ups: u64,
        /// Commands of [`Handle`](crate::Handle)s that the last turn with commands left for the next turn.
        gauge pending_commands: u64,
        /// Present connections by the stage they have reached.
        gauge connections: ConnectionsByStage,
        /// Bytes that all connections hold, as counted for [`memory_budget`](crate::Config::memory_budget): write
        /// queues, undelivered input, incomplete frames, and TLS sessions.
        gauge memory_bytes: u64,
        /// The part of these bytes that is in write queues. A payload that several queues share counts once.
        gauge queued_bytes: u64,
        /// [Timers](crate::Net::set_timer) of yours that are set.
        gauge timers: u64,
    }
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

    /// Writes all fields as [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/) text, with the content
    /// type `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    ///
    /// The name of a metric is `throng_`, the name of the field, `_seconds` if it is a duration, and `_total` if it is a
    /// counter. Fields that are structs have one sample per field, distinguished by the label `cause`, `reason` or
    /// `stage`.
    ///
    /// The statistics of several loops are either added, or rendered by one endpoint per loop. To add shards, ask each
    /// of them from a thread of your own:
    ///
    /// ```
    /// use throng::{Handler, MailboxError, ShardHandles, Stats};
    ///
    /// fn render<H: Handler + 'static>(handles: &ShardHandles<H>) -> Result<String, MailboxError> {
    ///     let stats: Stats = handles
    ///         .iter()
    ///         .map(|handle| handle.call(|_, net| net.stats()))
    ///         .sum::<Result<_, _>>()?;
    ///     let mut text = String::new();
    ///     stats.write_openmetrics(&mut text).expect("a string accepts everything");
    ///     Ok(text)
    /// }
    /// ```
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write_openmetrics(&self, out: &mut impl fmt::Write) -> fmt::Result {
        self.write(&mut Text::new(out, Format::OpenMetrics))
    }

    /// Writes all fields in the older text format of Prometheus, with the content type `text/plain; version=0.0.4`. The
    /// names and values are those of [`write_openmetrics`](Self::write_openmetrics).
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write_prometheus(&self, out: &mut impl fmt::Write) -> fmt::Result {
        self.write(&mut Text::new(out, Format::Prometheus))
    }
}

impl Sum for Stats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}

#[cfg(test)]
mod tests;
