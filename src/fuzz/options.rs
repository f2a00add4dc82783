//! Settings: any combination is refused with an error, or works.

use super::format::Format;
use super::input::Input;
use crate::{Config, ConnectOptions, ListenOptions, Overflow};

/// Applies settings of connections to anything that has them.
macro_rules! set {
    ($options:expr, $input:expr) => {{
        let input = &mut *$input;
        match input.below(20) {
            0..3 => $options.framing(Format::any(input).framing()),
            3 => $options.max_frame_len(input.number()),
            4 => $options.stream_frames_over(input.number()),
            5 => $options.max_queued_bytes(input.number()),
            6 => $options.overflow(input.one_of(&[Overflow::Refuse, Overflow::Disconnect])),
            7 => $options.high_watermark(input.number()),
            8 => $options.low_watermark(input.number()),
            9 => $options.read_under_backpressure(input.flag()),
            10 => $options.idle_timeout(input.duration()),
            11 => $options.frame_stall_timeout(input.duration()),
            12 => $options.frame_stall_bytes(input.number()),
            13 => $options.write_stall_timeout(input.duration()),
            14 => $options.keepalive(input.duration()),
            15 => $options.user_timeout(input.duration()),
            16 => $options.send_buffer(input.number()),
            17 => $options.receive_buffer(input.number()),
            18 => $options.max_unsent_in_kernel(input.number()),
            _ => $options
                .disconnect_timeout(input.duration())
                .allow_half_open(input.flag()),
        }
    }};
}

/// Sets up a loop and a connection with any settings, and checks what follows from them.
pub fn options(data: &[u8]) {
    let mut input = Input(data);
    let mut config = match input.flag() {
        true => Config::hardened(),
        false => Config::default(),
    };
    let mut listen = ListenOptions::default();
    let mut connect = ConnectOptions::default();
    while !input.is_empty() {
        match input.below(6) {
            0 | 1 => config = set!(config, &mut input),
            2 => listen = set!(listen, &mut input),
            3 => connect = set!(connect, &mut input),
            _ => config = set_loop(config, &mut input),
        }
    }
    // A setting that is refused for the loop is also refused where it is not overridden.
    for checked in [listen.connection(&config), connect.connection(&config)]
        .into_iter()
        .flatten()
    {
        assert!(checked.low() < checked.high());
        assert!(checked.high() <= checked.max_queued_bytes);
        assert!(checked.congested_from() > checked.low());
        assert!(checked.congested_from() <= checked.max_queued_bytes);
        for timeout in [
            checked.idle_timeout,
            checked.frame_stall_timeout,
            checked.write_stall_timeout,
            checked.keepalive,
            checked.user_timeout,
        ] {
            assert!(timeout.is_none_or(|timeout| !timeout.is_zero()));
        }
    }
    #[cfg(unix)]
    connection::try_one(config, connect);
}

fn set_loop(config: Config, input: &mut Input<'_>) -> Config {
    let number = input.number();
    let size = usize::try_from(number).unwrap_or(usize::MAX);
    match input.below(14) {
        0 => config.max_connections(size),
        1 => config.accept_again_below(size),
        2 => config.max_connections_per_ip(size),
        3 => config.memory_budget(number),
        // The memory of a buffer is used when the loop is created.
        4 if (1 << 22..1 << 46).contains(&number) => config,
        4 => config.read_buffer(size),
        5 => config.read_budget(size),
        6 => config.frames_per_turn(size),
        7 => config.write_budget(size),
        8 => config.accepts_per_turn(size),
        9 => config
            .max_pending_commands(number)
            .max_pending_bytes(number),
        10 => config.commands_per_turn(size).timers_per_turn(size),
        11 => config.accept_retry(input.duration()),
        12 => config.slow_callback(input.duration()),
        _ => config.events_per_poll(size),
    }
}

#[cfg(unix)]
mod connection {
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use mio::Token;

    use crate::frame::FrameEncoder;
    use crate::{
        Chunk, Config, ConnectOptions, ConnectionId, DecodeError, DisconnectCause,
        DisconnectReason, EventLoop, Expired, Frame, Handler, Net, OpenError,
    };

    #[derive(Default)]
    struct Seen {
        payload: Vec<u8>,
        is_whole: bool,
        cause: Option<DisconnectCause>,
        timers: usize,
    }

    impl Handler for Seen {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, frame: Frame<'_>) {
            self.payload = frame.to_vec();
            self.is_whole = true;
        }

        fn on_chunk(&mut self, _: &mut Net, _: ConnectionId, chunk: Chunk<'_>) {
            self.payload.extend_from_slice(&chunk);
            self.is_whole |= chunk.is_last();
        }

        fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
            self.cause = Some(reason.cause);
        }

        fn on_timer(&mut self, _: &mut Net, _: Expired) {
            self.timers += 1;
        }

        fn on_event(&mut self, _: &mut Net, _: Token, _: crate::Readiness) {}
    }

    /// Receives one frame with these settings. No timeout is short enough to matter, or it is the cause of the end.
    pub(super) fn try_one(config: Config, options: ConnectOptions) {
        let is_full = config.max_connections == 0;
        let mut event_loop = match EventLoop::new(config.clone()) {
            Ok(event_loop) => event_loop,
            // Settings that contradict each other, or a read buffer for which there is no memory.
            Err(error) => {
                assert!(config.check().is_err() || error.kind() == ErrorKind::OutOfMemory);
                return;
            }
        };
        let Ok((ours, mut theirs)) = UnixStream::pair() else {
            return;
        };
        match event_loop.net().adopt(ours, options.clone()) {
            Ok(_) => assert!(!is_full),
            Err(rejected) => match rejected.error {
                OpenError::TooManyConnections { .. } => {
                    assert!(is_full);
                    return;
                }
                OpenError::Options(_) => return assert!(options.connection(&config).is_err()),
                // The system may refuse what a socket of this kind does not have.
                OpenError::Adopt(_) => return,
                error => panic!("{error}"),
            },
        }
        let options = options.connection(&config).expect("it was accepted");
        let payload = vec![b'x'; 40];
        let mut wire = Vec::new();
        let encoder = FrameEncoder::new(options.framing.clone());
        if encoder.encode(&payload, &mut wire).is_err() {
            return;
        }
        theirs.write_all(&wire).expect("it fits into the buffer");
        let mut seen = Seen::default();
        event_loop.net().set_timer(Duration::ZERO, 1);
        for _ in 0..1000 {
            if seen.is_whole && seen.timers == 1 || seen.cause.is_some() {
                break;
            }
            event_loop
                .turn(&mut seen, Some(Duration::from_millis(1)))
                .expect("a turn");
        }
        match seen.cause {
            None => {
                assert!(seen.is_whole, "the frame is not delivered");
                assert_eq!(seen.payload, payload);
                assert_eq!(seen.timers, 1);
            }
            Some(
                DisconnectCause::MemoryBudget { .. }
                | DisconnectCause::Idle { .. }
                | DisconnectCause::FrameStalled { .. },
            ) => {}
            Some(DisconnectCause::Decode(DecodeError::FrameTooLarge { max, .. })) => {
                assert!(max < payload.len() as u64);
            }
            Some(cause) => panic!("{cause}"),
        }
    }
}
