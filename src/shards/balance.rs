//! The listeners of shards, and how peers are distributed.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::error::{ShardError, ShardFailure};
use super::handles::ShardHandles;
use crate::config::{Config, ConnectionOptions, ListenOptions};
use crate::connection_id::ListenerId;
use crate::error::OpenError;
use crate::event_loop::EventLoop;
use crate::handler::Handler;
use crate::net::Peer;
use crate::socket::{ListenSocket, Local, Sharing};

/// How the peers of a listener are distributed over the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Balance {
    /// Each shard listens on the address, and the kernel chooses a shard for each peer by a hash of its address
    /// (`SO_REUSEPORT`). This costs nothing, but is uneven with few peers. If a shard fails, the others keep accepting.
    /// For TCP addresses only: peers of other listeners are [handed over](Self::HandOver).
    Kernel,
    /// The first shard accepts, and hands peers to all shards in turn. This is even, and costs one command per peer. If
    /// the first shard fails, its listening socket is closed and no shard accepts any more; connections of the other
    /// shards stay open. [`Shards::join_next`](crate::Shards::join_next) reports the failure.
    ///
    /// Shards that have ended, have closed or paused the listener, or have a full mailbox are skipped.
    /// [`on_accept`](crate::Handler::on_accept) and the limits are those of the shard that the peer is handed to.
    HandOver,
}

impl Default for Balance {
    /// Returns [`Kernel`](Self::Kernel) on Linux, otherwise [`HandOver`](Self::HandOver): other systems have
    /// `SO_REUSEPORT` as well, but give all peers to one listener.
    fn default() -> Self {
        if cfg!(any(target_os = "linux", target_os = "android")) {
            Self::Kernel
        } else {
            Self::HandOver
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "by the kernel",
            Self::HandOver => "by hand-over",
        })
    }
}

/// What to listen on.
#[derive(Debug)]
pub(super) enum Place {
    /// The first address that works.
    Addrs(Vec<SocketAddr>),
    #[cfg(unix)]
    Path(std::path::PathBuf),
    Socket(ListenSocket),
}

/// The listener, which has the same id in all shards; or the shard that could not listen, and the error.
type Listened = Result<Option<ListenerId>, (usize, OpenError)>;

impl Place {
    /// Opens a listener for all shards. The kernel balances TCP addresses only.
    pub(super) fn open<H: Handler + 'static>(
        self,
        balance: Balance,
        config: &Config,
        options: &ListenOptions,
        loops: &mut [EventLoop<H>],
        handles: &ShardHandles<H>,
    ) -> Result<Local, ShardError> {
        let failed = |(shard, error)| ShardError::new(shard, ShardFailure::Listen(error));
        let connection = options
            .connection(config)
            .map_err(|error| failed((0, OpenError::Options(error))))?;
        let listened = match self {
            Self::Addrs(addrs) => {
                let nothing = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let mut result = Err((0, OpenError::Resolve(nothing)));
                for addr in addrs {
                    result = match balance {
                        Balance::Kernel => listen_everywhere(addr, options, &connection, loops),
                        Balance::HandOver => bind(addr, options, &connection, Sharing::of(options))
                            .map_err(|error| (0, error))
                            .and_then(|(socket, _)| listen_once(socket, options, loops, handles)),
                    };
                    if result.is_ok() {
                        break;
                    }
                }
                result
            }
            #[cfg(unix)]
            Self::Path(path) => ListenSocket::bind_unix(&path, options)
                .map_err(|error| (0, OpenError::BindUnix { path, error }))
                .and_then(|(socket, file)| {
                    let listener = listen_once(socket, options, loops, handles)?;
                    if let (Some(first), Some(id)) = (loops.first_mut(), listener) {
                        first.net().own_file(id, file, options);
                    }
                    Ok(listener)
                }),
            Self::Socket(socket) => listen_once(socket, options, loops, handles),
        };
        let listener = listened.map_err(failed)?;
        let first = loops.first_mut().zip(listener);
        Ok(first.map_or_else(Local::default, |(first, id)| first.net().local(id)))
    }
}

fn bind(
    addr: SocketAddr,
    options: &ListenOptions,
    connection: &ConnectionOptions,
    sharing: Sharing,
) -> Result<(ListenSocket, SocketAddr), OpenError> {
    let bound = ListenSocket::bind(addr, options, connection, sharing).and_then(|socket| {
        // If the port was 0, use the assigned port from here on.
        let local_addr = socket.local()?.addr.unwrap_or(addr);
        Ok((socket, local_addr))
    });
    bound.map_err(|error| OpenError::Bind { addr, error })
}

fn listen_everywhere<H: Handler>(
    mut addr: SocketAddr,
    options: &ListenOptions,
    connection: &ConnectionOptions,
    loops: &mut [EventLoop<H>],
) -> Listened {
    // All sockets are bound before any is adopted: each listening socket gets a part of the peers.
    let mut sockets = Vec::new();
    for shard in 0..loops.len() {
        // Unless `reuse_port` is set, other processes must not share the address: the first socket claims it
        // exclusively.
        let sharing = match shard {
            0 if !options.reuse_port => Sharing::Begin,
            _ => Sharing::Join,
        };
        let (socket, local_addr) =
            bind(addr, options, connection, sharing).map_err(|error| (shard, error))?;
        addr = local_addr;
        sockets.push(socket);
    }
    let mut listener = None;
    for (shard, (event_loop, socket)) in loops.iter_mut().zip(sockets).enumerate() {
        let adopted = event_loop.net().adopt_listener(socket, options.clone());
        listener = Some(adopted.map_err(|rejected| (shard, rejected.error))?);
    }
    Ok(listener)
}

/// Lets the first shard accept, and hand peers to the others while they have the listener.
fn listen_once<H: Handler + 'static>(
    socket: ListenSocket,
    options: &ListenOptions,
    loops: &mut [EventLoop<H>],
    handles: &ShardHandles<H>,
) -> Listened {
    let Some((first, others)) = loops.split_first_mut() else {
        return Ok(None);
    };
    let net = first.net();
    let listener = net
        .adopt_listener(socket, options.clone())
        .map_err(|rejected| (0, rejected.error))?;
    let local = net.local(listener);
    let mut present: Vec<Weak<AtomicBool>> = Vec::new();
    for (event_loop, shard) in others.iter_mut().zip(1..) {
        let presence = Arc::new(AtomicBool::new(true));
        present.push(Arc::downgrade(&presence));
        let by_hand = event_loop
            .net()
            .listen_by_hand(options, local.clone(), presence);
        by_hand.map_err(|error| (shard, error))?;
    }
    let handles = handles.clone();
    let mut turn = 0;
    net.hand_over(
        listener,
        Box::new(move |peer: Peer| {
            let shard = turn % handles.len();
            turn += 1;
            let is_present =
                |other: usize| Some(present.get(other)?.upgrade()?.load(Ordering::Relaxed));
            match handles.get(shard) {
                // Skips a shard that has ended, has closed or paused the listener, or has no room.
                Some(handle) if shard > 0 && is_present(shard - 1) == Some(true) => {
                    handle.hand_in(listener, peer).err()
                }
                _ => Some(peer),
            }
        }),
    );
    Ok(Some(listener))
}
