//! What the tests share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test files, each of which uses its own part"
)]

pub mod by_hand;
pub mod drivers;
pub mod example;
pub mod notes;
pub mod open_files;
pub mod peer;
pub mod random;
pub mod recorder;
pub mod scene;
#[cfg(all(feature = "tls", target_os = "linux"))]
pub mod secure;
pub mod server;
pub mod shards;
pub mod toy;
pub mod traffic;
pub mod ways;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use drivers::Driver;
use throng::{Config, ConnectionId, EventLoop, Handler, ListenOptions, ListenerId, Net};

#[cfg(unix)]
#[allow(unused_imports, reason = "each test file uses its own part")]
pub use self::peer::reserved;
#[allow(unused_imports, reason = "each test file uses its own part")]
pub use self::{
    peer::{Never, Peer, Place, framed, letters, pair, pattern, read_frames, refusing, std_stream},
    recorder::{Echo, Event, Observer, Recorder},
    server::{Server, wait_until, within_patience},
};

/// The deadline of every wait: long enough for a slow, shared machine. Only a test that fails waits that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Turns the loop until `done` returns `true`.
#[track_caller]
pub fn turn_until<D: Driver, H: Handler + 'static>(
    event_loop: &mut D,
    handler: &mut H,
    mut done: impl FnMut(&mut H, &mut Net) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    while !done(handler, event_loop.net()) {
        assert!(Instant::now() < deadline, "it did not happen in time");
        event_loop.turn(handler);
    }
}

/// Fails unless the cause of a [`DisconnectReason`](throng::DisconnectReason) matches the pattern.
#[macro_export]
macro_rules! assert_cause {
    ($reason:expr, $cause:pat $(if $condition:expr)?) => {
        assert!(matches!($reason.cause, $cause $(if $condition)?), "{:?}", $reason)
    };
}

/// Returns the bytes queued on a connection; zero if it has ended.
pub fn bytes_queued(net: &Net, id: ConnectionId) -> u64 {
    net.connection(id).map_or(0, |it| it.queued_bytes())
}

/// Returns the address of a listener.
#[track_caller]
pub fn addr_of(net: &Net, listener: ListenerId) -> SocketAddr {
    let listener = net.listener(listener).expect("a listener");
    listener.local_addr().expect("its address")
}

/// Returns a loop that listens on a free port.
pub fn listening(options: ListenOptions) -> (EventLoop, SocketAddr) {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let addr = listen(&mut event_loop, options);
    (event_loop, addr)
}

/// The same, with a configuration.
pub fn listening_with(config: Config) -> (EventLoop, SocketAddr) {
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    (event_loop, addr)
}

/// Connects a peer, and makes turns until `on_connect` was called. Returns the peer and its id.
pub fn join<H: Observer + 'static>(
    event_loop: &mut EventLoop,
    addr: SocketAddr,
    seen: &mut H,
) -> (Peer, ConnectionId) {
    let before = seen.recorder().connected().len();
    let peer = Peer::connect(addr);
    turn_until(event_loop, seen, |seen, _| {
        seen.recorder().connected().len() > before
    });
    (peer, seen.recorder().connected()[before])
}

/// Makes a loop listen on a free port.
pub fn listen(event_loop: &mut EventLoop, options: ListenOptions) -> SocketAddr {
    let net = event_loop.net();
    let id = net.listen_with("127.0.0.1:0", options).expect("a listener");
    addr_of(net, id)
}

/// Returns whether the selector of the loop has an event now.
#[cfg(unix)]
pub fn is_awake(event_loop: &EventLoop) -> bool {
    use std::os::fd::AsRawFd;
    let mut outer = mio::Poll::new().expect("a selector");
    let fd = event_loop.as_raw_fd();
    let mut source = mio::unix::SourceFd(&fd);
    outer
        .registry()
        .register(&mut source, mio::Token(0), mio::Interest::READABLE)
        .expect("a descriptor");
    let mut events = mio::Events::with_capacity(4);
    outer
        .poll(&mut events, Some(Duration::ZERO))
        .expect("a poll");
    !events.is_empty()
}

/// An id of a loop that exists no more.
pub fn some_id() -> ConnectionId {
    let (mut event_loop, addr) = listening_with(Config::default());
    event_loop.net().connect(addr).expect("it starts")
}
