//! The ways to drive the server, so that they can be compared: what embedding costs is the difference.

use std::io;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use throng::mio::{Events, Poll};
use throng::{Config, EventLoop, Handler, Net, Reactor};

/// How many events one poll brings, as in an event loop of its own.
const EVENTS: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// `EventLoop::turn`, one by one.
    Turn,
    /// `EventLoop::run`.
    Run,
    /// `EventLoop::turn` from another poll, which waits for the loop's descriptor.
    Outer,
    /// A `Net` in a poll of this program's.
    Attached,
}

/// Connections, and what drives them.
pub(crate) enum Driver<H: Handler> {
    Turn(EventLoop<H>),
    Run(EventLoop<H>),
    #[cfg(unix)]
    Outer(EventLoop<H>, Poll, Events),
    Attached(Box<Reactor>, Poll, Events),
}

impl<H: Handler> Driver<H> {
    pub(crate) fn new(level: Level, config: Config) -> io::Result<Self> {
        let events = Events::with_capacity(EVENTS);
        Ok(match level {
            Level::Turn => Self::Turn(EventLoop::new(config)?),
            Level::Run => Self::Run(EventLoop::new(config)?),
            #[cfg(unix)]
            Level::Outer => {
                use mio::unix::SourceFd;
                use std::os::fd::AsRawFd;
                use throng::mio::{Interest, Token};

                let event_loop = EventLoop::new(config)?;
                let poll = Poll::new()?;
                let fd = event_loop.as_raw_fd();
                let registry = poll.registry();
                registry.register(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
                Self::Outer(event_loop, poll, events)
            }
            #[cfg(not(unix))]
            Level::Outer => return Err(io::ErrorKind::Unsupported.into()),
            Level::Attached => {
                let poll = Poll::new()?;
                let reactor = Reactor::attach(poll.registry(), config, Instant::now())?;
                Self::Attached(Box::new(reactor), poll, events)
            }
        })
    }

    pub(crate) fn net(&mut self) -> &mut Net {
        match self {
            Self::Turn(event_loop) | Self::Run(event_loop) => event_loop.net(),
            #[cfg(unix)]
            Self::Outer(event_loop, ..) => event_loop.net(),
            Self::Attached(reactor, ..) => reactor.net(),
        }
    }

    /// Drives, and comes back within `most`. To end a `run` the handler has to stop when a timer fires.
    pub(crate) fn drive(&mut self, handler: &mut H, most: Duration) -> io::Result<()> {
        match self {
            Self::Turn(event_loop) => event_loop.turn(handler, Some(most)),
            Self::Run(event_loop) => {
                event_loop.net().set_timer(most, 0);
                event_loop.run(handler)
            }
            #[cfg(unix)]
            Self::Outer(event_loop, poll, events) => {
                let own = event_loop.next_timeout().unwrap_or(most);
                poll_anew(poll, events, own.min(most))?;
                event_loop.turn(handler, Some(Duration::ZERO))
            }
            Self::Attached(reactor, poll, events) => {
                let own = reactor.next_timeout(Instant::now()).unwrap_or(most);
                poll_anew(poll, events, own.min(most))?;
                reactor.begin_turn(Instant::now());
                for event in &*events {
                    reactor.handle_event(event);
                }
                reactor.finish_turn(handler);
                Ok(())
            }
        }
    }
}

/// Waits for events. A signal ends the wait without any.
fn poll_anew(poll: &mut Poll, events: &mut Events, timeout: Duration) -> io::Result<()> {
    match poll.poll(events, Some(timeout)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result,
    }
}
