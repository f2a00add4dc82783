//! Every setting that is a duration, at its limits: zero, one nanosecond, and the longest there is.
//!
//! The settings come from the list of all fields, so that a new one is tried without being named here, or fails here until
//! its end is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::{
    Config, ConnectOptions, ConnectionId, DisconnectReason, EventLoop, Expired, Frame, Handler,
    Net, OptionsError, Timer,
};

const PATIENCE: Duration = Duration::from_secs(60);
const NANOSECOND: Duration = Duration::from_nanos(1);
/// More than the buffers of the kernel take.
const LARGE: usize = 15 * 1024 * 1024;

/// Why a connection ended: the name of its cause.
#[derive(Default)]
struct Ends(Vec<(ConnectionId, String)>);

impl Handler for Ends {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let cause = format!("{:?}", reason.cause);
        let name = cause.split(|c: char| !c.is_alphanumeric()).next();
        self.0.push((id, name.unwrap_or_default().to_owned()));
    }
}

#[track_caller]
fn turn_until(event_loop: &mut EventLoop, ends: &mut Ends, done: impl Fn(&mut Net, &Ends) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(event_loop.net(), ends) {
        assert!(Instant::now() < deadline, "it did not happen in time");
        let wait = Some(Duration::from_millis(10));
        event_loop.turn(ends, wait).expect("a turn");
    }
}

/// The settings that are durations: their names, and whether they can be left out.
fn settings() -> Vec<(&'static str, bool)> {
    let mut config = Config::default();
    let mut settings = Vec::new();
    for (name, field) in config.fields() {
        if field.is::<Duration>() {
            settings.push((name, false));
        } else if field.is::<Option<Duration>>() {
            settings.push((name, true));
        }
    }
    settings
}

fn config_with(name: &str, value: Duration) -> Config {
    let mut config = Config::default();
    for (_, field) in config.fields().into_iter().filter(|field| field.0 == name) {
        if let Some(field) = field.downcast_mut::<Duration>() {
            *field = value;
        } else if let Some(field) = field.downcast_mut::<Option<Duration>>() {
            *field = Some(value);
        }
    }
    config
}

/// Why a value is refused: nothing lives for no time, and the kernel cannot be told everything.
fn expected_error(name: &'static str, value: Duration) -> Option<OptionsError> {
    match name {
        "disconnect_timeout" | "accept_retry" | "slow_callback" | "busy_poll" => None,
        _ if value.is_zero() => Some(OptionsError::ZeroTimeout { setting: name }),
        "keepalive" | "user_timeout" if value == Duration::MAX => {
            Some(OptionsError::TimeoutTooLong {
                setting: name,
                timeout: value,
                max: match name {
                    "keepalive" => Duration::from_secs(32_767),
                    _ => Duration::from_millis(2_147_483_647),
                },
            })
        }
        _ => None,
    }
}

/// How a connection ends that is silent, leaves a frame unfinished, reads nothing, and is disconnected.
fn expected_end(name: &str, value: Duration) -> &'static str {
    match name {
        _ if value == Duration::MAX => "ClosedLocally",
        "idle_timeout" => "Idle",
        "frame_stall_timeout" => "FrameStalled",
        "write_stall_timeout" => "WriteStalled",
        "disconnect_timeout" => "DrainTimedOut",
        "keepalive" | "user_timeout" | "accept_retry" | "slow_callback" | "busy_poll" => {
            "ClosedLocally"
        }
        other => panic!("how does a connection end by {other} = {value:?}?"),
    }
}

#[test]
fn every_duration_setting_works_at_zero_at_a_nanosecond_and_at_the_longest() {
    let settings = settings();
    assert!(settings.len() >= 8, "{settings:?}");
    for (name, is_optional) in settings {
        for value in [Duration::ZERO, NANOSECOND, Duration::MAX] {
            println!("{name} = {value:?}");
            match (
                EventLoop::new(config_with(name, value)),
                expected_error(name, value),
            ) {
                (Ok(event_loop), None) => live_and_end(event_loop, name, value),
                (Err(error), Some(expected)) if is_optional => {
                    let cause = error.get_ref().and_then(|error| error.downcast_ref());
                    assert_eq!(cause, Some(&expected), "{error}");
                }
                (made, _) => panic!("{name} = {value:?}: {made:?}"),
            }
        }
    }
}

