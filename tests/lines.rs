//! Lines of text: where they end, what can be sent, and a last line without an end.

mod support;

use std::io::Cursor;

use support::notes::{Arrived, Notes};
use support::scene::Scene;
use support::{Event, Peer};
use throng::{
    Config, ConnectionId, DecodeError, DisconnectCause, EncodeError, Framing, ListenOptions, Net,
    SendError,
};

fn options(framing: impl Into<Framing>) -> ListenOptions {
    ListenOptions::default().framing(framing)
}

/// Options for lines of which the last needs no end.
fn unterminated() -> ListenOptions {
    options(Framing::lines().deliver_unterminated())
}

fn whole(lines: &[&[u8]]) -> Vec<Arrived> {
    lines
        .iter()
        .map(|line| Arrived::Whole(line.to_vec()))
        .collect()
}

/// Sends a text to a loop and closes the peer's side. Returns what arrived, and the cause of the end.
fn receive(options: ListenOptions, text: &[u8]) -> (Vec<Arrived>, DisconnectCause) {
    let (mut scene, mut peer, _) = Scene::joined(options);
    peer.write(text);
    peer.half_close();
    let reason = scene.await_end();
    (scene.seen.arrived, reason.cause)
}

#[test]
fn lines_end_with_lf_or_cr_lf() {
    let text = b"one\ntwo\r\n\n\r\nth\rree\r\r\n";
    let (arrived, cause) = receive(options(Framing::lines()), text);
    assert_eq!(arrived, whole(&[b"one", b"two", b"", b"", b"th\rree\r"]));
    assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause}");
}

#[test]
fn line_is_measured_without_its_end() {
    let at_limit = || options(Framing::lines()).max_frame_len(3);
    let (arrived, cause) = receive(at_limit(), b"abc\r\nabc\n");
    assert_eq!(arrived, whole(&[b"abc", b"abc"]));
    assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause}");

    // The CR may belong to the end, until something else follows.
    let (mut scene, mut peer, _) = Scene::joined(at_limit());
    peer.write(b"abc\r");
    scene.until(|_, net| net.stats().bytes_received == 4);
    scene.turns();
    peer.write(b"d");
    let DisconnectCause::Decode(DecodeError::FrameTooLarge { declared, max, .. }) =
        scene.end().cause
    else {
        panic!("it is too long");
    };
    assert_eq!((declared, max), (5, 3));
}

/// With or without its end, whole or split.
#[test]
fn line_over_the_limit_is_an_error_in_chunks_too() {
    let framings = [Framing::lines().into(), Framing::delimiter(b'\n')];
    for framing in framings {
        for (len, end) in [(1001, ""), (1001, "\n"), (200_000, ""), (200_000, "\n")] {
            let options = options(framing.clone()).max_frame_len(1000);
            let mut text = support::letters(len);
            text.extend_from_slice(end.as_bytes());
            let (mut scene, mut peer, _) = Scene::joined(options.stream_frames_over(100));
            peer.write(&text[..500]);
            scene.until(|seen, _| seen.coming.len() == 500);
            let writing = std::thread::spawn(move || {
                // It fails when the connection is reset.
                let _ = std::io::Write::write_all(&mut peer.0, &text[500..]);
                peer
            });
            let DisconnectCause::Decode(DecodeError::FrameTooLarge { declared, max, .. }) =
                scene.await_end().cause
            else {
                panic!("{len} bytes were accepted");
            };
            assert!(declared > 1000 && max == 1000);
            assert_eq!(scene.seen.arrived, []);
            drop(writing.join().expect("it does not panic"));
        }
    }
}

#[test]
fn line_at_the_limit_arrives_in_chunks() {
    for end in ["\n", "\r\n"] {
        let line = support::letters(1000);
        let text = [&line[..], end.as_bytes()].concat();
        let limits = options(Framing::lines()).max_frame_len(1000);
        let (arrived, _) = receive(limits.stream_frames_over(100), &text);
        assert_eq!(arrived, [Arrived::Streamed(line)]);
    }
}

