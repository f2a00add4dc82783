//! Detects whether a peer has half-closed, even if unread bytes precede the EOF.
//!
//! No read can detect this without consuming the bytes, and while throng does not read from a connection, the loop's
//! selector does not report it. Therefore a temporary selector registers the socket under a second descriptor and polls
//! once.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use super::stream::retry;
use super::{Selector, Stream};

/// Returns `true` if the peer has half-closed. Costs a few system calls. If no file descriptor is available, returns
/// `false` if unread bytes precede the EOF.
pub(crate) fn peer_has_closed(stream: &Stream) -> bool {
    #[cfg(feature = "sim")]
    if let Stream::Sim(stream) = stream {
        return stream.peer_has_closed();
    }
    select(stream).unwrap_or_else(|_| peek(stream))
}

fn select(stream: &Stream) -> io::Result<bool> {
    let mut copy = stream.try_clone()?;
    let mut poll = Poll::new()?;
    let selector = Selector::from(poll.registry().try_clone()?);
    copy.register(&selector, Token(0), Interest::READABLE)?;
    let mut events = Events::with_capacity(1);
    retry(|| poll.poll(&mut events, Some(Duration::ZERO)))?;
    Ok(events.iter().any(Event::is_read_closed))
}

fn peek(stream: &Stream) -> bool {
    let Ok(socket) = stream.as_socket() else {
        return false;
    };
    match retry(|| socket.peek(&mut [MaybeUninit::uninit()])) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn tcp() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let peer = TcpStream::connect(addr).expect("it listens");
        let (ours, _) = listener.accept().expect("the peer");
        ours.set_nonblocking(true).expect("a live socket");
        (ours.into(), peer)
    }

    /// Returns the results with and without a second descriptor. What the peer did may take a moment to arrive.
    fn await_end(ours: &Stream) -> (bool, bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !select(ours).expect("descriptors") {
            assert!(std::time::Instant::now() < deadline, "no end");
            std::thread::yield_now();
        }
        (peer_has_closed(ours), peek(ours))
    }

    #[test]
    fn end_of_stream_is_seen_behind_unread_bytes_and_without_a_descriptor_if_there_are_none() {
        for bytes in [0, 1, 1000] {
            let (ours, mut peer) = tcp();
            peer.write_all(&vec![7; bytes]).expect("room");
            assert!(!peer_has_closed(&ours) && !peek(&ours));
            peer.shutdown(Shutdown::Write).expect("a live socket");
            assert_eq!(await_end(&ours), (true, bytes == 0), "{bytes}");
        }
    }

    #[test]
    fn reset_is_an_end_with_a_descriptor_and_without() {
        let (ours, peer) = tcp();
        SockRef::from(&peer)
            .set_linger(Some(Duration::ZERO))
            .expect("a live socket");
        drop(peer);
        assert_eq!(await_end(&ours), (true, true));
    }

    #[cfg(unix)]
    #[test]
    fn end_of_a_unix_socket_is_seen_behind_unread_bytes() {
        for bytes in [0, 1000] {
            let (ours, mut peer) = std::os::unix::net::UnixStream::pair().expect("a pair");
            ours.set_nonblocking(true).expect("a live socket");
            let ours = Stream::from(ours);
            peer.write_all(&vec![7; bytes]).expect("room");
            assert!(!peer_has_closed(&ours) && !peek(&ours));
            peer.shutdown(Shutdown::Write).expect("a live socket");
            assert_eq!(await_end(&ours), (true, bytes == 0), "{bytes}");
        }
    }
}
