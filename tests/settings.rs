//! Settings: which are refused, and what a listener takes over from its loop.

mod support;

use support::notes::Notes;
use support::{bytes_queued, join, listen};
use throng::{
    Config, ConnectOptions, EventLoop, Framing, ListenOptions, OpenError, OptionsError, SendError,
};

#[test]
fn contradictory_limits_are_errors_wherever_they_are_set() {
    let wrong = [(10, 10, 100), (20, 10, 100), (5, 101, 100)];
    for (low, high, max) in wrong {
        let expected = OptionsError::WatermarksOutOfOrder {
            low_watermark: low,
            high_watermark: high,
            max_queued_bytes: max,
        };
        let config = Config::default()
            .low_watermark(low)
            .high_watermark(high)
            .max_queued_bytes(max);
        let error = <EventLoop>::new(config).expect_err("a contradiction");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), expected.to_string());
        let mut event_loop = <EventLoop>::new(Config::default()).expect("a loop");
        let options = ListenOptions::default()
            .low_watermark(low)
            .high_watermark(high)
            .max_queued_bytes(max);
        match event_loop.net().listen_with("127.0.0.1:0", options) {
            Err(OpenError::Options(error)) => assert_eq!(error, expected),
            other => panic!("{other:?}"),
        }
    }
    // A limit alone moves the watermarks with it.
    let config = Config::default().max_queued_bytes(100);
    drop(<EventLoop>::new(config).expect("no contradiction"));
}

#[test]
fn loop_without_memory_for_its_read_buffer_is_an_error() {
    for bytes in [usize::MAX, usize::MAX / 2, usize::MAX / 4] {
        let config = Config::default().read_buffer(bytes);
        let error = <EventLoop>::new(config).expect_err("more than there is");
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
    }
}

#[test]
fn number_of_events_per_poll_is_limited() {
    let config = Config::default().events_per_poll(usize::MAX);
    let mut event_loop = <EventLoop>::new(config).expect("memory for a sensible number");
    let mut notes = Notes::default();
    let addr = listen(&mut event_loop, ListenOptions::default());
    drop(join(&mut event_loop, addr, &mut notes));
}

#[test]
fn listener_takes_over_settings_of_the_loop() {
    let config = Config::default().max_queued_bytes(1000).max_frame_len(500);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let as_the_loop = listen(&mut event_loop, ListenOptions::default());
    let longer = listen(&mut event_loop, ListenOptions::default().max_frame_len(600));
    // A limit of the loop that this framing cannot reach is none.
    let narrow = ListenOptions::default().framing(throng::Framing::length_prefix().u8());
    let narrow = listen(&mut event_loop, narrow);
    let mut notes = Notes::default();
    for (addr, fits) in [(as_the_loop, 500), (longer, 600), (narrow, 255)] {
        let (_peer, id) = join(&mut event_loop, addr, &mut notes);
        let net = event_loop.net();
        assert!(matches!(
            net.send(id, &vec![0; fits + 1]),
            Err(SendError::Encode(
                throng::EncodeError::PayloadTooLong { .. }
            ))
        ));
        while bytes_queued(net, id) < 1000 {
            net.send(id, &vec![0; fits]).expect("there is room");
        }
        assert!(matches!(
            net.send(id, b""),
            Err(SendError::QueueFull { max: 1000, .. })
        ));
    }
}

#[test]
fn contradictory_options_are_errors_before_a_socket_is_opened() {
    let mut event_loop = <EventLoop>::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let narrow = Framing::length_prefix().u8();
    let options = ListenOptions::default().framing(narrow).max_frame_len(256);
    let error = net
        .listen_with("127.0.0.1:0", options)
        .expect_err("a byte says 255");
    let expected = OptionsError::MaxFrameLenTooWide {
        max_frame_len: 256,
        framing_max: 255,
    };
    assert!(
        matches!(&error, OpenError::Options(error) if *error == expected),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(said.contains("256") && said.contains("255"), "{said}");

    let options = ConnectOptions::default().framing(narrow).max_frame_len(256);
    let addr = "127.0.0.1:1".parse().expect("an address");
    let error = net
        .connect_with(addr, options)
        .expect_err("a byte says 255");
    assert!(matches!(error, OpenError::Options(error) if error == expected));
}

#[test]
fn hardened_preset_fits_every_framing_and_can_be_changed() {
    let framings: [Framing; 5] = [
        Framing::length_prefix().u8().into(),
        Framing::length_prefix().u64().into(),
        Framing::varint(),
        Framing::delimiter(b'\n'),
        Framing::raw(),
    ];
    for framing in framings {
        let config = Config::hardened().framing(framing);
        let mut event_loop = EventLoop::new(config).expect("a loop");
        listen(&mut event_loop, ListenOptions::default());
    }
    <EventLoop>::new(Config::hardened().max_queued_bytes(1000)).expect("a loop");
}
