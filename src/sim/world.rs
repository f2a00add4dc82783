//! `World`: a network, its clock, the loops and the peers in it.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::checked::Checked;
use super::host::Drive;
use super::peer::{self, Listener, Peer};
use super::{Contract, Faults, Host, Link, Random};
use crate::config::Config;
use crate::handler::Handler;
use crate::socket::sim::{Id, ListenSocket, Network, Party, Shared, Sizes, Stream};

/// The number under which scripted peers, which have no loop, are registered.
const SCRIPTS: usize = 0;

/// The size of a scenario that was not shrunk.
const WHOLE: u32 = 100;

/// A simulated world: a network with its own clock, event loops with their handlers, and scripted peers.
///
/// The seed decides everything that is random: two worlds with the same seed and the same actions are identical to the
/// byte. No time passes by itself: [`run_for`](Self::run_for), [`run_until`](Self::run_until) and the methods of
/// [`Peer`] that wait let it pass. A simulated hour takes only as long as the work done in it.
///
/// All hosts share one address space, as the processes of one machine do: a loop that listens on `127.0.0.1:5000` is
/// reachable there by all other loops and all peers.
///
/// A `World` is a reference: clones are the same world. If a test panics, the world prints its seed, and if the
/// environment variable `THRONG_TRACE` is set to a number, that many of the last events.
///
/// ```
/// use std::time::Duration;
/// use throng::sim::World;
/// use throng::{Config, ConnectionId, Frame, Handler, Net};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
///         let _ = net.send_frame(id, frame);
///     }
/// }
///
/// let world = World::new(7);
/// let host = world.host(Config::default(), Echo);
/// host.with(|_, net| net.listen("127.0.0.1:5000")).unwrap();
///
/// let peer = world.connect("127.0.0.1:5000");
/// peer.send("hello").expect("hello");
/// peer.stall().send(vec![0; 1_000_000]);
/// world.run_for(Duration::from_secs(10));
/// assert!(host.with(|_, net| net.stats().memory_bytes) > 0, "the echo is queued");
/// ```
#[derive(Clone)]
pub struct World {
    inner: Rc<Inner>,
}

struct Inner {
    seed: u64,
    size: Cell<u32>,
    base: Instant,
    network: Shared,
    random: RefCell<Random>,
    hosts: RefCell<Vec<Rc<dyn Drive>>>,
    peers: RefCell<Vec<peer::State>>,
}

impl World {
    /// Creates a world [without faults](Faults::none).
    pub fn new(seed: u64) -> Self {
        let mut network = Network::new(seed);
        network.add_host();
        network.is_linux = true;
        let random = RefCell::new(network.random.fork());
        Self {
            inner: Rc::new(Inner {
                seed,
                size: Cell::new(WHOLE),
                base: Instant::now(),
                network: Shared::new(network),
                random,
                hosts: RefCell::default(),
                peers: RefCell::default(),
            }),
        }
    }

    /// Sets what goes wrong from now on.
    pub fn faults(self, faults: Faults) -> Self {
        self.set_faults(faults);
        self
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut network = self.inner.network.lock();
        network.is_linux = match faults.linux {
            Some(linux) => linux,
            None => network.random.one_in(2),
        };
        network.faults = faults;
    }

    /// Sets the properties of connections that are opened from now on.
    pub fn link(self, link: Link) -> Self {
        self.set_link(link);
        self
    }

    /// Sets the properties of connections that are opened from now on.
    pub fn set_link(&self, link: Link) {
        self.inner.network.lock().link = link;
    }

