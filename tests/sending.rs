//! Sending: what is refused and what that leaves behind, what a queue counts, in which order frames arrive, and who
//! gets them.

mod support;

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use support::{Peer, Recorder, framed, listen, listening, pattern, turn_until};
use throng::{
    Config, ConnectionId, DecodeError, Decoded, DisconnectCause, DisconnectReason, EncodeError,
    Envelope, EventLoop, Frame, FrameEncoder, FrameFormat, Framing, Handler, ListenOptions, Net,
    Rejected, SendError,
};

// ----- The ways to send, and one connection to try them on -----

/// The ways to send a frame to one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Copied,
    Encoded,
    Shared,
    Lent,
    Owned,
    Many,
    Broadcast,
}

impl Way {
    const ALL: [Self; 7] = [
        Self::Copied,
        Self::Encoded,
        Self::Shared,
        Self::Lent,
        Self::Owned,
        Self::Many,
        Self::Broadcast,
    ];

    fn send(self, net: &mut Net, id: ConnectionId, payload: &[u8]) -> Result<(), SendError> {
        let report = match self {
            Self::Copied => return net.send(id, payload),
            Self::Encoded => return net.send_with(id, |out| out.write_all(payload)),
            Self::Shared => return Ok(net.send_bytes(id, Bytes::copy_from_slice(payload))?),
            Self::Lent => return Ok(net.send_frame(id, payload.into())?),
            Self::Owned => return Ok(net.send_frame(id, payload.to_vec().into())?),
            Self::Many => net.send_many([id], payload),
            Self::Broadcast => net.broadcast(|other| other == id, payload),
        };
        match report.error {
            Some(error) => Err(error.into()),
            None if report.queued == 1 => Ok(()),
            None => Err(SendError::Disconnected),
        }
    }
}

/// A loop with one connection, and the peer at its other end.
struct Talk {
    event_loop: EventLoop,
    seen: Recorder,
    id: ConnectionId,
    peer: Peer,
}

impl Talk {
    fn open(options: ListenOptions) -> Self {
        let (mut event_loop, addr) = listening(options);
        let mut seen = Recorder::default();
        let peer = join(&mut event_loop, &mut seen, addr);
        let id = seen.connected()[0];
        Self {
            event_loop,
            seen,
            id,
            peer,
        }
    }

    fn with(framing: impl Into<Framing>) -> Self {
        Self::open(ListenOptions::default().framing(framing))
    }

    fn send(&mut self, way: Way, payload: &[u8]) -> Result<(), SendError> {
        way.send(self.event_loop.net(), self.id, payload)
    }

    fn queued(&mut self) -> u64 {
        self.event_loop
            .net()
            .connection(self.id)
            .map_or(0, |it| it.queued_bytes())
    }

    /// Turns until the socket has taken all there is.
    fn flush(&mut self) {
        let id = self.id;
        turn_until(&mut self.event_loop, &mut self.seen, |_, net| {
            net.connection(id).map_or(0, |it| it.queued_bytes()) == 0
        });
    }

    /// Turns until the socket takes no more from a queue that is not empty.
    fn block(&mut self) {
        let (id, mut before) = (self.id, 0);
        turn_until(&mut self.event_loop, &mut self.seen, |_, net| {
            let written = net.stats().bytes_sent;
            written > 0 && written == std::mem::replace(&mut before, written)
        });
        assert!(
            self.event_loop
                .net()
                .connection(id)
                .map_or(0, |it| it.queued_bytes())
                > 0,
            "it took all"
        );
    }

    /// Disconnects, and turns until all is written and the end of the stream behind it.
    fn close(&mut self) {
        assert!(self.event_loop.net().disconnect(self.id), "it was open");
        // An empty queue still has its end to send.
        self.event_loop
            .turn(&mut self.seen, Some(Duration::ZERO))
            .expect("a turn does not fail");
        self.flush();
    }

    /// All that was ever sent, which must be little: nobody reads it before the end.
    fn into_wire(mut self) -> Vec<u8> {
        self.close();
        let mut wire = Vec::new();
        self.peer.0.read_to_end(&mut wire).expect("a clean end");
        wire
    }

    /// Turns until the connection has ended, and tells why.
    fn into_reason(mut self) -> (EventLoop, DisconnectReason) {
        let mut ends = Ends::default();
        turn_until(&mut self.event_loop, &mut ends, |ends, _| ends.0.is_some());
        (self.event_loop, ends.0.expect("its reason"))
    }
}

