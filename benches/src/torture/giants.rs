//! Frames that fit into no memory, and one that does.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::bench::{Bench, PATIENCE};
use super::peak::Peak;
use super::units::{GIB, MIB};
use super::verdict::Verdict;
use crate::problem::Problem;

/// What the frames consist of, again and again: a length that no power of two divides.
fn pattern() -> Vec<u8> {
    (0..1_000_003_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

pub(super) fn run(bench: &Bench) -> Result<Vec<Verdict>, Problem> {
    Ok(vec![relayed(bench)?, held(bench)?])
}

/// Both ways at once, through a server that holds none of it.
fn relayed(bench: &Bench) -> Result<Verdict, Problem> {
    let len = bench.bytes(8 * GIB);
    let server = bench.serve(&[
        "--mode",
        "relay",
        "--prefix",
        "8",
        "--stream-frames-over",
        "1MiB",
    ])?;
    let peak = Peak::watch(&server)?;
    let peers = [
        TcpStream::connect(server.addr)?,
        TcpStream::connect(server.addr)?,
    ];
    std::thread::scope(|scope| {
        let mut ways = Vec::new();
        for peer in &peers {
            let writer = peer.try_clone()?;
            let reader = peer.try_clone()?;
            reader.set_read_timeout(Some(PATIENCE))?;
            ways.push(scope.spawn(move || send(writer, len)));
            ways.push(scope.spawn(move || receive(reader, len)));
        }
        ways.into_iter().try_for_each(finished)
    })?;
    let what = format!("{} MiB in one frame, relayed both ways", len / MIB);
    Ok(Verdict::memory(what, peak.most(), 64 * MIB))
}

/// One that is held whole before it goes back.
fn held(bench: &Bench) -> Result<Verdict, Problem> {
    let len = bench.bytes(11 * GIB / 10);
    let server = bench.serve(&["--prefix", "8"])?;
    let peak = Peak::watch(&server)?;
    let peer = TcpStream::connect(server.addr)?;
    let reader = peer.try_clone()?;
    reader.set_read_timeout(Some(PATIENCE))?;
    std::thread::scope(|scope| {
        let ways = [
            scope.spawn(move || send(peer, len)),
            scope.spawn(move || receive(reader, len)),
        ];
        ways.into_iter().try_for_each(finished)
    })?;
    let what = format!(
        "{} MiB in one frame, echoed whole: times its size",
        len / MIB
    );
    let share = peak.growth() as f64 / len as f64;
    Ok(Verdict::at_most(what, share, 1.1, "times"))
}

fn finished(way: std::thread::ScopedJoinHandle<'_, Result<(), Problem>>) -> Result<(), Problem> {
    way.join()
        .unwrap_or_else(|_| Err(Problem::failed("a peer panicked")))
}

fn send(mut stream: TcpStream, len: u64) -> Result<(), Problem> {
    let pattern = pattern();
    stream.write_all(&len.to_le_bytes())?;
    let mut left = len;
    while left > 0 {
        let piece = &pattern[..pattern.len().min(left as usize)];
        stream.write_all(piece)?;
        left -= piece.len() as u64;
    }
    Ok(())
}

fn receive(mut stream: TcpStream, len: u64) -> Result<(), Problem> {
    let pattern = pattern();
    let mut header = [0; 8];
    stream.read_exact(&mut header)?;
    if u64::from_le_bytes(header) != len {
        return Err(Problem::failed("a frame arrived with another length"));
    }
    let mut piece = vec![0; 256 * 1024];
    let mut at = 0;
    while at < len {
        let most = piece.len().min((len - at) as usize);
        let read = stream.read(&mut piece[..most])?;
        if read == 0 {
            return Err(Problem::failed(format!("a frame ended after {at} bytes")));
        }
        let mut rest = &piece[..read];
        while !rest.is_empty() {
            let expected = &pattern[(at % pattern.len() as u64) as usize..];
            let here = rest.len().min(expected.len());
            if rest[..here] != expected[..here] {
                return Err(Problem::failed(format!("a frame differs near byte {at}")));
            }
            rest = &rest[here..];
            at += here as u64;
        }
    }
    Ok(())
}
