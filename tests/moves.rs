//! Connections that move from loop to loop while their peers talk: whatever is held, paused, queued or in the middle of a
//! frame, every frame is shown once, and every reply arrives.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use support::by_hand::Loop;
use support::random::{Random, with_seeds};
use support::toy::Toy;
use support::{PATIENCE, framed};
use throng::{
    Chunk, Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, Expired, Frame,
    FrameEncoder, Framing, Handler, Net, Released, Stream,
};

/// Replies to each frame with its number. Leaves the loop after some of them.
struct Guest {
    random: Random,
    shown: Vec<Vec<u8>>,
    part: Vec<u8>,
    id: Option<ConnectionId>,
    released: Option<Released>,
}

impl Guest {
    fn take(&mut self, net: &mut Net, id: ConnectionId, frame: Vec<u8>) {
        assert!(net.is_connected(id), "it has left");
        self.shown.push(frame);
        // The sockets hold more than all replies.
        net.send(id, format!("{}", self.shown.len()).as_bytes())
            .expect("it is open");
        if self.random.one_in(6) {
            net.pause(id);
            net.set_timer(Duration::from_millis(1), 0);
        }
        if self.random.one_in(10) {
            net.release(id).expect("it is open");
        }
    }
}

impl Handler for Guest {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.id = Some(id);
        if self.random.one_in(10) {
            net.release(id).expect("it is open");
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.take(net, id, frame.to_vec());
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        assert_eq!(chunk.offset(), self.part.len() as u64);
        self.part.extend_from_slice(&chunk);
        if chunk.is_last() {
            let frame = std::mem::take(&mut self.part);
            self.take(net, id, frame);
        }
    }

    fn on_timer(&mut self, net: &mut Net, _: Expired) {
        let id = self.id.expect("it is connected");
        // Between callbacks, if it is in no frame that was shown in part.
        if self.part.is_empty() && self.random.one_in(2) {
            let _ = net.release(id);
        }
        net.resume(id);
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        assert_eq!((reason.unsent_frames, reason.unshown_bytes), (0, 0));
        match reason.cause {
            DisconnectCause::Released(released) => self.released = Some(*released),
            _ => panic!("{reason}"),
        }
    }
}

/// Some settings. What has a trailer is not shown in pieces: it would still be to come after the last of them.
fn config(random: &mut Random, framing: &Framing, has_trailer: bool) -> Config {
    let config = Config::default()
        .framing(framing.clone())
        .read_buffer(random.one_of(&[512, 700, 4096, 65_536]))
        .frames_per_turn(random.one_of(&[1, 3, 512]));
    if has_trailer || random.one_in(2) {
        return config;
    }
    config.stream_frames_over(random.one_of(&[0, 10, 600, 5_000]))
}

