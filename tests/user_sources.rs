//! Sources of the user's own in the loop.

mod support;

use mio::net::UdpSocket;
use mio::{Interest, Token};
use support::turn_until;
use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net, Readiness, RegisterError};

/// Sockets of its own, of which it deregisters all others with the first event, if told so.
struct Sockets {
    sockets: Vec<UdpSocket>,
    told: Vec<(Token, Readiness)>,
    only_one: bool,
}

impl Handler for Sockets {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_event(&mut self, net: &mut Net, token: Token, readiness: Readiness) {
        self.told.push((token, readiness));
        if self.only_one {
            for (index, socket) in self.sockets.iter_mut().enumerate() {
                if Token(index) != token {
                    net.deregister(socket, Token(index)).expect("it is known");
                }
            }
        }
    }
}

impl Sockets {
    fn new(count: usize) -> Self {
        let any = "127.0.0.1:0".parse().expect("an address");
        let bind = |_| UdpSocket::bind(any).expect("a free port");
        Self {
            sockets: (0..count).map(bind).collect(),
            told: Vec::new(),
            only_one: false,
        }
    }

    /// Sends a datagram to a socket, from another one.
    fn poke(&self, index: usize) {
        let from = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let to = self.sockets[index].local_addr().expect("its address");
        from.send_to(b"poke", to).expect("it is sent");
    }
}

fn new() -> EventLoop {
    EventLoop::new(Config::default()).expect("a loop")
}

#[test]
fn event_of_a_source_is_delivered_with_its_token() {
    let mut event_loop = new();
    let mut sockets = Sockets::new(2);
    for (index, socket) in sockets.sockets.iter_mut().enumerate() {
        let net = event_loop.net();
        net.register(socket, Token(index), Interest::READABLE)
            .expect("it is taken");
    }
    sockets.poke(1);
    turn_until(&mut event_loop, &mut sockets, |sockets, _| {
        !sockets.told.is_empty()
    });
    let (token, readiness) = sockets.told[0];
    assert_eq!(token, Token(1));
    assert!(readiness.is_readable() && !readiness.is_writable() && !readiness.is_error());
    assert_eq!(sockets.told.len(), 1, "the other one is silent");
}

#[test]
fn source_is_reregistered_with_another_token_and_interest() {
    let mut event_loop = new();
    let mut sockets = Sockets::new(1);
    let net = event_loop.net();
    let socket = &mut sockets.sockets[0];
    net.register(socket, Token(0), Interest::READABLE)
        .expect("it is taken");
    net.reregister(socket, Token(9), Interest::WRITABLE)
        .expect("it is known");
    turn_until(&mut event_loop, &mut sockets, |sockets, _| {
        !sockets.told.is_empty()
    });
    let (token, readiness) = sockets.told[0];
    assert_eq!(token, Token(9));
    assert!(readiness.is_writable() && !readiness.is_readable());
}

#[test]
fn event_of_a_source_deregistered_in_the_same_batch_is_dropped() {
    let mut event_loop = new();
    let mut sockets = Sockets::new(5);
    sockets.only_one = true;
    for (index, socket) in sockets.sockets.iter_mut().enumerate() {
        let net = event_loop.net();
        net.register(socket, Token(index), Interest::READABLE)
            .expect("it is taken");
    }
    for index in 0..5 {
        sockets.poke(index);
    }
    turn_until(&mut event_loop, &mut sockets, |sockets, _| {
        !sockets.told.is_empty()
    });
    for _ in 0..3 {
        let at_once = Some(std::time::Duration::ZERO);
        event_loop.turn(&mut sockets, at_once).expect("a turn");
    }
    assert_eq!(sockets.told.len(), 1);
}

#[test]
fn tokens_of_the_loop_are_rejected() {
    let mut event_loop = new();
    let mut sockets = Sockets::new(1);
    let token = Token(usize::MAX / 2 + 1);
    let net = event_loop.net();
    let socket = &mut sockets.sockets[0];
    let error = net.register(socket, token, Interest::READABLE);
    assert!(matches!(
        error,
        Err(RegisterError::TokenReserved { token: refused }) if refused == token
    ));
    net.register(socket, Token(0), Interest::READABLE)
        .expect("it is taken");
    let error = net.reregister(socket, token, Interest::READABLE);
    assert!(matches!(error, Err(RegisterError::TokenReserved { .. })));
    net.deregister(socket, Token(0)).expect("it is known");
    let error = net.deregister(socket, Token(0));
    let error = error.expect_err("it is not known any more");
    assert!(
        error.to_string().contains("the selector refused"),
        "{error}"
    );
}

#[test]
fn deregistering_an_unknown_source_drops_no_events() {
    /// Deregisters a stranger under the token of a friend.
    struct Careless(Sockets);
    impl Handler for Careless {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
        fn on_event(&mut self, net: &mut Net, token: Token, readiness: Readiness) {
            self.0.told.push((token, readiness));
            let stranger = &mut self.0.sockets[2];
            for other in [Token(0), Token(1)] {
                net.deregister(stranger, other)
                    .expect_err("it is not known");
            }
        }
    }
    let mut event_loop = new();
    let mut careless = Careless(Sockets::new(3));
    for index in 0..2 {
        let socket = &mut careless.0.sockets[index];
        let net = event_loop.net();
        net.register(socket, Token(index), Interest::READABLE)
            .expect("it is taken");
        careless.0.poke(index);
    }
    turn_until(&mut event_loop, &mut careless, |careless, _| {
        careless.0.told.len() == 2
    });
}

#[test]
fn panic_in_on_event_skips_no_other_call() {
    struct Panics(Vec<Token>);
    impl Handler for Panics {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
        fn on_event(&mut self, _: &mut Net, token: Token, _: Readiness) {
            self.0.push(token);
            assert!(self.0.len() > 1, "as agreed");
        }
    }
    let mut looped = support::by_hand::Loop::new(Config::default());
    let mut sockets = Sockets::new(3);
    for index in 0..3 {
        let socket = &mut sockets.sockets[index];
        looped
            .net()
            .register(socket, Token(index), Interest::READABLE)
            .expect("it is taken");
        sockets.poke(index);
    }
    let mut panics = Panics(Vec::new());
    let deadline = std::time::Instant::now() + support::PATIENCE;
    let caught = loop {
        assert!(std::time::Instant::now() < deadline, "nothing comes");
        let wait = std::time::Duration::from_millis(5);
        let turn = std::panic::AssertUnwindSafe(|| looped.turn(wait, &mut panics));
        if let Err(caught) = std::panic::catch_unwind(turn) {
            break caught;
        }
    };
    assert!(caught.is::<&str>() || caught.is::<String>());
    looped.settle(&mut panics, |panics, _| panics.0.len() == 3);
    panics.0.sort();
    assert_eq!(panics.0, [Token(0), Token(1), Token(2)]);
}
