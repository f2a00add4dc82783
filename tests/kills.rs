//! Random kills: peers and handlers end connections, their own and each other's, at random moments and in every callback.
//! Whatever happens, the calls for each id keep their order, and the end comes exactly once.
//!
//! A schedule is made by a seed, which a failure prints; `THRONG_SEED=17 cargo test --test kills` plays that one alone.

mod support;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::random::{Random, with_seeds};
use support::{PATIENCE, addr_of, bytes_queued, framed};
use throng::{
    Admission, Config, ConnectionId, DisconnectReason, EventLoop, Frame, FrameDecoder, Framing,
    Handler, ListenOptions, ListenerId, Net, SendError, Stage,
};

/// A numbered frame. Broadcast ones have no number: they mean something else to each receiver.
fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![b'n'];
    payload.extend_from_slice(&number.to_le_bytes());
    payload.resize(5 + len, number as u8);
    payload
}

/// Whether a frame is the next one of its connection.
fn check_number(frame: &[u8], expected: &mut u32) {
    if frame.first() == Some(&b'n') {
        let fill = frame.len() - 5;
        assert!(
            *frame == numbered(*expected, fill)[..],
            "frame {expected}, not {frame:?}"
        );
        *expected += 1;
    } else {
        assert_eq!(frame, b"broadcast");
    }
}

/// What the checker knows of an id.
#[derive(Debug, Default)]
struct Life {
    outbound: bool,
    connected: bool,
    half_closed: bool,
    /// `disconnect` or `abort` said that they ended it.
    let_go: bool,
    ended: bool,
    sent: u32,
    received: u32,
}

/// The handler: checks every call, then does something rash.
struct Chaos {
    random: Random,
    lives: HashMap<ConnectionId, Life>,
    ids: Vec<ConnectionId>,
    listeners: Vec<(ListenerId, SocketAddr)>,
    options: ListenOptions,
    /// An address without a listener.
    refused: SocketAddr,
    /// Rash deeds left.
    deeds: usize,
}

impl Chaos {
    fn life(&mut self, id: ConnectionId) -> &mut Life {
        self.lives
            .get_mut(&id)
            .unwrap_or_else(|| panic!("{id} was never heard of"))
    }

    fn born(&mut self, id: ConnectionId, life: Life) {
        assert!(
            self.lives.insert(id, life).is_none(),
            "{id} was given twice"
        );
        self.ids.push(id);
    }

    fn listen(&mut self, net: &mut Net) {
        let listener = net
            .listen_with("127.0.0.1:0", self.options.clone())
            .expect("a port");
        let addr = addr_of(net, listener);
        self.listeners.push((listener, addr));
    }

    fn connect(&mut self, net: &mut Net) {
        let own = self.random.choose(&self.listeners).map(|(_, addr)| addr);
        let addr = own
            .filter(|_| !self.random.one_in(4))
            .unwrap_or(self.refused);
        if let Ok(id) = net.connect(addr) {
            let life = Life {
                outbound: true,
                ..Life::default()
            };
            self.born(id, life);
        }
    }

