//! A game whose server is tested without a network: first by a script, then by random players.
//!
//! ```sh
//! cargo run --example simulated_game -- [SEEDS]
//! THRONG_SEED=17 THRONG_TRACE=100 cargo run --example simulated_game      # repeats a failure
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use throng::sim::{Chaos, End, Host, World, check};
use throng::{Config, ConnectionId, DisconnectReason, Frame, Handler, Net, Timer};

const ADDR: &str = "127.0.0.1:5000";
const TICK: Duration = Duration::from_millis(50);

/// Players walk on a line. Each tick sends the positions of all players to each of them.
#[derive(Default)]
struct Game {
    players: BTreeMap<ConnectionId, i64>,
    has_moved: bool,
}

impl Game {
    fn start(&mut self, net: &mut Net) {
        net.listen(ADDR).expect("a free port");
        net.set_timer(Timer::interval(TICK), 0);
    }

    fn places(&self) -> String {
        let places = self.players.values().map(i64::to_string);
        places.collect::<Vec<_>>().join(" ")
    }
}

impl Handler for Game {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.players.insert(id, 0);
        self.has_moved = true;
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let step = match &*frame {
            b"left" => -1,
            b"right" => 1,
            _ => {
                net.disconnect(id);
                return;
            }
        };
        *self.players.entry(id).or_default() += step;
        self.has_moved = true;
    }

    fn on_timer(&mut self, net: &mut Net, _: throng::Expired) {
        if std::mem::take(&mut self.has_moved) {
            let places = self.places();
            for id in net.connections() {
                // A slow player gets the newest state only.
                let _ = net.send_latest(id, 0, places.as_bytes());
            }
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, _: DisconnectReason) {
        self.players.remove(&id);
        self.has_moved = true;
    }
}

fn game(world: &World) -> Host<Game> {
    let config = Config::default().idle_timeout(Duration::from_secs(60));
    let host = world.host(config, Game::default());
    host.with(Game::start);
    host
}

/// Two players, of whom one is slow.
fn script() {
    let world = World::new(1);
    let game = game(&world);
    let (alice, bob) = (world.connect(ADDR), world.connect(ADDR));
    world.run_for(TICK);
    bob.stall();
    alice.expect("0 0").send("right");
    alice.expect("1 0").send("right");
    alice.expect("2 0").reset();
    world.run_for(Duration::from_secs(1));
    assert_eq!(game.handler().players.len(), 1);
    bob.unstall().send("what?");
    world.run_for(Duration::from_secs(1));
    assert_eq!(bob.received().last().map(Vec::as_slice), Some(&b"0"[..]));
    assert_eq!(bob.end(), Some(End::Closed), "he does not know the rules");
}

/// Any number of players, on a bad network.
fn random_players(world: &World) {
    let game = game(world);
    let moves = ["left", "right"];
    let chaos = Chaos::new(ADDR)
        .peers(20)
        .steps(200)
        .payloads(move |random| random.choose(&moves).as_bytes().to_vec());
    let players = chaos.run(world);
    world.run_for(Duration::from_secs(120));
    assert!(game.handler().players.is_empty(), "all have left");
    for player in players {
        for places in player.received() {
            let places = String::from_utf8(places).expect("text");
            assert!(places.split(' ').all(|place| place.parse::<i64>().is_ok()));
        }
    }
}

fn main() {
    let seeds = std::env::args().nth(1);
    let seeds = seeds.map_or(20, |seeds| seeds.parse().expect("a number of seeds"));
    script();
    println!("the script is played");
    check(seeds, random_players);
    println!("{seeds} seeds are played");
}
