//! A write to a peer that is gone raises no signal, also where SIGPIPE has its default action: it would end a C program or
//! a Python module that hosts a loop. (Rust's own programs ignore the signal.)
//!
//! The host is this test binary again, in a process of its own.
#![cfg(unix)]
#![allow(unsafe_code, reason = "the default action cannot be restored without")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use bytes::Bytes;
use support::{pattern, turn_until};
use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectReason, EventLoop, Frame, Handler, Net, Stream,
};

/// Set in the process that is the host.
const HOST: &str = "THRONG_TEST_SIGPIPE";
const SIGPIPE: i32 = 13;
const DEFAULT: usize = 0;

unsafe extern "C" {
    fn signal(signal: i32, action: usize) -> usize;
}

/// Runs a test again in a host with the default action. Returns whether this is the host.
fn is_host(test: &str) -> bool {
    if std::env::var_os(HOST).is_some() {
        // SAFETY: the action is a constant of the system, not a function.
        unsafe { signal(SIGPIPE, DEFAULT) };
        return true;
    }
    let host = Command::new(std::env::current_exe().expect("a test binary"))
        .args(["--exact", test, "--nocapture"])
        .env(HOST, "")
        .output()
        .expect("the binary is there");
    let said = String::from_utf8_lossy(&host.stdout);
    assert_eq!(host.status.signal(), None, "{said}");
    assert!(host.status.success(), "{said}");
    false
}

/// Sends many frames to a peer that has closed.
struct Talker {
    /// Of each frame: small ones are copied into one buffer, large ones are written by reference.
    len: usize,
    ends: Vec<DisconnectReason>,
}

impl Handler for Talker {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        let payload = Bytes::from(pattern(self.len));
        for _ in 0..1_000_000 / self.len {
            net.send_bytes(id, payload.clone()).expect("there is room");
        }
        net.disconnect(id);
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        self.ends.push(reason);
    }
}

/// Writes frames to a peer that is gone, by each way that a frame takes.
fn write_to_closed_peers(pair: impl Fn() -> (Stream, Stream)) {
    for len in [20, 5_000, 900_000] {
        let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
        let mut talker = Talker {
            len,
            ends: Vec::new(),
        };
        let (ours, theirs) = pair();
        let options = ConnectOptions::default().allow_half_open(true);
        event_loop.net().adopt(ours, options).expect("it is taken");
        drop(theirs);
        turn_until(&mut event_loop, &mut talker, |talker, _| {
            talker.ends.len() == 1
        });
        assert!(talker.ends[0].unsent_bytes > 0, "{len}: all was written");
    }
}

#[test]
fn write_to_a_closed_tcp_peer_raises_no_signal() {
    if is_host("write_to_a_closed_tcp_peer_raises_no_signal") {
        write_to_closed_peers(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            let addr = listener.local_addr().expect("its address");
            let ours = std::net::TcpStream::connect(addr).expect("it listens");
            let (theirs, _) = listener.accept().expect("it is there");
            (ours.into(), theirs.into())
        });
    }
}

#[test]
fn write_to_a_closed_unix_peer_raises_no_signal() {
    if is_host("write_to_a_closed_unix_peer_raises_no_signal") {
        write_to_closed_peers(|| {
            let pair = std::os::unix::net::UnixStream::pair();
            let (ours, theirs) = pair.expect("a pair");
            (ours.into(), theirs.into())
        });
    }
}
