//! Checks the settings of a connection, and computes the values that follow from them.

use std::time::Duration;

use super::ConnectionOptions;
use crate::error::OptionsError;

/// The largest size that all systems accept, in bytes.
const MAX_SIZE: u64 = i32::MAX as u64;

/// The longest timeout that can be measured with the 32 bits of milliseconds stored per connection, minus some hours
/// for a loop that is late. A longer timeout means never.
const MAX_TIMEOUT: Duration = Duration::from_secs(49 * 24 * 3600);

/// The longest time that Linux accepts, the shortest maximum of all systems: 15 bits of seconds.
const MAX_KEEPALIVE: Duration = Duration::from_secs(i16::MAX as u64);

/// The longest time that Linux accepts, in milliseconds.
const MAX_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);
impl ConnectionOptions {
    /// Returns an error if settings contradict each other.
    pub(crate) fn validate(&self) -> Result<(), OptionsError> {
        let framing_max = self.framing.max_payload_len();
        if self.max_frame_len != u64::MAX && self.max_frame_len > framing_max {
            return Err(OptionsError::MaxFrameLenTooWide {
                max_frame_len: self.max_frame_len,
                framing_max,
            });
        }
        let timeouts = [
            ("idle_timeout", self.idle_timeout, Duration::MAX),
            (
                "frame_stall_timeout",
                self.frame_stall_timeout,
                Duration::MAX,
            ),
            (
                "write_stall_timeout",
                self.write_stall_timeout,
                Duration::MAX,
            ),
            ("keepalive", self.keepalive, MAX_KEEPALIVE),
            ("user_timeout", self.user_timeout, MAX_USER_TIMEOUT),
        ];
        for (setting, timeout, max) in timeouts {
            match timeout {
                Some(Duration::ZERO) => return Err(OptionsError::ZeroTimeout { setting }),
                Some(timeout) if timeout > max => {
                    return Err(OptionsError::TimeoutTooLong {
                        setting,
                        timeout,
                        max,
                    });
                }
                _ => {}
            }
        }
        let rates = [
            ("max_frames_per_second", self.max_frames_per_second),
            ("max_bytes_per_second", self.max_bytes_per_second),
        ];
        for (setting, rate) in rates {
            if rate == Some(0) {
                return Err(OptionsError::ZeroRate { setting });
            }
        }
        let sizes = [
            ("send_buffer", self.send_buffer),
            ("receive_buffer", self.receive_buffer),
            ("max_unsent_in_kernel", self.max_unsent_in_kernel),
        ];
        for (setting, bytes) in sizes {
            if let Some(bytes) = bytes.filter(|bytes| !(1..=MAX_SIZE).contains(bytes)) {
                let (min, max) = (1, MAX_SIZE);
                return Err(OptionsError::SizeOutOfRange {
                    setting,
                    bytes,
                    min,
                    max,
                });
            }
        }
        let (low_watermark, high_watermark) = (self.low(), self.high());
        if low_watermark >= high_watermark || high_watermark > self.max_queued_bytes {
            return Err(OptionsError::WatermarksOutOfOrder {
                low_watermark,
                high_watermark,
                max_queued_bytes: self.max_queued_bytes,
            });
        }
        Ok(())
    }

    /// Removes timeouts that are too long to be measured.
    pub(super) fn forget_what_never_comes(&mut self) {
        for timeout in [
            &mut self.idle_timeout,
            &mut self.frame_stall_timeout,
            &mut self.write_stall_timeout,
        ] {
            *timeout = timeout.filter(|timeout| *timeout <= MAX_TIMEOUT);
        }
    }

    /// Returns the high watermark, in bytes.
    pub(crate) fn high(&self) -> u64 {
        self.high_watermark
            .unwrap_or(self.max_queued_bytes.min(4 * 1024 * 1024))
    }

    /// Returns the number of queued bytes from which a connection is congested: more than the high watermark, or the
    /// limit of the queue.
    pub(crate) fn congested_from(&self) -> u64 {
        let above = self.high().saturating_add(1);
        above.min(self.max_queued_bytes)
    }

    /// Returns the low watermark, in bytes.
    pub(crate) fn low(&self) -> u64 {
        self.low_watermark.unwrap_or(self.high() / 4)
    }
}
