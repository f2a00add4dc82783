//! The selector of each host, with the semantics of epoll in its edge-triggered mode.
//!
//! A change queues a source if its interest includes the change. A poll takes the queued sources, and reports the
//! conditions that hold then. Registering a source anew queues it if a condition of its interest holds.

use std::collections::VecDeque;

use mio::{Interest, Token};

use super::network::Network;
use super::socket::{Id, Mask, Party, Registration};
use super::trace::What;
use crate::socket::Readiness;

/// The number of closed sources of which late events may be reported.
const REMEMBERED: usize = 8;

#[derive(Debug)]
pub(crate) struct Host {
    /// Sources to be checked by the next poll.
    ready: VecDeque<Source>,
    pub(super) open_files: usize,
    pub(super) max_files: usize,
    /// The tokens of sources that were deregistered.
    stale: VecDeque<Token>,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Socket(Id),
    Listener(Id),
}

impl Network {
    /// Adds a host. Returns its number.
    pub(crate) fn add_host(&mut self) -> usize {
        self.hosts.push(Host {
            ready: VecDeque::new(),
            open_files: 0,
            max_files: usize::MAX,
            stale: VecDeque::new(),
        });
        self.hosts.len() - 1
    }

    pub(crate) fn limit_files(&mut self, host: usize, most: usize) {
        self.hosts[host].max_files = most;
    }

    pub(crate) fn open_files(&self, host: usize) -> usize {
        self.hosts[host].open_files
    }

    pub(crate) fn has_events(&self, host: usize) -> bool {
        !self.hosts[host].ready.is_empty()
    }

    pub(crate) fn register(&mut self, id: Id, host: usize, token: Token, interest: Interest) {
        if !matches!(
            self.socket(id),
            Some(socket) if matches!(socket.owner, Party::Peer(_))
        ) {
            self.hand_over(id, Party::Host(host));
        }
        let Some(socket) = self.socket(id) else {
            return;
        };
        let queued = socket.registration.as_ref().is_some_and(|it| it.queued);
        socket.registration = Some(Registration {
            host,
            token,
            interest,
            queued,
        });
        let mask = socket.mask();
        if interest.is_writable() && !mask.has(Mask::OUT) {
            socket.lacks_room = true;
        }
        self.wake(id, mask);
    }

