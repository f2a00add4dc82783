//! Bugs that random peers have found, each as a script.

use std::io::Read;
use std::time::Duration;

use throng::sim::{Link, World};
use throng::{Config, ConnectionId, DisconnectReason, Frame, Handler, Net, SendError};

const ADDR: &str = "127.0.0.1:5000";
const SECOND: Duration = Duration::from_secs(1);

/// Sends a reader to the first peer that speaks, and more by copying when another one does.
#[derive(Default)]
struct Reads {
    first: Option<ConnectionId>,
    refused: usize,
}

impl Handler for Reads {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let Some(first) = self.first else {
            self.first = Some(id);
            let sent = net.send_reader(id, 50_000, std::io::repeat(7).take(50_000));
            assert!(sent.is_ok());
            return;
        };
        let refused = match &*frame {
            b"broadcast" => net.broadcast(|id| id == first, b"more").refused.len(),
            _ => usize::from(matches!(
                net.send(first, b"more"),
                Err(SendError::QueueFull { .. })
            )),
        };
        self.refused += refused;
    }
}

/// Bytes that a reader has added to a queue make it congested only when a frame is refused. Each turn of a debug build
/// checks that the selector knows.
#[test]
fn refusal_behind_a_reader_updates_the_interest() {
    for way in ["send", "broadcast"] {
        let mut link = Link::default();
        link.send_buffer = 1000;
        link.receive_buffer = 1000;
        let world = World::new(1).link(link);
        let config = Config::default().max_queued_bytes(10_000);
        let host = world.host(config, Reads::default());
        host.with(|_, net| net.listen(ADDR)).expect("a free port");
        let peer = world.connect(ADDR);
        peer.stall().send("go");
        world.run_for(SECOND);
        world.connect(ADDR).send(way);
        world.run_for(SECOND);
        assert_eq!(host.handler().refused, 1);
        peer.unstall();
        assert_eq!(peer.receive().len(), 50_000);
    }
}

/// Half-closes with a long queue, and notes the end.
#[derive(Default)]
struct HalfCloses(Option<DisconnectReason>);

impl Handler for HalfCloses {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        net.send(id, &[7; 50_000]).expect("room");
        net.half_close(id).expect("it is open");
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        self.0 = Some(reason);
    }
}

/// After the failed write there is no FIN to be sent: that would fail as well, and replace the reason.
#[test]
fn reset_of_a_half_closed_connection_counts_what_was_not_sent() {
    let mut link = Link::default();
    link.send_buffer = 1000;
    link.receive_buffer = 1000;
    let world = World::new(1).link(link);
    let config = Config::default().high_watermark(10_000);
    let host = world.host(config, HalfCloses::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let peer = world.connect(ADDR);
    peer.stall().send("go");
    world.run_for(SECOND);
    peer.reset();
    world.run_for(60 * SECOND);
    let handler = host.handler();
    let reason = handler.0.as_ref().expect("it has ended");
    assert_eq!(reason.unsent_frames, 1, "{reason:?}");
    assert!(reason.unsent_bytes > 40_000, "{reason:?}");
}

/// Sends a frame, and ends the connection in the same callback.
struct LastWord;

impl Handler for LastWord {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let sent = match &frame[..] {
            b"one" => net.send(id, b"last"),
            b"all" => match net.broadcast(|_| true, b"last").queued {
                1 => Ok(()),
                _ => Err(SendError::Disconnected),
            },
            _ => net.send_latest(id, 7, b"last"),
        };
        sent.expect("there is room");
        assert!(net.abort(id));
    }
}

#[test]
fn contract_accepts_a_frame_that_is_sent_and_aborted_in_one_callback() {
    for way in ["one", "all", "latest"] {
        let world = World::new(1);
        let host = world.host(Config::default(), LastWord);
        host.with(|_, net| net.listen(ADDR)).expect("a free port");
        let peer = world.connect(ADDR);
        peer.send(way);
        world.run_for(Duration::from_secs(1));
        assert_eq!(peer.received().len(), 0, "{way}");
    }
}
