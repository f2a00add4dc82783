//! `Net::half_close`: this side sends no more, and receives until the peer has closed.
mod support;

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use support::by_hand::Loop;
use support::{Event, Peer, Recorder, framed};
use throng::{Config, ConnectionId, DisconnectCause, Frame, Handler, Net, SendError};

fn joined(config: Config) -> (Loop, Recorder, Peer, ConnectionId) {
    let mut looped = Loop::new(config);
    let mut seen = Recorder::default();
    let (peer, id) = looped.join(&mut seen);
    (looped, seen, peer, id)
}

fn assert_closed_by_peer(seen: &Recorder) {
    let cause = &seen.ends()[0].1.cause;
    assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause:?}");
}

#[test]
fn peer_reads_all_frames_and_eof_and_replies_are_delivered() {
    for allow_half_open in [false, true] {
        let config = Config::default().allow_half_open(allow_half_open);
        let (mut looped, mut seen, mut peer, id) = joined(config);
        looped.net().send(id, b"last").expect("it is connected");
        looped.net().half_close(id).expect("it is connected");
        looped.rest(&mut seen);
        let mut read = Vec::new();
        peer.0.read_to_end(&mut read).expect("a clean end");
        assert_eq!(read, framed(b"last"));
        for reply in [b"one", b"two"] {
            let before = seen.frames().len();
            peer.send(reply);
            looped.settle(&mut seen, |seen, _| seen.frames().len() > before);
        }
        assert!(looped.net().is_connected(id));
        drop(peer);
        looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
        assert_closed_by_peer(&seen);
        let is_half_close = |event: &Event| matches!(event, Event::HalfClose(_));
        assert!(
            !seen.events.iter().any(is_half_close),
            "no reply is possible"
        );
    }
}

#[test]
fn fin_follows_a_queue_that_the_peer_reads_late() {
    const LEN: usize = 20 << 20;
    let (mut looped, mut seen, mut peer, id) = joined(Config::default().max_queued_bytes(1 << 30));
    let payload = Bytes::from(vec![7; LEN]);
    let net = looped.net();
    net.send_bytes(id, payload).expect("there is room");
    net.half_close(id).expect("it is connected");
    let reading = std::thread::spawn(move || {
        let mut read = Vec::new();
        peer.0.read_to_end(&mut read).expect("a clean end");
        peer.send(b"got it");
        read.len()
    });
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    assert_eq!(reading.join().expect("it reads"), 4 + LEN);
    assert_eq!(seen.frames().len(), 1);
    assert_closed_by_peer(&seen);
}

#[test]
fn sends_after_half_close_are_refused() {
    let (mut looped, mut seen, _peer, id) = joined(Config::default());
    let net = looped.net();
    assert!(matches!(net.begin_frame(id, 2), Ok(())));
    assert!(matches!(
        net.half_close(id),
        Err(SendError::FrameOpen { missing: 2 })
    ));
    net.push_chunk(id, b"ab").expect("a frame is open");
    net.finish_frame(id).expect("it is complete");
    net.half_close(id).expect("it is connected");
    for _ in 0..2 {
        let net = looped.net();
        let refused = [
            net.send(id, b"small"),
            net.send_bytes(id, vec![7; 100_000].into())
                .map_err(|it| it.error),
            net.send_latest(id, 1, b"state"),
            net.begin_frame(id, 1),
            net.disconnect_with(id, b"bye", throng::Backlog::Flush),
            net.half_close(id),
            net.release(id),
        ];
        for result in refused {
            assert!(matches!(result, Err(SendError::HalfClosed)), "{result:?}");
        }
        let report = net.broadcast(|_| true, b"all");
        assert_eq!((report.queued, report.gone), (0, 1));
        looped.rest(&mut seen);
    }
}

#[test]
fn disconnect_after_half_close_waits_for_the_peer() {
    let (mut looped, mut seen, mut peer, id) = joined(Config::default());
    looped.net().half_close(id).expect("it is connected");
    looped.rest(&mut seen);
    assert!(looped.net().disconnect(id));
    peer.send(b"not delivered");
    looped.rest(&mut seen);
    assert!(seen.ends().is_empty());
    drop(peer);
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    assert!(seen.frames().is_empty());
    let cause = &seen.ends()[0].1.cause;
    assert!(matches!(cause, DisconnectCause::ClosedLocally), "{cause:?}");
}

#[test]
fn half_closed_peer_that_is_half_closed_in_turn_has_ended() {
    let config = Config::default().allow_half_open(true);
    let (mut looped, mut seen, mut peer, id) = joined(config);
    peer.send(b"question");
    peer.half_close();
    let is_half_closed = |seen: &mut Recorder, _: &mut Net| {
        let last = seen.events.last();
        matches!(last, Some(Event::HalfClose(_)))
    };
    looped.settle(&mut seen, is_half_closed);
    let net = looped.net();
    net.send(id, b"answer").expect("it reads");
    net.half_close(id).expect("it is connected");
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    assert_closed_by_peer(&seen);
    let mut read = Vec::new();
    peer.0.read_to_end(&mut read).expect("a clean end");
    assert_eq!(read, framed(b"answer"));
}

#[test]
fn reset_after_half_close_is_reported() {
    let (mut looped, mut seen, peer, id) = joined(Config::default());
    looped.net().half_close(id).expect("it is connected");
    looped.rest(&mut seen);
    peer.reset();
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    let cause = &seen.ends()[0].1.cause;
    assert!(matches!(cause, DisconnectCause::Reset(_)), "{cause:?}");
}

#[test]
fn silence_after_half_close_is_idle() {
    let second = Duration::from_secs(1);
    let (mut looped, mut seen, _peer, id) = joined(Config::default().idle_timeout(second));
    looped.net().half_close(id).expect("it is connected");
    looped.rest(&mut seen);
    looped.pass(2 * second, &mut seen);
    let cause = &seen.ends()[0].1.cause;
    assert!(matches!(cause, DisconnectCause::Idle { .. }), "{cause:?}");
}

/// Half-closes in the callback, while more frames wait to be delivered.
#[derive(Default)]
struct Once(Recorder);

impl Handler for Once {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if self.0.frames().is_empty() {
            net.half_close(id).expect("it is connected");
        }
        self.0.on_data(net, id, frame);
    }
}

#[test]
fn frames_behind_a_half_close_are_delivered() {
    let (mut looped, _, mut peer, _) = joined(Config::default());
    let mut once = Once::default();
    peer.write(&framed(b"frame").repeat(3));
    looped.settle(&mut once, |once, _| once.0.frames().len() == 3);
}
