//! What peers cost that are of no use: those that are refused, and those that send what no peer may send. A loop and its
//! peers in one thread, which take turns, so that the cost of a peer can be counted exactly.
//!
//! ```text
//! bad_input                       prints the kinds of peers
//! bad_input KIND ROUNDS           prints how many peers there were, and what the loop has allocated for them
//! ```
//!
//! `benches/bad_input.py` runs this under valgrind and strace. What precedes the measured turns, and what the peers do,
//! is not counted.

#[path = "../../tests/support/heap.rs"]
mod heap;
mod kinds;

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use heap::Heap;
use kinds::{Gate, Kind, Sends};
use throng::{EventLoop, Stats};

/// Peers that come at once.
const BATCH: u64 = 32;

type Problem = Box<dyn Error>;

fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kinds = kinds::all()?;
    let [name, rounds] = &arguments[..] else {
        for kind in &kinds {
            println!("{}|{}", kind.group, kind.name);
        }
        return Ok(());
    };
    let kind = kinds.into_iter().find(|kind| kind.name == name);
    let kind = kind.ok_or("no such kind")?;
    let (allocations, peak) = measure(kind, rounds.parse()?)?;
    println!("{{\"batch\":{BATCH},\"allocations\":{allocations},\"peak\":{peak}}}");
    Ok(())
}

/// Lets peers come, some at a time. Returns how often the loop has allocated memory for them, and the most bytes that it
/// held for those of the last round.
fn measure(kind: Kind, rounds: u64) -> Result<(u64, isize), Problem> {
    let mut gate = kind.gate;
    let mut event_loop = EventLoop::new(kind.config)?;
    let listener = event_loop
        .net()
        .listen_with("127.0.0.1:0", kind.listening)?;
    let addr = event_loop
        .net()
        .listener(listener)
        .and_then(|it| it.local_addr());
    let addr = addr.ok_or("no address")?;
    let mut first = None;
    if kind.has_company {
        first = Some(TcpStream::connect(addr)?);
        while event_loop.net().connection_count() == 0 {
            event_loop.turn(&mut gate, Some(Duration::from_secs(60)))?;
        }
    }
    let (mut allocations, mut peak) = (0, 0);
    for round in 1..=rounds {
        let peers = (0..BATCH).map(|_| come(addr, &kind.sends));
        let peers = peers.collect::<Result<Vec<_>, _>>()?;
        let before = Heap::reset_peak();
        measured_turns(&mut event_loop, &mut gate, round * BATCH)?;
        allocations += Heap::now().allocations - before.allocations;
        peak = Heap::peak_since(before);
        for mut peer in peers {
            // The loop has closed it: with an EOF, or a reset if it has not read everything.
            let _ = peer.read_to_end(&mut Vec::new());
        }
    }
    drop(first);
    Ok((allocations, peak))
}

fn come(addr: SocketAddr, sends: &Sends) -> std::io::Result<TcpStream> {
    let mut peer = TcpStream::connect(addr)?;
    peer.set_read_timeout(Some(Duration::from_secs(60)))?;
    match sends {
        Sends::Bytes(bytes) => peer.write_all(bytes)?,
        Sends::Last(bytes) => {
            peer.write_all(bytes)?;
            peer.shutdown(Shutdown::Write)?;
        }
    }
    Ok(peer)
}

/// How many peers have come and gone.
fn ended(stats: &Stats) -> u64 {
    stats.refused + stats.disconnected + stats.proxy_checks
}

/// Turns the loop until so many peers have gone. Valgrind finds this by its name, strace by the calls around it, which
/// are made nowhere else.
#[inline(never)]
fn measured_turns(
    event_loop: &mut EventLoop<Gate>,
    gate: &mut Gate,
    peers: u64,
) -> std::io::Result<()> {
    mark();
    while ended(&event_loop.net().stats()) < peers {
        event_loop.turn(gate, Some(Duration::from_secs(60)))?;
    }
    mark();
    Ok(())
}

fn mark() {
    #[cfg(unix)]
    let _ = std::os::unix::process::parent_id();
}