/// Keeps the last reason.
#[derive(Default)]
struct Ends(Option<DisconnectReason>);

impl Handler for Ends {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        self.0 = Some(reason);
    }
}

/// Connects a peer and turns until the loop has it.
fn join(
    event_loop: &mut EventLoop,
    handler: &mut (impl Handler + 'static),
    addr: std::net::SocketAddr,
) -> Peer {
    let before = event_loop.net().stats().accepted;
    let peer = Peer::connect(addr);
    turn_until(event_loop, handler, |_, net| {
        net.stats().accepted == before + 1
    });
    peer
}

/// A framing of each kind.
fn framings() -> Vec<Framing> {
    let prefix = Framing::length_prefix();
    vec![
        prefix.u8().into(),
        prefix.u16().big_endian().into(),
        prefix.into(),
        prefix.u64().into(),
        Framing::varint(),
        Framing::delimiter(b'\n'),
        Framing::raw(),
    ]
}

/// Frames as they go over the wire.
fn encoded<'a>(framing: &Framing, payloads: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let encoder = FrameEncoder::new(framing.clone());
    let mut wire = Vec::new();
    for payload in payloads {
        encoder.encode(payload, &mut wire).expect("it can be sent");
    }
    wire
}

fn read(peer: &mut Peer, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    peer.0.read_exact(&mut bytes).expect("it comes");
    bytes
}

// ----- What is refused, and what that leaves behind -----

#[test]
fn a_closure_that_fails_leaves_nothing_in_the_queue() {
    for framing in framings() {
        for before in [&[][..], &[&b"before"[..]]] {
            let mut talk = Talk::with(framing.clone());
            for payload in before {
                talk.send(Way::Copied, payload).expect("it is open");
            }
            let queued = talk.queued();
            let net = talk.event_loop.net();
            let refused = net.send_with(talk.id, |out| {
                out.write_all(b"half a fr")?;
                assert_eq!(out.payload_len(), 9);
                Err(io::Error::other("changed my mind"))
            });
            let error = refused.expect_err("the closure failed");
            assert!(
                matches!(&error, SendError::Writer(why) if why.to_string() == "changed my mind"),
                "{error}"
            );
            assert_eq!(talk.queued(), queued, "{framing:?}");
            talk.send(Way::Encoded, b"after").expect("it is open");
            let sent = before.iter().copied().chain([&b"after"[..]]);
            assert_eq!(
                talk.into_wire(),
                encoded(&framing, sent),
                "{framing:?} {before:?}"
            );
        }
    }
}

#[test]
fn a_closure_that_panics_leaves_nothing_in_the_queue() {
    for framing in framings() {
        let mut talk = Talk::with(framing.clone());
        talk.send(Way::Copied, b"before").expect("it is open");
        let queued = talk.queued();
        panic_in_a_closure(&mut talk);
        assert_eq!(talk.queued(), queued, "{framing:?}");
        talk.send(Way::Copied, b"after").expect("it is open");
        let wire = encoded(&framing, [&b"before"[..], b"after"]);
        assert_eq!(talk.into_wire(), wire, "{framing:?}");
    }
}

#[test]
fn a_closure_that_panics_does_not_end_a_connection_whose_queue_is_empty() {
    let mut talk = Talk::with(Framing::default());
    panic_in_a_closure(&mut talk);
    assert_eq!(talk.queued(), 0);
    // Something has to happen, for the connection to be looked at.
    talk.peer.send(b"are you there?");
    turn_until(&mut talk.event_loop, &mut talk.seen, |seen, _| {
        !seen.frames().is_empty()
    });
    assert!(talk.event_loop.net().is_connected(talk.id));
    talk.send(Way::Copied, b"yes").expect("it is open");
    assert_eq!(talk.into_wire(), framed(b"yes"));
}

fn panic_in_a_closure(talk: &mut Talk) {
    let (net, id) = (talk.event_loop.net(), talk.id);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        net.send_with(id, |out| {
            out.write_all(b"half a fr")?;
            panic!("as it should");
        })
    }));
    assert!(outcome.is_err(), "the panic is not swallowed");
}

