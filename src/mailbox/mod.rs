//! The mailbox: commands from other threads to a loop.
//!
//! It is separate from [`Net`], so that neither `Net` nor the [`Handler`](crate::Handler) trait depends on the handler
//! type of the commands. A [`Handle`] queues commands, [`channel`] holds them, [`Mailbox::deliver`] runs them.

mod channel;
mod command;
mod handle;
mod oneshot;
mod room;
mod tasks;
mod tries;
mod waiter;

/// The primitives that [`channel`], [`oneshot`], [`room`] and [`waiter`] use. Their model check substitutes its own.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(super) use std::sync::{Arc, Mutex, mpsc};
    pub(super) use std::thread;
}

use std::fmt;

use crate::config::Config;
use crate::in_loop::InLoop;
use crate::net::Net;
use crate::reactor::Reactor;
use channel::Receiver;
use command::Command;
pub use command::Post;
pub use handle::Handle;
use room::Limits;
pub use tasks::{Answer, Ready};

/// The queue between [`Handle`]s and a loop.
///
/// An [`EventLoop`](crate::EventLoop) contains one. If you drive a [`Reactor`] in your own poll and need handles,
/// create a mailbox with a function that wakes that poll, and call [`deliver`](Self::deliver) in each turn.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use std::time::Instant;
/// # use throng::{Config, ConnectionId, Frame, Handler, Mailbox, Net, Reactor};
/// # struct Game;
/// # impl Handler for Game {
/// #     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
/// # }
/// # let mut game = Game;
/// let mut poll = mio::Poll::new()?;
/// let mut events = mio::Events::with_capacity(1024);
/// let config = Config::default();
/// // At most one waker per poll: use the one you have.
/// let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0))?);
/// let mut mailbox = Mailbox::new(&config, move || waker.wake().expect("a live poll"));
/// let mut reactor = Reactor::attach(poll.registry(), config, Instant::now())?;
/// let handle = mailbox.handle();
/// std::thread::spawn(move || handle.broadcast(|_| true, "good morning"));
/// loop {
///     poll.poll(&mut events, reactor.next_timeout(Instant::now()))?;
///     reactor.begin_turn(Instant::now());
///     for event in &events {
///         reactor.handle_event(event);
///     }
///     mailbox.deliver(&mut game, &mut reactor);
///     reactor.finish_turn(&mut game);
/// #   break;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Dropping the mailbox drops the commands that were not run. Blocked threads get
/// [`MailboxError::Closed`](crate::MailboxError::Closed).
pub struct Mailbox<H: ?Sized> {
    commands: Receiver<Command<H>>,
    handle: Handle<H>,
    per_turn: usize,
}

impl<H: ?Sized> Mailbox<H> {
    /// Creates a mailbox with the limits of `config` ([`max_pending_commands`](Config::max_pending_commands),
    /// [`max_pending_bytes`](Config::max_pending_bytes), [`commands_per_turn`](Config::commands_per_turn)).
    ///
    /// `wake` has to end the wait of the loop that delivers. It is called once per burst of commands, on the thread of
    /// the handle, and should neither block nor panic. It is dropped with the last handle.
    pub fn new(config: &Config, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let limits = Limits {
            count: config.max_pending_commands,
            bytes: config.max_pending_bytes,
        };
        let (sender, commands) = channel::channel(limits, Box::new(wake));
        Self {
            commands,
            handle: Handle::new(sender),
            per_turn: config.commands_per_turn,
        }
    }

    /// Returns `true` if commands may be queued.
    pub(crate) fn has_commands(&self) -> bool {
        self.commands.is_signalled()
    }

    /// Returns a handle for other threads.
    pub fn handle(&self) -> Handle<H> {
        self.handle.clone()
    }

    /// Runs the queued commands in order, including those queued meanwhile, up to
    /// [`commands_per_turn`](Config::commands_per_turn). If commands are left, [`next_timeout`](Reactor::next_timeout)
    /// is zero.
    ///
    /// Call it in each turn, between [`handle_event`](Reactor::handle_event) and [`finish_turn`](Reactor::finish_turn),
    /// so that frames sent by commands are written together with the replies of this turn.
    #[inline]
    pub fn deliver(&mut self, handler: &mut H, reactor: &mut Reactor) {
        if self.commands.is_signalled() {
            self.run(handler, reactor.net());
        }
    }

    #[cold]
    fn run(&mut self, handler: &mut H, net: &mut Net) {
        let _callbacks = InLoop::enter();
        let mut batch = Batch {
            commands: &mut self.commands,
            net,
            run: 0,
            is_empty: false,
        };
        for _ in 0..self.per_turn {
            let Some(command) = batch.commands.next() else {
                batch.is_empty = true;
                return;
            };
            batch.run += 1;
            command.run(handler, batch.net);
        }
    }
}

/// The commands of one turn. Their room is released on drop, also after a panic.
struct Batch<'m, H: ?Sized> {
    commands: &'m mut Receiver<Command<H>>,
    net: &'m mut Net,
    run: u64,
    /// No command is left for the next turn.
    is_empty: bool,
}

impl<H: ?Sized> Drop for Batch<'_, H> {
    fn drop(&mut self) {
        if !self.is_empty {
            self.net.note_mail();
        }
        self.commands.release();
        let (pending, wake_ups) = (self.commands.pending(), self.commands.wake_ups());
        self.net.count_commands(self.run, pending, wake_ups);
    }
}

impl<H: ?Sized> fmt::Debug for Mailbox<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
