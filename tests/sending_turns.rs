//! Frames that are sent in a callback are written in the same turn.

mod support;

use support::ways::join;
use support::{Peer, bytes_queued, listening, turn_until};
use throng::{ConnectionId, DisconnectReason, Frame, Handler, ListenOptions, Net, SendError};

#[test]
fn frame_sent_in_on_connect_is_written_in_the_same_turn() {
    struct Greeter(Option<ConnectionId>);
    impl Handler for Greeter {
        fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
            net.send(id, b"welcome").expect("it is connected");
            self.0 = Some(id);
        }
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
    }
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut greeter = Greeter(None);
    let mut peer = join(&mut event_loop, &mut greeter, addr);
    let id = greeter.0.expect("it connected");
    assert_eq!(bytes_queued(event_loop.net(), id), 0);
    assert_eq!(peer.receive(), b"welcome");

    // So it is with a connection of our own making.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    let id = event_loop.net().connect(addr).expect("started");
    turn_until(&mut event_loop, &mut greeter, |greeter, _| {
        greeter.0 == Some(id)
    });
    assert_eq!(bytes_queued(event_loop.net(), id), 0);
    let (stream, _) = listener.accept().expect("it connected");
    assert_eq!(Peer(stream).receive(), b"welcome");
}

#[test]
fn frame_sent_in_on_data_is_written_in_the_same_turn() {
    /// Passes each frame on to all others.
    struct Relay(u64);
    impl Handler for Relay {
        fn on_data(&mut self, net: &mut Net, from: ConnectionId, frame: Frame<'_>) {
            for to in net.connections() {
                if to != from {
                    net.send(to, &frame).expect("it is open");
                }
            }
            self.0 += 1;
        }
    }
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut relay = Relay(0);
    let mut peers = [(); 3].map(|()| join(&mut event_loop, &mut relay, addr));
    for (count, from) in [0, 1, 2].into_iter().enumerate() {
        peers[from].send(b"pass it on");
        turn_until(&mut event_loop, &mut relay, |relay, _| {
            relay.0 == count as u64 + 1
        });
        let sent = event_loop.net().stats().frames_sent;
        assert_eq!(sent, 2 * (count as u64 + 1), "they wait for another turn");
        for (to, peer) in peers.iter_mut().enumerate() {
            if to != from {
                assert_eq!(peer.receive(), b"pass it on");
            }
        }
    }
}

#[test]
fn frame_sent_in_on_disconnect_is_written_in_the_same_turn() {
    struct Farewell(Option<ConnectionId>);
    impl Handler for Farewell {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

        fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, _: DisconnectReason) {
            let refused = net.send(id, b"farewell");
            assert!(matches!(refused, Err(SendError::Disconnected)));
            assert_eq!(net.send_many([id], b"farewell").gone, 1);
            let report = net.broadcast(|_| true, b"it left");
            assert_eq!((report.queued, report.gone), (2, 0));
            self.0 = Some(id);
        }
    }
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut handler = Farewell(None);
    let mut peers = [(); 3]
        .map(|()| join(&mut event_loop, &mut handler, addr))
        .into_iter();
    peers.next().expect("three").reset();
    turn_until(&mut event_loop, &mut handler, |handler, _| {
        handler.0.is_some()
    });
    let sent = event_loop.net().stats().frames_sent;
    assert_eq!(sent, 2, "they wait for another turn");
    for mut peer in peers {
        assert_eq!(peer.receive(), b"it left");
    }
}
