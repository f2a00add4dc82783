//! Several loops on several threads: peers are spread over them, messages reach all, and one that fails is named.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::toy::Toy;
use support::{PATIENCE, Peer, within_patience};
use throng::{
    Balance, Config, ConnectionId, Frame, Framing, Handler, ListenOptions, MailboxError, Net,
    Origin, Shard, ShardFailure, ShardHandles, ShardedId, Shards, ShardsBuilder,
};

/// Who is where.
type Places = Arc<Mutex<BTreeMap<ShardedId, ()>>>;

/// Does what it is told.
struct Chat {
    shard: usize,
    handles: ShardHandles<Chat>,
    places: Places,
}

impl Handler for Chat {
    fn on_connect(&mut self, net: &mut Net, connection: ConnectionId) {
        let shard = self.shard;
        let id = ShardedId { shard, connection };
        self.places.lock().expect("no panic").insert(id, ());
        net.send(connection, b"welcome").expect("it is open");
    }

    fn on_data(&mut self, _: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        match &*frame {
            b"panic" => panic!("as I was told by {id}"),
            _ => assert!(self.handles.broadcast(frame.into_bytes()) > 0),
        }
    }
}

fn start(balance: Balance, options: ListenOptions) -> (Shards<Chat>, Places) {
    let builder = Shards::builder(Config::default())
        .shards(2)
        .balance(balance)
        .listen("127.0.0.1:0", options);
    start_from(builder.expect("an address"))
}

fn start_from(builder: ShardsBuilder) -> (Shards<Chat>, Places) {
    let places = Places::default();
    let noted = Arc::clone(&places);
    let shards = builder.start(move |_, Shard { index, handles }| {
        Ok(Chat {
            shard: index,
            handles,
            places: Arc::clone(&noted),
        })
    });
    (shards.expect("they start"), places)
}

fn end(shards: Shards<Chat>) {
    shards.handles().shutdown(Duration::ZERO);
    shards.join().expect("none has failed");
}

fn on_shard(places: &Places, shard: usize) -> usize {
    let places = places.lock().expect("no panic");
    places.keys().filter(|id| id.shard == shard).count()
}

/// Connects peers until each shard has one.
fn join_all(shards: &Shards<Chat>, places: &Places) -> Vec<Peer> {
    let addr = shards.local_addr(0).expect("it listens");
    let mut peers = Vec::new();
    // The kernel throws dice: that 64 fall on one side happens in one of 10^19 times.
    while peers.len() < 64 {
        let mut peer = Peer::connect(addr);
        assert_eq!(peer.receive(), b"welcome");
        peers.push(peer);
        let places = places.lock().expect("no panic");
        if peers.len() >= 4 && (0..2).all(|shard| places.keys().any(|id| id.shard == shard)) {
            return peers;
        }
    }
    panic!("all are on one shard");
}

