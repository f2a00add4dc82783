//! Several loops on several threads, which share their listeners.
//!
//! Each shard is an event loop with its own handler. Shards share nothing but their mailboxes. A connection stays on
//! its shard.

mod balance;
mod error;
mod handles;
mod threads;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use log::error;

use crate::config::{Config, ListenOptions};
use crate::error::OpenError;
use crate::event_loop::EventLoop;
use crate::handler::Handler;
use crate::in_loop::InLoop;
use crate::net::Net;
use crate::socket::{ListenSocket, Local};

use balance::Place;
use threads::Threads;

pub use balance::Balance;
pub use error::{JoinError, ShardError, ShardFailure};
pub use handles::{ShardHandles, ShardedId};

/// Describes a shard to the closure that creates its handler.
pub struct Shard<H: ?Sized> {
    /// The index of the shard, from 0.
    pub index: usize,
    /// The handles of all shards, including this one.
    pub handles: ShardHandles<H>,
}

/// The settings of [`Shards`].
#[derive(Debug)]
pub struct ShardsBuilder {
    config: Config,
    shards: usize,
    balance: Balance,
    listeners: Vec<(Place, ListenOptions)>,
}

/// Several loops, each on its own thread, that serve the same addresses.
///
/// ```
/// use std::time::Duration;
/// use throng::{Config, ConnectionId, Frame, Handler, ListenOptions, Net, ShardHandles, Shards};
///
/// /// Passes each frame to the clients of all shards.
/// struct Chat { everywhere: ShardHandles<Chat> }
///
/// impl Handler for Chat {
///     fn on_data(&mut self, _: &mut Net, _: ConnectionId, frame: Frame<'_>) {
///         self.everywhere.broadcast(frame.into_bytes());
///     }
/// }
///
/// let shards = Shards::builder(Config::default())
///     .shards(2)
///     .listen("127.0.0.1:0", ListenOptions::default())?
///     .start(|_, shard| Ok(Chat { everywhere: shard.handles }))?;
/// println!("listening on {}", shards.local_addr(0).unwrap());
/// shards.handles().shutdown(Duration::from_secs(5));
/// shards.join()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Dropping this does not end the shards, just as dropping a `JoinHandle` does not end its thread.
pub struct Shards<H: ?Sized> {
    handles: ShardHandles<H>,
    threads: Threads,
    locals: Vec<Local>,
}

impl Shards<dyn Handler> {
    /// Returns a builder for shards with these settings. Limits are per shard.
    pub fn builder(config: Config) -> ShardsBuilder {
        ShardsBuilder {
            config,
            shards: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            balance: Balance::default(),
            listeners: Vec::new(),
        }
    }
}

impl<H: Handler + 'static> Shards<H> {
    /// Returns the address of the `n`th listener of the [builder](ShardsBuilder), counted from 0. `None` for Unix
    /// domain sockets.
    pub fn local_addr(&self, n: usize) -> Option<SocketAddr> {
        self.locals.get(n)?.addr
    }

    /// Returns the path of the `n`th listener of the [builder](ShardsBuilder); see [`ListenerRef::local_path`](crate::ListenerRef::local_path).
    #[cfg(unix)]
    pub fn local_path(&self, n: usize) -> Option<&std::path::Path> {
        self.locals.get(n)?.path.as_deref()
    }

    /// Returns the handles of all shards, for any thread.
    pub fn handles(&self) -> ShardHandles<H> {
        self.handles.clone()
    }

    /// Blocks until the next shard has ended, and returns its index or its error. Returns `None` when the end of every
    /// shard has been returned.
    ///
    /// A shard ends by a [`shutdown`](ShardHandles::shutdown), by a [`Net::stop`], or because it failed: its loop
    /// returned an error or its handler panicked. When this returns, its listeners and connections are closed and its
    /// handler is dropped. The other shards keep running; the application decides whether they should. To shut all of
    /// them down when one fails:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use throng::{Config, ConnectionId, Frame, Handler, ListenOptions, Net, Shards};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
    /// # }
    /// # fn main() -> std::io::Result<()> {
    /// let mut shards = Shards::builder(Config::default())
    ///     .listen("127.0.0.1:0", ListenOptions::default())?
    ///     .start(|_, _| Ok(Echo))?;
    /// # shards.handles().get(0).unwrap().stop().unwrap();
    /// let first = shards.join_next();
    /// shards.handles().shutdown(Duration::from_secs(5));
    /// shards.join()?;
    /// first.transpose()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_next(&mut self) -> Option<Result<usize, ShardError>> {
        self.threads.join_next()
    }

    /// Blocks until all shards have ended. If a shard fails, this keeps waiting for the others;
    /// [`join_next`](Self::join_next) returns immediately.
    ///
    /// # Errors
    /// Returns the shards that failed, except those that `join_next` has returned.
    pub fn join(mut self) -> Result<(), JoinError> {
        let failed = self.threads.join();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(JoinError { failed })
        }
    }
}

