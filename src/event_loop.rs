//! `EventLoop`: a selector, a [`Reactor`] and a [`Mailbox`], for programs without a loop of their own. It uses only the
//! public interface of the reactor.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use log::error;
use mio::{Events, Poll, Waker};

use crate::config::Config;
use crate::connection_id::WAKER;
use crate::handler::Handler;
use crate::mailbox::{Handle, Mailbox};
use crate::net::Net;
use crate::reactor::Reactor;

/// An event loop: waits for events and calls a [`Handler`].
///
/// [`run`](Self::run) blocks the calling thread. A program with its own loop calls [`turn`](Self::turn) from it
/// instead, or [attaches](Reactor::attach) a [`Reactor`] to its `mio::Poll` without an `EventLoop`.
///
/// ```no_run
/// use std::io;
/// use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
///         if let Err(error) = net.send(id, &frame) {
///             log::warn!("{id}: {error}");
///         }
///     }
/// }
///
/// fn main() -> io::Result<()> {
///     let mut event_loop = EventLoop::new(Config::default())?;
///     event_loop.net().listen("127.0.0.1:5000")?;
///     event_loop.run(&mut Echo)
/// }
/// ```
///
/// The type parameter is the type of the handler; the compiler infers it from the first [`run`](Self::run). Where the
/// type has to be written, as in a field, `EventLoop` alone accepts any handler, even a different one in each turn.
/// `EventLoop<Game>` calls the handler statically, and its [`Handle`]s reach a `Game`.
///
/// Dropping the loop closes all sockets without callbacks. Queued data is lost, and the peers it was for see a reset.
pub struct EventLoop<H: ?Sized = dyn Handler> {
    /// Declared before the reactor, so that it is dropped first: values that are dropped with the connections may use a
    /// handle, and must not block.
    mailbox: Mailbox<H>,
    reactor: Reactor,
    poll: Poll,
    events: Events,
    /// How long it polls without sleeping.
    busy_poll: Duration,
    /// The last poll filled the event buffer, so more events may be pending.
    batch_was_full: bool,
}

impl<H: Handler + ?Sized> EventLoop<H> {
    /// Creates a loop with no listeners and no connections.
    ///
    /// # Errors
    /// Returns an error if the operating system provides no selector, for example because file descriptors have run
    /// out.
    pub fn new(config: Config) -> io::Result<Self> {
        let poll = Poll::new()?;
        let events = Events::with_capacity(config.events_per_poll);
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mailbox = Mailbox::new(&config, move || {
            if let Err(error) = waker.wake() {
                error!("cannot wake the loop: {error}");
            }
        });
        let busy_poll = config.busy_poll;
        let reactor = Reactor::attach(poll.registry(), config, Instant::now())?;
        Ok(Self {
            busy_poll,
            mailbox,
            reactor,
            poll,
            events,
            batch_was_full: false,
        })
    }

    /// Returns the [`Net`], for use between turns. Refreshes the clock.
    pub fn net(&mut self) -> &mut Net {
        self.reactor.begin_turn(Instant::now());
        self.reactor.net()
    }

    /// Returns a handle for other threads. Handles can be created and used before the loop runs.
    pub fn handle(&self) -> Handle<H> {
        self.mailbox.handle()
    }

    /// Runs until [`Net::stop`] is called, in a callback or by a [`Handle`], or until a [`Net::shutdown`] is complete.
    /// The current turn is finished first. Connections and listeners remain open, and `run` can be called again. After
    /// a `stop` between turns, it makes one turn without blocking.
    ///
    /// It does not return merely because nothing is registered.
    ///
    /// # Errors
    /// Returns an error if the selector fails. Peers cannot cause this.
    pub fn run(&mut self, handler: &mut H) -> io::Result<()> {
        let mut now = Instant::now();
        loop {
            let timeout = self.reactor.net().is_stopping().then_some(Duration::ZERO);
            now = self.turn_at(now, handler, timeout)?;
            if self.reactor.take_stop() {
                return Ok(());
            }
        }
    }

    /// Makes one turn: waits for events and handles them. Blocks for at most `timeout` (`None` means: no limit) and at
    /// most [`next_timeout`](Self::next_timeout).
    ///
    /// A turn handles one batch of events, a bounded amount of work. A signal ends the wait early.
    ///
    /// # Errors
    /// Returns an error if the selector fails. Peers cannot cause this.
    pub fn turn(&mut self, handler: &mut H, timeout: Option<Duration>) -> io::Result<()> {
        self.turn_at(Instant::now(), handler, timeout).map(|_| ())
    }

