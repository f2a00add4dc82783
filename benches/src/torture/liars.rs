//! Peers that promise much: memory grows with what has arrived.

use std::io::Write;
use std::net::TcpStream;

use super::bench::Bench;
use super::peak::Peak;
use super::units::MIB;
use super::verdict::Verdict;
use crate::problem::Problem;

pub(super) fn run(bench: &Bench) -> Result<Vec<Verdict>, Problem> {
    let server = bench.serve(&[])?;
    let peak = Peak::watch(&server)?;
    let mut liars = Vec::new();
    for _ in 0..bench.connections(500, 0) {
        let mut liar = TcpStream::connect(server.addr)?;
        liar.write_all(&u32::MAX.to_le_bytes())?;
        liar.write_all(&[7; 100])?;
        liars.push(liar);
    }
    std::thread::sleep(bench.time(2));
    let what = format!("{} promises of 4 GiB, 100 bytes of each", liars.len());
    Ok(vec![Verdict::memory(what, peak.growth(), MIB)])
}
