//! More clients than a server may have descriptors: they wait for their turn, and it does not spin meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::bench::{Bench, PATIENCE};
use super::verdict::Verdict;
use crate::problem::Problem;
use crate::usage;

pub(super) fn run(bench: &Bench) -> Result<Vec<Verdict>, Problem> {
    let server = bench.serve_after(Some("ulimit -n 64"), &[])?;
    let mut clients = Vec::new();
    for number in 0..bench.connections(500, 0) {
        let mut client = TcpStream::connect(server.addr)?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(&4_u32.to_le_bytes())?;
        client.write_all(&number.to_le_bytes())?;
        clients.push((number, client));
    }
    let count = clients.len() as f64;

    let time = bench.time(4);
    let before = usage::cpu_time(server.pid());
    std::thread::sleep(time);
    let after = usage::cpu_time(server.pid());
    let busy = after.zip(before).map(|(after, before)| after - before);
    let share = busy.unwrap_or_default().as_secs_f64() / time.as_secs_f64();

    // In the order in which they came; each that leaves lets another in.
    let is_served = |(number, mut client): (u32, TcpStream)| {
        let mut answer = [0; 8];
        client.read_exact(&mut answer).is_ok() && answer[4..] == number.to_le_bytes()
    };
    let served = clients
        .into_iter()
        .filter_map(|client| is_served(client).then_some(()));
    Ok(vec![
        Verdict::at_most(
            "of a processor, while no client leaves",
            share * 100.0,
            2.0,
            "%",
        ),
        Verdict::at_least(
            format!("of {count} clients are served"),
            served.count() as f64,
            count,
            "clients",
        ),
    ])
}