fn move_around(seed: u64) {
    let mut random = Random(seed);
    let (framing, has_trailer) = random.one_of(&[
        (Framing::from(Framing::length_prefix()), false),
        (Framing::varint(), false),
        (Framing::delimiter(b'\n'), false),
        (Framing::custom(Toy::default()), true),
    ]);
    let encoder = FrameEncoder::new(framing.clone());
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut wire = Vec::new();
    // Where each frame ends.
    let mut ends = vec![0];
    for number in 0..random.below(60) {
        let most = random.one_of(&[1, 5, 300, 5_000, 120_000]);
        let len = random.below(most);
        // Nothing that ends a line.
        let frame: Vec<u8> = (0..len).map(|i| ((i + number) % 200 + 20) as u8).collect();
        encoder.encode(&frame, &mut wire).expect("it fits");
        frames.push(frame);
        ends.push(wire.len());
    }
    let mut replies = Vec::new();
    for number in 1..=frames.len() {
        let reply = format!("{number}");
        encoder
            .encode(reply.as_bytes(), &mut replies)
            .expect("it fits");
    }

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let theirs = std::net::TcpStream::connect(listener.local_addr().expect("its address"));
    let mut theirs = theirs.expect("it listens");
    theirs.set_nodelay(true).expect("a live socket");
    theirs
        .set_read_timeout(Some(PATIENCE))
        .expect("a live socket");
    let (ours, _) = listener.accept().expect("it is there");
    let mut stream = Stream::from(ours);

    // Other code has read some of it already.
    let mut unread = wire[..random.below(wire.len() + 1)].to_vec();
    let later = wire[unread.len()..].to_vec();
    let mut pieces = Random(random.next());
    let peer = thread::spawn(move || {
        let mut rest = &later[..];
        while !rest.is_empty() {
            let most = pieces.one_of(&[3, 600, 100_000]);
            let (piece, behind) = rest.split_at(rest.len().min(1 + pieces.below(most)));
            theirs.write_all(piece).expect("it is open");
            rest = behind;
        }
        let mut received = vec![0; replies.len()];
        theirs.read_exact(&mut received).expect("all replies");
        assert!(received == replies);
        theirs
    });

    let mut guest = Guest {
        random: Random(random.next()),
        shown: Vec::new(),
        part: Vec::new(),
        id: None,
        released: None,
    };
    loop {
        let mut looped = Loop::new(config(&mut random, &framing, has_trailer));
        guest.id = None;
        looped
            .net()
            .adopt_with(stream, ConnectOptions::default(), &unread)
            .expect("it is taken");
        let mut turns = 0;
        while guest.released.is_none() && guest.shown.len() < frames.len() {
            looped.now += Duration::from_millis(1);
            looped.turn(Duration::from_millis(1), &mut guest);
            turns += 1;
            assert!(turns < 100_000, "it is stuck at {}", guest.shown.len());
        }
        if guest.released.is_none() {
            // Perhaps it is connected by now: it was shown all there was.
            looped.settle(&mut guest, |guest, net| {
                guest.released.is_some() || net.connection_count() == 1
            });
            if let Some(id) = guest.id.filter(|_| guest.released.is_none()) {
                let _ = looped.net().release(id);
            }
            looped.settle(&mut guest, |guest, _| guest.released.is_some());
        }
        assert_eq!(looped.net().stats().memory_bytes, 0);
        let released = guest.released.take().expect("it was released");
        (stream, unread) = (released.stream, released.unread);
        let rest = &wire[ends[guest.shown.len()]..];
        assert!(
            rest.starts_with(&unread),
            "not what comes after frame {}",
            guest.shown.len()
        );
        if guest.shown.len() == frames.len() {
            break;
        }
    }
    assert!(guest.shown == frames, "not what was sent");
    assert!(unread.is_empty());
    drop(peer.join().expect("no panic"));
}

#[test]
fn connection_that_moves_between_loops_loses_no_bytes() {
    with_seeds(100, move_around);
}

/// Counts frames that are shown whole or in pieces.
#[derive(Default)]
struct Count(usize);

impl Handler for Count {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {
        self.0 += 1;
    }

    fn on_chunk(&mut self, _: &mut Net, _: ConnectionId, chunk: Chunk<'_>) {
        self.0 += usize::from(chunk.is_last());
    }
}

/// Much more than the read buffer holds, at the cost of one pass.
#[test]
fn million_frames_read_before_adoption_are_delivered_in_order() {
    let (ours, _theirs) = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let ours = std::net::TcpStream::connect(addr).expect("it listens");
        (ours, listener.accept().expect("it is there"))
    };
    let mut looped = Loop::new(Config::default());
    let wire = framed(b"").repeat(1 << 20);
    looped
        .net()
        .adopt_with(ours, ConnectOptions::default(), &wire)
        .expect("it is taken");
    assert_eq!(looped.net().stats().memory_bytes, wire.len() as u64);
    let mut count = Count::default();
    looped.settle(&mut count, |count, _| count.0 == 1 << 20);
    assert_eq!(looped.net().stats().memory_bytes, 0);
}
