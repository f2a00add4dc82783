//! Ciphertext on its way from rustls to the socket, and what of it the socket has not taken.

use std::io::{self, IoSlice, Write};

use crate::socket::Stream;

/// Ciphertext that the socket has not taken.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// How much of it was written since.
    written: usize,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Writes as much as the socket takes. Returns the number of bytes, and the error if there was one.
    pub(super) fn flush(&mut self, stream: &mut Stream) -> (usize, io::Result<()>) {
        let before = self.len();
        let result = self.write_to(stream);
        let written = before - self.len();
        if self.len() == 0 {
            *self = Self::default();
        }
        (written, result)
    }

    fn write_to(&mut self, stream: &mut Stream) -> io::Result<()> {
        while self.len() > 0 {
            match stream.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => {
                    self.written += more;
                    if stream.short_is_drained() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all that rustls has to send, from where it lies. What the socket does not take is kept, also after an error.
    /// Returns the number of bytes. Nothing else may be pending.
    pub(super) fn send(
        &mut self,
        tls: &mut rustls::Connection,
        stream: &mut Stream,
    ) -> (usize, io::Result<()>) {
        let mut sink = Sink {
            pending: &mut self.bytes,
            stream,
            taken: 0,
            state: Ok(true),
        };
        while tls.wants_write() {
            if let Err(error) = tls.write_tls(&mut sink) {
                return (sink.taken, Err(error));
            }
        }
        let (taken, state) = (sink.taken, sink.state);
        match state {
            Ok(true) => (taken, self.flush(stream).1),
            Ok(false) => (taken, Ok(())),
            Err(error) => (taken, Err(error)),
        }
    }
}

/// Accepts everything: the socket gets what it takes, and the rest is kept. So it is always known how much is pending.
struct Sink<'s> {
    pending: &'s mut Vec<u8>,
    stream: &'s mut Stream,
    taken: usize,
    /// Whether the socket may take more.
    state: io::Result<bool>,
}

impl Sink<'_> {
    /// Writes once, if the socket may take something and nothing waits before it.
    fn try_write(&mut self, slices: &[IoSlice<'_>], len: usize) -> usize {
        if !(matches!(self.state, Ok(true)) && self.pending.is_empty()) {
            return 0;
        }
        let written = match slices {
            [slice] => self.stream.write(slice),
            _ => self.stream.write_vectored(slices),
        };
        match written {
            Ok(0) => self.state = Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                self.state = Ok(written == len || !self.stream.short_is_drained());
                return written;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.state = Ok(false),
            Err(error) => self.state = Err(error),
        }
        0
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        let mut written = self.try_write(slices, len);
        for slice in slices {
            let rest = &slice[written.min(slice.len())..];
            written -= slice.len() - rest.len();
            self.pending.extend_from_slice(rest);
        }
        self.taken += len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    /// A stream that does not block, with a small buffer, and its peer.
    fn connected() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let peer = TcpStream::connect(listener.local_addr().expect("an address"));
        let (stream, _) = listener.accept().expect("a peer");
        stream.set_nonblocking(true).expect("a live socket");
        let socket = socket2::SockRef::from(&stream);
        socket.set_send_buffer_size(4096).expect("a live socket");
        (stream.into(), peer.expect("a connection"))
    }

    /// Different bytes at different places.
    fn pattern(len: usize) -> Vec<u8> {
        (0..len as u32)
            .flat_map(u32::to_be_bytes)
            .take(len)
            .collect()
    }

    /// Passes slices to a sink, as rustls does. Returns whether the socket may take more.
    fn push(pending: &mut Pending, stream: &mut Stream, slices: &[&[u8]]) -> io::Result<bool> {
        let mut sink = Sink {
            pending: &mut pending.bytes,
            stream,
            taken: 0,
            state: Ok(true),
        };
        let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        for some in slices.chunks(3) {
            let len: usize = some.iter().map(|slice| slice.len()).sum();
            let taken = sink.write_vectored(some).expect("it takes everything");
            assert_eq!(taken, len);
        }
        assert_eq!(sink.taken, slices.iter().map(|slice| slice.len()).sum());
        sink.state
    }

    #[test]
    fn what_the_socket_does_not_take_is_kept_in_order_and_written_later() {
        let (mut stream, mut peer) = connected();
        let bytes = pattern(1 << 20);
        let slices: Vec<&[u8]> = bytes.chunks(100_000).collect();
        let mut pending = Pending::default();
        let state = push(&mut pending, &mut stream, &slices);
        assert!(matches!(state, Ok(false)), "{state:?}");
        assert!(pending.len() > 0 && pending.len() < bytes.len());
        let mut received = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        peer.set_nonblocking(true).expect("a live socket");
        let deadline = Instant::now() + Duration::from_secs(60);
        while received.len() < bytes.len() {
            assert!(Instant::now() < deadline, "bytes are lost");
            if let Ok(read) = peer.read(&mut buffer) {
                received.extend_from_slice(&buffer[..read]);
            }
            let before = pending.len();
            let (written, result) = pending.flush(&mut stream);
            result.expect("a live socket");
            assert_eq!(before - pending.len(), written);
        }
        assert!(received == bytes, "it arrives changed");
        assert_eq!((pending.len(), pending.bytes.capacity()), (0, 0));
    }

    #[test]
    fn what_the_socket_takes_is_not_copied() {
        let (mut stream, mut peer) = connected();
        let mut pending = Pending::default();
        let state = push(&mut pending, &mut stream, &[b"some", b"", b"bytes"]);
        assert!(matches!(state, Ok(true)), "{state:?}");
        assert_eq!(pending.bytes.capacity(), 0);
        let mut received = [0; 9];
        peer.read_exact(&mut received).expect("bytes");
        assert_eq!(&received, b"somebytes");
    }

    #[test]
    fn after_an_error_everything_is_pending() {
        let (mut stream, _peer) = connected();
        stream.shutdown_write().expect("a live socket");
        let mut pending = Pending::default();
        let state = push(
            &mut pending,
            &mut stream,
            &[b"some", b"bytes", b"and", b"more"],
        );
        let error = state.expect_err("a broken pipe");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(pending.len(), 16);
    }
}
