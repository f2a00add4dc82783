//! The mailbox: commands from other threads to a loop.
//!
//! It is separate from [`Net`], so that neither `Net` nor the [`Handler`] trait knows the type that commands are run on. A
//! [`Handle`] queues commands, [`channel`] holds them, [`Mailbox::deliver`] runs them.

mod channel;
mod command;
mod handle;
mod in_loop;
mod room;

/// What [`channel`] and [`room`] are made of. Their model takes the same from elsewhere.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(super) use std::sync::{Arc, mpsc};
    pub(super) use std::thread;
}

use std::fmt;

use log::error;

use crate::config::Config;
use crate::net::Net;
use channel::Receiver;
use command::Command;
pub use command::Post;
pub use handle::Handle;
pub(crate) use in_loop::InLoop;
use room::Limits;

/// The queue between [`Handle`]s and a loop.
///
/// An [`EventLoop`](crate::EventLoop) has one. If you drive a [`Net`] in a poll of your own and want handles, create one with
/// a function that wakes that poll, and [deliver](Self::deliver) in each turn.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use std::time::Instant;
/// # use throng::{Config, ConnectionId, Frame, Handler, Mailbox, Net};
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
/// let mut mailbox = Mailbox::new(&config, move || waker.wake().expect("the poll is there"));
/// let mut net = Net::attach(poll.registry(), config, Instant::now())?;
/// let handle = mailbox.handle();
/// std::thread::spawn(move || handle.broadcast(|_| true, "good morning"));
/// loop {
///     poll.poll(&mut events, net.next_timeout(Instant::now()))?;
///     net.begin_turn(Instant::now());
///     for event in &events {
///         net.handle_event(event);
///     }
///     mailbox.deliver(&mut game, &mut net);
///     net.finish_turn(&mut game);
/// #   break;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Dropping it drops the commands that were not run. Threads that wait for room get
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
    /// `wake` must end the wait of the loop that delivers. It is called once per burst of commands, on the thread of the
    /// handle, and should neither block nor panic. It is dropped with the last handle.
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

    /// Whether commands may be queued.
    pub(crate) fn has_commands(&self) -> bool {
        self.commands.is_signalled()
    }

    /// Returns a handle for other threads.
    pub fn handle(&self) -> Handle<H> {
        self.handle.clone()
    }

    /// Runs the queued commands in order, and those that are queued meanwhile, up to
    /// [`commands_per_turn`](Config::commands_per_turn). If some are left over, [`next_timeout`](Net::next_timeout) is zero.
    ///
    /// Call it in each turn, between [`handle_event`](Net::handle_event) and [`finish_turn`](Net::finish_turn), so that what
    /// the commands send is written together with the replies of this turn.
    #[inline]
    pub fn deliver(&mut self, handler: &mut H, net: &mut Net) {
        if self.commands.is_signalled() {
            self.run(handler, net);
        }
    }

    #[cold]
    fn run(&mut self, handler: &mut H, net: &mut Net) {
        if net.in_turn {
            return error!("deliver was called in a callback");
        }
        // What is posted is a callback as any other: there is no turn in it.
        net.in_turn = true;
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

/// The commands of one turn. Their room is released at the end, also after a panic.
struct Batch<'m, H: ?Sized> {
    commands: &'m mut Receiver<Command<H>>,
    net: &'m mut Net,
    run: u64,
    /// Nothing is left for the next turn.
    is_empty: bool,
}

impl<H: ?Sized> Drop for Batch<'_, H> {
    fn drop(&mut self) {
        self.net.in_turn = false;
        if !self.is_empty {
            self.net.note_mail();
        }
        self.commands.release();
        self.net.stats.commands += self.run;
        self.net.stats.wake_ups = self.commands.wake_ups();
    }
}

impl<H: ?Sized> fmt::Debug for Mailbox<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