#[test]
fn a_payload_above_the_limit_is_refused_and_one_at_the_limit_arrives() {
    let prefix = Framing::length_prefix();
    let cases: [(Framing, Option<u64>, u64); 9] = [
        // What the prefix can say.
        (prefix.u8().into(), None, 255),
        (prefix.u16().into(), None, 65_535),
        // What the options say.
        (prefix.u8().into(), Some(200), 200),
        (prefix.into(), Some(1000), 1000),
        (prefix.u64().big_endian().into(), Some(5000), 5000),
        (Framing::varint(), Some(127), 127),
        (Framing::varint(), Some(128), 128),
        (Framing::varint(), Some(20_000), 20_000),
        (Framing::delimiter(b'\n'), Some(0), 0),
    ];
    for (framing, limit, expected) in cases {
        let mut options = ListenOptions::default().framing(framing.clone());
        if let Some(limit) = limit {
            options = options.max_frame_len(limit);
        }
        for way in Way::ALL {
            let mut talk = Talk::open(options.clone());
            let longest = vec![b'x'; expected as usize];
            let longer = vec![b'x'; expected as usize + 1];
            // What these leave is room enough for a frame that is too long.
            for _ in 0..3 {
                talk.send(Way::Copied, &longest).expect("it may be sent");
            }
            talk.flush();
            talk.send(way, &longest).expect("it may be sent");
            let queued = talk.queued();
            let error = talk.send(way, &longer).expect_err("one byte too long");
            let SendError::Encode(EncodeError::FrameTooLarge { len, max }) = error else {
                panic!("{framing:?} {way:?}: {error}");
            };
            assert_eq!((len, max), (expected + 1, expected), "{framing:?} {way:?}");
            assert_eq!(talk.queued(), queued, "{framing:?} {way:?}");
            talk.send(way, &longest).expect("it may be sent");
            assert!(
                talk.into_wire() == encoded(&framing, [&longest[..]; 5]),
                "{framing:?} {way:?}"
            );
        }
    }
}

#[test]
fn a_payload_that_contains_the_delimiter_is_refused_with_its_position() {
    let framing = Framing::delimiter(b'\n');
    for (len, position) in [(1, 0), (5, 2), (5, 4), (100, 77), (9000, 8765)] {
        let mut payload = vec![b'x'; len];
        payload[position] = b'\n';
        for way in Way::ALL {
            let mut talk = Talk::with(framing.clone());
            talk.send(way, b"before").expect("no delimiter");
            let queued = talk.queued();
            let error = talk.send(way, &payload).expect_err("it would be two");
            let SendError::Encode(found) = error else {
                panic!("{way:?}: {error}");
            };
            let expected = EncodeError::ContainsDelimiter {
                delimiter: b'\n',
                position,
            };
            assert_eq!(found, expected, "{way:?}");
            assert_eq!(talk.queued(), queued, "{way:?}");
            talk.send(way, b"after").expect("no delimiter");
            assert_eq!(talk.into_wire(), b"before\nafter\n", "{way:?}");
        }
    }
}

/// One digit, then as many bytes; but no empty frame.
#[derive(Debug)]
struct NeverEmpty;

impl FrameFormat for NeverEmpty {
    fn decode(&self, _: &[u8], _: usize) -> Result<Decoded, DecodeError> {
        Ok(Decoded::Incomplete)
    }

    fn encode(&self, payload_len: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
        if payload_len == 0 {
            let expected = "at least one byte";
            return Err(EncodeError::Refused { expected });
        }
        envelope.push_header(&[b'0' + payload_len as u8]);
        Ok(())
    }

    fn max_payload_len(&self) -> u64 {
        9
    }
}

#[test]
fn a_format_without_empty_frames_can_be_written_in_place() {
    let mut talk = Talk::with(Framing::custom(NeverEmpty));
    talk.send(Way::Encoded, b"one").expect("it is not empty");
    talk.send(Way::Encoded, b"").expect_err("it is empty");
    talk.send(Way::Encoded, b"three").expect("it is not empty");
    assert_eq!(talk.into_wire(), b"3one5three");
}

#[test]
fn send_with_makes_room_for_the_header_that_the_payload_turns_out_to_need() {
    for len in [0, 1, 127, 128, 300, 16_383, 16_384] {
        let mut talk = Talk::with(Framing::varint());
        let payload = pattern(len);
        talk.send(Way::Encoded, b"before").expect("it is open");
        talk.send(Way::Encoded, &payload).expect("it is open");
        let mut header = vec![len as u8 & 0x7F];
        for shift in [7, 14] {
            if len >> shift > 0 {
                *header.last_mut().expect("a byte") |= 0x80;
                header.push((len >> shift) as u8 & 0x7F);
            }
        }
        let queued = talk.queued();
        assert_eq!(queued, (1 + 6 + header.len() + len) as u64);
        talk.send(Way::Encoded, b"after").expect("it is open");
        let wire = [b"\x06before", &header[..], &payload, b"\x05after"].concat();
        assert!(talk.into_wire() == wire, "{len}");
    }
}

