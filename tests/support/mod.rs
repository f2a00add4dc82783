//! Shared by the tests: a time limit, functions that turn a loop until a condition holds, and a plain blocking peer.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test files, each of which uses its own part"
)]

pub mod by_hand;
pub mod drivers;
pub mod notes;
pub mod open_files;
pub mod random;
pub mod scene;
pub mod shards;
pub mod toy;
pub mod traffic;
pub mod ways;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use drivers::{Driver, listening_by};
use throng::{
    Config, ConnectionId, DisconnectReason, EventLoop, Frame, Handler, ListenOptions, Net, Stream,
};

/// Long enough for a slow, shared machine. Only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Makes turns until `done` returns `true`.
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

/// Returns the bytes queued on a connection; zero if it has ended.
pub fn bytes_queued(net: &Net, id: ConnectionId) -> u64 {
    net.connection(id).map_or(0, |it| it.queued_bytes())
}

/// Returns a loop that listens on a free port.
pub fn listening(options: ListenOptions) -> (EventLoop, SocketAddr) {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let addr = listen(&mut event_loop, options);
    (event_loop, addr)
}

/// Returns a loop with a configuration that listens on a free port.
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
    net.local_addr(id).expect("its address")
}

/// A callback that was made.
#[derive(Debug)]
pub enum Event {
    Connect(ConnectionId),
    Data(ConnectionId, Vec<u8>),
    HalfClose(ConnectionId),
    Disconnect(ConnectionId, DisconnectReason),
}

/// Records all callbacks; echoes if `echo` is set.
#[derive(Debug, Default)]
pub struct Recorder {
    pub echo: bool,
    pub events: Vec<Event>,
}

impl Recorder {
    pub fn echoing() -> Self {
        Self {
            echo: true,
            events: Vec::new(),
        }
    }

    /// Returns the ids that connected, in order.
    pub fn connected(&self) -> Vec<ConnectionId> {
        let connects = self.events.iter().filter_map(|event| match event {
            Event::Connect(id) => Some(*id),
            _ => None,
        });
        connects.collect()
    }

    /// Returns all frames, in order.
    pub fn frames(&self) -> Vec<&[u8]> {
        let frames = self.events.iter().filter_map(|event| match event {
            Event::Data(_, frame) => Some(&frame[..]),
            _ => None,
        });
        frames.collect()
    }

    /// Returns all ends, in order.
    pub fn ends(&self) -> Vec<(ConnectionId, &DisconnectReason)> {
        let ends = self.events.iter().filter_map(|event| match event {
            Event::Disconnect(id, reason) => Some((*id, reason)),
            _ => None,
        });
        ends.collect()
    }
}

impl Handler for Recorder {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.events.push(Event::Connect(id));
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.events.push(Event::Data(id, frame.to_vec()));
        if self.echo {
            net.send_frame(id, frame).expect("the connection is open");
        }
    }

    fn on_half_close(&mut self, _: &mut Net, id: ConnectionId) {
        self.events.push(Event::HalfClose(id));
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.events.push(Event::Disconnect(id, reason));
    }
}

/// A handler whose callbacks can be queried.
pub trait Observer: Handler {
    fn recorder(&self) -> &Recorder;

    fn recorder_mut(&mut self) -> &mut Recorder;
}

impl Observer for Recorder {
    fn recorder(&self) -> &Recorder {
        self
    }

    fn recorder_mut(&mut self) -> &mut Recorder {
        self
    }
}

/// Echoes, and records nothing.
#[derive(Debug)]
pub struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        net.send_frame(id, frame).expect("the connection is open");
    }
}

