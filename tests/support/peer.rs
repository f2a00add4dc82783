//! Peers with plain sockets, and what they send.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use throng::Stream;

use super::PATIENCE;

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

    /// Sends bytes as they are.
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

    /// Waits for EOF. Fails if a byte arrives before it.
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

/// Both ends of a connection: a stream, and its peer.
pub fn pair() -> (TcpStream, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ours = TcpStream::connect(listener.local_addr().expect("its address")).expect("a peer");
    let (theirs, _) = listener.accept().expect("it is there");
    theirs
        .set_read_timeout(Some(PATIENCE))
        .expect("a live socket");
    (ours, Peer(theirs))
}

/// A stream that a loop has given back, as a blocking one.
pub fn std_stream(stream: Stream) -> TcpStream {
    let Stream::Tcp(stream) = stream else {
        panic!("it was TCP");
    };
    let stream = TcpStream::from(stream);
    stream.set_nonblocking(false).expect("a live socket");
    stream
}

/// An address that refuses connections as long as the socket exists: it is bound, so that no other socket gets the address,
/// and does not listen.
pub fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    let addr = socket.local_addr().expect("its address").as_socket();
    (socket, addr.expect("an IPv4 address"))
}

/// A port for another program to listen on: it is bound, so that no other socket gets it, but can be shared.
#[cfg(unix)]
pub fn reserved() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.set_reuse_address(true).expect("a socket");
    socket.set_reuse_port(true).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    let addr = socket.local_addr().expect("its address").as_socket();
    (socket, addr.expect("an IPv4 address"))
}

/// A path for a socket file, which is removed on drop.
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

/// A frame in the default framing, as on the wire.
pub fn framed(payload: &[u8]) -> Vec<u8> {
    let mut wire = (payload.len() as u32).to_le_bytes().to_vec();
    wire.extend_from_slice(payload);
    wire
}

/// Bytes that differ along the frame, so that a shift shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Letters, so that no delimiter is among them.
pub fn letters(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + (i % 23) as u8).collect()
}

/// A reader that never has anything.
pub struct Never;

impl Read for Never {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Reads `count` frames, on a thread of its own.
pub fn read_frames(mut peer: Peer, count: usize) -> std::thread::JoinHandle<(Peer, Vec<Vec<u8>>)> {
    std::thread::spawn(move || {
        let frames = (0..count).map(|_| peer.receive()).collect();
        (peer, frames)
    })
}
