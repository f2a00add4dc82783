//! Sockets that are adopted by their file descriptors, and what they bring along from a previous owner.
#![cfg(unix)]

mod support;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use support::{Peer, Recorder, pair, std_stream, turn_until};
use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, Frame,
    Handler, ListenOptions, ListenSocket, Net, Stream,
};

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use socket2::SockRef;
use std::process::{Child, Command};

#[test]
fn stream_from_a_descriptor_has_its_family() {
    let (ours, mut peer) = pair();
    let stream = Stream::try_from(OwnedFd::from(ours)).expect("it is TCP");
    assert!(matches!(stream, Stream::Tcp(_)));
    let (unix, _other) = UnixStream::pair().expect("two ends");
    let unix = Stream::try_from(OwnedFd::from(unix)).expect("it is of the Unix domain");
    assert!(matches!(unix, Stream::Unix(_)));

    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    net.adopt(stream, ConnectOptions::default())
        .expect("it is connected");
    peer.send(b"hello");
    let mut seen = Recorder::echoing();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.frames().is_empty()
    });
    assert_eq!(peer.receive(), b"hello");
}

#[test]
fn listener_from_a_descriptor_has_its_family() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(addr) else {
            continue; // no IPv6 here
        };
        let addr = listener.local_addr().expect("its address");
        let socket = ListenSocket::try_from(OwnedFd::from(listener)).expect("it listens");
        assert!(matches!(socket, ListenSocket::Tcp(_)));
        let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
        let net = event_loop.net();
        net.adopt_listener(socket, ListenOptions::default())
            .expect("it listens");
        let _peer = Peer::connect(addr);
        turn_until(&mut event_loop, &mut Recorder::default(), |_, net| {
            net.connection_count() == 1
        });
    }
    let path = std::env::temp_dir().join(format!("throng-fd-{}", std::process::id()));
    let listener = UnixListener::bind(&path).expect("a free path");
    std::fs::remove_file(&path).expect("it is there");
    let socket = ListenSocket::try_from(OwnedFd::from(listener)).expect("it listens");
    assert!(matches!(socket, ListenSocket::Unix(_)));
}

#[test]
fn descriptor_that_is_not_a_stream_socket_is_given_back() {
    let file = std::fs::File::open("/dev/null").expect("a file");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let unix = UnixDatagram::unbound().expect("a socket");
    for fd in [OwnedFd::from(file), udp.into(), unix.into()] {
        let number = fd.as_raw_fd();
        let rejected = Stream::try_from(fd).expect_err("it is no stream");
        assert_eq!(rejected.value.as_raw_fd(), number);
        assert_eq!(rejected.error.kind(), io::ErrorKind::InvalidInput);
        let rejected = ListenSocket::try_from(rejected.value).expect_err("nor a listener");
        assert_eq!(rejected.error.kind(), io::ErrorKind::InvalidInput);
    }
}

#[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
#[test]
fn descriptor_of_a_connected_socket_is_rejected_as_a_listener() {
    let (ours, _peer) = pair();
    let rejected = ListenSocket::try_from(OwnedFd::from(ours)).expect_err("it is connected");
    assert_eq!(rejected.error.kind(), io::ErrorKind::InvalidInput);
    Stream::try_from(rejected.value).expect("that is what it is");
}

/// A child process, which has all descriptors that are not closed on exec.
struct Heir(Child);

impl Heir {
    fn spawn() -> Self {
        Self(Command::new("sleep").arg("600").spawn().expect("a shell"))
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LINGER: Option<Duration> = Some(Duration::from_secs(300));

/// Both in one test, so that no child of another test has them.
#[test]
fn adopted_sockets_are_not_inherited_by_child_processes() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let (ours, mut theirs) = pair();
    for socket in [SockRef::from(&listener), SockRef::from(&ours)] {
        socket.set_cloexec(false).expect("an open socket");
    }
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    net.adopt_listener(listener, ListenOptions::default())
        .expect("it is taken");
    let id = net.adopt(ours, ConnectOptions::default());
    let _heir = Heir::spawn();
    assert!(net.abort(id.expect("it is taken")));
    theirs.expect_reset();
    drop(event_loop);
    let error = TcpStream::connect(addr).expect_err("no listener");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Whether the one connection of a loop has a socket that lingers: it is released, and looked at.
fn lingers(event_loop: &mut EventLoop) -> bool {
    let mut releaser = Releaser::default();
    turn_until(event_loop, &mut releaser, |releaser, _| {
        releaser.0.is_some()
    });
    let stream = std_stream(releaser.0.expect("it was released"));
    let linger = SockRef::from(&stream).linger();
    linger.expect("an open socket").is_some()
}

#[derive(Default)]
struct Releaser(Option<Stream>);

impl Handler for Releaser {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.release(id).expect("it is open");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        if let DisconnectCause::Released(released) = reason.cause {
            self.0 = Some(released.stream);
        }
    }
}

#[test]
fn adopted_stream_does_not_linger() {
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let (ours, _theirs) = pair();
    let linger = SockRef::from(&ours).set_linger(LINGER);
    linger.expect("an open socket");
    let adopted = event_loop.net().adopt(ours, ConnectOptions::default());
    adopted.expect("it is taken");
    assert!(!lingers(&mut event_loop));
}

#[test]
fn peers_of_an_adopted_listener_do_not_linger() {
    for waits_already in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let linger = SockRef::from(&listener).set_linger(LINGER);
        linger.expect("an open socket");
        let early = waits_already.then(|| Peer::connect(addr));
        let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
        let net = event_loop.net();
        net.adopt_listener(listener, ListenOptions::default())
            .expect("it is taken");
        let _peer = early.unwrap_or_else(|| Peer::connect(addr));
        assert!(!lingers(&mut event_loop), "waits already: {waits_already}");
    }
}
