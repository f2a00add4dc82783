//! A socket that connects to a port of its own host without a listener may be given that very port by the kernel, which
//! then completes the handshake of the socket with itself.
#![cfg(target_os = "linux")]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use socket2::{Domain, Socket, Type};
use support::{PATIENCE, Recorder, turn_until};
use throng::{Config, DisconnectCause, EventLoop, Side, Stage};

/// A port without a listener, which the kernel gives to sockets that connect: it tries those first that have the
/// parity of the lowest.
fn closed_ephemeral_port() -> SocketAddr {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.expect("it is Linux");
    let mut ends = range
        .split_whitespace()
        .map(|end| end.parse::<u16>().expect("a port"));
    let (low, high) = (ends.next().expect("a port"), ends.next().expect("a port"));
    (low..=high)
        .step_by(2)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|addr| TcpListener::bind(addr).is_ok())
        .expect("a free port")
}

#[test]
fn attempt_that_connects_to_itself_fails() {
    let addr = closed_ephemeral_port();
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let deadline = Instant::now() + PATIENCE;
    let mut attempts = 0;
    while Instant::now() < deadline {
        attempts += 1;
        let mut seen = Recorder::default();
        let id = event_loop.net().connect(addr).expect("an attempt");
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            !seen.events.is_empty()
        });
        assert_eq!(seen.connected(), [], "attempt {attempts}");
        let (ended, reason) = seen.ends()[0];
        assert_eq!(ended, id);
        assert_eq!(reason.stage, Stage::Connecting);
        assert_eq!(reason.side(), Side::Network);
        let DisconnectCause::ConnectFailed(error) = &reason.cause else {
            panic!("not refused: {reason}");
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        // Most are refused by the system.
        if error.raw_os_error().is_none() {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.bind(&addr.into()).expect("the port is free again");
            return;
        }
    }
    panic!("none of {attempts} attempts has connected to itself");
}