    fn send(&mut self, net: &mut Net, id: ConnectionId) {
        let len = [0, 1, 100, 5_000, 100_000][self.random.below(5)];
        let number = self.life(id).sent;
        let payload = numbered(number, len);
        let result = match self.random.below(3) {
            0 => net.send(id, &payload),
            1 => net.send_with(id, |out| out.write_all(&payload)),
            _ => net
                .send_bytes(id, Bytes::from(payload))
                .map_err(SendError::from),
        };
        let life = self.life(id);
        match result {
            Ok(()) => {
                assert!(
                    life.connected && !life.let_go && !life.ended,
                    "{id}: {life:?}"
                );
                life.sent += 1;
            }
            Err(SendError::Connecting) => assert!(life.outbound && !life.connected, "{life:?}"),
            Err(SendError::Disconnected) => {}
            Err(SendError::WriteFailed) => assert!(life.connected && !life.let_go, "{life:?}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Does something rash to any connection there is or ever was, preferably to `id`.
    fn act(&mut self, net: &mut Net, id: Option<ConnectionId>) {
        if self.deeds == 0 || self.random.one_in(2) {
            return;
        }
        self.deeds -= 1;
        let own = id.filter(|_| self.random.one_in(2));
        let Some(id) = own.or_else(|| self.random.choose(&self.ids)) else {
            return self.connect(net);
        };
        match self.random.below(16) {
            0..=1 => {
                if net.disconnect(id) {
                    self.let_go(net, id);
                }
            }
            2..=3 => {
                if net.abort(id) {
                    // A connection that was on its way out already may be aborted.
                    self.let_go(net, id);
                }
            }
            4..=8 => self.send(net, id),
            9 => {
                net.broadcast(|_| true, b"broadcast");
            }
            10..=12 => self.connect(net),
            13 => {
                net.set_framing(id, Framing::length_prefix());
            }
            14 => {
                for id in net.connections() {
                    if self.random.one_in(3) && net.abort(id) {
                        self.let_go(net, id);
                    }
                }
            }
            _ => {
                if self.random.one_in(4) {
                    let at = self.random.below(self.listeners.len());
                    let (listener, _) = self.listeners.swap_remove(at);
                    assert!(net.close_listener(listener));
                    self.listen(net);
                }
            }
        }
    }

    fn let_go(&mut self, net: &mut Net, id: ConnectionId) {
        let life = self.life(id);
        assert!(!life.ended, "{id} has ended already");
        life.let_go = true;
        assert!(!net.is_connected(id));
    }

    fn check(&self, net: &Net) {
        let open = net.connections();
        assert_eq!(net.connection_count(), open.len());
        for id in open {
            let life = &self.lives[&id];
            assert!(!life.let_go && !life.ended, "{id}: {life:?}");
        }
    }

    fn all_ended(&self) -> bool {
        self.lives.values().all(|life| life.ended)
    }
}

impl Handler for Chaos {
    fn on_accept(&mut self, net: &mut Net, _: ListenerId, _: Option<SocketAddr>) -> Admission {
        self.act(net, None);
        if self.random.one_in(10) {
            Admission::Refuse
        } else {
            Admission::Admit
        }
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        if !self.lives.contains_key(&id) {
            self.born(id, Life::default());
        }
        let life = self.life(id);
        assert!(
            !life.connected && !life.let_go && !life.ended,
            "{id}: {life:?}"
        );
        life.connected = true;
        assert!(net.is_connected(id));
        self.check(net);
        self.act(net, Some(id));
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let life = self.life(id);
        assert!(
            life.connected && !life.let_go && !life.ended,
            "{id}: {life:?}"
        );
        assert!(!life.half_closed, "data behind the end of the stream");
        check_number(&frame, &mut life.received);
        self.check(net);
        self.act(net, Some(id));
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        let life = self.life(id);
        assert!(
            life.connected && !life.let_go && !life.ended,
            "{id}: {life:?}"
        );
        assert!(
            !std::mem::replace(&mut life.half_closed, true),
            "a second end"
        );
        self.act(net, Some(id));
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let life = self.life(id);
        assert!(!life.ended, "{id} ends twice: {reason}");
        assert!(life.connected || life.outbound);
        assert_eq!(
            life.connected,
            reason.stage != Stage::Connecting,
            "{reason}"
        );
        life.ended = true;
        assert!(net.connection(id).and_then(|it| it.peer_addr()).is_some());
        assert!(!net.is_connected(id) && !net.disconnect(id) && !net.abort(id));
        assert!(matches!(
            net.send(id, b"late"),
            Err(SendError::Disconnected)
        ));
        self.check(net);
        self.act(net, Some(id));
    }
}

/// The other end, with a socket of its own.
struct Peer {
    stream: TcpStream,
    decoder: FrameDecoder,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
    sent: u32,
    received: u32,
}

impl Peer {
    fn connect(addr: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(addr).ok()?;
        stream.set_nonblocking(true).expect("a live socket");
        Some(Self {
            stream,
            decoder: FrameDecoder::new(Framing::length_prefix()),
            unsent: Vec::new(),
            sent: 0,
            received: 0,
        })
    }

    /// Does something. `false`: it is gone.
    fn act(&mut self, random: &mut Random) -> bool {
        match random.below(16) {
            0 => return false,
            1 => {
                let socket = socket2::SockRef::from(&self.stream);
                socket
                    .set_linger(Some(Duration::ZERO))
                    .expect("a live socket");
                return false;
            }
            2 => drop(self.stream.shutdown(Shutdown::Write)),
            3 => {
                // An end inside a frame.
                self.unsent.extend(&framed(b"unfinished")[..7]);
                self.write(usize::MAX);
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            4..=9 => {
                for _ in 0..random.below(4) {
                    let len = [0, 3, 700, 20_000][random.below(4)];
                    self.unsent.extend(framed(&numbered(self.sent, len)));
                    self.sent += 1;
                }
                let most = [1, 3, usize::MAX][random.below(3)];
                return self.write(most);
            }
            10..=13 => return self.read(),
            _ => {}
        }
        true
    }

    fn write(&mut self, most: usize) -> bool {
        let len = self.unsent.len().min(most);
        match self.stream.write(&self.unsent[..len]) {
            Ok(n) => {
                self.unsent.drain(..n);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    fn read(&mut self) -> bool {
        let mut buffer = vec![0; 70_000];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                let mut input = &buffer[..n];
                while let Some(frame) = self.decoder.decode(&mut input).expect("frames") {
                    check_number(&frame, &mut self.received);
                }
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// So many schedules of each kind.
const SCHEDULES: u64 = 300;

fn schedules(config: &Config, options: &ListenOptions) {
    let (_refusing, refused) = support::refusing();
    with_seeds(SCHEDULES, |seed| {
        schedule(seed, config.clone(), options.clone(), refused);
    });
}

fn schedule(seed: u64, config: Config, options: ListenOptions, refused: SocketAddr) {
    let mut random = Random(seed);
    let mut event_loop = <EventLoop>::new(config).expect("a loop");
    let mut chaos = Chaos {
        random: Random(random.next()),
        lives: HashMap::new(),
        ids: Vec::new(),
        listeners: Vec::new(),
        options,
        refused,
        deeds: 40,
    };
    chaos.listen(event_loop.net());
    chaos.listen(event_loop.net());

    let mut peers = Vec::new();
    for _ in 0..30 {
        if random.one_in(3) {
            let target = random.choose(&chaos.listeners).map(|(_, addr)| addr);
            peers.extend(target.and_then(Peer::connect));
        }
        peers.retain_mut(|peer| peer.act(&mut random));
        if random.one_in(4) {
            chaos.act(event_loop.net(), None);
        }
        let wait = Duration::from_micros([0, 0, 200][random.below(3)]);
        event_loop
            .turn(&mut chaos, Some(wait))
            .expect("a turn does not fail");
        chaos.check(event_loop.net());
    }

    // The end of all of them, one way or the other.
    chaos.deeds = 0;
    let net = event_loop.net();
    for (listener, _) in std::mem::take(&mut chaos.listeners) {
        net.close_listener(listener);
    }
    for id in net.connections() {
        let done = if random.one_in(2) {
            net.disconnect(id)
        } else {
            net.abort(id)
        };
        assert!(done, "it was connected");
        chaos.let_go(net, id);
    }
    drop(peers);
    let deadline = Instant::now() + PATIENCE;
    while !chaos.all_ended() {
        assert!(
            Instant::now() < deadline,
            "a connection does not end: {:?}",
            chaos.lives
        );
        let wait = Some(Duration::from_millis(10));
        event_loop
            .turn(&mut chaos, wait)
            .expect("a turn does not fail");
        // Those that were accepted, or connected, only now.
        for id in event_loop.net().connections() {
            event_loop.net().abort(id);
        }
    }
    check_end(&chaos, &mut event_loop);
}

fn check_end(chaos: &Chaos, event_loop: &mut EventLoop) {
    let stats = event_loop.net().stats();
    let count = |what: fn(&Life) -> bool| chaos.lives.values().filter(|life| what(life)).count();
    assert_eq!(stats.disconnected, chaos.lives.len() as u64);
    assert_eq!(stats.accepted, count(|life| !life.outbound) as u64);
    assert_eq!(
        stats.connected,
        count(|life| life.outbound && life.connected) as u64
    );
    let net = event_loop.net();
    assert_eq!(net.connection_count(), 0);
    assert!(chaos.ids.iter().all(|id| bytes_queued(net, *id) == 0));

    struct NoData;
    impl Handler for NoData {
        fn on_data(&mut self, _: &mut Net, id: ConnectionId, _: Frame<'_>) {
            panic!("data of {id}, which has ended");
        }
        fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, _: DisconnectReason) {
            panic!("{id} ends again");
        }
    }
    let busy = (0..100).take_while(|_| {
        let busy = event_loop.next_timeout() == Some(Duration::ZERO);
        if busy {
            event_loop
                .turn(&mut NoData, None)
                .expect("a turn does not fail");
        }
        busy
    });
    assert!(busy.count() < 100, "it has nothing to do and does not rest");
}

#[test]
fn random_kills_with_default_settings_keep_the_call_order() {
    schedules(&Config::default(), &ListenOptions::default());
}

#[test]
fn random_kills_with_budgets_of_one_keep_the_call_order() {
    let config = Config::default()
        .read_buffer(512)
        .read_budget(1)
        .write_budget(1)
        .frames_per_turn(1)
        .accepts_per_turn(1)
        .events_per_poll(1);
    schedules(&config, &ListenOptions::default());
}

#[test]
fn random_kills_of_half_open_connections_keep_the_call_order() {
    schedules(
        &Config::default(),
        &ListenOptions::default().allow_half_open(true),
    );
}

#[test]
fn random_kills_with_short_timeouts_and_few_places_keep_the_call_order() {
    let config = Config::default().max_connections(6);
    let options = ListenOptions::default().disconnect_timeout(Duration::from_millis(2));
    schedules(&config, &options);
}

#[test]
fn random_kills_with_hardened_settings_keep_the_call_order() {
    let config = Config::hardened().slow_callback(Duration::ZERO);
    schedules(&config, &ListenOptions::default());
}