/// A loop on a thread of its own. Dropping it stops the thread.
pub struct Server {
    pub addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `handler` on a free port.
    pub fn start<H: Handler + Send + 'static>(handler: H, options: ListenOptions) -> Self {
        Self::start_by::<EventLoop, H>(handler, options)
    }

    /// Serves `handler` on a free port, with a driver.
    pub fn start_by<D: Driver, H: Handler + Send + 'static>(
        mut handler: H,
        options: ListenOptions,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (mut driver, addr) = listening_by::<D>(options);
            tell.send(addr).expect("the test waits");
            while !stopped.load(Ordering::Relaxed) {
                driver.turn(&mut handler);
            }
        });
        let addr = told.recv().expect("it listens");
        Self {
            addr,
            stop,
            thread: Some(thread),
        }
    }

    /// An echo server with the default framing.
    pub fn echo() -> Self {
        Self::echo_by::<EventLoop>()
    }

    /// An echo server with the default framing, and a driver.
    pub fn echo_by<D: Driver>() -> Self {
        Self::start_by::<D, Echo>(Echo, ListenOptions::default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

/// Runs something that might hang, on a thread of its own.
pub fn within_patience<R: Send + 'static>(what: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(what()));
    told.recv_timeout(PATIENCE).expect("it hangs, or panicked")
}

/// A blocking peer with a plain socket.
pub struct Peer(pub TcpStream);

impl Peer {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("to connect");
        stream.set_nodelay(true).expect("a live socket");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a live socket");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a live socket");
        Self(stream)
    }

    /// Sends bytes unchanged.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("to write");
    }

    /// Sends a frame with the default framing.
    pub fn send(&mut self, payload: &[u8]) {
        self.write(&framed(payload));
    }

    /// Receives a frame with the default framing.
    pub fn receive(&mut self) -> Vec<u8> {
        self.try_receive().expect("a frame")
    }

    pub fn try_receive(&mut self) -> io::Result<Vec<u8>> {
        let mut header = [0; 4];
        self.0.read_exact(&mut header)?;
        let mut payload = vec![0; u32::from_le_bytes(header) as usize];
        self.0.read_exact(&mut payload)?;
        Ok(payload)
    }

    /// Waits for EOF; nothing may come before it.
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("a clean end");
        assert_eq!(rest, b"", "the stream goes on");
    }

    /// Waits until the connection is reset.
    pub fn expect_reset(&mut self) {
        let error = self.0.read_to_end(&mut Vec::new()).expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    pub fn half_close(&self) {
        self.0.shutdown(Shutdown::Write).expect("a live socket");
    }

    /// Closes with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.0)
            .set_linger(Some(Duration::ZERO))
            .expect("a live socket");
    }
}

/// Returns both ends of a connection: a stream, and its peer.
pub fn pair() -> (TcpStream, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ours = TcpStream::connect(listener.local_addr().expect("its address")).expect("a peer");
    let (theirs, _) = listener.accept().expect("it is there");
    theirs
        .set_read_timeout(Some(PATIENCE))
        .expect("a live socket");
    (ours, Peer(theirs))
}

/// Returns a released stream as a blocking one.
pub fn std_stream(stream: Stream) -> TcpStream {
    let Stream::Tcp(stream) = stream else {
        panic!("it was TCP");
    };
    let stream = TcpStream::from(stream);
    stream.set_nonblocking(false).expect("a live socket");
    stream
}

/// Returns an address that refuses connections while the socket exists: the socket is bound, so that no other process
/// can bind the address, and does not listen.
pub fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    let addr = socket.local_addr().expect("its address").as_socket();
    (socket, addr.expect("an IPv4 address"))
}

/// A unique path, removed when dropped.
pub struct Place(pub std::path::PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let name = format!("throng-{}-{name}.sock", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Returns a frame of the default framing, as it goes over the wire.
pub fn framed(payload: &[u8]) -> Vec<u8> {
    let mut wire = (payload.len() as u32).to_le_bytes().to_vec();
    wire.extend_from_slice(payload);
    wire
}

/// Returns bytes that differ along the frame, so that a shift is detected.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Returns letters, so that no delimiter is among them.
pub fn letters(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + (i % 23) as u8).collect()
}

/// A reader that always returns `WouldBlock`.
pub struct Never;

impl Read for Never {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Reads `count` frames on a thread of its own.
pub fn read_frames(mut peer: Peer, count: usize) -> std::thread::JoinHandle<(Peer, Vec<Vec<u8>>)> {
    std::thread::spawn(move || {
        let frames = (0..count).map(|_| peer.receive()).collect();
        (peer, frames)
    })
}

/// Returns whether the loop's file descriptor is readable now.
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

/// Waits for a condition that another thread establishes.
pub fn wait_until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < deadline, "it did not happen in time");
        std::thread::yield_now();
    }
}

/// Returns an id of a loop that no longer exists.
pub fn some_id() -> ConnectionId {
    let (mut event_loop, addr) = listening_with(Config::default());
    event_loop.net().connect(addr).expect("it starts")
}