/// A loop with an id that is gone, one that is closing, and one that is connecting.
fn three_that_take_nothing() -> (EventLoop, [(ConnectionId, bool); 3], [Peer; 2]) {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::default();
    let peers = [(); 2].map(|()| join(&mut event_loop, &mut seen, addr));
    let [gone, closing] = seen.connected()[..] else {
        panic!("two connections: {seen:?}");
    };
    assert!(event_loop.net().abort(gone));
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    let net = event_loop.net();
    assert!(net.disconnect(closing));
    let connecting = net.connect(addr).expect("started");
    let ids = [(gone, false), (closing, false), (connecting, true)];
    (event_loop, ids, peers)
}

#[track_caller]
fn assert_refused(error: &SendError, is_connecting: bool) {
    match error {
        SendError::Connecting => assert!(is_connecting),
        SendError::Disconnected => assert!(!is_connecting),
        _ => panic!("{error}"),
    }
}

#[test]
fn who_is_gone_closing_or_connecting_is_sent_nothing() {
    let (mut event_loop, ids, _peers) = three_that_take_nothing();
    let net = event_loop.net();
    for (id, is_connecting) in ids {
        for way in [
            Way::Copied,
            Way::Encoded,
            Way::Shared,
            Way::Lent,
            Way::Owned,
        ] {
            let error = way.send(net, id, b"hello").expect_err("nobody takes it");
            assert_refused(&error, is_connecting);
        }
        let never = net.send_with(id, |_| panic!("nothing is encoded for nobody"));
        assert_refused(&never.expect_err("nobody takes it"), is_connecting);
        assert_eq!(net.connection(id).map_or(0, |it| it.queued_bytes()), 0);
    }
    let report = net.send_many(ids.map(|(id, _)| id), b"hello");
    assert_eq!((report.queued, report.gone), (0, 3));
    assert!(report.unfit.is_empty() && report.error.is_none());
    let report = net.broadcast(|_| panic!("nobody is asked about"), b"hello");
    assert_eq!((report.queued, report.gone), (0, 0));
}

#[test]
fn a_refused_payload_is_given_back_as_it_was() {
    let (mut event_loop, ids, _peers) = three_that_take_nothing();
    let net = event_loop.net();
    for (id, is_connecting) in ids {
        for len in [0, 10, 100_000] {
            let payload = Bytes::from(pattern(len));
            let rejected = net.send_bytes(id, payload.clone()).expect_err("refused");
            assert_same(&rejected, &payload, is_connecting);
            let frame = Frame::from(payload.clone());
            let rejected = net.send_frame(id, frame).expect_err("refused");
            assert_same(&rejected, &payload, is_connecting);
            let frame = Frame::from(&payload[..]);
            let rejected = net.send_frame(id, frame).expect_err("refused");
            assert_same(&rejected, &payload, is_connecting);
        }
    }
}

#[test]
fn a_payload_that_cannot_be_encoded_is_given_back_as_it_was() {
    let mut talk = Talk::with(Framing::length_prefix().u8());
    let (net, id) = (talk.event_loop.net(), talk.id);
    for len in [256, 100_000] {
        let payload = Bytes::from(pattern(len));
        let rejected = net.send_bytes(id, payload.clone()).expect_err("too long");
        assert!(rejected.value.as_ptr() == payload.as_ptr());
        assert_eq!(rejected.value, payload);
        let rejected = net
            .send_frame(id, payload.clone().into())
            .expect_err("too long");
        assert!(rejected.value.as_ptr() == payload.as_ptr());
        assert_eq!(*rejected.value, payload);
    }
}

#[track_caller]
fn assert_same<T: AsRef<[u8]>>(rejected: &Rejected<T>, payload: &Bytes, is_connecting: bool) {
    assert_refused(&rejected.error, is_connecting);
    let back = rejected.value.as_ref();
    assert!(
        back.as_ptr() == payload.as_ptr() && back == payload,
        "another payload came back"
    );
}

