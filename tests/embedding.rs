//! The three ways to drive a loop do the same: `run`, `turn` from another loop, and a `Net` in a `Poll` of the user's.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::drivers::Driver;
use support::{Event, PATIENCE, Recorder, addr_of, bytes_queued, listening, pattern, turn_until};
use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, Frame,
    Handler, ListenOptions, Net, Origin, Reactor, Stage,
};

with_each_driver! {
    frames_of_all_sizes_are_exchanged
    disconnect_sends_the_last_message
    failed_connect_is_reported
    deadlines_fire_without_events
    connections_are_served_with_one_event_per_poll
}

fn listen(net: &mut Net) -> SocketAddr {
    let listener = net.listen("127.0.0.1:0").expect("a port");
    addr_of(net, listener)
}

/// Both ends: sends frames of growing size, one when the last has come back.
struct PingPong {
    sizes: &'static [usize],
    done: usize,
}

impl Handler for PingPong {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        if net.connection(id).map(|it| it.origin()) == Some(Origin::Outbound) {
            net.send(id, &pattern(self.sizes[0])).expect("it is open");
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if net.connection(id).map(|it| it.origin()) != Some(Origin::Outbound) {
            return net.send_frame(id, frame).expect("it is open");
        }
        assert_eq!(*frame, pattern(self.sizes[self.done])[..]);
        self.done += 1;
        match self.sizes.get(self.done) {
            Some(&size) => net.send(id, &pattern(size)).expect("it is open"),
            None => net.stop(),
        }
    }
}

fn frames_of_all_sizes_are_exchanged<D: Driver>() {
    let mut driver = D::new(Config::default());
    let addr = listen(driver.net());
    driver.net().connect(addr).expect("it starts");
    let sizes = &[0, 1, 4, 1_000, 65_531, 65_532, 65_533, 300_000, 4 << 20, 0];
    let mut ping_pong = PingPong { sizes, done: 0 };
    driver.drive(&mut ping_pong).expect("it runs");
    assert_eq!(ping_pong.done, sizes.len());
    assert_eq!(
        driver.net().connection_count(),
        2,
        "a stop ends the loop, not its connections"
    );
}

/// Stops when so many connections have ended.
struct Until {
    seen: Recorder,
    ends: usize,
    kick: bool,
}

impl Until {
    fn ends(ends: usize) -> Self {
        let seen = Recorder::default();
        let kick = false;
        Self { seen, ends, kick }
    }
}

impl Handler for Until {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.seen.on_connect(net, id);
        if self.kick && net.connection(id).map(|it| it.origin()) != Some(Origin::Outbound) {
            net.send(id, b"you are out").expect("it is open");
            assert!(net.disconnect(id));
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.seen.on_data(net, id, frame);
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.seen.on_disconnect(net, id, reason);
        if self.seen.ends().len() == self.ends {
            net.stop();
        }
    }
}

fn disconnect_sends_the_last_message<D: Driver>() {
    let mut driver = D::new(Config::default());
    let addr = listen(driver.net());
    driver.net().connect(addr).expect("it starts");
    let mut until = Until::ends(2);
    until.kick = true;
    driver.drive(&mut until).expect("it runs");
    assert_eq!(until.seen.frames(), [b"you are out"]);
    let kicked = |(_, reason): &(_, &DisconnectReason)| {
        matches!(reason.cause, DisconnectCause::ClosedLocally)
    };
    assert_eq!(
        until.seen.ends().iter().filter(|end| kicked(end)).count(),
        1
    );
}

fn failed_connect_is_reported<D: Driver>() {
    let (_refusing, addr) = support::refusing();
    let mut driver = D::new(Config::default());
    let id = driver.net().connect(addr).expect("it starts");
    let mut until = Until::ends(1);
    driver.drive(&mut until).expect("it runs");
    assert!(matches!(
        &until.seen.events[..],
        [Event::Disconnect(ended, reason)] if *ended == id && reason.stage == Stage::Connecting
    ));
}

/// No peer answers, and there are no events: only deadlines pass.
fn deadlines_fire_without_events<D: Driver>() {
    // A backlog that is full lets further attempts hang.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let silent = silent.expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    silent.bind(&any.into()).expect("a port");
    silent.listen(0).expect("it listens");
    let addr = silent
        .local_addr()
        .expect("its address")
        .as_socket()
        .expect("IPv4");

    let mut driver = D::new(Config::default());
    let after = Duration::from_millis(30);
    let options = || {
        ConnectOptions::default()
            .timeout(after)
            .disconnect_timeout(after)
    };
    for _ in 0..8 {
        driver
            .net()
            .connect_with(addr, options())
            .expect("it starts");
    }
    // Those that got a place in the backlog are connected, but never see their peer close.
    let until = Until::ends(8);
    struct LetGo(Until);
    impl Handler for LetGo {
        fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
            self.0.on_connect(net, id);
            assert!(net.disconnect(id));
        }
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            self.0.on_data(net, id, frame);
        }
        fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
            self.0.on_disconnect(net, id, reason);
        }
    }
    let mut let_go = LetGo(until);
    driver.drive(&mut let_go).expect("it runs");
    for (_, reason) in let_go.0.seen.ends() {
        let timed_out = match reason.cause {
            DisconnectCause::ConnectTimedOut { after } => after,
            DisconnectCause::DrainTimedOut { after } => after,
            _ => panic!("{reason}"),
        };
        assert_eq!(timed_out, after);
    }
}