#[test]
fn unterminated_last_line_is_not_delivered_by_default() {
    let (arrived, cause) = receive(options(Framing::lines()), b"one\ntwo");
    assert_eq!(arrived, whole(&[b"one"]));
    assert!(
        matches!(
            cause,
            DisconnectCause::PeerClosedInsideFrame { received: 3 }
        ),
        "{cause}"
    );
}

#[test]
fn unterminated_last_line_is_delivered_if_set() {
    let texts: [(&[u8], &[&[u8]]); 6] = [
        (b"one\ntwo", &[b"one", b"two"]),
        (b"one\ntwo\n", &[b"one", b"two"]),
        (b"one\r\ntwo\r", &[b"one", b"two"]),
        (b"one\n\r", &[b"one", b""]),
        (b"\n", &[b""]),
        (b"", &[]),
    ];
    for (text, lines) in texts {
        let (arrived, cause) = receive(unterminated(), text);
        assert_eq!(arrived, whole(lines), "{}", text.escape_ascii());
        assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause}");
    }
}

/// The line is longer than half of the read buffer, where input is appended to what is held.
#[test]
fn long_unterminated_last_line_is_delivered() {
    for len in [32_767, 32_768, 32_769, 65_536, 1_000_000] {
        let line = support::letters(len);
        let (arrived, cause) = receive(unterminated(), &line);
        assert!(arrived == [Arrived::Whole(line)], "{len}");
        assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause}");
    }
}

#[test]
fn unterminated_last_line_is_delivered_in_chunks() {
    for end in [&b""[..], b"\r", b"\r\n", b"\n"] {
        let line = support::letters(300_000);
        let text = [b"one\n", &line[..], end].concat();
        let (arrived, cause) = receive(unterminated().stream_frames_over(100), &text);
        let expected = [Arrived::Whole(b"one".to_vec()), Arrived::Streamed(line)];
        assert!(arrived == expected, "{}", end.escape_ascii());
        assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause}");
    }
}

/// The EOF was received before the last line is delivered.
#[test]
fn connection_paused_by_its_last_line_ends_when_it_is_resumed() {
    let (mut scene, mut peer, id) = Scene::joined(unterminated());
    scene.seen.pause_after = Some(1);
    peer.write(b"last");
    peer.half_close();
    scene.until(|seen, _| seen.arrived.len() == 1);
    scene.turns();
    assert!(scene.seen.seen.ends().is_empty(), "it is paused");
    assert!(scene.net().resume(id));
    let cause = scene.await_end().cause;
    assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause}");
    assert_eq!(scene.seen.arrived, whole(&[b"last"]));
}

#[test]
fn half_close_is_reported_after_the_unterminated_last_line() {
    let mut scene: Scene = Scene::listening(unterminated().allow_half_open(true));
    scene.peer.write(b"last");
    scene.peer.half_close();
    let is_half_close = |event: &Event| matches!(event, Event::HalfClose(_));
    scene.until(|seen, _| seen.events.iter().any(is_half_close));
    let [
        Event::Connect(_),
        Event::Data(_, line),
        Event::HalfClose(id),
    ] = &scene.seen.events[..]
    else {
        panic!("{:?}", scene.seen.events);
    };
    assert_eq!(line, b"last");
    scene.looped.net().disconnect(*id);
    let cause = scene.end().cause;
    assert!(matches!(cause, DisconnectCause::ClosedLocally), "{cause}");
}

/// A connection whose lines that are sent end like this, and its peer.
fn sender(framing: impl Into<Framing>) -> (Scene<Notes, ()>, Peer, ConnectionId) {
    Scene::joined(options(framing))
}

