//! A host that connects and one that listens. Both send in every possible way, and both keep books, which are compared.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use throng::sim::{Host, Peer, World};
use throng::{ConnectOptions, ConnectionId, DisconnectCause, ListenOptions, Net, Stage};

use super::crypto::Crypto;
use crate::book::{Account, Book, framing};
use crate::echo::{ADDR, LONG};
use crate::mix::{Mix, limits};

/// How long connections that nothing disturbs may take to deliver everything, in simulated time.
const PATIENCE: Duration = Duration::from_secs(6 * 60 * 60);

#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Both sides close and abort connections on their own.
    pub(super) is_harsh: bool,
    /// Hosts are killed: their sockets are closed without a close_notify.
    pub(super) kills: bool,
    /// Connections are slow, but none is disturbed: handshakes have all the time they need.
    pub(super) is_undisturbed: bool,
    pub(super) connections: usize,
    pub(super) steps: usize,
    /// How many answers each host gives.
    pub(super) answers: usize,
    pub(super) longest: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            is_harsh: false,
            kills: false,
            is_undisturbed: false,
            connections: 5,
            steps: 40,
            answers: 150,
            longest: 20_000,
        }
    }
}

pub(super) struct Pair<'w> {
    world: &'w World,
    plan: Plan,
    listen: ListenOptions,
    connect: ConnectOptions,
    server: Host<Mix>,
    client: Host<Mix>,
    opened: usize,
    /// Peers that do not speak TLS.
    strangers: Vec<Peer>,
    /// The books of hosts that were killed.
    servers: Vec<Book>,
    clients: Vec<Book>,
}

impl<'w> Pair<'w> {
    pub(super) fn new(world: &'w World, plan: Plan) -> Self {
        let crypto = Crypto::new(world);
        let mut random = world.random().fork();
        let framing = framing(&mut random);
        let (mut listen, mut connect) = (ListenOptions::default(), ConnectOptions::default());
        if plan.is_undisturbed {
            listen = listen.handshake_timeout(LONG);
            connect = connect.handshake_timeout(LONG).timeout(LONG);
        }
        let listen = crypto.serve(listen.framing(framing.clone()));
        let connect = crypto.connect(connect.framing(framing));
        let pair = Self {
            world,
            plan,
            server: host(world, plan),
            client: host(world, plan),
            listen,
            connect,
            opened: 0,
            strangers: Vec::new(),
            servers: Vec::new(),
            clients: Vec::new(),
        };
        pair.listen();
        pair
    }

    fn listen(&self) {
        let options = self.listen.clone();
        let listened = self.server.with(|_, net| net.listen_with(ADDR, options));
        listened.expect("a free port");
    }

    pub(super) fn run(mut self) {
        let world = self.world;
        for _ in 0..world.up_to(self.plan.steps) {
            self.step();
            if !world.random().one_in(3) {
                let pause = world.random().duration(Duration::from_millis(300));
                world.run_for(pause);
            }
        }
        world.calm();
        self.expect_everything();
        self.close();
        self.check();
    }

    fn step(&mut self) {
        let world = self.world;
        let chosen = world
            .random()
            .below(if self.plan.is_undisturbed { 20 } else { 24 });
        match chosen {
            _ if self.opened == 0 => self.open(),
            0..=3 if self.opened < self.plan.connections => self.open(),
            0..=9 => speak(&self.client, world),
            10..=17 => speak(&self.server, world),
            18 => {
                let time = world.random().duration(Duration::from_secs(2));
                self.server.suspend(time);
            }
            19 => {
                let time = world.random().duration(Duration::from_secs(2));
                self.client.suspend(time);
            }
            20 => world.partition_hosts(&self.server, &self.client),
            21 => world.heal(),
            22 => self.stranger(),
            _ if self.plan.kills => self.kill(),
            _ => {}
        }
    }

    fn open(&mut self) {
        self.opened += 1;
        let addr: SocketAddr = ADDR.parse().expect("an address");
        let options = self.connect.clone();
        let _ = self.client.with(|_, net| net.connect_with(addr, options));
    }

    /// A peer that sends anything but a handshake, or only a part of one.
    fn stranger(&mut self) {
        let peer = self.world.connect(ADDR);
        let mut random = self.world.random();
        let mut bytes = vec![0; random.length(2000)];
        random.fill(&mut bytes);
        if random.one_in(2) {
            // The beginning of a record of a handshake.
            bytes.splice(0..0, [22, 3, 1, 1, 0, 1, 0, 0, 0xFC, 3, 3]);
        }
        drop(random);
        peer.send_raw(bytes);
        self.strangers.push(peer);
    }

    fn kill(&mut self) {
        if self.world.random().one_in(2) {
            let client = host(self.world, self.plan);
            let killed = std::mem::replace(&mut self.client, client).kill();
            self.clients.push(killed.book);
        } else {
            let server = host(self.world, self.plan);
            let killed = std::mem::replace(&mut self.server, server).kill();
            self.servers.push(killed.book);
            self.listen();
        }
    }

