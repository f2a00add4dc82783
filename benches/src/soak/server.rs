//! The server of a soak: the first frame of a connection says what it wants.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use throng::{
    Backlog, Chunk, Config, ConnectionId, DisconnectReason, EventLoop, Frame, Handler, Net,
};

use super::wire::Random;
use crate::modes::{Echo, Relay};
use crate::parent::Parent;
use crate::problem::Problem;
use crate::report;

/// The services. A number follows: of the room, of the pair, or the seed.
pub(super) const ECHO: u8 = b'e';
pub(super) const RELAY: u8 = b'r';
pub(super) const BROADCAST: u8 = b'b';
/// Some frames, then last words behind them.
pub(super) const KICK: u8 = b'k';
/// Some frames, then last words instead of what is queued.
pub(super) const KICK_AND_DROP: u8 = b'd';
/// The statistics as text, for each frame.
pub(super) const STATS: u8 = b's';

pub(super) const LAST_WORDS: &[u8] = b"you were kicked";

/// The frames that precede the last words.
pub(super) fn kicked_frames(seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random::new(seed);
    let count = random.below(200);
    (0..count).map(move |_| random.frame(3000))
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    addr: String,
    #[command(flatten)]
    parent: Parent,
}

#[derive(Debug, Clone, Copy)]
enum Service {
    Echo,
    Relay(u64),
    Broadcast(u64),
    Stats,
}

#[derive(Default)]
struct Services {
    chosen: HashMap<ConnectionId, Service>,
    /// The pairs, by number.
    relays: HashMap<u64, Relay>,
    rooms: HashMap<u64, Vec<ConnectionId>>,
}

impl Services {
    /// Notes what a new connection wants.
    fn choose(&mut self, net: &mut Net, id: ConnectionId, wish: &[u8]) {
        let (Some(&service), Some(Ok(number))) =
            (wish.first(), wish.get(1..).map(TryInto::try_into))
        else {
            log::warn!("{id} wants {wish:?}");
            net.abort(id);
            return;
        };
        let number = u64::from_le_bytes(number);
        let service = match service {
            RELAY => {
                self.relays.entry(number).or_default().on_connect(net, id);
                Service::Relay(number)
            }
            BROADCAST => {
                self.rooms.entry(number).or_default().push(id);
                Service::Broadcast(number)
            }
            KICK => return kick(net, id, number, Backlog::Flush),
            KICK_AND_DROP => return kick(net, id, number, Backlog::Drop),
            STATS => Service::Stats,
            _ => Service::Echo,
        };
        self.chosen.insert(id, service);
    }
}

fn kick(net: &mut Net, id: ConnectionId, seed: u64, backlog: Backlog) {
    for payload in kicked_frames(seed) {
        if let Err(error) = net.send(id, &payload) {
            log::warn!("{id}: {error}");
        }
    }
    if let Err(error) = net.disconnect_with(id, LAST_WORDS, backlog) {
        log::warn!("{id}: {error}");
    }
}

impl Handler for Services {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        match self.chosen.get(&id) {
            None => self.choose(net, id, &frame),
            Some(Service::Echo) => Echo.on_data(net, id, frame),
            Some(Service::Relay(number)) => {
                if let Some(relay) = self.relays.get_mut(number) {
                    relay.on_data(net, id, frame);
                }
            }
            Some(Service::Broadcast(number)) => {
                if let Some(members) = self.rooms.get(number) {
                    net.send_many(members.iter().copied(), frame);
                }
            }
            Some(Service::Stats) => {
                let mut text = String::new();
                if net.stats().write_openmetrics(&mut text).is_ok() {
                    let _ = net.send(id, text.as_bytes());
                }
            }
        }
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        match self.chosen.get(&id) {
            Some(Service::Relay(number)) => {
                if let Some(relay) = self.relays.get_mut(number) {
                    relay.on_chunk(net, id, chunk);
                }
            }
            _ => Echo.on_chunk(net, id, chunk),
        }
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        if let Some(Service::Relay(number)) = self.chosen.get(&id)
            && let Some(relay) = self.relays.get_mut(number)
        {
            relay.on_drain(net, id);
        }
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        match self.chosen.get(&id) {
            Some(Service::Relay(number)) => {
                if let Some(relay) = self.relays.get_mut(number) {
                    relay.on_half_close(net, id);
                }
            }
            // All that is to be sent is queued.
            _ => {
                net.disconnect(id);
            }
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        match self.chosen.remove(&id) {
            Some(Service::Relay(number)) => {
                if let Some(mut relay) = self.relays.remove(&number) {
                    relay.on_disconnect(net, id, reason);
                }
            }
            Some(Service::Broadcast(number)) => {
                if let Some(members) = self.rooms.get_mut(&number) {
                    members.retain(|member| *member != id);
                    if members.is_empty() {
                        self.rooms.remove(&number);
                    }
                }
            }
            Some(Service::Echo | Service::Stats) | None => {}
        }
    }
}

/// Serves until the process that has started this one ends.
pub(crate) fn run(options: &Options) -> Result<(), Problem> {
    let config = Config::default()
        .allow_half_open(true)
        .stream_frames_over(256 << 10)
        .max_queued_bytes(1 << 20)
        // Clients may be starved of processor time on a machine that does much else.
        .frame_stall_timeout(Duration::from_secs(600))
        .write_stall_timeout(Duration::from_secs(600));
    let mut event_loop = EventLoop::new(config)?;
    let net = event_loop.net();
    let listener = net.listen(&options.addr).map_err(std::io::Error::from)?;
    if let Some(addr) = net.listener(listener).and_then(|it| it.local_addr()) {
        report::say(format_args!("listening on {addr}"));
    }
    let mut services = Services::default();
    while !options.parent.is_gone() {
        event_loop.turn(&mut services, Some(Duration::from_secs(1)))?;
    }
    Ok(())
}