    pub(crate) fn deregister(&mut self, id: Id) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        if let Some(registration) = socket.registration.take() {
            let host = &mut self.hosts[registration.host];
            if registration.queued {
                let is_this = |source: &Source| matches!(source, Source::Socket(it) if *it == id);
                host.ready.retain(|source| !is_this(source));
            }
            host.stale.push_back(registration.token);
            if host.stale.len() > REMEMBERED {
                host.stale.pop_front();
            }
        }
    }

    pub(crate) fn register_listener(&mut self, id: Id, token: Token) {
        if let Some(listener) = self.listeners.get_mut(id.index) {
            listener.registration = Some(Registration {
                host: listener.host,
                token,
                interest: Interest::READABLE,
                queued: false,
            });
            if !listener.backlog.is_empty() {
                self.wake_listener(id.index);
            }
        }
    }

    pub(crate) fn deregister_listener(&mut self, id: Id) {
        if let Some(listener) = self.listeners.get_mut(id.index) {
            listener.registration = None;
        }
    }

    /// Queues a socket whose conditions have changed, if its owner is interested in the change.
    pub(super) fn wake(&mut self, id: Id, changed: Mask) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        let Some(registration) = &mut socket.registration else {
            return;
        };
        if registration.queued || changed.reported(registration.interest) == Mask::NONE {
            return;
        }
        registration.queued = true;
        let host = registration.host;
        self.hosts[host].ready.push_back(Source::Socket(id));
    }

    pub(super) fn wake_listener(&mut self, index: usize) {
        let Some(listener) = self.listeners.get_mut(index) else {
            return;
        };
        let serial = listener.serial;
        if let Some(registration) = &mut listener.registration
            && !registration.queued
        {
            registration.queued = true;
            let host = registration.host;
            let id = Id { index, serial };
            self.hosts[host].ready.push_back(Source::Listener(id));
        }
    }

    /// Returns the events of a host, at most `most`.
    pub(crate) fn poll(&mut self, host: usize, most: usize) -> Vec<(Token, Readiness)> {
        let mut ready = std::mem::take(&mut self.hosts[host].ready);
        if self.faults.reorder {
            self.random.shuffle(ready.make_contiguous());
        }
        let mut most = most;
        if self.random.one_in(self.faults.short_polls) {
            most = most.min(1 + self.random.below(ready.len()));
        }
        let mut events = Vec::new();
        while events.len() < most
            && let Some(source) = ready.pop_front()
        {
            events.extend(self.look_at(source));
        }
        self.hosts[host].ready = ready;
        self.invent(host, &mut events);
        if !events.is_empty() {
            self.note(What::Host(host, "events", events.len() as u64));
        }
        events
    }

    /// Returns the events of scripted peers.
    pub(crate) fn poll_scripts(&mut self, host: usize) -> Vec<(Token, Readiness)> {
        let ready = std::mem::take(&mut self.hosts[host].ready);
        let events = ready.into_iter().map(|source| self.look_at(source));
        events.flatten().collect()
    }

    /// Lets time pass between a poll and its turn: the process was suspended, or the clock has jumped.
    pub(crate) fn suspend(&mut self) {
        if self.random.one_in(self.faults.suspensions) {
            let most = self.faults.longest_suspension;
            let time = self.random.duration(most);
            self.note(What::Happened("a process is suspended after its poll"));
            self.advance(self.now + time);
        }
        if self.random.one_in(self.faults.clock_jumps) {
            let most = self.faults.longest_jump;
            let time = self.random.duration(most);
            self.note(What::Happened("the clock jumps"));
            self.jump(time);
        }
    }

    /// Takes a source out of its queue. Returns the conditions that are reported.
    fn look_at(&mut self, source: Source) -> Option<(Token, Readiness)> {
        match source {
            Source::Socket(id) => {
                let socket = self.socket(id)?;
                let mask = socket.mask();
                let registration = socket.registration.as_mut()?;
                registration.queued = false;
                if registration.interest.is_writable() && !mask.has(Mask::OUT) {
                    socket.lacks_room = true;
                }
                let registration = socket.registration.as_ref()?;
                let mask = mask.reported(registration.interest);
                (mask != Mask::NONE).then(|| (registration.token, mask.readiness()))
            }
            Source::Listener(id) => {
                let listener = self.listeners.get_mut(id.index)?;
                if listener.serial != id.serial {
                    return None;
                }
                let registration = listener.registration.as_mut()?;
                registration.queued = false;
                let is_ready = !listener.backlog.is_empty();
                is_ready.then_some((registration.token, Readiness::READABLE))
            }
        }
    }

    /// Adds events whose cause is gone, or that never had one.
    fn invent(&mut self, host: usize, events: &mut Vec<(Token, Readiness)>) {
        if self.random.one_in(self.faults.spurious_events) {
            let index = self.random.below(self.sockets.capacity());
            let of_this = |it: &&Registration| it.host == host;
            let socket = self.sockets.get(index);
            let it = socket.and_then(|socket| socket.registration.as_ref());
            if let Some(it) = it.filter(of_this) {
                let mask = (Mask::IN | Mask::OUT).reported(it.interest);
                events.push((it.token, mask.readiness()));
            }
        }
        // Without a generation in the token, such an event would be attributed to the next tenant.
        let has_generations = cfg!(target_pointer_width = "64");
        if has_generations && self.random.one_in(self.faults.stale_events) {
            let stale = &self.hosts[host].stale;
            let chosen = self.random.below(stale.len());
            if let Some(token) = stale.get(chosen) {
                events.push((*token, Mask::ALL.readiness()));
            }
        }
    }
}