#[test]
fn an_assembled_frame_that_is_refused_can_be_sent_to_another() {
    struct Redirect {
        gone: ConnectionId,
    }
    impl Handler for Redirect {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            let at = frame.as_ptr();
            let rejected = net.send_frame(self.gone, frame).expect_err("it is gone");
            assert!(rejected.value.as_ptr() == at, "it was copied");
            net.send_frame(id, rejected.value).expect("it is open");
        }
    }
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::default();
    drop(join(&mut event_loop, &mut seen, addr));
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    let mut handler = Redirect {
        gone: seen.connected()[0],
    };
    let mut peer = Peer::connect(addr);
    for len in [10, 200_000] {
        let payload = pattern(len);
        let sent = framed(&payload);
        let mut writer = peer.0.try_clone().expect("a live socket");
        let writing = std::thread::spawn(move || writer.write_all(&sent).expect("it is read"));
        let before = event_loop.net().stats().frames_sent;
        turn_until(&mut event_loop, &mut handler, |_, net| {
            net.stats().frames_sent > before
        });
        writing.join().expect("written");
        assert!(peer.receive() == payload);
    }
}

#[test]
fn every_error_tells_the_limit_and_what_was_seen() {
    let mut talk = Talk::open(
        ListenOptions::default()
            .framing(Framing::delimiter(b'\n'))
            .max_frame_len(77),
    );
    let too_long = talk.send(Way::Copied, &[b'x'; 99]).expect_err("too long");
    let two = talk.send(Way::Copied, b"on\ne").expect_err("a delimiter");
    let writer = talk
        .event_loop
        .net()
        .send_with(talk.id, |_| Err(io::ErrorKind::StorageFull.into()))
        .expect_err("the closure failed");
    let why = io::Error::from(io::ErrorKind::StorageFull).to_string();
    let cases = [
        (
            too_long,
            "not sent: a payload of 99 bytes, where at most 77 can be sent".into(),
            io::ErrorKind::InvalidInput,
        ),
        (
            two,
            r"not sent: the payload contains the delimiter '\n' at byte 2".into(),
            io::ErrorKind::InvalidInput,
        ),
        (
            writer,
            format!("not sent: the encoding closure failed: {why}"),
            io::ErrorKind::StorageFull,
        ),
        (
            SendError::Disconnected,
            "not sent: the connection is gone or closing".into(),
            io::ErrorKind::NotConnected,
        ),
        (
            SendError::Connecting,
            "not sent: the connection is not established yet".into(),
            io::ErrorKind::NotConnected,
        ),
    ];
    for (error, text, kind) in cases {
        assert_eq!(error.to_string(), text);
        let error = io::Error::from(error);
        assert_eq!((error.kind(), error.to_string()), (kind, text));
    }
    let payload = Bytes::from(vec![b'x'; 99]);
    let rejected = talk.event_loop.net().send_bytes(talk.id, payload);
    let rejected = rejected.expect_err("too long");
    assert!(rejected.to_string().contains("99 bytes, where at most 77"));
}

// ----- What a queue counts -----

#[test]
fn queued_bytes_is_exact_while_a_peer_does_not_read_and_zero_when_it_has() {
    let mut talk = Talk::open(ListenOptions::default().max_queued_bytes(u64::MAX));
    let (mut bytes, mut frames) = (0, 0);
    // Far more than the sockets between the two can hold.
    while bytes < 48 << 20 {
        for way in Way::ALL {
            for len in [0, 1, 100, 4095, 4096, 70_000, 1 << 20] {
                talk.send(way, &vec![7; len]).expect("it is open");
                (bytes, frames) = (bytes + 4 + len as u64, frames + 1);
                assert_eq!(talk.queued(), bytes);
            }
        }
    }
    turn_until(&mut talk.event_loop, &mut talk.seen, |_, net| {
        let written = net.stats().bytes_sent;
        assert_eq!(
            net.connection(talk.id).map_or(0, |it| it.queued_bytes()),
            bytes - written
        );
        written > 0
    });
    talk.block();
    let written = talk.event_loop.net().stats().bytes_sent;
    assert_eq!(talk.queued(), bytes - written);

    let mut source = talk.peer.0.try_clone().expect("a live socket").take(bytes);
    let reader = std::thread::spawn(move || io::copy(&mut source, &mut io::sink()));
    talk.flush();
    let stats = talk.event_loop.net().stats();
    assert_eq!((stats.bytes_sent, stats.frames_sent), (bytes, frames));
    assert_eq!(reader.join().expect("it ran").expect("all came"), bytes);
}

