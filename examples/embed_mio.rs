//! Connections in a `mio::Poll` of the program, next to a UDP socket and a waker. A console thread sends commands through a
//! handle.
//!
//! ```text
//! cargo run --example embed_mio [ADDR]          default: 127.0.0.1:5000
//! ```
//!
//! Each frame is broadcast to all players, and so is each line of the console. The reply to a UDP datagram, at the
//! same address, is the number of players. EOF on the console ends the game.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, io, thread};

use throng::mio::net::UdpSocket;
use throng::mio::{Events, Interest, Poll, Token, Waker};
use throng::{Config, ConnectionId, Frame, Handle, Handler, Mailbox, MailboxError, Net, Reactor};

const WAKER: Token = Token(0);
const QUERY: Token = Token(1);

struct Game;

impl Handler for Game {
    fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
        net.broadcast(|_| true, frame);
    }
}

fn main() -> ExitCode {
    let addr = env::args().nth(1);
    match serve(addr.as_deref().unwrap_or("127.0.0.1:5000")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed_mio: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(addr: &str) -> io::Result<()> {
    // Without throng the program has a poll, a waker, and a UDP socket (bound below).
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);

    // throng adds a mailbox and a `Net`.
    let config = Config::hardened();
    let mut mailbox = Mailbox::new(&config, move || {
        if let Err(error) = waker.wake() {
            eprintln!("embed_mio: {error}");
        }
    });
    let mut reactor = Reactor::attach(poll.registry(), config, Instant::now())?;
    let listener = reactor.net().listen(addr)?;
    let addr = reactor
        .net()
        .listener(listener)
        .and_then(|it| it.local_addr())
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut query = UdpSocket::bind(addr)?;
    poll.registry()
        .register(&mut query, QUERY, Interest::READABLE)?;
    println!("listening on {addr}");
    let console = mailbox.handle();
    thread::spawn(move || listen_to(&console));

    let mut game = Game;
    while !reactor.take_stop() {
        match poll.poll(&mut events, reactor.next_timeout(Instant::now())) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        reactor.begin_turn(Instant::now());
        for event in &events {
            match event.token() {
                QUERY => answer(&query, reactor.net().connection_count()),
                WAKER => {}
                _ => reactor.handle_event(event),
            }
        }
        mailbox.deliver(&mut game, &mut reactor);
        reactor.finish_turn(&mut game);
    }
    Ok(())
}

/// Replies to all pending datagrams. mio reports readiness once (edge-triggered).
fn answer(query: &UdpSocket, players: usize) {
    let mut buffer = [0; 16];
    let answer = format!("{players} players");
    while let Ok((_, from)) = query.recv_from(&mut buffer) {
        if let Err(error) = query.send_to(answer.as_bytes(), from) {
            eprintln!("embed_mio: {from}: {error}");
        }
    }
}

/// Passes lines of the console to the game.
fn listen_to(game: &Handle<Game>) {
    let pass_on = || -> Result<(), MailboxError> {
        for line in io::stdin().lines().map_while(Result::ok) {
            game.broadcast(|_| true, line)?;
        }
        game.shutdown(Duration::from_secs(5))
    };
    if let Err(error) = pass_on() {
        eprintln!("embed_mio: {error}");
    }
}
