//! What a handler has received and sent, by peer; and the oracle that compares it with what the peers have.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use throng::sim::{End, Log};
use throng::{Config, ConnectionId, DisconnectCause, DisconnectReason, Framing, Net, Origin};

/// A frame that was accepted for a peer.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) payload: Vec<u8>,
    /// Frames of the same slot may replace it.
    pub(crate) slot: Option<u32>,
}

/// What happened on one connection.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) received: Vec<Vec<u8>>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) reason: Option<DisconnectReason>,
    /// The handler has closed it.
    pub(crate) was_closed: bool,
    /// A frame was begun and never finished: the frames after it are lost.
    pub(crate) was_left_open: bool,
    /// The last frame of a kick.
    pub(crate) last: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) accounts: BTreeMap<SocketAddr, Account>,
    addrs: BTreeMap<ConnectionId, SocketAddr>,
}

impl Book {
    pub(crate) fn open(&mut self, net: &Net, id: ConnectionId) {
        let connection = net.connection(id).expect("it is connected");
        // Both sides of a connection know the address of the side that has connected.
        let addr = match connection.origin() {
            Origin::Outbound => connection.local_addr(),
            _ => connection.peer_addr(),
        };
        let addr = addr.expect("its peer");
        self.addrs.insert(id, addr);
        self.accounts.entry(addr).or_default();
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn knows(&self, id: ConnectionId) -> bool {
        self.addrs.contains_key(&id)
    }

    pub(crate) fn of(&mut self, id: ConnectionId) -> &mut Account {
        let addr = self.addrs.get(&id).expect("its account");
        self.accounts.get_mut(addr).expect("its account")
    }

    pub(crate) fn received(&mut self, id: ConnectionId, payload: &[u8]) {
        self.of(id).received.push(payload.to_vec());
    }

    pub(crate) fn sent(&mut self, id: ConnectionId, payload: &[u8]) {
        let (payload, slot) = (payload.to_vec(), None);
        self.of(id).sent.push(Sent { payload, slot });
    }

    pub(crate) fn sent_to_slot(&mut self, id: ConnectionId, slot: u32, payload: &[u8]) {
        let (payload, slot) = (payload.to_vec(), Some(slot));
        self.of(id).sent.push(Sent { payload, slot });
    }

    pub(crate) fn close(&mut self, id: ConnectionId, reason: DisconnectReason) {
        self.of(id).reason = Some(reason);
    }

    /// Compares the accounts with what the peers have.
    pub(crate) fn check(&self, logs: &[Log]) {
        for log in logs {
            let addr = log.peer.addr();
            match self.accounts.get(&addr) {
                Some(account) => account.check(log),
                // It was never accepted.
                None => assert!(log.received().is_empty(), "{log:?}"),
            }
        }
    }
}

impl Account {
    fn check(&self, log: &Log) {
        let what = log.peer.number();
        assert!(
            log.sent.starts_with(&self.received),
            "peer {what}: frames are delivered in order"
        );
        let received = log.received();
        let missing = self.missing(&received);
        let reason = self.reason.as_ref();
        let is_closed = log.end() == Some(End::Closed);
        if is_closed && !self.was_left_open {
            let unsent = reason.map_or(0, |reason| reason.unsent_frames);
            assert!(
                missing == 0 || (self.last.is_some() && missing as u64 <= unsent),
                "peer {what}: {missing} of {} frames are missing before EOF, {unsent} are counted: {reason:?}",
                self.sent.len()
            );
            if let Some(last) = &self.last {
                assert!(
                    received.last() == Some(last),
                    "peer {what}: the last frame of a kick arrives"
                );
            }
        }
        let by_peer = reason.is_some_and(|it| matches!(it.cause, DisconnectCause::PeerClosed));
        if log.is_polite && by_peer && !self.was_closed {
            assert_eq!(
                self.received.len(),
                log.sent.len(),
                "peer {what}: everything is delivered before EOF is reported"
            );
        }
        let by_us = reason.is_some_and(|it| matches!(it.cause, DisconnectCause::ClosedLocally));
        assert!(
            is_closed || self.was_left_open || !log.is_polite || log.peer.was_disturbed() || !by_us,
            "peer {what}: a graceful close is seen as {:?}",
            log.end()
        );
        if let Some(reason) = reason {
            assert!(
                received.len() as u64 + reason.unsent_frames <= self.sent.len() as u64,
                "peer {what}: {} frames have arrived and {} count as unsent, of {}",
                received.len(),
                reason.unsent_frames,
                self.sent.len()
            );
        }
    }

    /// Compares the frames that have arrived with those that were accepted. Returns how many are missing after them or
    /// because they were dropped; replaced frames do not count.
    pub(crate) fn missing(&self, received: &[Vec<u8>]) -> usize {
        let mut sent = self.sent.iter().enumerate();
        let mut skipped = 0;
        for frame in received {
            loop {
                let Some((at, next)) = sent.next() else {
                    panic!(
                        "a frame of {} bytes has arrived that was not sent, or twice",
                        frame.len()
                    );
                };
                if next.payload == *frame {
                    break;
                }
                skipped += usize::from(!self.is_replaced(at, next));
            }
        }
        let may_drop = self.reason.as_ref().is_some_and(|it| it.unsent_frames > 0);
        assert!(
            skipped == 0 || (self.was_closed && may_drop),
            "frames in between are lost"
        );
        let behind = sent.filter(|(at, next)| !self.is_replaced(*at, next));
        skipped + behind.count()
    }

    fn is_replaced(&self, at: usize, sent: &Sent) -> bool {
        let mut later = self.sent[at + 1..].iter();
        sent.slot.is_some() && later.any(|it| it.slot == sent.slot)
    }
}

/// Random limits of the work of a turn.
pub(crate) fn budgets(random: &mut throng::sim::Random) -> Config {
    let mut config = Config::default();
    if random.one_in(2) {
        config = config
            .read_budget(random.length(20_000))
            .write_budget(random.length(20_000))
            .frames_per_turn(random.length(20))
            .accepts_per_turn(random.length(4))
            .events_per_poll(random.length(8));
    }
    if random.one_in(2) {
        config = config.read_buffer(64 + random.length(5000));
    }
    config
}

/// A random framing that can carry letters.
pub(crate) fn framing(random: &mut throng::sim::Random) -> Framing {
    match random.below(5) {
        0 => Framing::length_prefix().u16().big_endian().into(),
        1 => Framing::varint(),
        2 => Framing::delimiter(b'\n'),
        3 => Framing::length_prefix().u64().into(),
        _ => Framing::default(),
    }
}
