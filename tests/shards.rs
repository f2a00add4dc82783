//! Several loops on several threads: peers are spread over them, and messages reach all.

mod support;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use support::Peer;
use support::shards::{Chat, Greeter, end, greeting, join_all, on_shard, start, start_from};
use support::toy::Toy;
use throng::{
    Balance, Config, ConnectionId, Framing, IpNetwork, ListenOptions, ListenerId, Net, Origin,
    ProxyProtocol, ShardedId, Shards,
};

fn a_message_reaches_all_connections_of_all_shards(balance: Balance) {
    let (shards, places) = start(balance, ListenOptions::default());
    let mut peers = join_all(&shards, &places);
    for size in [0, 1, 100, 5_000, 300_000] {
        let message = support::pattern(size);
        peers[0].send(&message);
        for peer in &mut peers {
            assert!(peer.receive() == message, "{size} bytes");
        }
    }
    end(shards);
}

#[cfg(target_os = "linux")]
#[test]
fn message_reaches_all_shards_with_kernel_balancing() {
    a_message_reaches_all_connections_of_all_shards(Balance::Kernel);
}

#[test]
fn message_reaches_all_shards_with_hand_over() {
    a_message_reaches_all_connections_of_all_shards(Balance::HandOver);
}

#[test]
fn peers_are_handed_over_in_turn() {
    let (shards, places) = start(Balance::HandOver, ListenOptions::default());
    let addr = shards.local_addr(0).expect("it listens");
    let mut peers: Vec<Peer> = (0..10).map(|_| Peer::connect(addr)).collect();
    for peer in &mut peers {
        assert_eq!(peer.receive(), b"welcome");
    }
    let on_first = on_shard(&places, 0);
    assert_eq!(on_first, 5);
    end(shards);
}

/// A socket that listens already, and a path: there is one socket of each, and all shards have a part of its peers.
#[test]
fn adopted_listeners_and_unix_sockets_serve_all_shards() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let builder = Shards::builder(Config::default()).shards(2);
    let builder = builder.adopt_listener(listener, ListenOptions::default());
    #[cfg(unix)]
    let path = std::env::temp_dir().join(format!("throng-{}-shards.sock", std::process::id()));
    #[cfg(unix)]
    let builder = builder.listen_unix(&path, ListenOptions::default());
    let (shards, places) = start_from(builder);
    assert_eq!(shards.local_addr(0), Some(addr));
    let mut peers: Vec<Peer> = (0..2).map(|_| Peer::connect(addr)).collect();
    for peer in &mut peers {
        assert_eq!(peer.receive(), b"welcome");
    }
    #[cfg(unix)]
    {
        use std::io::Read;
        let mut unix_peers = Vec::new();
        for _ in 0..2 {
            let mut peer = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
            let mut frame = vec![0; support::framed(b"welcome").len()];
            peer.set_read_timeout(Some(support::PATIENCE))
                .expect("a live socket");
            peer.read_exact(&mut frame).expect("a frame");
            assert_eq!(frame, support::framed(b"welcome"));
            unix_peers.push(peer);
        }
        assert_eq!(shards.local_addr(1), None);
        std::fs::remove_file(&path).expect("it is there");
    }
    let on_each = places.lock().expect("no panic").len() / 2;
    let on_second = on_shard(&places, 1);
    assert_eq!(on_second, on_each);
    assert_eq!(on_each, if cfg!(unix) { 2 } else { 1 });
    end(shards);
}

/// Connects this many peers, and waits until each is greeted.
fn greeted(addr: SocketAddr, count: usize) -> Vec<Peer> {
    let mut peers: Vec<Peer> = (0..count).map(|_| Peer::connect(addr)).collect();
    for peer in &mut peers {
        assert_eq!(peer.receive(), b"welcome");
    }
    peers
}

/// Does something with the listener of the second shard.
fn on_second(shards: &Shards<Chat>, act: fn(&mut Net, ListenerId) -> bool) {
    let handles = shards.handles();
    let second = handles.get(1).expect("there are two");
    let done = second.call(move |_, net| {
        let origin = |id: &ConnectionId| net.connection(*id).map(|it| it.origin());
        let Some(Origin::Listener(listener)) = net.connections().first().and_then(origin) else {
            panic!("it has a connection, which came through a listener");
        };
        act(net, listener)
    });
    assert_eq!(done, Ok(true));
}