fn a_message_reaches_everybody_on_all_shards(balance: Balance) {
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
fn a_message_reaches_everybody_when_the_kernel_balances() {
    a_message_reaches_everybody_on_all_shards(Balance::Kernel);
}

#[test]
fn a_message_reaches_everybody_when_peers_are_handed_over() {
    a_message_reaches_everybody_on_all_shards(Balance::HandOver);
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
fn listeners_of_others_and_unix_sockets_serve_all_shards() {
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
            peer.set_read_timeout(Some(PATIENCE))
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

#[test]
fn a_shard_that_has_closed_its_listener_is_passed_over() {
    let (shards, places) = start(Balance::HandOver, ListenOptions::default());
    let addr = shards.local_addr(0).expect("it listens");
    let mut peers: Vec<Peer> = (0..2).map(|_| Peer::connect(addr)).collect();
    for peer in &mut peers {
        assert_eq!(peer.receive(), b"welcome");
    }
    let second = *places
        .lock()
        .expect("no panic")
        .keys()
        .find(|id| id.shard == 1)
        .expect("it is there");
    let handles = shards.handles();
    let closed = handles.get(1).expect("there are two").call(move |_, net| {
        let Some(Origin::Listener(listener)) = net.origin(second.connection) else {
            panic!("it came through a listener");
        };
        assert_eq!(net.local_addr(listener), Some(addr));
        net.close_listener(listener)
    });
    assert_eq!(closed, Ok(true));
    peers.extend((0..4).map(|_| Peer::connect(addr)));
    for peer in &mut peers[2..] {
        assert_eq!(peer.receive(), b"welcome");
    }
    let on_first = on_shard(&places, 0);
    assert_eq!(on_first, 5);
    end(shards);
}

/// The others might not run yet.
#[test]
fn nothing_waits_for_a_shard_while_its_handler_is_made() {
    let started = Shards::builder(Config::default().max_pending_commands(1))
        .shards(2)
        .start::<Chat>(|_, shard| {
            let other = shard.handles.get(1 - shard.index).expect("there are two");
            assert_eq!(other.call(|_, _| ()), Err(MailboxError::InCallback));
            while other.post(|_, _| {}).is_ok() {}
            Err(std::io::Error::other("that was all"))
        });
    let error = started.expect_err("none can be made");
    assert_eq!(error.to_string(), "shard 0 failed: that was all");
}

#[test]
fn a_connection_is_named_together_with_its_shard() {
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
    told.sort();
    let names: Vec<Vec<u8>> = ids.iter().map(|id| id.to_string().into_bytes()).collect();
    assert_eq!(told, names);
    handles.disconnect(ids[0]).expect("it is there");
    let nobody = ShardedId { shard: 9, ..ids[0] };
    handles
        .send_bytes(nobody, "x")
        .expect_err("there is no such shard");
    end(shards);
}

#[cfg(target_os = "linux")]
#[test]
fn a_shard_that_panics_is_named_and_the_others_serve_on() {
    one_panics_and_the_other_serves_on(Balance::Kernel);
}

#[test]
fn a_shard_that_panics_gets_no_more_peers() {
    one_panics_and_the_other_serves_on(Balance::HandOver);
}

fn one_panics_and_the_other_serves_on(balance: Balance) {
    let (shards, places) = start(balance, ListenOptions::default());
    let mut peers = join_all(&shards, &places);
    let addr = shards.local_addr(0).expect("it listens");
    let handles = shards.handles();
    handles
        .get(1)
        .expect("there are two")
        .post(|_, _| panic!("by command"))
        .expect("it is there");
    let deadline = Instant::now() + PATIENCE;
    while !handles.get(1).expect("there are two").is_closed() {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::yield_now();
    }
    // Who is on the first shard is served, who comes gets there, and a broadcast leaves out who is gone.
    assert_eq!(handles.broadcast("still here"), 1);
    // Its listener was closed before.
    let mut late = Peer::connect(addr);
    assert_eq!(late.receive(), b"welcome");
    let heard = peers
        .iter_mut()
        .filter_map(|peer| peer.try_receive().ok())
        .collect::<Vec<_>>();
    assert!(!heard.is_empty() && heard.iter().all(|frame| frame == b"still here"));
    handles.shutdown(Duration::ZERO);
    let error = shards.join().expect_err("one has panicked");
    assert_eq!(error.failed.len(), 1);
    assert_eq!(error.failed[0].shard, 1);
    assert!(
        matches!(&error.failed[0].failure, ShardFailure::Panicked(message) if message == "by command")
    );
    assert_eq!(error.to_string(), "shard 1 panicked: by command");
}

/// An address on which no other test listens, so that a closed port is not taken again at once.
const ALONE: &str = if cfg!(target_os = "linux") {
    "127.0.0.27:0"
} else {
    "127.0.0.1:0"
};

fn start_alone(balance: Balance) -> (Shards<Chat>, SocketAddr) {
    let builder = Shards::builder(Config::default())
        .shards(2)
        .balance(balance)
        .listen(ALONE, ListenOptions::default());
    let (shards, _) = start_from(builder.expect("an address"));
    let addr = shards.local_addr(0).expect("it listens");
    (shards, addr)
}

fn start_adopted() -> (Shards<Chat>, SocketAddr) {
    let listener = std::net::TcpListener::bind(ALONE).expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let builder = Shards::builder(Config::default()).shards(2);
    let (shards, _) = start_from(builder.adopt_listener(listener, ListenOptions::default()));
    (shards, addr)
}

type How = fn(&mut Chat, &mut Net);

fn panic_in_shard(_: &mut Chat, _: &mut Net) {
    panic!("by command");
}

fn stop_in_shard(_: &mut Chat, net: &mut Net) {
    net.stop();
}

/// Ends one of two shards and expects `join_next` to return that while the other one runs.
fn end_one(shards: &mut Shards<Chat>, shard: usize, how: How) {
    let handles = shards.handles();
    handles
        .get(shard)
        .expect("there are two")
        .post(how)
        .expect("it runs");
    match shards.join_next().expect("one has ended") {
        Ok(ended) => assert_eq!(ended, shard),
        Err(error) => assert_eq!(
            error.to_string(),
            format!("shard {shard} panicked: by command")
        ),
    }
    let other = handles.get(1 - shard).expect("there are two");
    other.call(|_, _| ()).expect("it runs");
}

fn expect_refused(addr: SocketAddr) {
    let refused = std::net::TcpStream::connect_timeout(&addr, PATIENCE).expect_err("it is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[cfg(target_os = "linux")]
#[test]
fn join_next_returns_the_first_end_while_the_kernel_balances_for_the_other() {
    within_patience(|| {
        for how in [panic_in_shard, stop_in_shard] {
            for shard in [0, 1] {
                let (mut shards, addr) = start_alone(Balance::Kernel);
                end_one(&mut shards, shard, how);
                assert_eq!(Peer::connect(addr).receive(), b"welcome");
                shards.handles().shutdown(Duration::ZERO);
                assert_eq!(shards.join_next().expect("the other").ok(), Some(1 - shard));
                assert!(shards.join_next().is_none());
                shards.join().expect("all was returned");
                expect_refused(addr);
            }
        }
    });
}

/// Whether the socket is the shard's own, or was adopted.
#[test]
fn the_listener_of_the_shard_that_accepts_is_closed_when_join_next_returns_its_end() {
    within_patience(|| {
        for how in [panic_in_shard, stop_in_shard] {
            for (mut shards, addr) in [start_alone(Balance::HandOver), start_adopted()] {
                end_one(&mut shards, 0, how);
                expect_refused(addr);
                end(shards);
            }
        }
    });
}

#[test]
fn join_next_returns_the_end_of_a_shard_that_peers_are_handed_to() {
    within_patience(|| {
        for how in [panic_in_shard, stop_in_shard] {
            for (mut shards, addr) in [start_alone(Balance::HandOver), start_adopted()] {
                end_one(&mut shards, 1, how);
                for _ in 0..2 {
                    assert_eq!(Peer::connect(addr).receive(), b"welcome");
                }
                end(shards);
            }
        }
    });
}

#[test]
fn a_handler_that_cannot_be_made_is_an_error_at_the_start() {
    let started = Shards::builder(Config::default())
        .shards(3)
        .start::<Chat>(|_, shard| {
            Err(std::io::Error::other(format!(
                "no world for {}",
                shard.index
            )))
        });
    let error = started.expect_err("none can be made");
    assert_eq!(error.to_string(), "shard 0 failed: no world for 0");
    let started =
        Shards::builder(Config::default())
            .shards(2)
            .start::<Chat>(|_, shard| match shard.index {
                1 => panic!("no"),
                _ => Err(std::io::Error::other("not this time")),
            });
    assert_eq!(started.expect_err("none can be made").shard, 0);
}

#[test]
fn an_address_in_use_is_an_error_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    for balance in [Balance::Kernel, Balance::HandOver] {
        if balance == Balance::Kernel && !cfg!(unix) {
            continue;
        }
        let started = Shards::builder(Config::default())
            .shards(2)
            .balance(balance)
            .listen(
                taken.local_addr().expect("its address"),
                ListenOptions::default(),
            )
            .expect("an address")
            .start::<Chat>(|_, _| Err(std::io::Error::other("not reached")));
        let error = started.expect_err("it is in use");
        assert!(matches!(error.failure, ShardFailure::Listen(_)), "{error}");
        assert_eq!(
            std::io::Error::from(error).kind(),
            std::io::ErrorKind::AddrInUse
        );
    }
}

#[test]
fn a_broadcast_over_all_shards_is_encoded_once() {
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

/// Does nothing but to greet.
struct Greeter;

impl Handler for Greeter {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.send(id, b"welcome").expect("it is open");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

fn stop_shard<H>(shards: &Shards<H>, shard: usize)
where
    H: Handler + 'static,
{
    let handle = shards.handles().get(shard).expect("it is there").clone();
    handle.post(|_, net| net.stop()).expect("it runs");
    let deadline = Instant::now() + PATIENCE;
    while !handle.is_closed() {
        assert!(Instant::now() < deadline, "it goes on");
        thread::yield_now();
    }
}

/// Not those that another process has taken, as the option alone would let it.
#[test]
fn a_second_server_on_the_same_address_is_an_error_unless_it_is_asked_for() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let start = |addr: &str, options: ListenOptions| {
        Shards::builder(Config::default())
            .shards(2)
            .balance(Balance::Kernel)
            .listen(addr, options)
            .expect("an address")
            .start(|_, _| Ok(Greeter))
    };
    let alone = ListenOptions::default;
    let shared = || ListenOptions::default().reuse_port(true);
    for (options, is_shared) in [(alone(), false), (shared(), true)] {
        let first = start("127.0.0.1:0", options.clone()).expect("it starts");
        let addr = first.local_addr(0).expect("it listens").to_string();
        let second = start(&addr, options);
        assert_eq!(second.is_ok(), is_shared);
        for shards in [Some(first), second.ok()].into_iter().flatten() {
            shards.handles().shutdown(Duration::ZERO);
            shards.join().expect("none has failed");
        }
    }
}

/// A handler with a thread that works for it by asking its loop.
struct Boss(Option<thread::JoinHandle<()>>);

impl Handler for Boss {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

impl Drop for Boss {
    fn drop(&mut self) {
        if let Some(worker) = self.0.take() {
            worker.join().expect("no panic");
        }
    }
}

#[test]
fn a_handler_may_wait_for_its_worker_when_its_shard_ends() {
    within_patience(|| {
        let (worked, has_worked) = mpsc::channel();
        let worked = Mutex::new(worked);
        let shards = Shards::builder(Config::default()).shards(1);
        let shards = shards.start(move |_, shard: Shard<Boss>| {
            let handle = shard.handles.get(0).expect("itself").clone();
            let worked = worked.lock().expect("no panic").clone();
            Ok(Boss(Some(thread::spawn(move || {
                while handle.call(|_, _| ()).is_ok() {
                    let _ = worked.send(());
                }
            }))))
        });
        let shards = shards.expect("it starts");
        has_worked.recv().expect("it works");
        shards.handles().shutdown(Duration::ZERO);
        shards.join().expect("none has failed");
    });
}

#[test]
fn if_one_handler_cannot_be_made_the_others_do_not_serve() {
    let error = within_patience(|| {
        let started = Shards::builder(Config::default())
            .shards(2)
            .start(|_, shard| match shard.index {
                1 => Err(std::io::Error::other("not this one")),
                _ => Ok(Greeter),
            });
        started.expect_err("one cannot be made")
    });
    assert_eq!(error.to_string(), "shard 1 failed: not this one");
}

#[test]
fn nobody_serves_before_all_handlers_are_made() {
    within_patience(|| {
        let (made, is_made) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let (made, may_go) = (Mutex::new(made), Mutex::new(may_go));
        let starting = thread::spawn(move || {
            let shards = Shards::builder(Config::default()).shards(2);
            shards.start(move |_, shard: Shard<Greeter>| {
                if shard.index == 1 {
                    let _ = may_go.lock().expect("no panic").recv();
                } else {
                    let handle = shard.handles.get(0).expect("itself").clone();
                    made.lock()
                        .expect("no panic")
                        .send(handle)
                        .expect("the test waits");
                }
                Ok(Greeter)
            })
        });
        let first = is_made.recv().expect("it is made");
        let (tell, told) = mpsc::channel();
        first
            .post(move |_, _| tell.send(()).expect("the test waits"))
            .expect("there is room");
        // Long enough to see it, if it served.
        told.recv_timeout(Duration::from_millis(50))
            .expect_err("it serves already");
        drop(go);
        told.recv().expect("it serves");
        let shards = starting.join().expect("no panic").expect("they start");
        shards.handles().shutdown(Duration::ZERO);
        shards.join().expect("none has failed");
    });
}

#[test]
fn a_shutdown_reaches_those_behind_one_that_is_gone() {
    within_patience(|| {
        let shards = Shards::builder(Config::default()).shards(2);
        let shards = shards.start(|_, _| Ok(Greeter)).expect("they start");
        stop_shard(&shards, 0);
        shards.handles().shutdown(Duration::ZERO);
        shards.join().expect("none has failed");
    });
}

fn greeting(balance: Balance) -> (Shards<Greeter>, SocketAddr) {
    let shards = Shards::builder(Config::default())
        .shards(2)
        .balance(balance)
        .listen("127.0.0.1:0", ListenOptions::default())
        .expect("an address")
        .start(|_, _| Ok(Greeter))
        .expect("they start");
    let addr = shards.local_addr(0).expect("it listens");
    (shards, addr)
}

#[test]
fn a_shard_that_is_gone_gets_no_peers() {
    let gone = [(Balance::HandOver, 1), (Balance::Kernel, 0)];
    for (balance, shard) in gone {
        if balance == Balance::Kernel && !cfg!(target_os = "linux") {
            continue;
        }
        let (shards, addr) = greeting(balance);
        stop_shard(&shards, shard);
        for _ in 0..4 {
            assert_eq!(Peer::connect(addr).receive(), b"welcome");
        }
        shards.handles().shutdown(Duration::ZERO);
        shards.join().expect("none has failed");
    }
}

#[test]
fn a_shard_that_was_handed_a_peer_rests_again() {
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
fn the_first_address_that_works_is_the_only_one_and_no_shards_are_one() {
    for balance in [Balance::Kernel, Balance::HandOver] {
        if balance == Balance::Kernel && !cfg!(target_os = "linux") {
            continue;
        }
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        // Of a network that is nobody's.
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
fn a_broadcast_finds_for_each_connection_what_fits_it() {
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
    assert_eq!(failed, Ok(1), "who may have ten cannot have fifty");
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