#[test]
fn an_empty_payload_without_framing_is_nothing() {
    for way in [Way::Copied, Way::Shared, Way::Lent, Way::Owned] {
        assert_nothing_is_nothing(way);
    }
}

#[test]
fn an_empty_payload_without_framing_is_nothing_out_of_a_closure_either() {
    assert_nothing_is_nothing(Way::Encoded);
}

#[test]
fn an_empty_payload_without_framing_is_nothing_to_many_either() {
    assert_nothing_is_nothing(Way::Many);
    assert_nothing_is_nothing(Way::Broadcast);
}

/// Neither bytes nor a frame, to an empty queue and behind another frame.
#[track_caller]
fn assert_nothing_is_nothing(way: Way) {
    let mut talk = Talk::with(Framing::raw());
    for sent in 1..=2 {
        talk.send(way, b"").expect("it is nothing");
        assert_eq!(talk.queued(), 0, "{way:?}");
        talk.send(Way::Copied, b"abc").expect("it is open");
        talk.send(way, b"").expect("it is nothing");
        assert_eq!(talk.queued(), 3, "{way:?}");
        talk.flush();
        let stats = talk.event_loop.net().stats();
        assert_eq!(stats.frames_sent, sent, "{way:?}: nothing was counted");
    }
    assert_eq!(talk.into_wire(), b"abcabc", "{way:?}");
}

