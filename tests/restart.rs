//! Servers that are restarted, or started by a peer, without losing one: the examples `restart` and
//! `socket_activation`, as programs. See `tests/examples.rs` for how they are built.
#![cfg(unix)]

mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use support::example::{ANY_PORT, Example, built};
use support::{PATIENCE, Peer, Place, wait_until};

/// Connects, exchanges a frame, and disconnects. Panics if anything fails.
fn visit(addr: SocketAddr) {
    let mut peer = Peer::connect(addr);
    peer.send(b"is anybody there?");
    assert_eq!(peer.receive(), b"is anybody there?");
    peer.half_close();
    peer.expect_end();
}

#[test]
fn restart_loses_no_peer() {
    let place = Place::new("restart");
    let control = place.0.to_str().expect("a path in UTF-8");
    let mut old = Example::start("restart", &[ANY_PORT, control]);
    let addr = old.listening_on();

    let visits = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let (visits, is_over) = (Arc::clone(&visits), Arc::clone(&is_over));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    visit(addr);
                    visits.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let some_visits = || {
        let enough = visits.load(Ordering::Relaxed) + 50;
        wait_until(|| {
            visits.load(Ordering::Relaxed) >= enough || visitors.iter().any(|it| it.is_finished())
        });
    };
    for _ in 0..3 {
        some_visits();
        let mut stays = Peer::connect(addr);
        stays.send(b"before the restart");
        assert_eq!(stays.receive(), b"before the restart");
        let mut new = Example::start("restart", &[ANY_PORT, control]);
        assert_eq!(new.listening_on(), addr);
        some_visits();
        // The old process has retired, and serves its connection as long as it lasts.
        stays.send(b"after the restart");
        assert_eq!(stays.receive(), b"after the restart");
        drop(stays);
        let output = std::mem::replace(&mut old, new).finish();
        assert!(output.status.success(), "{output:?}");
    }
    some_visits();
    is_over.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.join().expect("no visit has failed");
    }
}

#[test]
fn server_listens_again_if_its_successor_fails() {
    let place = Place::new("failed-restart");
    let control = place.0.to_str().expect("a path in UTF-8");
    let mut server = Example::start("restart", &[ANY_PORT, control]);
    let addr = server.listening_on();
    let mut successor = UnixStream::connect(control).expect("it listens");
    successor
        .set_read_timeout(Some(PATIENCE))
        .expect("a live socket");
    let mut byte = [0];
    // The socket comes with this byte, and is closed because this read does not ask for it.
    successor.read_exact(&mut byte).expect("the socket");
    let mut waits = Peer::connect(addr);
    waits.send(b"in the backlog");
    drop(successor);
    assert_eq!(waits.receive(), b"in the backlog");
    visit(addr);
}

#[test]
fn server_uses_the_socket_that_it_is_started_with() {
    let listener = TcpListener::bind(ANY_PORT).expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let mut early = Peer::connect(addr);
    early.send(b"too early?");
    // As systemd does it: the socket is descriptor 3, and two variables tell so.
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(built("socket_activation"));
    let mut server = Example::run_with(&mut shell, Stdio::from(OwnedFd::from(listener)));
    assert_eq!(server.listening_on(), addr);
    assert_eq!(early.receive(), b"too early?");
    visit(addr);
}

#[test]
fn activated_server_reports_that_no_socket_was_passed() {
    let output = Example::start("socket_activation", &[]).finish();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("no socket was passed"), "{output:?}");
}

#[test]
fn systemd_starts_the_server_for_its_first_peer() {
    let tool = "systemd-socket-activate";
    if Command::new(tool).arg("--version").output().is_err() {
        // Past the test harness, which would keep the line of a passing test to itself.
        let line = format!("skipped: socket activation by systemd ({tool} is missing)\n");
        io::stderr().write_all(line.as_bytes()).expect("to write");
        return;
    }
    let (_reserved, addr) = support::reserved();
    let mut command = Command::new(tool);
    command.args(["--listen", &addr.to_string()]);
    let mut server = Example::run(command.arg(built("socket_activation")));
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match TcpStream::connect(addr) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    let mut first = Peer(stream);
    first.send(b"wake up");
    assert_eq!(server.listening_on(), addr);
    assert_eq!(first.receive(), b"wake up");
    visit(addr);
}