/// Echoes, and counts at the other ends.
struct Crowd {
    expected: usize,
    echoes: usize,
}

impl Handler for Crowd {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        if net.connection(id).map(|it| it.origin()) == Some(Origin::Outbound) {
            net.send(id, b"me, too").expect("it is open");
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if net.connection(id).map(|it| it.origin()) != Some(Origin::Outbound) {
            return net.send_frame(id, frame).expect("it is open");
        }
        self.echoes += 1;
        if self.echoes == self.expected {
            net.stop();
        }
    }
}

/// A batch of events that comes back full says that more may be waiting, and no edge will.
fn connections_are_served_with_one_event_per_poll<D: Driver>() {
    let config = Config::default()
        .events_per_poll(1)
        .accepts_per_turn(1)
        .read_budget(1);
    let mut driver = D::new(config);
    let addr = listen(driver.net());
    let mut crowd = Crowd {
        expected: 50,
        echoes: 0,
    };
    for _ in 0..crowd.expected {
        driver.net().connect(addr).expect("it starts");
    }
    driver.drive(&mut crowd).expect("it runs");
    assert_eq!(crowd.echoes, 50);
}

/// What a full batch leaves in the selector is there at the next poll, which returns at once.
#[test]
fn poll_of_the_user_serves_connections_after_a_full_batch() {
    let mut poll = mio::Poll::new().expect("a selector");
    let mut events = mio::Events::with_capacity(1);
    let mut reactor =
        Reactor::attach(poll.registry(), Config::default(), Instant::now()).expect("a registry");
    let addr = listen(reactor.net());
    let mut crowd = Crowd {
        expected: 50,
        echoes: 0,
    };
    for _ in 0..crowd.expected {
        reactor.net().connect(addr).expect("it starts");
    }
    let deadline = Instant::now() + PATIENCE;
    while !reactor.take_stop() {
        assert!(Instant::now() < deadline, "{} were served", crowd.echoes);
        poll.poll(&mut events, reactor.next_timeout(Instant::now()))
            .expect("a poll");
        reactor.begin_turn(Instant::now());
        for event in &events {
            reactor.handle_event(event);
        }
        reactor.finish_turn(&mut crowd);
    }
    assert_eq!(crowd.echoes, 50);
}

/// For reactors that own what they wait for.
#[cfg(unix)]
#[test]
fn clone_of_the_descriptor_is_readable_when_a_turn_is_due() {
    use std::os::fd::{AsFd, AsRawFd};

    let (mut event_loop, addr) = listening(ListenOptions::default());
    let owned = event_loop.as_fd().try_clone_to_owned().expect("a copy");
    let mut poll = mio::Poll::new().expect("a selector");
    let mut events = mio::Events::with_capacity(8);
    let descriptor = owned.as_raw_fd();
    let mut source = mio::unix::SourceFd(&descriptor);
    poll.registry()
        .register(&mut source, mio::Token(0), mio::Interest::READABLE)
        .expect("it can be waited for");
    let _peer = support::Peer::connect(addr);
    let mut seen = Recorder::default();
    let deadline = Instant::now() + PATIENCE;
    while seen.connected().is_empty() {
        assert!(Instant::now() < deadline, "nothing tells of the peer");
        if event_loop.next_timeout() != Some(Duration::ZERO) {
            poll.poll(&mut events, Some(PATIENCE)).expect("a poll");
            assert!(!events.is_empty());
        }
        event_loop
            .turn(&mut seen, Some(Duration::ZERO))
            .expect("a turn");
    }
}

#[test]
fn idle_loop_makes_no_turns() {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    event_loop.net().connect(addr).expect("it starts");
    let mut talk = PingPong {
        sizes: &[64, 100_000],
        done: 0,
    };
    event_loop.run(&mut talk).expect("it runs");
    let mut seen = Recorder::default();
    // Memory that is not used goes back, for which it wakes up a few times; then there is nothing left to do.
    let deadline = Instant::now() + PATIENCE;
    let before = event_loop.net().stats().turns;
    while event_loop.next_timeout().is_some() {
        assert!(Instant::now() < deadline, "there is always something to do");
        event_loop.turn(&mut seen, None).expect("a turn");
    }
    assert!(event_loop.net().stats().turns - before < 20);
    assert_eq!(event_loop.next_deadline(), None);
}