/// Takes a connection through all that has a deadline.
fn live_and_end(mut event_loop: EventLoop, name: &str, value: Duration) {
    let ends = &mut Ends::default();
    let listener = match event_loop.net().listen("127.0.0.1:0") {
        Ok(listener) => listener,
        Err(error) => {
            // Not every system has them.
            let of_the_kernel = matches!(name, "keepalive" | "user_timeout");
            return assert!(of_the_kernel && !cfg!(target_os = "linux"), "{error}");
        }
    };
    let addr = event_loop
        .net()
        .listener(listener)
        .and_then(|it| it.local_addr())
        .expect("its address");
    let mut peer = TcpStream::connect(addr).expect("to connect");
    peer.write_all(&[9, 0, 0, 0, 1]).expect("a live socket");
    let end = expected_end(name, value);
    let is_read = !matches!(end, "Idle" | "FrameStalled");
    turn_until(&mut event_loop, ends, |net, ends| {
        is_read && net.stats().bytes_received > 0 || !ends.0.is_empty()
    });
    let id = ConnectionId::new(0, 0);
    if is_read {
        let net = event_loop.net();
        net.send_bytes(id, vec![0; LARGE].into())
            .expect("it is open");
    }
    let is_written = end != "WriteStalled";
    turn_until(&mut event_loop, ends, |net, ends| {
        is_written && net.stats().writes > 0 || !ends.0.is_empty()
    });
    event_loop.net().disconnect(id);
    let reader = (end == "ClosedLocally").then(|| {
        let mut peer = peer.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            peer.read_to_end(&mut Vec::new())
                .map(|_| peer.shutdown(std::net::Shutdown::Both))
        })
    });
    turn_until(&mut event_loop, ends, |_, ends| !ends.0.is_empty());
    assert_eq!(ends.0, [(id, end.to_owned())]);
    drop(peer);
    if let Some(reader) = reader {
        let read = reader.join().expect("no panic");
        let _ = read.expect("all is read");
    }
    pause_accepting(event_loop, name, value);
}

/// A listener whose accepts fail, for a reason that concerns no peer.
#[cfg(target_os = "linux")]
fn pause_accepting(mut event_loop: EventLoop, name: &str, value: Duration) {
    let broken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = broken.try_clone().expect("a descriptor");
    let options = crate::ListenOptions::default();
    event_loop
        .net()
        .adopt_listener(broken, options)
        .expect("it listens");
    socket2::SockRef::from(&other)
        .shutdown(std::net::Shutdown::Read)
        .expect("Linux lets accepts fail then");
    let pauses = match name {
        "accept_retry" if value == Duration::MAX => 1,
        _ => 3,
    };
    turn_until(&mut event_loop, &mut Ends::default(), |net, _| {
        net.stats().accept_pauses >= pauses
    });
}

#[cfg(not(target_os = "linux"))]
fn pause_accepting(_: EventLoop, _: &str, _: Duration) {}

#[test]
fn every_duration_that_is_passed_to_a_call_may_be_zero_a_nanosecond_or_the_longest() {
    /// Counts its timers, and stops the loop with the last of those that are due.
    #[derive(Default)]
    struct Timed(u64);

    impl Handler for Timed {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

        fn on_timer(&mut self, net: &mut Net, expired: Expired) {
            self.0 |= 1 << expired.key;
            net.cancel_timer(expired.timer);
        }
    }

    for value in [Duration::ZERO, NANOSECOND, Duration::MAX] {
        let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
        let net = event_loop.net();
        let listener = net.listen("127.0.0.1:0").expect("a port");
        let addr: SocketAddr = net
            .listener(listener)
            .and_then(|it| it.local_addr())
            .expect("its address");
        let options = ConnectOptions::default().timeout(value);
        let id = net.connect_with(addr, options).expect("it starts");
        net.set_timer(value, 0);
        net.set_timer(Timer::interval(value), 1);
        net.set_timer(Timer::after(value).on(id), 2);
        net.set_timer(Timer::interval(value).on(id), 3);
        net.set_timer(Timer::at(net.now()).every(value), 4);
        let stats = net.stats();
        assert!((0.0..=1.0).contains(&stats.busy_fraction(&Default::default())));
        let fires = if value == Duration::MAX {
            0b10000
        } else {
            0b10011
        };
        let (mut timed, deadline) = (Timed::default(), Instant::now() + PATIENCE);
        while timed.0 & fires != fires {
            assert!(Instant::now() < deadline, "timers do not fire");
            event_loop.turn(&mut timed, Some(value)).expect("a turn");
        }
        if value == Duration::MAX {
            assert_eq!(timed.0, fires, "a timer that is never due has fired");
        }
        event_loop.net().shutdown(value);
        event_loop.net().shutdown(value);
        event_loop
            .handle()
            .shutdown(value)
            .expect("there is always room");
        event_loop.run(&mut timed).expect("it ends");
    }
}
