//! What a queue counts: queued bytes, sent frames, and what was not sent when a connection ends.

mod support;

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use support::scene::Scene;
use support::ways::Way;
use support::{bytes_queued, pattern};
use throng::{DisconnectCause, DisconnectReason, Framing, ListenOptions, Stats};

#[test]
fn queued_bytes_is_exact() {
    let mut scene = Scene::listening(ListenOptions::default().max_queued_bytes(u64::MAX));
    let (mut bytes, mut frames) = (0, 0);
    // Far more than the sockets between the two can hold.
    while bytes < 48 << 20 {
        for way in Way::ALL {
            for len in [0, 1, 100, 4095, 4096, 70_000, 1 << 20] {
                scene.send(way, &vec![7; len]).expect("it is open");
                (bytes, frames) = (bytes + 4 + len as u64, frames + 1);
                assert_eq!(scene.queued(), bytes);
            }
        }
    }
    let id = scene.id;
    scene.until(|_, net| {
        let written = net.stats().bytes_sent;
        assert_eq!(bytes_queued(net, id), bytes - written);
        written > 0
    });
    scene.until_blocked();
    let written = scene.looped.net().stats().bytes_sent;
    assert_eq!(scene.queued(), bytes - written);

    let mut source = scene.peer.0.try_clone().expect("a live socket").take(bytes);
    let reader = std::thread::spawn(move || io::copy(&mut source, &mut io::sink()));
    scene.flush();
    let stats = scene.looped.net().stats();
    assert_eq!((stats.bytes_sent, stats.frames_sent), (bytes, frames));
    assert_eq!(reader.join().expect("it ran").expect("all came"), bytes);
}

#[test]
fn empty_payload_without_framing_sends_nothing() {
    for way in [Way::Copied, Way::Shared, Way::Lent, Way::Owned] {
        assert_nothing_is_nothing(way);
    }
}

#[test]
fn empty_payload_of_a_closure_without_framing_sends_nothing() {
    assert_nothing_is_nothing(Way::Encoded);
}

#[test]
fn empty_payload_for_many_without_framing_sends_nothing() {
    assert_nothing_is_nothing(Way::Many);
    assert_nothing_is_nothing(Way::Broadcast);
}

/// Neither bytes nor a frame, to an empty queue and behind another frame.
#[track_caller]
fn assert_nothing_is_nothing(way: Way) {
    let mut scene = Scene::with_framing(Framing::raw());
    for sent in 1..=2 {
        scene.send(way, b"").expect("it is nothing");
        assert_eq!(scene.queued(), 0, "{way:?}");
        scene.send(Way::Copied, b"abc").expect("it is open");
        scene.send(way, b"").expect("it is nothing");
        assert_eq!(scene.queued(), 3, "{way:?}");
        scene.flush();
        let stats = scene.looped.net().stats();
        assert_eq!(stats.frames_sent, sent, "{way:?}: nothing was counted");
    }
    assert_eq!(scene.into_wire(), b"abcabc", "{way:?}");
}

#[test]
fn max_frame_len_does_not_apply_without_framing() {
    let options = ListenOptions::default()
        .framing(Framing::raw())
        .max_frame_len(10);
    let mut scene = Scene::listening(options);
    let payload = pattern(5000);
    for way in Way::ALL {
        scene.send(way, &payload).expect("no limit applies");
    }
    scene.peer.write(&payload);
    scene.until(|seen, _| seen.frames().concat().len() == payload.len());
    assert!(scene.seen.frames().concat() == payload);
    assert!(scene.into_wire() == payload.repeat(Way::ALL.len()));
}

/// The frames that were accepted by a connection whose peer reads nothing: these lengths, over and over.
struct Accepted<'a> {
    lens: &'a [usize],
    frames: u64,
    bytes: u64,
}

impl Accepted<'_> {
    /// How many of them are whole when so many bytes are written.
    fn whole_within(&self, bytes: u64) -> u64 {
        let mut end = 0;
        let ends = self.lens.iter().cycle().map(|&len| {
            end += 4 + len as u64;
            end
        });
        ends.take_while(|&end| end <= bytes).count() as u64
    }
}

/// A connection whose queue is partly written, and whose socket takes no more.
fn blocked(lens: &[usize], options: ListenOptions) -> (Scene, Accepted<'_>) {
    let mut scene = Scene::listening(options.max_queued_bytes(u64::MAX));
    let (mut frames, mut bytes) = (0, 0);
    let payload = Bytes::from(pattern(64 << 20));
    let (net, id) = (&mut scene.looped.net(), scene.id);
    while bytes < 48 << 20 {
        for &len in lens {
            net.send_bytes(id, payload.slice(..len))
                .expect("it is open");
            frames += 1;
            bytes += 4 + len as u64;
        }
    }
    scene.until_blocked();
    let accepted = Accepted {
        lens,
        frames,
        bytes,
    };
    (scene, accepted)
}

#[track_caller]
fn assert_accounted(stats: Stats, reason: &DisconnectReason, accepted: &Accepted<'_>) {
    assert!(stats.bytes_sent > 0 && reason.unsent_bytes > 0, "{reason}");
    let bytes = stats.bytes_sent + reason.unsent_bytes;
    assert_eq!(bytes, accepted.bytes, "{reason}");
    let whole = accepted.whole_within(stats.bytes_sent);
    assert_eq!(stats.frames_sent, whole, "{reason}");
    assert_eq!(reason.unsent_frames, accepted.frames - whole, "{reason}");
}

#[test]
fn abort_reports_unsent_frames_exactly() {
    for lens in [
        &[4092][..],
        &[3001],
        &[0, 7, 900, 900, 1, 4095, 4096, 50_000, 300_000],
        &[64 << 20],
    ] {
        let (mut scene, accepted) = blocked(lens, ListenOptions::default());
        assert!(scene.looped.net().abort(scene.id));
        let reason = scene.await_end();
        assert_cause!(reason, DisconnectCause::Aborted);
        assert_accounted(scene.looped.net().stats(), &reason, &accepted);
    }
}

#[test]
fn disconnect_timeout_reports_unsent_frames_exactly() {
    let options = ListenOptions::default().disconnect_timeout(Duration::from_millis(100));
    let (mut scene, accepted) = blocked(&[10, 5000, 11, 12], options);
    assert!(scene.looped.net().disconnect(scene.id));
    while scene.seen.ends().is_empty() {
        scene.pass(Duration::from_millis(100));
    }
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::DrainTimedOut { .. });
    assert_accounted(scene.looped.net().stats(), &reason, &accepted);
}

#[test]
fn reset_reports_unsent_frames_exactly() {
    let (scene, accepted) = blocked(&[10, 5000, 11, 12], ListenOptions::default());
    let (mut scene, peer) = scene.apart();
    peer.reset();
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::Reset(_));
    assert_accounted(scene.looped.net().stats(), &reason, &accepted);
}
