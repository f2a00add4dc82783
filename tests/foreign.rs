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
fn an_event_of_a_source_is_told_with_its_token() {
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
fn a_source_is_waited_for_under_another_token_and_for_something_else() {
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
fn a_source_that_was_deregistered_in_the_same_batch_is_not_heard() {
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
fn tokens_of_the_loop_are_refused() {
    let mut event_loop = new();
    let mut sockets = Sockets::new(1);
    let token = Token(usize::MAX / 2 + 1);
    let net = event_loop.net();
    assert!(net.owns(token) && !net.owns(Token(token.0 - 1)));
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
