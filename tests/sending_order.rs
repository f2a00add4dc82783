//! Frames arrive in the order in which they were sent, whatever way each of them was sent.

mod support;

use std::io::{self, Read, Write};
use std::time::Duration;

use proptest::prelude::*;
use support::scene::Scene;
use support::ways::{Way, encoded, framings};
use throng::{Framing, SendError};

/// One thing a program does with a connection.
#[derive(Debug, Clone)]
enum Step {
    Send(Way, usize),
    /// A closure that writes so much, and then fails.
    Fail(usize),
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let way = prop::sample::select(&Way::ALL[..]);
    // 4 KiB is where payloads begin to be queued by reference, 64 KiB where a tail is sealed.
    let len = prop_oneof![0..64_usize, 4080..4110_usize, 60_000..65_536_usize];
    prop_oneof![
        6 => (way, len.clone()).prop_map(|(way, len)| Step::Send(way, len)),
        1 => len.prop_map(Step::Fail),
        2 => Just(Step::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn frames_arrive_in_the_order_they_were_sent(
        steps in prop::collection::vec(step(), 1..120),
        framing in prop::sample::select(framings()),
    ) {
        // A length of one byte says less than half of the lengths.
        let framing = match framing.max_payload_len() {
            255 => Framing::delimiter(0xFF),
            _ => framing,
        };
        check_order(&steps, &framing);
    }
}

fn check_order(steps: &[Step], framing: &Framing) {
    let mut scene = Scene::with_framing(framing.clone());
    let mut stream = scene.peer.0.try_clone().expect("a live socket");
    let reader = std::thread::spawn(move || {
        let mut wire = Vec::new();
        stream.read_to_end(&mut wire).map(|_| wire)
    });
    let framing_is_raw = encoded(framing, [&b""[..]]).is_empty();
    let (mut wire, mut frames) = (Vec::new(), 0);
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Send(way, len) => {
                // Never one of the two delimiters. And without framing nothing is no frame.
                let least = usize::from(framing_is_raw);
                let payload = vec![b'A' + (number % 100) as u8; len.max(least)];
                scene.send(way, &payload).expect("it is open");
                wire.extend(encoded(framing, [&payload[..]]));
                frames += 1;
            }
            Step::Fail(len) => {
                let refused = scene.looped.net().send_with(scene.id, |out| {
                    out.write_all(&vec![0; len])?;
                    Err(io::ErrorKind::Other.into())
                });
                assert!(matches!(refused, Err(SendError::Writer(_))));
            }
            Step::Turn => scene.pass(Duration::ZERO),
        }
    }
    scene.close();
    let received = reader.join().expect("it ran").expect("a clean end");
    assert!(received == wire, "another stream arrived");
    assert_eq!(scene.looped.net().stats().frames_sent, frames);
}