#[test]
fn calls_between_turns_take_effect_without_an_event() {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::default();
    let peer = support::Peer::connect(addr);
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == 1
    });
    while event_loop.next_timeout().is_some() {
        event_loop.turn(&mut seen, None).expect("a turn");
    }
    let id = seen.connected()[0];
    event_loop.net().send(id, b"now").expect("it is open");
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    event_loop.turn(&mut seen, None).expect("a turn");
    assert_eq!(bytes_queued(event_loop.net(), id), 0);
    event_loop.net().abort(id);
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    event_loop.turn(&mut seen, None).expect("a turn");
    assert_eq!(seen.ends().len(), 1);
    drop(peer);
    while event_loop.next_timeout().is_some() {
        event_loop.turn(&mut seen, None).expect("a turn");
    }
    // Requests that cause no event, but that the loop has to notice.
    let asked: [fn(&mut Net); 2] = [Net::stop, |net| net.shutdown(PATIENCE)];
    for ask in asked {
        ask(event_loop.net());
        assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
        event_loop.turn(&mut seen, None).expect("a turn");
        assert_eq!(event_loop.next_timeout(), None);
        assert!(event_loop.net().is_stopping() && event_loop.take_stop());
        assert!(!event_loop.net().is_stopping() && !event_loop.take_stop());
    }
}

#[test]
fn loop_moves_to_another_thread_with_its_connections() {
    fn is_send<T: Send>() {}
    is_send::<EventLoop>();
    is_send::<Net>();

    let (mut event_loop, addr) = listening(ListenOptions::default());
    event_loop.net().connect(addr).expect("it starts");
    let sizes = &[10, 20, 30];
    let mut first = PingPong {
        sizes: &sizes[..1],
        done: 0,
    };
    event_loop.run(&mut first).expect("it runs");
    let thread = std::thread::spawn(move || {
        let net = event_loop.net();
        let mut ends = net.connections().into_iter();
        let outbound =
            ends.find(|id| net.connection(*id).map(|it| it.origin()) == Some(Origin::Outbound));
        let mut second = PingPong { sizes, done: 1 };
        let id = outbound.expect("it is connected");
        net.send(id, &pattern(sizes[1])).expect("it is open");
        event_loop.run(&mut second).expect("it runs");
        second.done
    });
    assert_eq!(thread.join().expect("no panic"), sizes.len());
}

#[cfg(any(target_os = "android", target_os = "illumos", target_os = "linux"))]
#[test]
fn second_net_on_a_registry_is_refused_until_the_first_is_dropped() {
    use throng::mio::Poll;

    let attach = |poll: &Poll| Reactor::attach(poll.registry(), Config::default(), Instant::now());
    let (poll, other) = (Poll::new().expect("a poll"), Poll::new().expect("a poll"));
    let first = attach(&poll).expect("it is the first");
    let error = attach(&poll).expect_err("it is the second");
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    let clone = poll.registry().try_clone().expect("a descriptor");
    Reactor::attach(&clone, Config::default(), Instant::now())
        .expect_err("it is the same registry");
    let _elsewhere = attach(&other).expect("it is another registry");
    drop(first);
    let second = attach(&poll).expect("there is none any more");
    drop(poll);
    // The descriptor of the poll may be used again; that is not the same registry.
    let another = Poll::new().expect("a poll");
    let _third = attach(&another).expect("it is another registry");
    drop(second);
}

#[test]
fn time_between_turns_counts_as_waited() {
    let mut looped = support::by_hand::Loop::new(Config::default());
    let mut seen = Recorder::default();
    let (began, before) = (looped.now, looped.net().stats());
    for _ in 0..10 {
        looped.pass(Duration::from_millis(90), &mut seen);
        looped.now += Duration::from_millis(10);
        looped.reactor.note_turn_end(looped.now);
    }
    let stats = looped.net().stats();
    assert_eq!(stats.busy, Duration::from_millis(100));
    assert_eq!(stats.waited, Duration::from_millis(900));
    assert_eq!(stats.longest_turn, Duration::from_millis(10));
    assert_eq!(stats.busy + stats.waited, looped.now - began);
    assert!((stats.busy_fraction(&before) - 0.1).abs() < 1e-9);
}

/// An owner that waits elsewhere, and makes turns that do not wait.
#[test]
fn poll_of_an_outer_loop_counts_as_waited() {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let before = event_loop.net().stats();
    for _ in 0..5 {
        // Time that passes elsewhere: what is measured, not something to wait for.
        std::thread::sleep(Duration::from_millis(10));
        event_loop
            .turn(&mut Recorder::default(), Some(Duration::ZERO))
            .expect("a turn");
    }
    let stats = event_loop.net().stats();
    assert!(stats.waited - before.waited >= Duration::from_millis(50));
}

#[test]
fn clock_never_goes_back() {
    let mut looped = support::by_hand::Loop::new(Config::default());
    let later = looped.now + Duration::from_millis(5);
    looped.reactor.begin_turn(later);
    looped.reactor.begin_turn(looped.now);
    assert_eq!(looped.net().now(), later);
}