#[test]
fn shard_with_a_closed_listener_gets_no_peers() {
    let (shards, places) = start(Balance::HandOver, ListenOptions::default());
    let addr = shards.local_addr(0).expect("it listens");
    let _two = greeted(addr, 2);
    on_second(&shards, Net::close_listener);
    let _four = greeted(addr, 4);
    assert_eq!(on_shard(&places, 0), 5);
    end(shards);
}

#[test]
fn shard_with_a_paused_listener_gets_no_peers_until_it_is_resumed() {
    let (shards, places) = start(Balance::HandOver, ListenOptions::default());
    let addr = shards.local_addr(0).expect("it listens");
    let _two = greeted(addr, 2);
    on_second(&shards, Net::pause_listener);
    let _four = greeted(addr, 4);
    assert_eq!(on_shard(&places, 0), 5);
    on_second(&shards, Net::resume_listener);
    let _two_more = greeted(addr, 2);
    assert_eq!(on_shard(&places, 0), 6);
    end(shards);
}

#[test]
fn peers_behind_a_proxy_are_handed_over_with_their_header() {
    let local: IpNetwork = "127.0.0.1".parse().expect("a network");
    let options = ListenOptions::default().proxy_protocol(ProxyProtocol::trusting([local]));
    let (shards, places) = start(Balance::HandOver, options);
    let addr = shards.local_addr(0).expect("it listens");
    let mut peers: Vec<Peer> = (0..4).map(|_| Peer::connect(addr)).collect();
    for peer in &mut peers {
        peer.write(b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n");
        assert_eq!(peer.receive(), b"welcome");
    }
    assert_eq!((on_shard(&places, 0), on_shard(&places, 1)), (2, 2));
    end(shards);
}

#[test]
fn sharded_id_names_a_connection_and_its_shard() {
    let (shards, places) = start(Balance::HandOver, ListenOptions::default());
    let mut peers = join_all(&shards, &places);
    let ids: Vec<ShardedId> = places.lock().expect("no panic").keys().copied().collect();
    assert_eq!(
        ids[0].connection, ids[2].connection,
        "each shard counts for itself"
    );
    assert_eq!(ids[0].to_string(), "0:0#0");
    let handles = shards.handles();
    for id in &ids {
        handles
            .send_bytes(*id, id.to_string())
            .expect("it is there");
    }
    let mut told: Vec<Vec<u8>> = peers.iter_mut().map(Peer::receive).collect();
    let second = told
        .iter()
        .position(|it| *it == ids[1].to_string().as_bytes());
    let second = second.expect("one has this id");
    told.sort();
    let names: Vec<Vec<u8>> = ids.iter().map(|id| id.to_string().into_bytes()).collect();
    assert_eq!(told, names);
    handles.disconnect(ids[0]).expect("it is there");
    let no_shard = ShardedId { shard: 9, ..ids[0] };
    handles
        .send_bytes(no_shard, "x")
        .expect_err("there is no such shard");
    // The forms that never block.
    handles
        .try_send_bytes(ids[1], "try")
        .expect("there is room");
    assert_eq!(peers[second].receive(), b"try");
    assert_eq!(handles.try_broadcast("all"), 2);
    assert_eq!(peers[second].receive(), b"all");
    handles.try_disconnect(ids[1]).expect("there is room");
    peers[second].expect_end();
    handles
        .try_send_bytes(no_shard, "x")
        .expect_err("there is no such shard");
    handles
        .try_disconnect(no_shard)
        .expect_err("there is no such shard");
    end(shards);
}

#[test]
fn sharded_broadcast_is_encoded_once() {
    let format = Toy::default();
    let encoded = Arc::clone(&format.encoded);
    let framing = Framing::custom(format);
    let (shards, _) = start(Balance::HandOver, ListenOptions::default().framing(framing));
    let addr = shards.local_addr(0).expect("it listens");
    let mut peers: Vec<Peer> = (0..6).map(|_| Peer::connect(addr)).collect();
    let mut read = |payload: &str| {
        for peer in &mut peers {
            let mut bytes = vec![0; payload.len() + Toy::OVERHEAD];
            std::io::Read::read_exact(&mut peer.0, &mut bytes).expect("it is open");
        }
    };
    read("welcome");
    let before = encoded.load(Ordering::Relaxed);
    assert_eq!(shards.handles().broadcast("good evening"), 2);
    read("good evening");
    assert_eq!(encoded.load(Ordering::Relaxed) - before, 1);
    end(shards);
}

#[test]
fn shard_is_idle_after_it_was_handed_a_peer() {
    let (shards, addr) = greeting(Balance::HandOver);
    for _ in 0..2 {
        assert_eq!(Peer::connect(addr).receive(), b"welcome");
    }
    let second = shards.handles().get(1).expect("two").clone();
    // It takes no turns but those in which it is asked, and those for memory that goes back.
    let turns = || second.call(|_, net| net.stats().turns).expect("it runs");
    let before = turns();
    for _ in 0..100 {
        turns();
    }
    assert!(turns() - before < 150, "it spins");
    shards.handles().shutdown(Duration::ZERO);
    shards.join().expect("none has failed");
}

#[test]
fn shards_use_the_first_address_that_works_and_zero_shards_mean_one() {
    for balance in [Balance::Kernel, Balance::HandOver] {
        if balance == Balance::Kernel && !cfg!(target_os = "linux") {
            continue;
        }
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        // An address that no host here has.
        let foreign = "192.0.2.1:0".parse().expect("an address");
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let shards = Shards::builder(Config::default())
            .shards(0)
            .balance(balance)
            .listen(&[foreign, any, any][..], ListenOptions::default())
            .expect("addresses")
            .start(move |net, shard| {
                let name = thread::current().name().map(str::to_owned);
                let told = (shard.index, name, format!("{net:?}"));
                tell.lock()
                    .expect("no panic")
                    .send(told)
                    .expect("the test waits");
                Ok(Greeter)
            })
            .expect("they start");
        assert_eq!(shards.handles().len(), 1);
        let (index, name, net) = told.recv().expect("it was made");
        assert_eq!((index, name.as_deref()), (0, Some("throng-shard-0")));
        assert!(net.contains("listeners: 1"), "{net}");
        shards.handles().shutdown(Duration::ZERO);
        shards.join().expect("none has failed");
    }
}

#[test]
fn sharded_broadcast_is_encoded_in_the_framing_of_each() {
    let options = |len| ListenOptions::default().max_frame_len(len);
    let shards = Shards::builder(Config::default())
        .shards(1)
        .listen("127.0.0.1:0", options(1000))
        .expect("an address")
        .listen("127.0.0.1:0", options(10))
        .expect("an address")
        .listen("127.0.0.1:0", options(1000))
        .expect("an address")
        .start(|_, _| Ok(Greeter))
        .expect("they start");
    // One after the other, so that the last one has the last id.
    let mut peers = [0, 1, 2].map(|n| {
        let mut peer = Peer::connect(shards.local_addr(n).expect("it listens"));
        assert_eq!(peer.receive(), b"welcome");
        peer
    });
    let handle = shards.handles().get(0).expect("one").clone();
    // One of them speaks otherwise by now.
    let changed = handle.call(|_, net| {
        let last = *net.connections().last().expect("three");
        net.set_framing(last, Framing::delimiter(b'!'))
    });
    assert_eq!(changed, Ok(true));
    assert_eq!(shards.handles().broadcast([1; 50].to_vec()), 1);
    let failed = handle.call(|_, net| net.stats().commands_failed);
    assert_eq!(failed, Ok(1), "a limit of ten does not allow fifty");
    shards.handles().broadcast("all");
    assert_eq!(peers[0].receive(), [1; 50]);
    assert_eq!(peers[0].receive(), b"all");
    assert_eq!(peers[1].receive(), b"all");
    let mut lines = [0; 55];
    std::io::Read::read_exact(&mut peers[2].0, &mut lines).expect("it is open");
    assert_eq!(lines[..], [&[1; 50][..], b"!all!"].concat());
    shards.handles().shutdown(Duration::ZERO);
    shards.join().expect("none has failed");
}
