//! The limits of a server, as options: each setting of [`Config`] by its own name.

use std::time::Duration;

use clap::{Args, ValueEnum};
use throng::{Config, Framing, Overflow};

use crate::values::{bytes, seconds, size};

/// Each is as in the library unless it is given.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits (bytes may end in KiB, MiB or GiB; times are in seconds)")]
pub(crate) struct Settings {
    /// Starts from the preset for the open internet, not from the defaults.
    #[arg(long)]
    hardened: bool,
    /// Bytes of the length before each frame, little-endian.
    #[arg(long, default_value_t = 4, value_parser = width)]
    prefix: u8,
    /// More connections than this are refused.
    #[arg(long)]
    max_connections: Option<usize>,
    /// A full server accepts again when it has fewer connections than this.
    #[arg(long)]
    accept_again_below: Option<usize>,
    /// More connections from one address are refused.
    #[arg(long)]
    max_connections_per_ip: Option<usize>,
    /// More peers of one address per second are refused.
    #[arg(long)]
    max_accepts_per_second_per_ip: Option<u64>,
    /// A peer that sends more frames per second is read more slowly.
    #[arg(long)]
    max_frames_per_second: Option<u64>,
    /// A peer that sends more bytes per second is read more slowly.
    #[arg(long, value_parser = bytes)]
    max_bytes_per_second: Option<u64>,
    /// All connections together may hold so much; beyond it, as few as possible are ended.
    #[arg(long, value_parser = bytes)]
    memory_budget: Option<u64>,
    /// A peer that sends a longer frame is disconnected.
    #[arg(long, value_parser = bytes)]
    max_frame_len: Option<u64>,
    /// Longer frames are handled in pieces.
    #[arg(long, value_parser = bytes)]
    stream_frames_over: Option<u64>,
    /// So much may wait to be written to a connection.
    #[arg(long, value_parser = bytes)]
    max_queued_bytes: Option<u64>,
    /// A connection for which more waits is not read.
    #[arg(long, value_parser = bytes)]
    high_watermark: Option<u64>,
    /// Until no more than this waits.
    #[arg(long, value_parser = bytes)]
    low_watermark: Option<u64>,
    /// What becomes of a frame for which there is no room.
    #[arg(long, value_enum)]
    overflow: Option<OverflowOption>,
    /// Reads on from a peer that does not read.
    #[arg(long)]
    read_under_backpressure: bool,
    /// A connection without a byte for so long is ended.
    #[arg(long, value_parser = seconds)]
    idle_timeout: Option<Duration>,
    /// An unfinished frame has to grow in each such period,
    #[arg(long, value_parser = seconds)]
    frame_stall_timeout: Option<Duration>,
    /// by so much.
    #[arg(long, value_parser = bytes)]
    frame_stall_bytes: Option<u64>,
    /// A peer that takes nothing for so long is disconnected.
    #[arg(long, value_parser = seconds)]
    write_stall_timeout: Option<Duration>,
    /// A disconnect may take so long.
    #[arg(long, value_parser = seconds)]
    disconnect_timeout: Option<Duration>,
    /// The kernel probes a peer that was silent for so long.
    #[arg(long, value_parser = seconds)]
    keepalive: Option<Duration>,
    /// The kernel gives up a peer that acknowledges nothing for so long.
    #[arg(long, value_parser = seconds)]
    user_timeout: Option<Duration>,
    /// The size of the kernel's send buffer of each connection.
    #[arg(long, value_parser = bytes)]
    send_buffer: Option<u64>,
    /// The size of the kernel's receive buffer of each connection.
    #[arg(long, value_parser = bytes)]
    receive_buffer: Option<u64>,
    /// The kernel takes no more than this beyond what it has sent (Linux).
    #[arg(long, value_parser = bytes)]
    max_unsent_in_kernel: Option<u64>,
    /// Keeps a connection whose peer has closed its side.
    #[arg(long)]
    allow_half_open: bool,
    /// The buffer that all connections share.
    #[arg(long, value_parser = size)]
    read_buffer: Option<usize>,
    /// So much is read from a connection in a turn.
    #[arg(long, value_parser = size)]
    read_budget: Option<usize>,
    /// So much is written to a connection in a turn.
    #[arg(long, value_parser = size)]
    write_budget: Option<usize>,
    /// So many peers are accepted in a turn.
    #[arg(long)]
    accepts_per_turn: Option<usize>,
    /// So many frames of a connection are handled in a turn.
    #[arg(long)]
    frames_per_turn: Option<usize>,
    /// So many events are taken in a turn.
    #[arg(long)]
    events_per_poll: Option<usize>,
    /// How long accepting pauses for want of descriptors.
    #[arg(long, value_parser = seconds)]
    accept_retry: Option<Duration>,
    /// So much work is done for heavy connections in a turn, in bytes.
    #[arg(long, value_parser = bytes)]
    turn_budget: Option<u64>,
    /// Polls this long before it sleeps, in seconds.
    #[arg(long, value_parser = seconds)]
    busy_poll: Option<Duration>,
    /// Reports a callback that takes longer.
    #[arg(long, value_parser = seconds)]
    slow_callback: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OverflowOption {
    /// It is refused.
    Refuse,
    /// Its connection is ended.
    Disconnect,
}

impl From<OverflowOption> for Overflow {
    fn from(option: OverflowOption) -> Self {
        match option {
            OverflowOption::Refuse => Self::Refuse,
            OverflowOption::Disconnect => Self::Disconnect,
        }
    }
}

impl Settings {
    pub(crate) fn config(&self) -> Config {
        let mut config = if self.hardened {
            Config::hardened()
        } else {
            Config::default()
        };
        let prefix = Framing::length_prefix();
        config = config.framing(match self.prefix {
            1 => prefix.u8(),
            2 => prefix.u16(),
            8 => prefix.u64(),
            _ => prefix,
        });
        config = config.allow_half_open(self.allow_half_open);
        if self.read_under_backpressure {
            config = config.read_under_backpressure(true);
        }
        macro_rules! set {
            ($($name:ident)*) => {
                $(if let Some(value) = self.$name {
                    config = config.$name(value);
                })*
            };
        }
        set! {
            max_connections accept_again_below max_connections_per_ip memory_budget
            max_accepts_per_second_per_ip max_frames_per_second max_bytes_per_second
            max_frame_len stream_frames_over max_queued_bytes high_watermark low_watermark
            idle_timeout frame_stall_timeout frame_stall_bytes write_stall_timeout disconnect_timeout
            keepalive user_timeout send_buffer receive_buffer max_unsent_in_kernel
            read_buffer read_budget frames_per_turn write_budget accepts_per_turn events_per_poll accept_retry slow_callback
            turn_budget busy_poll
        }
        if let Some(overflow) = self.overflow {
            config = config.overflow(overflow.into());
        }
        config
    }
}

fn width(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(width @ (1 | 2 | 4 | 8)) => Ok(width),
        _ => Err("expected 1, 2, 4 or 8".into()),
    }
}
