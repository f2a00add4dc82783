//! A game world with 60 ticks per second that sends positions to its players.
//!
//! ```text
//! cargo run --release --example game_tick [ADDR]          default: 127.0.0.1:5000
//! cargo run --release --example game_tick bots [BOTS [SECONDS]]          defaults: 1,000 bots, 5 s
//! ```
//!
//! A player sends its direction as one byte: `w`, `a`, `s` or `d`; `q` ends the game. It sees up to
//! ten players, and receives a frame for each of them that moves: its number and its position, as three little-endian
//! `i32`.
//!
//! A player that reads slowly receives only the newest position of each player, because newer positions replace queued
//! ones. Positions in the kernel's send buffer cannot be replaced, so the program limits how much is there.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, io};

use throng::{
    Config, ConnectionId, DisconnectReason, EventLoop, Expired, Frame, Handler, ListenOptions, Net,
    Origin, Timer,
};

const TICKS_PER_SECOND: u32 = 60;
/// Keys of the timers.
const TICK: u64 = 0;
const END: u64 = 1;
/// The number of players that each player sees: itself, and those with the next higher numbers.
const SEEN: usize = 10;

#[derive(Clone, Copy)]
struct Player {
    id: ConnectionId,
    x: i32,
    y: i32,
    direction: (i32, i32),
}

/// Players are indexed by the index of their connection, which is small and dense.
#[derive(Default)]
struct World {
    players: Vec<Option<Player>>,
    steps: u64,
    missed: u64,
    lateness: Vec<Duration>,
    /// The number of bots: outbound connections of the same loop, to itself.
    bots: usize,
    positions_received: u64,
}

impl Handler for World {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        if net.connection(id).map(|it| it.origin()) == Some(Origin::Outbound) {
            let directions = b"wasd";
            let direction = directions[id.index() % directions.len()];
            if let Err(error) = net.send(id, &[direction]) {
                eprintln!("{id}: {error}");
            }
            return;
        }
        let index = id.index();
        if self.players.len() <= index {
            self.players.resize(index + 1, None);
        }
        self.players[index] = Some(Player {
            id,
            x: 0,
            y: 0,
            direction: (0, 0),
        });
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if net.connection(id).map(|it| it.origin()) == Some(Origin::Outbound) {
            self.positions_received += 1;
            return;
        }
        let Some(Some(player)) = self.players.get_mut(id.index()) else {
            return;
        };
        player.direction = match &*frame {
            b"w" => (0, 1),
            b"a" => (-1, 0),
            b"s" => (0, -1),
            b"d" => (1, 0),
            b"q" => return net.shutdown(Duration::from_secs(5)),
            // Anything else violates the protocol.
            _ => {
                net.disconnect(id);
                return;
            }
        };
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, _: DisconnectReason) {
        if let Some(player) = self.players.get_mut(id.index()) {
            *player = None;
        }
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        if expired.key == END {
            return net.stop();
        }
        self.lateness.push(Instant::now() - expired.due);
        self.missed += expired.missed;
        // Catches up on missed ticks.
        for _ in 0..=expired.missed {
            self.step();
        }
        self.tell(net);
    }
}

impl World {
    fn step(&mut self) {
        self.steps += 1;
        for player in self.players.iter_mut().flatten() {
            player.x += player.direction.0;
            player.y += player.direction.1;
        }
    }

    /// Sends each player the positions it sees. The slot is the number of the seen player, so queued positions are
    /// replaced by newer ones.
    fn tell(&self, net: &mut Net) {
        let present: Vec<Player> = self.players.iter().flatten().copied().collect();
        for (at, player) in present.iter().enumerate() {
            let others = present
                .iter()
                .cycle()
                .skip(at)
                .take(SEEN.min(present.len()));
            for other in others.filter(|other| other.direction != (0, 0)) {
                let number = other.id.index() as u32;
                let mut position = [0; 12];
                position[..4].copy_from_slice(&number.to_le_bytes());
                position[4..8].copy_from_slice(&other.x.to_le_bytes());
                position[8..].copy_from_slice(&other.y.to_le_bytes());
                if let Err(error) = net.send_latest(player.id, number, &position) {
                    eprintln!("{}: {error}", player.id);
                }
            }
        }
    }

    fn report(&mut self) {
        self.lateness.sort();
        let p99 = self.lateness.get(self.lateness.len() * 99 / 100);
        println!(
            "{} steps, {} of them late by a whole tick",
            self.steps, self.missed
        );
        println!("lateness p99 {:?}", p99.copied().unwrap_or_default());
        println!(
            "{} positions received by {} bots",
            self.positions_received, self.bots
        );
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["bots", ref rest @ ..] => {
            let number = |at: usize, default| {
                let given = rest.get(at).map(|text| text.parse());
                given.unwrap_or(Ok(default)).map_err(io::Error::other)
            };
            number(0, 1000).and_then(|bots| play("127.0.0.1:0", bots, Some(number(1, 5)?)))
        }
        [] => play("127.0.0.1:5000", 0, None),
        [addr, ..] => play(addr, 0, None),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("game_tick: {error}");
            ExitCode::FAILURE
        }
    }
}

/// About as many bytes as one player is sent in half a second.
const FRESH: u64 = 4096;

/// Keeps positions for slow players in the queue, where newer ones replace them, and out of the kernel.
fn fresh() -> ListenOptions {
    let options = ListenOptions::default();
    if cfg!(any(target_os = "android", target_os = "linux")) {
        options.max_unsent_in_kernel(FRESH)
    } else {
        options.send_buffer(4 * FRESH)
    }
}

fn play(addr: &str, bots: usize, seconds: Option<usize>) -> io::Result<()> {
    let mut event_loop = EventLoop::new(Config::hardened().max_connections_per_ip(None))?;
    let net = event_loop.net();
    let listener = net.listen_with(addr, fresh())?;
    let addr: SocketAddr = net
        .listener(listener)
        .and_then(|it| it.local_addr())
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    println!("listening on {addr}");
    for _ in 0..bots {
        net.connect(addr)?;
    }
    net.set_timer(
        Timer::interval(Duration::from_secs(1) / TICKS_PER_SECOND),
        TICK,
    );
    if let Some(seconds) = seconds {
        net.set_timer(Duration::from_secs(seconds as u64), END);
    }
    let mut world = World {
        bots,
        ..World::default()
    };
    event_loop.run(&mut world)?;
    if bots > 0 {
        world.report();
    }
    Ok(())
}
