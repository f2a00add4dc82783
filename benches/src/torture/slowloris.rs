//! Peers that begin a frame and hold their place with a byte now and then, beside some that are slow and honest.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::bench::{Bench, PATIENCE};
use super::units::KIB;
use super::verdict::Verdict;
use crate::problem::Problem;

/// A frame has to grow by so much in each period of [`PERIOD`].
const LEAST: u64 = KIB;
const PERIOD: Duration = Duration::from_secs(2);
const HONEST_PEERS: u32 = 100;
/// What the honest send, 1 KiB in each second, a piece at a time.
const HONEST: u64 = 8 * KIB;
const PIECE: u64 = 64;

pub(super) fn run(bench: &Bench) -> Result<Vec<Verdict>, Problem> {
    let (least, period) = (LEAST.to_string(), PERIOD.as_secs().to_string());
    let limits = [
        "--frame-stall-bytes",
        &least,
        "--frame-stall-timeout",
        &period,
    ];
    let server = bench.serve(&limits)?;
    let mut slow = begin(server.addr, bench.connections(2000, HONEST_PEERS), 4 * KIB)?;
    let mut honest = begin(server.addr, HONEST_PEERS, HONEST)?;
    let (slow_count, honest_count) = (slow.len(), honest.len());

    let pieces = HONEST / PIECE;
    let began = Instant::now();
    for number in 1..=pieces {
        for peer in &mut honest {
            // That one was wrongly ended shows when it is to answer.
            let _ = peer.write_all(&[7; PIECE as usize]);
        }
        if number % (KIB / PIECE) == 0 {
            slow.retain_mut(|peer| peer.write_all(&[7]).is_ok());
        }
        let due = began + Duration::from_secs(1) * number as u32 / (KIB / PIECE) as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    slow.retain_mut(|peer| !has_ended(peer));
    honest.retain_mut(|peer| answers(peer).is_ok());
    Ok(vec![
        Verdict::at_most(
            format!("of {slow_count} that send a byte a second are left"),
            slow.len() as f64,
            0.0,
            "peers",
        ),
        Verdict::at_least(
            format!("of {honest_count} that send 1 KiB/s are served"),
            honest.len() as f64,
            honest_count as f64,
            "peers",
        ),
    ])
}

/// Peers that begin a frame.
fn begin(addr: SocketAddr, count: u32, len: u64) -> io::Result<Vec<TcpStream>> {
    let begin = |_| {
        let mut peer = TcpStream::connect(addr)?;
        peer.set_nodelay(true)?;
        peer.set_read_timeout(Some(PATIENCE))?;
        peer.write_all(&(len as u32).to_le_bytes())?;
        Ok(peer)
    };
    (0..count).map(begin).collect()
}

fn has_ended(peer: &mut TcpStream) -> bool {
    let result = peer
        .set_nonblocking(true)
        .and_then(|()| peer.read(&mut [0]));
    !matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn answers(peer: &mut TcpStream) -> io::Result<()> {
    peer.read_exact(&mut [0; 4 + HONEST as usize])
}