impl ShardsBuilder {
    /// Sets the number of shards; at least 1. Default: [`available_parallelism`](thread::available_parallelism).
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// Sets how peers are distributed over the shards. Default: [`Balance::default`].
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Listens on an address. The listener has the same id in all shards: listeners of the builder come first.
    ///
    /// # Errors
    /// Returns an error if the address cannot be resolved.
    pub fn listen(
        mut self,
        addr: impl ToSocketAddrs,
        options: ListenOptions,
    ) -> Result<Self, OpenError> {
        let addrs = addr.to_socket_addrs().map_err(OpenError::Resolve)?;
        self.listeners
            .push((Place::Addrs(addrs.collect()), options));
        Ok(self)
    }

    /// Listens on the path of a Unix domain socket; see [`Net::listen_unix`]. The first shard [hands
    /// over](Balance::HandOver) the peers: the kernel does not balance them.
    #[cfg(unix)]
    pub fn listen_unix(
        mut self,
        path: impl Into<std::path::PathBuf>,
        options: ListenOptions,
    ) -> Self {
        self.listeners.push((Place::Path(path.into()), options));
        self
    }

    /// Takes over a listening socket; see [`Net::adopt_listener`]. The first shard [hands over](Balance::HandOver) the
    /// peers: there is only one socket.
    ///
    /// A socket passed by systemd is also open in systemd. If the first shard fails, throng closes its own copy, but
    /// the kernel continues to queue new clients. They hang until the process has ended and systemd starts it again.
    /// End the process when [`Shards::join_next`] returns.
    pub fn adopt_listener(
        mut self,
        socket: impl Into<ListenSocket>,
        options: ListenOptions,
    ) -> Self {
        self.listeners.push((Place::Socket(socket.into()), options));
        self
    }

    /// Starts the shards. Each shard calls `make` on its own thread to create its handler, so handlers need not be
    /// `Send`. The shards start serving when all handlers exist. In `make`, as in a callback, methods of
    /// [`ShardHandles`] do not block.
    ///
    /// # Errors
    /// Returns an error if a loop, a listener or a handler cannot be created. Then no shard serves.
    pub fn start<H: Handler + 'static>(
        self,
        make: impl Fn(&mut Net, Shard<H>) -> io::Result<H> + Send + Sync + 'static,
    ) -> Result<Shards<H>, ShardError> {
        let new = |index| {
            EventLoop::<H>::new(self.config.clone())
                .map_err(|error| ShardError::new(index, ShardFailure::Failed(error)))
        };
        let mut loops = (0..self.shards).map(new).collect::<Result<Vec<_>, _>>()?;
        let options = self.listeners.iter().map(|(_, options)| options);
        let framings = options
            .filter_map(|options| options.connection(&self.config).ok())
            .map(|options| (options.framing, options.max_frame_len));
        let handles = loops.iter().map(EventLoop::handle).collect();
        let handles = ShardHandles::new(handles, framings.collect());
        let mut locals = Vec::new();
        for (place, options) in self.listeners {
            let opened = place.open(self.balance, &self.config, &options, &mut loops, &handles)?;
            locals.push(opened);
        }

        let make = Arc::new(make);
        let (report, reports) = mpsc::channel();
        let mut goes = Vec::new();
        let mut lives = Vec::new();
        for (index, event_loop) in loops.into_iter().enumerate() {
            let (make, report) = (Arc::clone(&make), report.clone());
            let (go, may_go) = mpsc::channel();
            let shard = Shard {
                index,
                handles: handles.clone(),
            };
            goes.push(go);
            lives.push(move || serve(event_loop, shard, &*make, report, &may_go));
        }
        drop(report);
        let mut threads = Threads::start(lives);
        // The iteration ends when each shard has reported or ended.
        if reports.iter().count() < self.shards {
            drop(goes);
            let first = threads.join().into_iter().next();
            let unknown = || ShardFailure::Failed(io::Error::other("the thread ended early"));
            return Err(first.unwrap_or_else(|| ShardError::new(0, unknown())));
        }
        for go in goes {
            let _ = go.send(Go);
        }
        Ok(Shards {
            handles,
            threads,
            locals,
        })
    }
}

/// What a shard reports when its handler exists, and what it receives when all handlers exist.
struct Made;
struct Go;

/// Runs a shard on its thread.
fn serve<H: Handler>(
    mut event_loop: EventLoop<H>,
    shard: Shard<H>,
    make: &dyn Fn(&mut Net, Shard<H>) -> io::Result<H>,
    report: Sender<Made>,
    may_go: &Receiver<Go>,
) -> io::Result<()> {
    let index = shard.index;
    let mut handler = {
        // Must not block: the other shards may not be running yet.
        let _nothing_waits = InLoop::enter();
        make(event_loop.net(), shard)?
    };
    // Dropped before the handler, whose destructor may join a thread that is blocked on the loop.
    let mut event_loop = event_loop;
    let _ = report.send(Made);
    drop(report);
    // Not sent if another handler could not be created.
    let Ok(Go) = may_go.recv() else {
        return Ok(());
    };
    event_loop
        .run(&mut handler)
        .inspect_err(|error| error!("shard {index} failed; its connections are closed: {error}"))
}

impl<H: ?Sized> fmt::Debug for Shard<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl<H: ?Sized> fmt::Debug for Shards<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards")
            .field("handles", &self.handles)
            .field("locals", &self.locals)
            .finish_non_exhaustive()
    }
}