/// Everything that was sent, when the connection is closed.
fn sent(mut scene: Scene<Notes, ()>, peer: Peer, id: ConnectionId) -> Vec<u8> {
    scene.net().disconnect(id);
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut &peer.0, &mut text).expect("a clean end");
        text
    });
    scene.end();
    reading.join().expect("it reads")
}

fn is_refused(result: Result<(), SendError>) -> bool {
    let expected = "a line that does not end with CR";
    matches!(result, Err(SendError::Encode(error)) if error == EncodeError::Refused { expected })
}

/// Sends a line in two chunks.
fn in_chunks(net: &mut Net, id: ConnectionId, chunks: [&[u8]; 2]) -> Result<(), SendError> {
    let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    net.begin_frame(id, len)?;
    for chunk in chunks {
        net.push_chunk(id, chunk)?;
    }
    net.finish_frame(id)
}

#[test]
fn cr_is_sent_within_a_line_and_not_at_its_end() {
    let (mut scene, peer, id) = sender(Framing::lines());
    let net = scene.net();
    net.send(id, b"o\rne").expect("the CR is within");
    assert!(is_refused(net.send(id, b"one\r")));
    let with = |line: &'static [u8]| {
        move |out: &mut throng::FrameWriter<'_>| std::io::Write::write_all(out, line)
    };
    assert!(is_refused(net.send_with(id, with(b"two\r"))));
    net.send_with(id, with(b"\rtwo")).expect("the CR is within");
    net.send_reader(id, 5, Cursor::new(b"thr\re"))
        .expect("it is open");
    in_chunks(net, id, [b"four\r", b"4"]).expect("the CR is within");
    assert!(is_refused(in_chunks(net, id, [b"five", b"\r"])));
    net.push_chunk(id, b"5").expect("the frame is still open");
    net.finish_frame(id).expect("it is complete");
    assert!(sent(scene, peer, id) == b"o\rne\n\rtwo\nthr\re\nfour\r4\nfive5\n");
}

#[test]
fn reader_that_ends_with_cr_ends_the_connection() {
    let (mut scene, mut peer, id) = sender(Framing::lines());
    scene
        .net()
        .send_reader(id, 4, Cursor::new(b"one\r"))
        .expect("it is open");
    let cause = scene.end().cause;
    assert!(matches!(cause, DisconnectCause::ReaderFailed(_)), "{cause}");
    let _ = std::io::Read::read_to_end(&mut peer.0, &mut Vec::new());
}

#[test]
fn crlf_ends_lines_and_allows_cr_before_it() {
    let (mut scene, peer, id) = sender(Framing::lines().crlf());
    let net = scene.net();
    net.send(id, b"one").expect("it is open");
    net.send(id, b"two\r").expect("a CR LF follows");
    net.send(id, b"").expect("it is open");
    in_chunks(net, id, [b"th", b"ree"]).expect("it is open");
    let lf = net.send(id, b"a\nb");
    assert!(matches!(
        lf,
        Err(SendError::Encode(EncodeError::ContainsDelimiter {
            position: 1,
            ..
        }))
    ));
    assert_eq!(sent(scene, peer, id), b"one\r\ntwo\r\r\n\r\nthree\r\n");
}

/// One encoding serves all connections whose lines end alike.
#[test]
fn broadcast_ends_lines_as_each_connection_does() {
    let mut scene: Scene = Scene::new(Config::default(), options(Framing::lines()));
    let crlf = scene.looped.listen_with(options(Framing::lines().crlf()));
    let (mut other, _) = scene.looped.join_at(crlf, &mut scene.seen);
    let report = scene.net().broadcast(|_| true, b"all");
    assert_eq!(report.queued, 2);
    scene.turns();
    let mut line = [0; 5];
    std::io::Read::read_exact(&mut scene.peer.0, &mut line[..4]).expect("a line");
    assert_eq!(&line[..4], b"all\n");
    std::io::Read::read_exact(&mut other.0, &mut line).expect("a line");
    assert_eq!(&line, b"all\r\n");
}
