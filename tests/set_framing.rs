//! Changes of the framing of a connection.

mod support;

use support::scene::Scene;
use support::ways::{Way, encoded, framings, join, read};
use support::{framed, listening, turn_until};
use throng::{
    Config, ConnectionId, EncodeError, Frame, Framing, Handler, ListenOptions, Net, SendError,
};

#[test]
fn set_framing_applies_between_two_frames_in_both_directions() {
    let mut scene = Scene::with_framing(Framing::default());
    let mut old = Framing::default();
    for (answers, new) in framings().into_iter().chain(framings()).enumerate() {
        let (net, id) = (&mut scene.looped.net(), scene.id);
        // One write carries both.
        net.send(id, b"old").expect("it is open");
        assert!(net.set_framing(id, new.clone()));
        net.send(id, b"new").expect("it is open");
        scene.flush();
        let wire = [encoded(&old, [&b"old"[..]]), encoded(&new, [&b"new"[..]])].concat();
        assert_eq!(read(&mut scene.peer, wire.len()), wire, "{old:?} {new:?}");

        scene.peer.write(&encoded(&new, [&b"answer"[..]]));
        scene.until(|seen, _| seen.frames().len() == answers + 1);
        assert_eq!(scene.seen.frames().last(), Some(&&b"answer"[..]), "{new:?}");
        old = new;
    }
}

#[test]
fn set_framing_in_on_data_applies_to_the_bytes_behind_the_frame() {
    /// Changes the framing to what a frame asks for, and notes all others.
    struct Switch(Vec<(ConnectionId, Vec<u8>)>);
    impl Handler for Switch {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            let framing = match &*frame {
                b"to varint" => Framing::varint(),
                b"to lines" => Framing::delimiter(b'\n'),
                b"to u16" => Framing::length_prefix().u16().big_endian().into(),
                _ => return self.0.push((id, frame.to_vec())),
            };
            assert!(net.set_framing(id, framing));
        }
    }
    let wire = [
        &framed(b"one")[..],
        &framed(b"to lines"),
        // In the old framing this would be frames as well.
        b"\x03\0\0\0two\n",
        b"to varint\n\x05three\x06to u16",
        b"\0\x04four\0\x03f",
    ]
    .concat();
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut handler = Switch(Vec::new());
    let mut peers = [(); 2].map(|()| join(&mut event_loop, &mut handler, addr));
    // The other is in the middle of a frame meanwhile.
    peers[1].write(b"\x06\0\0\0un");
    peers[0].write(&wire);
    turn_until(&mut event_loop, &mut handler, |handler, _| {
        handler.0.len() == 4
    });
    peers[0].write(b"iv");
    peers[1].write(b"done");
    turn_until(&mut event_loop, &mut handler, |handler, _| {
        handler.0.len() == 6
    });
    let of = |index: usize| {
        let frames = handler.0.iter().filter(|(id, _)| id.index() == index);
        frames.map(|(_, frame)| &frame[..]).collect::<Vec<_>>()
    };
    assert_eq!(
        of(0),
        [&b"one"[..], b"\x03\0\0\0two", b"three", b"four", b"fiv"]
    );
    assert_eq!(of(1), [b"undone"]);
}

#[test]
fn max_frame_len_outlasts_set_framing() {
    let mut scene = Scene::listening(ListenOptions::default().max_frame_len(300));
    for (framing, max) in [
        (Framing::varint(), 300),
        (Framing::length_prefix().u8().into(), 255),
        (Framing::raw(), u64::MAX),
        (Framing::length_prefix().u64().into(), 300),
    ] {
        assert!(scene.looped.net().set_framing(scene.id, framing));
        for way in Way::ALL {
            match scene.send(way, &[7; 301]) {
                Err(SendError::Encode(error)) => {
                    assert_eq!(error, EncodeError::PayloadTooLong { len: 301, max });
                }
                result => assert!(result.is_ok() && max == u64::MAX, "{way:?} {result:?}"),
            }
        }
    }
}

#[test]
fn limit_of_the_loop_applies_to_a_framing_that_can_encode_more_than_the_first() {
    const MAX: usize = 100_000;
    let narrow = Framing::length_prefix().u16();
    for limit in [None, Some(MAX as u64)] {
        let mut config = Config::default().framing(narrow);
        if let Some(limit) = limit {
            config = config.max_frame_len(limit);
        }
        let mut scene = Scene::with(config);
        let (net, id) = (&mut scene.looped.net(), scene.id);
        assert!(net.set_framing(id, Framing::length_prefix()));
        let payload = vec![7; MAX];
        net.send(id, &payload).expect("it is within the limit");
        let refused = net.send(id, &vec![7; MAX + 1]);
        assert_eq!(refused.is_err(), limit.is_some());
        scene.peer.write(&framed(&payload));
        scene.until(|seen, _| seen.frames() == [&payload[..]]);
    }
}
