//! What it costs to put frames into a connection's write queue, by each way of sending, and to flush it.
//!
//! The queue is no public type, so it is filled through `Net`: a loop with one connection to itself, whose other end
//! forgets what it reads.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net, Origin};

/// So many frames are queued, then flushed.
const FRAMES: u64 = 256;

#[derive(Default)]
struct Ends {
    outbound: Option<ConnectionId>,
    received: u64,
}

impl Handler for Ends {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        if net.connection(id).map(|it| it.origin()) == Some(Origin::Outbound) {
            self.outbound = Some(id);
        }
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {
        self.received += 1;
    }
}

struct Fixture {
    event_loop: EventLoop<Ends>,
    ends: Ends,
    id: ConnectionId,
}

impl Fixture {
    fn new() -> Self {
        let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
        let net = event_loop.net();
        let listener = net.listen("127.0.0.1:0").expect("a free port");
        let addr = net
            .listener(listener)
            .and_then(|it| it.local_addr())
            .expect("its address");
        net.connect(addr).expect("a free descriptor");
        let mut ends = Ends::default();
        let id = loop {
            event_loop.turn(&mut ends, None).expect("a turn");
            if let Some(id) = ends.outbound {
                break id;
            }
        };
        Self {
            event_loop,
            ends,
            id,
        }
    }

    /// Times what `queue` does; the flush and the other end are left out.
    fn time(&mut self, iterations: u64, mut queue: impl FnMut(&mut Net, ConnectionId)) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            let all = self.ends.received + FRAMES;
            let net = self.event_loop.net();
            let start = Instant::now();
            for _ in 0..FRAMES {
                queue(net, self.id);
            }
            total += start.elapsed();
            while self.ends.received < all {
                self.event_loop.turn(&mut self.ends, None).expect("a turn");
            }
        }
        total
    }
}

fn queue(criterion: &mut Criterion) {
    let mut fixture = Fixture::new();
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(FRAMES));
    for len in [64, 1024, 4096] {
        let payload = vec![b'x'; len];
        group.bench_function(BenchmarkId::new("send", len), |bencher| {
            bencher.iter_custom(|iterations| {
                fixture.time(iterations, |net, id| {
                    net.send(id, black_box(&payload)).expect("it is open");
                })
            });
        });
        group.bench_function(BenchmarkId::new("send_with", len), |bencher| {
            bencher.iter_custom(|iterations| {
                fixture.time(iterations, |net, id| {
                    net.send_with(id, |out| out.write_all(black_box(&payload)))
                        .expect("it is open");
                })
            });
        });
        let shared = Bytes::from(payload.clone());
        group.bench_function(BenchmarkId::new("send_bytes", len), |bencher| {
            bencher.iter_custom(|iterations| {
                fixture.time(iterations, |net, id| {
                    net.send_bytes(id, shared.clone()).expect("it is open");
                })
            });
        });
    }
    group.finish();
}

/// Queued, written, read and cut again: all of a turn but the handler's own work.
fn round_trip(criterion: &mut Criterion) {
    let mut fixture = Fixture::new();
    let mut group = criterion.benchmark_group("queue, flush and receive");
    group.throughput(Throughput::Elements(FRAMES));
    for len in [64, 4096] {
        let payload = vec![b'x'; len];
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                fixture.time(iterations, |net, id| {
                    net.send(id, &payload).expect("it is open");
                });
                start.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, queue, round_trip);
criterion_main!(benches);
