//! The three ways to drive a loop, behind one trait: tests of connections hold for each of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use throng::{Config, EventLoop, Handle, Handler, ListenOptions, Mailbox, Net, Reactor};

/// How long a driver waits for an event before the test checks its condition.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Drives a loop.
pub trait Driver {
    fn new(config: Config) -> Self
    where
        Self: Sized;

    fn net(&mut self) -> &mut Net;

    fn handle(&self) -> Handle<dyn Handler>;

    /// Drives for a short time, at least one turn.
    fn turn(&mut self, handler: &mut (dyn Handler + 'static));

    /// Drives until a callback stops the loop.
    fn drive(&mut self, handler: &mut (dyn Handler + 'static)) -> io::Result<()>;
}

/// Returns a loop that listens on a free port.
pub fn listening_by<D: Driver>(options: ListenOptions) -> (D, SocketAddr) {
    let mut driver = D::new(Config::default());
    let net = driver.net();
    let id = net.listen_with("127.0.0.1:0", options).expect("a listener");
    let addr = super::addr_of(net, id);
    (driver, addr)
}

/// Runs each scenario with each driver.
#[macro_export]
macro_rules! with_each_driver {
    ($($scenario:ident)*) => {$(
        mod $scenario {
            #[test]
            fn run() {
                super::$scenario::<$crate::support::drivers::Run>();
            }

            #[cfg(unix)]
            #[test]
            fn turn() {
                super::$scenario::<$crate::support::drivers::Outer>();
            }

            #[test]
            fn attached() {
                super::$scenario::<$crate::support::drivers::Attached>();
            }
        }
    )*};
}

/// A loop whose turns are made only by the test: the usual case.
impl Driver for EventLoop {
    fn new(config: Config) -> Self {
        Self::new(config).expect("a loop")
    }

    fn net(&mut self) -> &mut Net {
        self.net()
    }

    fn handle(&self) -> Handle<dyn Handler> {
        self.handle()
    }

    fn turn(&mut self, handler: &mut (dyn Handler + 'static)) {
        self.turn(handler, Some(A_MOMENT))
            .expect("a turn does not fail");
    }

    fn drive(&mut self, handler: &mut (dyn Handler + 'static)) -> io::Result<()> {
        self.run(handler)
    }
}

/// Level 1: `EventLoop::run`.
pub struct Run {
    event_loop: EventLoop,
    /// Tells a thread to stop the loop soon.
    stop_soon: Sender<()>,
}

impl Driver for Run {
    fn new(config: Config) -> Self {
        let event_loop = <EventLoop>::new(config).expect("a loop");
        let handle = event_loop.handle();
        let (stop_soon, asked) = mpsc::channel();
        thread::spawn(move || {
            while asked.recv().is_ok() {
                // Not a wait for an event: `run` does that.
                thread::sleep(A_MOMENT / 4);
                if handle.stop().is_err() {
                    return;
                }
            }
        });
        Self {
            event_loop,
            stop_soon,
        }
    }

    fn net(&mut self) -> &mut Net {
        self.event_loop.net()
    }

    fn handle(&self) -> Handle<dyn Handler> {
        self.event_loop.handle()
    }

    fn turn(&mut self, handler: &mut (dyn Handler + 'static)) {
        self.stop_soon.send(()).expect("the thread is there");
        self.event_loop.run(handler).expect("it runs");
    }

    fn drive(&mut self, handler: &mut (dyn Handler + 'static)) -> io::Result<()> {
        self.event_loop.run(handler)
    }
}

/// Level 2: `EventLoop::turn`, called when the loop's file descriptor is readable in an edge-triggered poll, or when
/// its timeout has passed.
#[cfg(unix)]
pub struct Outer {
    event_loop: EventLoop,
    poll: Poll,
    events: Events,
}

#[cfg(unix)]
impl Outer {
    fn turn_within(
        &mut self,
        most: Option<Duration>,
        handler: &mut (dyn Handler + 'static),
    ) -> io::Result<()> {
        let own = self.event_loop.next_timeout();
        let timeout = own.into_iter().chain(most).min();
        self.poll.poll(&mut self.events, timeout)?;
        self.event_loop.turn(handler, Some(Duration::ZERO))
    }
}

#[cfg(unix)]
impl Driver for Outer {
    fn new(config: Config) -> Self {
        use std::os::fd::AsRawFd;
        let event_loop = <EventLoop>::new(config).expect("a loop");
        let poll = Poll::new().expect("a selector");
        let fd = event_loop.as_raw_fd();
        poll.registry()
            .register(&mut mio::unix::SourceFd(&fd), Token(0), Interest::READABLE)
            .expect("it can be waited on");
        Self {
            event_loop,
            poll,
            events: Events::with_capacity(4),
        }
    }

    fn net(&mut self) -> &mut Net {
        self.event_loop.net()
    }

    fn handle(&self) -> Handle<dyn Handler> {
        self.event_loop.handle()
    }

    fn turn(&mut self, handler: &mut (dyn Handler + 'static)) {
        self.turn_within(Some(A_MOMENT), handler)
            .expect("a turn does not fail");
    }

    fn drive(&mut self, handler: &mut (dyn Handler + 'static)) -> io::Result<()> {
        while !self.event_loop.take_stop() {
            self.turn_within(None, handler)?;
        }
        Ok(())
    }
}

/// Level 3: a poll that also has other sources, a UDP socket and a waker that the mailbox shares.
pub struct Attached {
    poll: Poll,
    events: Events,
    reactor: Reactor,
    mailbox: Mailbox<dyn Handler>,
    waker: Arc<Waker>,
    udp: UdpSocket,
    woken: bool,
    received: bool,
}

const WAKER: Token = Token(0);
const UDP: Token = Token(usize::MAX >> 1);

impl Attached {
    fn turn_within(
        &mut self,
        most: Option<Duration>,
        handler: &mut (dyn Handler + 'static),
    ) -> io::Result<()> {
        let own = self.reactor.next_timeout(Instant::now());
        let timeout = own.into_iter().chain(most).min();
        self.poll.poll(&mut self.events, timeout)?;
        self.reactor.begin_turn(Instant::now());
        for event in &self.events {
            match event.token() {
                WAKER => self.woken = true,
                UDP => self.received = true,
                token => {
                    assert!(self.reactor.owns(token));
                    self.reactor.handle_event(event);
                }
            }
            assert_eq!(self.reactor.owns(event.token()), event.token().0 > UDP.0);
        }
        self.mailbox.deliver(handler, &mut self.reactor);
        self.reactor.finish_turn(handler);
        Ok(())
    }
}

impl Driver for Attached {
    fn new(config: Config) -> Self {
        let poll = Poll::new().expect("a selector");
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).expect("a waker"));
        let shared = Arc::clone(&waker);
        let mailbox = Mailbox::new(&config, move || shared.wake().expect("the poll is there"));
        let reactor = Reactor::attach(poll.registry(), config, Instant::now()).expect("a registry");
        let mut udp = UdpSocket::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        poll.registry()
            .register(&mut udp, UDP, Interest::READABLE)
            .expect("it can be waited on");
        Self {
            poll,
            // Few, so that batches are full.
            events: Events::with_capacity(8),
            reactor,
            mailbox,
            waker,
            udp,
            woken: false,
            received: false,
        }
    }

    fn net(&mut self) -> &mut Net {
        self.reactor.begin_turn(Instant::now());
        self.reactor.net()
    }

    fn handle(&self) -> Handle<dyn Handler> {
        self.mailbox.handle()
    }

    fn turn(&mut self, handler: &mut (dyn Handler + 'static)) {
        self.turn_within(Some(A_MOMENT), handler)
            .expect("a poll does not fail");
    }

    /// The poll's other sources are served as well.
    fn drive(&mut self, handler: &mut (dyn Handler + 'static)) -> io::Result<()> {
        self.waker.wake()?;
        self.udp.send_to(b"datagram", self.udp.local_addr()?)?;
        while !(self.reactor.net().is_stopping() && self.woken && self.received) {
            self.turn_within(None, handler)?;
        }
        assert!(self.reactor.take_stop() && !self.reactor.take_stop());
        Ok(())
    }
}