#[test]
fn no_limit_on_frames_applies_without_framing() {
    let options = ListenOptions::default()
        .framing(Framing::raw())
        .max_frame_len(10);
    let mut talk = Talk::open(options);
    let payload = pattern(5000);
    for way in Way::ALL {
        talk.send(way, &payload).expect("no limit applies");
    }
    talk.peer.write(&payload);
    turn_until(&mut talk.event_loop, &mut talk.seen, |seen, _| {
        seen.frames().concat().len() == payload.len()
    });
    assert!(talk.seen.frames().concat() == payload);
    assert!(talk.into_wire() == payload.repeat(Way::ALL.len()));
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
fn blocked(lens: &[usize], options: ListenOptions) -> (Talk, Accepted<'_>) {
    let mut talk = Talk::open(options.max_queued_bytes(u64::MAX));
    let (mut frames, mut bytes) = (0, 0);
    let payload = Bytes::from(pattern(64 << 20));
    let (net, id) = (talk.event_loop.net(), talk.id);
    while bytes < 48 << 20 {
        for &len in lens {
            net.send_bytes(id, payload.slice(..len))
                .expect("it is open");
            frames += 1;
            bytes += 4 + len as u64;
        }
    }
    talk.block();
    let accepted = Accepted {
        lens,
        frames,
        bytes,
    };
    (talk, accepted)
}

#[track_caller]
fn assert_accounted(
    event_loop: &mut EventLoop,
    reason: &DisconnectReason,
    accepted: &Accepted<'_>,
) {
    let stats = event_loop.net().stats();
    assert!(stats.bytes_sent > 0 && reason.unsent_bytes > 0, "{reason}");
    let bytes = stats.bytes_sent + reason.unsent_bytes;
    assert_eq!(bytes, accepted.bytes, "{reason}");
    let whole = accepted.whole_within(stats.bytes_sent);
    assert_eq!(stats.frames_sent, whole, "{reason}");
    assert_eq!(reason.unsent_frames, accepted.frames - whole, "{reason}");
}

#[test]
fn an_abort_tells_exactly_what_was_not_sent() {
    for lens in [
        &[4092][..],
        &[3001],
        &[0, 7, 900, 900, 1, 4095, 4096, 50_000, 300_000],
        &[64 << 20],
    ] {
        let (mut talk, accepted) = blocked(lens, ListenOptions::default());
        assert!(talk.event_loop.net().abort(talk.id));
        let (mut event_loop, reason) = talk.into_reason();
        assert!(matches!(reason.cause, DisconnectCause::Aborted), "{reason}");
        assert_accounted(&mut event_loop, &reason, &accepted);
    }
}

#[test]
fn a_flush_that_is_not_over_in_time_tells_exactly_what_was_not_sent() {
    let options = ListenOptions::default().disconnect_timeout(Duration::from_millis(100));
    let (mut talk, accepted) = blocked(&[10, 5000, 11, 12], options);
    assert!(talk.event_loop.net().disconnect(talk.id));
    let (mut event_loop, reason) = talk.into_reason();
    assert!(
        matches!(reason.cause, DisconnectCause::DrainTimedOut { .. }),
        "{reason}"
    );
    assert_accounted(&mut event_loop, &reason, &accepted);
}

#[test]
fn a_reset_tells_exactly_what_was_not_sent() {
    let (talk, accepted) = blocked(&[10, 5000, 11, 12], ListenOptions::default());
    let Talk {
        mut event_loop,
        peer,
        ..
    } = talk;
    peer.reset();
    let mut ends = Ends::default();
    turn_until(&mut event_loop, &mut ends, |ends, _| ends.0.is_some());
    let reason = ends.0.expect("its reason");
    assert!(
        matches!(reason.cause, DisconnectCause::Reset(_)),
        "{reason}"
    );
    assert_accounted(&mut event_loop, &reason, &accepted);
}

// ----- In which order frames arrive -----

/// One thing a program does with a connection.
#[derive(Debug, Clone)]
enum Step {
    Send(Way, usize),
    /// A closure that writes so much, and then fails.
    Fail(usize),
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let way = prop::sample::select(&Way::ALL[..]);
    // 4 KiB is where payloads begin to be queued by reference, 64 KiB where a tail is sealed.
    let len = prop_oneof![0..64_usize, 4080..4110_usize, 60_000..65_536_usize];
    prop_oneof![
        6 => (way, len.clone()).prop_map(|(way, len)| Step::Send(way, len)),
        1 => len.prop_map(Step::Fail),
        2 => Just(Step::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn frames_arrive_in_the_order_they_were_sent_whatever_way(
        steps in prop::collection::vec(step(), 1..120),
        framing in prop::sample::select(framings()),
    ) {
        // A length of one byte says less than half of the lengths.
        let framing = match framing.max_payload_len() {
            255 => Framing::delimiter(0xFF),
            _ => framing,
        };
        check_order(&steps, &framing);
    }
}

fn check_order(steps: &[Step], framing: &Framing) {
    let mut talk = Talk::with(framing.clone());
    let mut stream = talk.peer.0.try_clone().expect("a live socket");
    let reader = std::thread::spawn(move || {
        let mut wire = Vec::new();
        stream.read_to_end(&mut wire).map(|_| wire)
    });
    let framing_is_raw = encoded(framing, [&b""[..]]).is_empty();
    let (mut wire, mut frames) = (Vec::new(), 0);
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Send(way, len) => {
                // Never one of the two delimiters. And without framing nothing is no frame.
                let least = usize::from(framing_is_raw);
                let payload = vec![b'A' + (number % 100) as u8; len.max(least)];
                talk.send(way, &payload).expect("it is open");
                wire.extend(encoded(framing, [&payload[..]]));
                frames += 1;
            }
            Step::Fail(len) => {
                let refused = talk.event_loop.net().send_with(talk.id, |out| {
                    out.write_all(&vec![0; len])?;
                    Err(io::ErrorKind::Other.into())
                });
                assert!(matches!(refused, Err(SendError::Writer(_))));
            }
            Step::Turn => talk
                .event_loop
                .turn(&mut talk.seen, Some(Duration::ZERO))
                .expect("a turn does not fail"),
        }
    }
    talk.close();
    let received = reader.join().expect("it ran").expect("a clean end");
    assert!(received == wire, "another stream arrived");
    assert_eq!(talk.event_loop.net().stats().frames_sent, frames);
}

// ----- Who gets a frame that is sent to many -----

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
        ids.iter()
            .all(|&id| net.connection(id).map_or(0, |it| it.queued_bytes()) == 0)
    });
}