    /// Makes a turn that begins now, and returns when it ended.
    fn turn_at(
        &mut self,
        now: Instant,
        handler: &mut H,
        timeout: Option<Duration>,
    ) -> io::Result<Instant> {
        let own = self.timeout_at(now);
        let timeout = match (timeout, own) {
            (Some(given), Some(own)) => Some(given.min(own)),
            (given, own) => given.or(own),
        };
        // 1: poll
        if self.busy_poll.is_zero() || timeout == Some(Duration::ZERO) {
            self.poll(timeout)?;
        } else {
            self.poll_busily(now, timeout)?;
        }
        // 2: read the clock
        self.reactor.begin_turn(Instant::now());
        // 3: merge events into the ready list
        let mut count = 0;
        for event in &self.events {
            self.reactor.handle_event(event);
            count += 1;
        }
        self.batch_was_full = count >= self.events.capacity();
        // 4: mailbox
        self.mailbox.deliver(handler, &mut self.reactor);
        // 5 to 8
        self.reactor.finish_turn(handler);
        let ended = Instant::now();
        self.reactor.note_turn_end(ended);
        Ok(ended)
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            // Nothing was delivered; clear the events of the last batch so that they are not handled again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// Polls without sleeping, for as long as `busy_poll` says, and then waits.
    fn poll_busily(&mut self, began: Instant, timeout: Option<Duration>) -> io::Result<()> {
        loop {
            self.poll(Some(Duration::ZERO))?;
            let spent = began.elapsed();
            let is_over = timeout.is_some_and(|timeout| spent >= timeout);
            if !self.events.is_empty() || is_over {
                return Ok(());
            }
            if spent >= self.busy_poll {
                return self.poll(timeout.map(|timeout| timeout - spent));
            }
            std::hint::spin_loop();
        }
    }

    /// Returns how long the next [`turn`](Self::turn) can block at most: zero while there is pending work, otherwise
    /// the time until the next deadline. `None` means: until there is an event.
    ///
    /// If your poll takes whole milliseconds, round up. Rounding down makes the loop spin during the last millisecond
    /// before each deadline.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.timeout_at(Instant::now())
    }

    fn timeout_at(&self, now: Instant) -> Option<Duration> {
        if self.batch_was_full || self.mailbox.has_commands() {
            return Some(Duration::ZERO);
        }
        self.reactor.next_timeout(now)
    }

    /// Returns `true` once for each [`Net::stop`] and each completed [`Net::shutdown`]; [`run`](Self::run) returns on
    /// it. Call it after each turn if you drive turns yourself.
    ///
    /// ```
    /// # use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net};
    /// # struct Game;
    /// # impl Handler for Game {
    /// #     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
    /// # }
    /// # let mut game = Game;
    /// let mut event_loop = EventLoop::new(Config::default())?;
    /// event_loop.net().stop();
    /// while !event_loop.take_stop() {
    ///     event_loop.turn(&mut game, None)?;
    /// }
    /// assert!(!event_loop.net().is_stopping(), "it can continue");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_stop(&mut self) -> bool {
        self.reactor.take_stop()
    }

    /// Returns when the next [`turn`](Self::turn) is due even if there are no events; `None` means never.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.reactor.next_deadline()
    }
}

impl<H: ?Sized> Drop for EventLoop<H> {
    /// Closes the listeners first, so that no peer is accepted once a handle reports `Closed`. Then the fields are
    /// dropped in order.
    fn drop(&mut self) {
        self.reactor.net().close_listeners();
    }
}

impl<H: ?Sized> fmt::Debug for EventLoop<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("reactor", &self.reactor)
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

#[cfg(unix)]
mod unix {
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

    use super::EventLoop;

    /// Returns the descriptor to wait on in another loop: it is readable when there are events. Work that is due
    /// without an event is reported by [`next_timeout`](EventLoop::next_timeout). For a reactor that owns its
    /// descriptors, duplicate it with [`try_clone_to_owned`](BorrowedFd::try_clone_to_owned).
    impl<H: ?Sized> AsFd for EventLoop<H> {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.poll.registry().as_fd()
        }
    }

    impl<H: ?Sized> AsRawFd for EventLoop<H> {
        fn as_raw_fd(&self) -> RawFd {
            self.poll.as_raw_fd()
        }
    }
}
