//! Shards whose handlers chat with each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, Peer};
use throng::{
    Balance, Config, ConnectionId, Frame, Handler, ListenOptions, Net, Shard, ShardHandles,
    ShardedId, Shards, ShardsBuilder,
};

/// All connections, with their shards.
pub type Places = Arc<Mutex<BTreeMap<ShardedId, ()>>>;

/// Broadcasts each frame to all shards; panics if a frame says so.
pub struct Chat {
    pub shard: usize,
    pub handles: ShardHandles<Chat>,
    pub places: Places,
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

pub fn start(balance: Balance, options: ListenOptions) -> (Shards<Chat>, Places) {
    let builder = Shards::builder(Config::default())
        .shards(2)
        .balance(balance)
        .listen("127.0.0.1:0", options);
    start_from(builder.expect("an address"))
}

pub fn start_from(builder: ShardsBuilder) -> (Shards<Chat>, Places) {
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

pub fn end(shards: Shards<Chat>) {
    shards.handles().shutdown(Duration::ZERO);
    shards.join().expect("none has failed");
}

pub fn on_shard(places: &Places, shard: usize) -> usize {
    let places = places.lock().expect("no panic");
    places.keys().filter(|id| id.shard == shard).count()
}

/// Connects peers until each shard has one.
pub fn join_all(shards: &Shards<Chat>, places: &Places) -> Vec<Peer> {
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

/// Does nothing but to greet.
pub struct Greeter;

impl Handler for Greeter {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.send(id, b"welcome").expect("it is open");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

pub fn stop_shard<H>(shards: &Shards<H>, shard: usize)
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

pub fn greeting(balance: Balance) -> (Shards<Greeter>, SocketAddr) {
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