#[test]
fn a_frame_for_many_is_written_in_the_framing_of_each() {
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
fn a_frame_for_many_is_written_in_the_framing_of_each_although_their_limit_is_the_same() {
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
fn a_report_tells_who_has_a_frame_and_who_refused_it_and_why() {
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
    let first = EncodeError::FrameTooLarge { len: 300, max: 255 };
    assert_eq!(report.error, Some(first));
    assert_eq!((report.queued, report.gone), (0, 0), "{report:?}");

    assert_eq!(
        net.connection(long).map_or(0, |it| it.queued_bytes()),
        2 * 304,
        "once for each time it was named"
    );
    assert_eq!(
        (
            net.connection(short).map_or(0, |it| it.queued_bytes()),
            net.connection(lines).map_or(0, |it| it.queued_bytes())
        ),
        (0, 0)
    );
    flush_all(&mut event_loop, &mut seen);
    for _ in 0..2 {
        assert_eq!(peers[1].receive(), payload);
    }
}

#[test]
fn a_frame_for_many_obeys_the_limit_of_each_although_their_framing_is_the_same() {
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
fn a_frame_for_nobody_is_no_error() {
    let (mut event_loop, ..) = three_framings();
    let report = event_loop.net().send_many([], b"hello");
    assert_eq!((report.queued, report.gone, report.unfit.len()), (0, 0, 0));
    assert!(report.error.is_none());
}

#[test]
fn a_broadcast_asks_about_each_open_connection_once_and_obeys() {
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
        assert_eq!(net.connection(ids[2]).map_or(0, |it| it.queued_bytes()), 0);
        assert_eq!(
            net.connection(connecting).map_or(0, |it| it.queued_bytes()),
            0
        );
        flush_all(&mut event_loop, &mut seen);
        for i in [1, 3, 4] {
            assert!(peers[i].receive() == payload);
        }
        peers[0].expect_end();
    }
}

#[test]
fn a_broadcast_out_of_a_callback_includes_the_sender() {
    struct Chat;
    impl Handler for Chat {
        fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
            let all = net.len();
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

// ----- When a frame goes out -----

#[test]
fn a_greeting_from_on_connect_goes_out_in_the_turn_of_the_connect() {
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
    assert_eq!(
        event_loop
            .net()
            .connection(id)
            .map_or(0, |it| it.queued_bytes()),
        0
    );
    assert_eq!(peer.receive(), b"welcome");

    // So it is with a connection of our own making.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    let id = event_loop.net().connect(addr).expect("started");
    turn_until(&mut event_loop, &mut greeter, |greeter, _| {
        greeter.0 == Some(id)
    });
    assert_eq!(
        event_loop
            .net()
            .connection(id)
            .map_or(0, |it| it.queued_bytes()),
        0
    );
    let (stream, _) = listener.accept().expect("it connected");
    assert_eq!(Peer(stream).receive(), b"welcome");
}

#[test]
fn a_frame_for_another_goes_out_in_the_turn_that_made_it() {
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
fn a_farewell_from_on_disconnect_reaches_the_others_in_the_same_turn() {
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

// ----- Changes of the framing -----

#[test]
fn the_framing_changes_between_two_frames_both_ways() {
    let mut talk = Talk::with(Framing::default());
    let mut old = Framing::default();
    for (answers, new) in framings().into_iter().chain(framings()).enumerate() {
        let (net, id) = (talk.event_loop.net(), talk.id);
        // One write carries both.
        net.send(id, b"old").expect("it is open");
        assert!(net.set_framing(id, new.clone()));
        net.send(id, b"new").expect("it is open");
        talk.flush();
        let wire = [encoded(&old, [&b"old"[..]]), encoded(&new, [&b"new"[..]])].concat();
        assert_eq!(read(&mut talk.peer, wire.len()), wire, "{old:?} {new:?}");

        talk.peer.write(&encoded(&new, [&b"answer"[..]]));
        turn_until(&mut talk.event_loop, &mut talk.seen, |seen, _| {
            seen.frames().len() == answers + 1
        });
        assert_eq!(talk.seen.frames().last(), Some(&&b"answer"[..]), "{new:?}");
        old = new;
    }
}

#[test]
fn a_callback_changes_the_framing_of_what_lies_behind_its_frame_and_of_nothing_else() {
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
fn the_limit_on_frames_outlasts_a_change_of_the_framing() {
    let mut talk = Talk::open(ListenOptions::default().max_frame_len(300));
    for (framing, max) in [
        (Framing::varint(), 300),
        (Framing::length_prefix().u8().into(), 255),
        (Framing::raw(), u64::MAX),
        (Framing::length_prefix().u64().into(), 300),
    ] {
        assert!(talk.event_loop.net().set_framing(talk.id, framing));
        for way in Way::ALL {
            match talk.send(way, &[7; 301]) {
                Err(SendError::Encode(error)) => {
                    assert_eq!(error, EncodeError::FrameTooLarge { len: 301, max });
                }
                result => assert!(result.is_ok() && max == u64::MAX, "{way:?} {result:?}"),
            }
        }
    }
}
