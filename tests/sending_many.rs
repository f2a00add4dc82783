//! A frame for many connections: which of them get it, in which framing, and what the report says.

mod support;

use support::ways::{encoded, framings, join, read};
use support::{Peer, Recorder, bytes_queued, listen, listening, pattern, turn_until};
use throng::{
    Config, ConnectionId, EncodeError, EventLoop, Frame, Framing, Handler, ListenOptions, Net,
};

/// A loop with listeners for a `u8` prefix, a `u32` prefix and lines, and a connection through each.
fn three_framings() -> (EventLoop, Recorder, [ConnectionId; 3], [Peer; 3]) {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let mut seen = Recorder::default();
    let framings: [Framing; 3] = [
        Framing::length_prefix().u8().into(),
        Framing::length_prefix().into(),
        Framing::delimiter(b'\n'),
    ];
    let peers = framings.map(|framing| {
        let addr = listen(&mut event_loop, ListenOptions::default().framing(framing));
        join(&mut event_loop, &mut seen, addr)
    });
    let ids = seen.connected().try_into().expect("three");
    (event_loop, seen, ids, peers)
}

fn flush_all(event_loop: &mut EventLoop, handler: &mut (impl Handler + 'static)) {
    turn_until(event_loop, handler, |_, net| {
        let ids = net.connections();
        ids.iter().all(|&id| bytes_queued(net, id) == 0)
    });
}

#[test]
fn frame_for_many_is_encoded_in_the_framing_of_each() {
    for len in [0, 1, 255, 5000] {
        let (mut event_loop, mut seen, ids, mut peers) = three_framings();
        let payload = vec![b'x'; len];
        let report = event_loop.net().broadcast(|_| true, &payload[..]);
        let takes_all = len <= 255;
        let refused = if takes_all { &[][..] } else { &ids[..1] };
        assert_eq!(report.queued, 3 - refused.len());
        assert_eq!((&report.unfit[..], report.gone), (refused, 0));
        flush_all(&mut event_loop, &mut seen);
        if takes_all {
            let wire = [&[len as u8], &payload[..]].concat();
            assert_eq!(read(&mut peers[0], wire.len()), wire);
        }
        assert!(peers[1].receive() == payload);
        let wire = [&payload[..], b"\n"].concat();
        assert!(read(&mut peers[2], wire.len()) == wire);
    }
}

#[test]
fn frame_for_many_is_encoded_in_the_framing_of_each_with_equal_limits() {
    for len in [3, 200] {
        let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
        let mut seen = Recorder::default();
        let payload = vec![b'x'; len];
        let mut peers: Vec<_> = framings()
            .into_iter()
            .map(|framing| {
                let wire = encoded(&framing, [&payload[..]]);
                let options = ListenOptions::default().framing(framing).max_frame_len(200);
                let addr = listen(&mut event_loop, options);
                (join(&mut event_loop, &mut seen, addr), wire)
            })
            .collect();
        let report = event_loop.net().broadcast(|_| true, &payload[..]);
        assert_eq!(report.queued, peers.len());
        flush_all(&mut event_loop, &mut seen);
        for (peer, wire) in &mut peers {
            assert_eq!(&read(peer, wire.len()), wire);
        }
    }
}

#[test]
fn send_report_lists_queued_unfit_and_closed_connections() {
    let (mut event_loop, mut seen, [short, long, lines], mut peers) = three_framings();
    let addr = peers[0].0.peer_addr().expect("its address");
    let gone = event_loop.net().connect(addr).expect("started");
    assert!(event_loop.net().abort(gone));
    let mut payload = vec![b'x'; 300];
    payload[123] = b'\n';

    let net = event_loop.net();
    let report = net.send_many([lines, long, gone, short, long, lines], &payload[..]);
    assert_eq!((report.queued, report.gone), (2, 1), "{report:?}");
    assert_eq!(report.unfit, [lines, short, lines], "in order");
    let first = EncodeError::ContainsDelimiter {
        delimiter: b'\n',
        position: 123,
    };
    assert_eq!(report.error, Some(first), "of the first that refused");

    let report = net.send_many([short, lines], &payload[..]);
    let first = EncodeError::PayloadTooLong { len: 300, max: 255 };
    assert_eq!(report.error, Some(first));
    assert_eq!((report.queued, report.gone), (0, 0), "{report:?}");

    assert_eq!(
        bytes_queued(net, long),
        2 * 304,
        "once for each time it was named"
    );
    assert_eq!((bytes_queued(net, short), bytes_queued(net, lines)), (0, 0));
    flush_all(&mut event_loop, &mut seen);
    for _ in 0..2 {
        assert_eq!(peers[1].receive(), payload);
    }
}

#[test]
fn frame_for_many_obeys_the_limit_of_each_with_equal_framings() {
    for limits in [[10, 20], [20, 10]] {
        let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
        let mut seen = Recorder::default();
        let peers = limits.map(|limit| {
            let options = ListenOptions::default().max_frame_len(limit);
            let addr = listen(&mut event_loop, options);
            join(&mut event_loop, &mut seen, addr)
        });
        let net = event_loop.net();
        for payload in [&[7; 15][..], &[7; 5000]] {
            let report = net.broadcast(|_| true, payload);
            let refused: Vec<_> = (0..2)
                .filter(|&i| limits[i] < payload.len() as u64)
                .collect();
            let found: Vec<_> = report.unfit.iter().map(|id| id.index()).collect();
            assert_eq!(found, refused);
            assert_eq!(report.queued, 2 - refused.len());
        }
        drop(peers);
    }
}

#[test]
fn send_many_without_connections_is_no_error() {
    let (mut event_loop, ..) = three_framings();
    let report = event_loop.net().send_many([], b"hello");
    assert_eq!((report.queued, report.gone, report.unfit.len()), (0, 0, 0));
    assert!(report.error.is_none());
}

#[test]
fn broadcast_asks_its_filter_about_each_open_connection_once() {
    for payload in [&b"hello"[..], &[7; 10_000]] {
        let (mut event_loop, addr) = listening(ListenOptions::default());
        let mut seen = Recorder::default();
        let mut peers = [(); 5].map(|()| join(&mut event_loop, &mut seen, addr));
        let ids = seen.connected();
        let net = event_loop.net();
        // The first is on its way out, another one on its way in.
        assert!(net.disconnect(ids[0]));
        let connecting = net.connect(addr).expect("started");
        let mut asked = Vec::new();
        let filter = |id| {
            asked.push(id);
            id != ids[2]
        };
        let report = net.broadcast(filter, payload);
        assert_eq!(asked, ids[1..]);
        assert_eq!((report.queued, report.gone), (3, 0));
        assert!(report.unfit.is_empty());
        assert_eq!(bytes_queued(net, ids[2]), 0);
        assert_eq!(bytes_queued(net, connecting), 0);
        flush_all(&mut event_loop, &mut seen);
        for i in [1, 3, 4] {
            assert!(peers[i].receive() == payload);
        }
        peers[0].expect_end();
    }
}

#[test]
fn broadcast_in_a_callback_includes_the_sender() {
    struct Chat;
    impl Handler for Chat {
        fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
            let all = net.connection_count();
            assert_eq!(net.broadcast(|_| true, frame).queued, all);
        }
    }
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut peers = [(); 3].map(|()| join(&mut event_loop, &mut Chat, addr));
    for len in [5, 10_000] {
        let before = event_loop.net().stats().frames_sent;
        peers[1].send(&pattern(len));
        turn_until(&mut event_loop, &mut Chat, |_, net| {
            net.stats().frames_sent == before + 3
        });
        for peer in &mut peers {
            assert!(peer.receive() == pattern(len));
        }
    }
}
