//! `EventLoop`: a selector, a [`Reactor`] and a [`Mailbox`], for programs without a loop of their own. It uses nothing of
//! the reactor that others could not use as well.

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

/// The loop: waits for events and turns them into calls of a [`Handler`].
///
/// [`run`](Self::run) owns the thread. Whoever has a loop already calls [`turn`](Self::turn) from it instead, or does
/// without an `EventLoop` and [attaches](Reactor::attach) a [`Reactor`] to the `mio::Poll` it has.
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
/// Its parameter is the type of the handler, which the first [`run`](Self::run) tells the compiler. Where the type has to
/// be written, in a field say, `EventLoop` alone is a loop for any handler, another one in each turn if need be;
/// `EventLoop<Game>` is one whose calls of the handler are direct, and whose [`Handle`]s reach a `Game`.
///
/// Dropping it closes all sockets, without callbacks. What is queued is lost, and whoever it was for sees a reset.
pub struct EventLoop<H: ?Sized = dyn Handler> {
    /// It goes before the connections: what is dropped with them may ask it for something, and must not wait.
    mailbox: Mailbox<H>,
    reactor: Reactor,
    poll: Poll,
    events: Events,
    /// The last poll brought as many events as fit: more may be waiting.
    batch_was_full: bool,
}

impl<H: Handler + ?Sized> EventLoop<H> {
    /// A loop with no listeners and no connections.
    ///
    /// # Errors
    /// If the system gives no selector, for want of descriptors, say.
    pub fn new(config: Config) -> io::Result<Self> {
        let poll = Poll::new()?;
        let events = Events::with_capacity(config.events_per_poll);
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mailbox = Mailbox::new(&config, move || {
            if let Err(error) = waker.wake() {
                error!("the loop could not be woken: {error}");
            }
        });
        let reactor = Reactor::attach(poll.registry(), config, Instant::now())?;
        Ok(Self {
            mailbox,
            reactor,
            poll,
            events,
            batch_was_full: false,
        })
    }

    /// The connections, to be used between turns. Refreshes the clock.
    pub fn net(&mut self) -> &mut Net {
        self.reactor.begin_turn(Instant::now());
        self.reactor.net()
    }

    /// A handle for other threads. Handles may be made and used before the loop runs.
    pub fn handle(&self) -> Handle<H> {
        self.mailbox.handle()
    }

    /// Runs until [`Net::stop`] is called, in a callback or by a [`Handle`], or a [`Net::shutdown`] is over; that turn is
    /// finished first. Connections and listeners stay as they are, and `run` may be called again. After a `stop` between
    /// turns it makes one turn, without waiting.
    ///
    /// It does not return because there is nothing left to wait for.
    ///
    /// # Errors
    /// If the selector fails. No peer can make that happen.
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

    /// Makes one turn: waits for events, but not longer than `timeout` (`None`: as long as there is nothing to do) nor
    /// than [`next_timeout`](Self::next_timeout), and handles what there is.
    ///
    /// A turn ends after one batch of events, a bounded amount of work. A signal ends the wait early.
    ///
    /// # Errors
    /// If the selector fails. No peer can make that happen.
    pub fn turn(&mut self, handler: &mut H, timeout: Option<Duration>) -> io::Result<()> {
        self.turn_at(Instant::now(), handler, timeout).map(|_| ())
    }

    /// Makes a turn that begins now, and says when it ended.
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
        // 1 poll
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // Nothing was delivered, and the events of the last batch must not be seen again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        // 2 read the clock
        self.reactor.begin_turn(Instant::now());
        // 3 merge events into the ready list
        let mut count = 0;
        for event in &self.events {
            self.reactor.handle_event(event);
            count += 1;
        }
        self.batch_was_full = count >= self.events.capacity();
        // 4 mailbox
        self.mailbox.deliver(handler, &mut self.reactor);
        // 5 to 8
        self.reactor.finish_turn(handler);
        let ended = Instant::now();
        self.reactor.note_turn_end(ended);
        Ok(ended)
    }

    /// How long the next [`turn`](Self::turn) can wait at most: not at all while there is work to do, else until the next
    /// deadline. `None`: until there is an event.
    ///
    /// If your poll takes whole milliseconds, round it up: rounded down, the last millisecond before each deadline is spent
    /// in waits of zero.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.timeout_at(Instant::now())
    }

    fn timeout_at(&self, now: Instant) -> Option<Duration> {
        if self.batch_was_full || self.mailbox.has_commands() {
            return Some(Duration::ZERO);
        }
        self.reactor.next_timeout(now)
    }

    /// Returns `true` once for each [`Net::stop`] and each [`Net::shutdown`] that is over, as [`run`](Self::run) obeys
    /// them. Call it after each turn if you drive turns yourself.
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
    /// assert!(!event_loop.net().is_stopping(), "it can go on");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_stop(&mut self) -> bool {
        self.reactor.take_stop()
    }

    /// When the next [`turn`](Self::turn) is due even if there are no events; `None` if never.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.reactor.next_deadline()
    }
}

impl<H: ?Sized> Drop for EventLoop<H> {
    /// Whoever sees a closed handle can be sure that nobody comes in any more. Then the fields go, in their order.
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

    /// The descriptor to wait on in another loop: it is readable when there are events. What is due without an event is
    /// reported by [`next_timeout`](EventLoop::next_timeout). A reactor that owns what it waits for takes a copy, made by
    /// [`try_clone_to_owned`](BorrowedFd::try_clone_to_owned).
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
