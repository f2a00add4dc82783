//! Arrivals: peers that were accepted and whose PROXY header is awaited. They come before admission, and are not
//! connections yet. They count for `max_connections`, and have a deadline.

use std::time::Duration;
use std::{fmt, io};

use mio::Interest;

use super::accept::Newcomer;
use super::{Deadline, Net, Refusal};
use crate::connection_id::{ArrivalId, ListenerId, Source};
use crate::proxy::{Invalid, Progress, Sender, parse};
use crate::timers::TimerKey;

/// The most bytes of a header that one read asks for.
const CHUNK: usize = 512;

#[derive(Debug)]
pub(super) struct Arrival {
    /// `None` once the stream was taken, in a slot that is retired.
    newcomer: Option<Newcomer>,
    /// What has been read of the header.
    header: Vec<u8>,
    timer: Option<TimerKey>,
}

/// Why a peer that should send a header is refused.
#[derive(Debug)]
pub(crate) enum NoHeader {
    Invalid(Invalid),
    TimedOut { after: Duration },
    Closed { received: usize },
    Failed(io::Error),
    MemoryBudget { budget: u64 },
}

impl fmt::Display for NoHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::TimedOut { after } => {
                write!(f, "the PROXY header was not complete within {after:?}")
            }
            Self::Closed { received } => write!(
                f,
                "the connection was closed after {received} bytes of the PROXY header"
            ),
            Self::Failed(error) => {
                write!(f, "the connection failed before the PROXY header: {error}")
            }
            Self::MemoryBudget { budget } => {
                write!(f, "no memory for a PROXY header: memory_budget is {budget}")
            }
        }
    }
}

impl Arrival {
    /// Returns the bytes it holds.
    pub(super) fn held(&self) -> usize {
        self.header.len()
    }

    #[cfg(debug_assertions)]
    pub(super) fn timer(&self) -> Option<TimerKey> {
        self.timer
    }

    /// Reads the header, and no byte after it, until `WouldBlock`. `None` if it is not complete yet.
    fn read(&mut self) -> Result<Option<Sender>, NoHeader> {
        let Some(newcomer) = &mut self.newcomer else {
            return Ok(None);
        };
        loop {
            let missing = match parse(&self.header).map_err(NoHeader::Invalid)? {
                Progress::Needs(missing) => missing,
                Progress::Complete(sender) => return Ok(Some(sender)),
            };
            let mut chunk = [0; CHUNK];
            let asked = missing.min(CHUNK);
            match newcomer.stream.read(&mut chunk[..asked]) {
                Ok(0) => {
                    let received = self.header.len();
                    return Err(NoHeader::Closed { received });
                }
                Ok(read) => self.header.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(NoHeader::Failed(error)),
            }
        }
    }
}

impl Net {
    /// Awaits the header of a peer that is a proxy.
    pub(super) fn await_header(&mut self, mut newcomer: Newcomer, after: Duration) {
        let id = self.arrivals.next_id();
        let token = Source::Arrival(id).token();
        let registry = &self.common.registry;
        let registered = newcomer
            .stream
            .register(registry, token, Interest::READABLE);
        if let Err(error) = registered {
            return self.fail_to_accept(newcomer.peer, &error);
        }
        let at = self.now.checked_add(after);
        let timer = at.map(|at| self.timers.insert(at, Deadline::Header(id, after)));
        self.arrivals.insert(Arrival {
            newcomer: Some(newcomer),
            header: Vec::new(),
            timer,
        });
    }

    /// Reads the header of an arrival. Returns the peer once it is complete, if the limits allow one more connection.
    pub(crate) fn receive_header(&mut self, id: ArrivalId) -> Option<Newcomer> {
        let arrival = self.arrivals.get_mut(id)?;
        let before = arrival.held();
        let received = arrival.read();
        self.common.memory.add_input(arrival.held() - before);
        match received {
            Ok(None) => {
                let budget = self.config.memory_budget;
                if self.common.memory.used() > budget {
                    self.refuse_arrival(id, NoHeader::MemoryBudget { budget });
                }
                None
            }
            Ok(Some(Sender::Proxy)) => {
                self.stats.proxy_checks += 1;
                self.take_arrival(id);
                None
            }
            Ok(Some(sender)) => {
                let mut newcomer = self.take_arrival(id)?;
                newcomer.peer = match sender {
                    Sender::Client(addr) => Some(addr),
                    Sender::Unknown | Sender::Proxy => None,
                };
                newcomer.is_proxied = true;
                let peer = newcomer.peer;
                let may_ask = self.has_room_for(&newcomer, peer) && self.comes_in_time(peer);
                may_ask.then_some(newcomer)
            }
            Err(why) => {
                self.refuse_arrival(id, why);
                None
            }
        }
    }

    /// Returns whether the header of an arrival is still awaited.
    pub(crate) fn awaits_header(&self, id: ArrivalId) -> bool {
        self.arrivals.get(id).is_some()
    }

    /// Ends the wait for a header.
    pub(crate) fn refuse_arrival(&mut self, id: ArrivalId, why: NoHeader) {
        if let Some(newcomer) = self.take_arrival(id) {
            self.refuse(newcomer.peer, &Refusal::NoHeader(why));
        }
    }

    /// Refuses the arrivals of a listener that is being closed, or all arrivals.
    pub(super) fn refuse_arrivals(&mut self, at: Option<ListenerId>) {
        let is_meant = |arrival: &Arrival| {
            let newcomer = arrival.newcomer.as_ref();
            newcomer.is_some_and(|newcomer| at.is_none_or(|at| newcomer.listener == at))
        };
        let arrivals = self.arrivals.iter().filter(|(_, it)| is_meant(it));
        let refused: Vec<ArrivalId> = arrivals.map(|(id, _)| id).collect();
        for id in refused {
            if let Some(newcomer) = self.take_arrival(id) {
                self.refuse(newcomer.peer, &Refusal::ListenerClosed);
            }
        }
    }

    /// Removes an arrival, with its registration, its deadline and its memory.
    fn take_arrival(&mut self, id: ArrivalId) -> Option<Newcomer> {
        let arrival = self.arrivals.get_mut(id)?;
        let mut newcomer = arrival.newcomer.take()?;
        newcomer.stream.deregister(&self.common.registry);
        if let Some(timer) = arrival.timer.take() {
            self.timers.cancel(timer);
        }
        let header = std::mem::take(&mut arrival.header);
        self.common.memory.sub_input(header.len());
        self.arrivals.free(id);
        // If it is not admitted, its file descriptor will soon be free.
        self.resume_accepting();
        Some(newcomer)
    }
}
