//! What it costs to make frames of bytes and bytes of frames, without a socket.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use throng::{FrameDecoder, FrameEncoder, Framing};

/// So many frames make one iteration.
const FRAMES: usize = 1000;

fn framings() -> [(&'static str, Framing); 4] {
    [
        ("u32", Framing::length_prefix().into()),
        (
            "u16 big-endian",
            Framing::length_prefix().u16().big_endian().into(),
        ),
        ("varint", Framing::varint()),
        ("lines", Framing::delimiter(b'\n')),
    ]
}

fn wire(framing: &Framing, len: usize) -> Vec<u8> {
    let encoder = FrameEncoder::new(framing.clone());
    let mut wire = Vec::new();
    for _ in 0..FRAMES {
        encoder
            .encode(&vec![b'x'; len], &mut wire)
            .expect("it fits");
    }
    wire
}

fn decoder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decoder");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for len in [64, 1024] {
        for (name, framing) in framings() {
            let wire = wire(&framing, len);
            // All at once, as from one read, and in the pieces of a slow network, most of which split a frame.
            for (reads, size) in [("whole", usize::MAX), ("pieces of 100 bytes", 100)] {
                let id = BenchmarkId::new(format!("{name}, {reads}"), len);
                group.bench_with_input(id, &wire, |bencher, wire| {
                    let mut decoder = FrameDecoder::new(framing.clone());
                    bencher.iter(|| {
                        let mut frames = 0;
                        for mut piece in wire.chunks(size.min(wire.len())) {
                            while let Some(frame) = decoder.decode(&mut piece).expect("valid") {
                                black_box(&*frame);
                                frames += 1;
                            }
                        }
                        assert_eq!(frames, FRAMES);
                    });
                });
            }
        }
    }
    group.finish();
}

fn encoder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encoder");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for len in [64, 1024] {
        for (name, framing) in framings() {
            let payload = vec![b'x'; len];
            group.bench_function(BenchmarkId::new(name, len), |bencher| {
                let encoder = FrameEncoder::new(framing.clone());
                let mut wire = Vec::new();
                bencher.iter(|| {
                    wire.clear();
                    for _ in 0..FRAMES {
                        encoder
                            .encode(black_box(&payload), &mut wire)
                            .expect("it fits");
                    }
                    black_box(&wire);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decoder, encoder);
criterion_main!(benches);