    /// Turns off all faults from now on, and ends all interruptions and partitions.
    pub fn calm(&self) {
        self.inner.network.lock().calm();
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// Returns a number from 1 to `most`; a smaller one in a scenario that is being shrunk. Use it for the number of
    /// peers and of steps.
    pub fn up_to(&self, most: usize) -> usize {
        let most = (most * self.inner.size.get() as usize).div_ceil(WHOLE as usize);
        1 + self.random().below(most.max(1))
    }

    #[cfg(feature = "tls")]
    pub(super) fn network(&self) -> Shared {
        self.inner.network.clone()
    }

    pub(super) fn shrink(&self, size: u32) {
        self.inner.size.set(size);
    }

    /// Returns the generator for the decisions of a test.
    ///
    /// # Panics
    /// If it is still borrowed.
    pub fn random(&self) -> RefMut<'_, Random> {
        self.inner.random.borrow_mut()
    }

    /// Adds a loop with its handler, which is wrapped into a [`Contract`].
    ///
    /// # Panics
    /// If settings contradict each other, or if no file descriptor is left.
    pub fn host<H: Handler + 'static>(&self, config: Config, handler: H) -> Host<H> {
        let network = self.inner.network.clone();
        self.add_host(config, Checked::Yes(Contract::in_network(handler, network)))
    }

    /// Adds a loop whose handler is not wrapped into a [`Contract`]: for scenarios with so many
    /// connections that the checks take too long. A million connections take about 1.5 GB.
    ///
    /// # Panics
    /// As [`host`](Self::host).
    pub fn host_unchecked<H: Handler + 'static>(&self, config: Config, handler: H) -> Host<H> {
        self.add_host(config, Checked::No(handler))
    }

    fn add_host<H: Handler + 'static>(&self, config: Config, handler: Checked<H>) -> Host<H> {
        let inner = &self.inner;
        let host = Host::new(inner.network.clone(), inner.base, config, handler);
        inner.hosts.borrow_mut().push(host.inner());
        host
    }

    /// Adds a scripted peer that connects to an address.
    ///
    /// # Panics
    /// If the address is not valid.
    #[track_caller]
    pub fn connect(&self, addr: impl ToSocketAddrs) -> Peer {
        self.connect_from(None, addr)
    }

    /// Adds a scripted peer that connects from a given address. Without this, each peer has an address of its own.
    ///
    /// # Panics
    /// If the address is not valid.
    #[track_caller]
    pub fn connect_from(&self, from: impl Into<Option<IpAddr>>, addr: impl ToSocketAddrs) -> Peer {
        let addr = resolve(addr);
        let number = self.inner.peers.borrow().len();
        let owner = Party::Peer(number);
        let network = &self.inner.network;
        let stream = Stream::connect(network, owner, from.into(), addr, Sizes::default());
        self.adopt(stream.expect("peers have no limits"), true)
    }

    pub(super) fn adopt(&self, stream: Stream, is_connecting: bool) -> Peer {
        let mut peers = self.inner.peers.borrow_mut();
        let number = peers.len();
        stream.watch(SCRIPTS, peer::token(number));
        peers.push(peer::State::new(stream, is_connecting));
        Peer::new(self.clone(), number)
    }

    /// Adds a scripted listener, for loops that connect. Port 0 chooses a free port.
    ///
    /// # Panics
    /// If the address is not valid or in use.
    #[track_caller]
    pub fn listen(&self, addr: impl ToSocketAddrs) -> Listener {
        let socket = ListenSocket::open(&self.inner.network, SCRIPTS, resolve(addr));
        Listener::new(self.clone(), socket.expect("an unused address"))
    }

    pub(super) fn peers(&self) -> RefMut<'_, Vec<peer::State>> {
        self.inner.peers.borrow_mut()
    }

    pub(super) fn was_disturbed(&self, id: Id) -> bool {
        self.inner.network.lock().was_disturbed(id)
    }

    pub(super) fn interrupt(&self, id: Id, time: Duration) {
        let mut network = self.inner.network.lock();
        let until = network.now + time;
        network.stall_both(id, until);
    }

    /// Interrupts all traffic between a host and a peer, until [`heal`](Self::heal). Only resets are lost.
    pub fn partition<H: Handler>(&self, host: &Host<H>, peer: &Peer) {
        let mut network = self.inner.network.lock();
        network.partition(Party::Host(host.number()), peer.party());
    }

    /// Interrupts all traffic between two hosts, until [`heal`](Self::heal).
    pub fn partition_hosts<A: Handler, B: Handler>(&self, one: &Host<A>, two: &Host<B>) {
        let (one, two) = (one.number(), two.number());
        let mut network = self.inner.network.lock();
        network.partition(Party::Host(one), Party::Host(two));
    }

    /// Ends all partitions.
    pub fn heal(&self) {
        self.inner.network.lock().heal();
    }

    /// Moves the clock forward, while the network and all hosts stand still.
    pub fn jump(&self, by: Duration) {
        self.inner.network.lock().jump(by);
    }

    /// Returns the simulated time since the world was created.
    pub fn elapsed(&self) -> Duration {
        self.inner.network.lock().now
    }

    /// Returns the simulated instant that corresponds to [`Net::now`](crate::Net::now).
    pub fn now(&self) -> Instant {
        self.inner.base + self.elapsed()
    }

    /// Lets time pass.
    pub fn run_for(&self, time: Duration) {
        self.run_until(time, || false);
    }

    /// Lets time pass until a condition holds, but at most `time`. Returns whether it holds.
    pub fn run_until(&self, time: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let end = self.elapsed() + time;
        loop {
            self.serve_peers();
            if condition() {
                return true;
            }
            if self.turn() {
                continue;
            }
            let next = self.next_due().unwrap_or(end);
            if next >= end {
                self.inner.network.lock().advance(end);
                self.serve_peers();
                return condition();
            }
            self.inner.network.lock().advance(next);
        }
    }

    /// Lets peers read and write as much as they can.
    fn serve_peers(&self) {
        loop {
            let events = self.inner.network.lock().poll_scripts(SCRIPTS);
            if events.is_empty() {
                return;
            }
            for (token, _) in events {
                if let Some(peer) = self.peers().get_mut(peer::number(token)) {
                    peer.advance();
                }
            }
        }
    }

    /// Lets one of the hosts that are due make a turn. Returns `false` if none is due.
    fn turn(&self) -> bool {
        let now = self.elapsed();
        let hosts = self.inner.hosts.borrow();
        let is_due = |host: &&Rc<dyn Drive>| host.due().is_some_and(|due| due <= now);
        let due: Vec<Rc<dyn Drive>> = hosts.iter().filter(is_due).cloned().collect();
        drop(hosts);
        if due.is_empty() {
            return false;
        }
        let chosen = self.inner.network.lock().random.below(due.len());
        due[chosen].turn();
        true
    }

    /// Returns when the next event is due, while all hosts wait.
    fn next_due(&self) -> Option<Duration> {
        let hosts = self.inner.hosts.borrow();
        for host in &*hosts {
            host.check_rest();
        }
        let due = hosts.iter().filter_map(|host| host.due()).min();
        let in_network = self.inner.network.lock().next_due();
        due.into_iter().chain(in_network).min()
    }

    /// Returns how many ends of connections were reset by the network, not by hosts or peers.
    pub fn disturbances(&self) -> usize {
        self.inner.network.lock().disturbances()
    }

    /// Returns a digest of everything that has happened, to compare two runs.
    pub fn digest(&self) -> u64 {
        self.inner.network.lock().trace.digest
    }

    /// Returns the last events in the network as text, at most 400.
    pub fn trace(&self, events: usize) -> String {
        self.inner.network.lock().trace.tail(events)
    }
}

#[track_caller]
fn resolve(addr: impl ToSocketAddrs) -> SocketAddr {
    let addrs = addr.to_socket_addrs().expect("a valid address");
    addrs.into_iter().next().expect("an address")
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("the seed of the simulated world is {}", self.seed);
        let events = std::env::var("THRONG_TRACE").ok();
        match events.and_then(|events| events.parse().ok()) {
            Some(events) => eprintln!("{}", self.network.lock().trace.tail(events)),
            None => eprintln!("THRONG_TRACE=100 prints the last 100 events"),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.inner.seed)
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}