    /// Waits until all connections that are still open have delivered everything.
    fn expect_everything(&self) {
        for host in [&self.server, &self.client] {
            host.with(|mix, _| mix.answers = 0);
        }
        let world = self.world;
        let end = world.elapsed() + PATIENCE;
        loop {
            world.run_for(Duration::from_secs(60));
            let incomplete = self.incomplete();
            if incomplete == 0 {
                return;
            }
            assert!(
                world.elapsed() < end,
                "{incomplete} directions of open connections are incomplete"
            );
        }
    }

    /// The number of directions that lack frames, of connections that are open on both sides.
    fn incomplete(&self) -> usize {
        let (servers, clients) = (&self.server.handler().book, &self.client.handler().book);
        let mut count = 0;
        for (addr, server) in &servers.accounts {
            let Some(client) = clients.accounts.get(addr) else {
                continue;
            };
            if [server, client]
                .iter()
                .all(|it| it.reason.is_none() && !it.was_closed)
            {
                count += usize::from(client.missing(&server.received) > 0);
                count += usize::from(server.missing(&client.received) > 0);
            }
        }
        count
    }

    fn close(&mut self) {
        let (world, server, client) = (self.world, &self.server, &self.client);
        for stranger in &self.strangers {
            stranger.unstall().half_close();
        }
        match world.random().below(4) {
            0 => close_all(client),
            1 => shut_down(client),
            2 => shut_down(server),
            _ => {
                close_all(client);
                close_all(server);
            }
        }
        world.run_for(4 * LONG);
        // A side whose reset was lost learns of it when it sends.
        close_all(client);
        close_all(server);
        world.run_for(4 * LONG);
        assert_eq!((server.open_files(), client.open_files()), (0, 0));
    }

    fn check(mut self) {
        let servers = accounts(&mut self.servers, &self.server);
        let clients = accounts(&mut self.clients, &self.client);
        for (addr, client) in &clients {
            match servers.get(addr) {
                Some(server) => {
                    self.compare(client, server, "the server");
                    self.compare(server, client, "the client");
                }
                None => assert!(client.received.is_empty(), "frames from nowhere"),
            }
        }
        for stranger in &self.strangers {
            assert!(
                !servers.contains_key(&stranger.addr()),
                "a handshake of noise"
            );
            assert!(stranger.received().is_empty() || stranger.end().is_some());
        }
    }

    /// Compares what one side has sent with what the other side, `name`, has received.
    fn compare(&self, from: &Account, to: &Account, name: &str) {
        let missing = from.missing(&to.received);
        let Some(reason) = &to.reason else {
            return;
        };
        match &reason.cause {
            DisconnectCause::PeerClosed => {
                assert!(
                    from.was_closed || to.was_closed,
                    "{name} reads EOF, but nobody has closed"
                );
                let unsent = from
                    .reason
                    .as_ref()
                    .map_or(0, |reason| reason.unsent_frames);
                assert!(
                    missing == 0
                        || from.was_left_open
                        || (from.last.is_some() && missing as u64 <= unsent),
                    "{name} lacks {missing} frames before EOF, {unsent} are counted: {:?}",
                    from.reason
                );
                if let Some(last) = &from.last {
                    assert!(
                        to.received.last() == Some(last),
                        "the last frame of a kick arrives"
                    );
                }
            }
            DisconnectCause::Truncated if reason.stage == Stage::Open => {
                assert!(
                    self.plan.kills,
                    "{name} is truncated, but each close was graceful or a reset"
                );
            }
            cause => assert!(
                !self.plan.is_undisturbed || to.was_closed || from.was_closed,
                "{name} was disturbed: {cause:?}"
            ),
        }
        if self.plan.is_undisturbed && !self.plan.is_harsh && !to.was_closed {
            assert_eq!(missing, 0, "{name} lacks frames");
        }
    }
}

/// All accounts of one side.
fn accounts(killed: &mut Vec<Book>, host: &Host<Mix>) -> BTreeMap<SocketAddr, Account> {
    killed.push(host.with(|mix, _| std::mem::take(&mut mix.book)));
    killed.drain(..).flat_map(|book| book.accounts).collect()
}

fn host(world: &World, plan: Plan) -> Host<Mix> {
    let mut random = world.random().fork();
    let config = limits(&mut random);
    let mut mix = Mix::new(random.fork(), plan.is_harsh);
    mix.answers = plan.answers;
    mix.longest = plan.longest;
    world.host(config, mix)
}

/// Sends something on one of the connections.
fn speak(host: &Host<Mix>, world: &World) {
    let chosen = world.random().next_u64() as usize;
    host.with(|mix, net| {
        let all = connected(mix, net);
        if let Some(id) = all.get(chosen % all.len().max(1)) {
            mix.answer(net, *id);
        }
    });
}

fn connected(mix: &Mix, net: &Net) -> Vec<ConnectionId> {
    let all = net.connections().into_iter();
    all.filter(|id| mix.book.knows(*id)).collect()
}

fn close_all(host: &Host<Mix>) {
    host.with(|mix, net| {
        for id in net.connections() {
            if mix.book.knows(id) {
                mix.book.of(id).was_closed = true;
            }
            net.disconnect(id);
        }
    });
}

fn shut_down(host: &Host<Mix>) {
    host.with(|mix, net| {
        for id in connected(mix, net) {
            mix.book.of(id).was_closed = true;
        }
        net.shutdown(LONG);
    });
}
