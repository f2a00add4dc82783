//! Connections over Unix domain sockets.
#![cfg(unix)]

mod support;

use std::io::Write;

use support::by_hand::Loop;
use support::{Echo, Place, Recorder, framed, pattern};
use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, Frame,
    Handler, ListenOptions, Net, Origin,
};

/// Sends frames of many sizes, one when the last has come back.
struct Sizes(Vec<usize>);

impl Handler for Sizes {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        assert_eq!(net.connection(id).and_then(|it| it.peer_addr()), None);
        if net.connection(id).map(|it| it.origin()) == Some(Origin::Outbound) {
            net.send(id, &pattern(self.0[0])).expect("it is open");
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if net.connection(id).map(|it| it.origin()) != Some(Origin::Outbound) {
            return Echo.on_data(net, id, frame);
        }
        assert!(*frame == pattern(self.0.remove(0))[..]);
        match self.0.first() {
            Some(size) => net.send(id, &pattern(*size)).expect("it is open"),
            None => {
                net.disconnect(id);
            }
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        let kicked = matches!(reason.cause, DisconnectCause::ClosedLocally);
        assert!(kicked || matches!(reason.cause, DisconnectCause::PeerClosed));
        if net.connection_count() == 0 {
            net.stop();
        }
    }
}

#[test]
fn frames_of_all_sizes_go_over_a_unix_socket() {
    let place = Place::new("sizes");
    let mut event_loop = EventLoop::new(Config::hardened().max_frame_len(1 << 30)).expect("a loop");
    let net = event_loop.net();
    let listener = net
        .listen_unix(&place.0, ListenOptions::default())
        .expect("a new path");
    assert_eq!(net.listener(listener).and_then(|it| it.local_addr()), None);
    net.connect_unix(&place.0, ConnectOptions::default())
        .expect("a listener");
    let mut sizes = Sizes(vec![0, 1, 65_532, 65_533, 300_000, 8 << 20, 3]);
    event_loop.run(&mut sizes).expect("it runs");
    assert!(sizes.0.is_empty());
}

#[test]
fn errors_for_used_and_missing_paths_name_the_path() {
    let place = Place::new("used");
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let refused = net.connect_unix(&place.0, ConnectOptions::default());
    let refused = refused.expect_err("no listener").to_string();
    net.listen_unix(&place.0, ListenOptions::default())
        .expect("a new path");
    let used = net.listen_unix(&place.0, ListenOptions::default());
    let used = used.expect_err("it is in use").to_string();
    let path = place.0.display().to_string();
    assert!(
        refused.contains(&path) && used.contains(&path),
        "{refused}, {used}"
    );
}

/// A burst that is larger than one read: where a short read proves nothing, the rest must not be forgotten.
#[test]
fn burst_over_a_unix_socket_arrives_whole() {
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let mut looped = Loop::new(Config::default());
    looped
        .net()
        .adopt(ours, ConnectOptions::default())
        .expect("it is taken");
    let writer = std::thread::spawn(move || {
        for i in 0..2_000_u32 {
            theirs
                .write_all(&framed(&pattern(i as usize % 700)))
                .expect("it is open");
        }
        theirs
    });
    let mut seen = Recorder::default();
    looped.settle(&mut seen, |seen, _| seen.frames().len() == 2_000);
    drop(writer.join().expect("no panic"));
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
}

/// Descriptors come along with bytes, and reads stop short of them: no edge tells of the rest.
#[cfg(target_os = "linux")]
#[test]
fn bytes_sent_with_descriptors_all_arrive() {
    use std::os::fd::AsRawFd;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let mut looped = Loop::new(Config::default());
    looped
        .net()
        .adopt(ours, ConnectOptions::default())
        .expect("it is taken");
    let mut seen = Recorder::default();
    looped.settle(&mut seen, |seen, _| !seen.connected().is_empty());
    let file = std::fs::File::open("/dev/null").expect("it is there");
    let frame = framed(b"with a descriptor");
    // A cmsghdr: its length, SOL_SOCKET, SCM_RIGHTS; the descriptor; padding.
    let mut control = 20_usize.to_ne_bytes().to_vec();
    let words = [1, 1, file.as_raw_fd(), 0];
    control.extend(words.iter().flat_map(|word: &i32| word.to_ne_bytes()));
    if cfg!(target_pointer_width = "32") {
        return;
    }
    for _ in 0..20 {
        let bytes = [std::io::IoSlice::new(&frame)];
        let message = socket2::MsgHdr::new()
            .with_buffers(&bytes)
            .with_control(&control);
        let sent = socket2::SockRef::from(&theirs).sendmsg(&message, 0);
        assert_eq!(sent.expect("it is open"), frame.len());
    }
    looped.settle(&mut seen, |seen, _| seen.frames().len() == 20);
}

#[test]
fn blocking_unix_listener_is_adopted() {
    let place = Place::new("blocks");
    let listener = std::os::unix::net::UnixListener::bind(&place.0).expect("a new path");
    let mut looped = Loop::new(Config::default());
    looped
        .net()
        .adopt_listener(listener, ListenOptions::default())
        .expect("it is taken");
    let _peer = std::os::unix::net::UnixStream::connect(&place.0).expect("it listens");
    let mut seen = Recorder::default();
    looped.settle(&mut seen, |seen, _| seen.connected().len() == 1);
}
