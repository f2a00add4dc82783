//! The most memory a server uses during a case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::problem::Problem;
use crate::process::Server;
use crate::usage;

/// The most memory a process has while this lives.
pub(super) struct Peak {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    before: u64,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    pub(super) fn watch(server: &Server) -> Result<Self, Problem> {
        let pid = server.pid();
        let before = usage::anonymous_bytes(pid)
            .ok_or_else(|| Problem::failed("this system does not tell how much memory is used"))?;
        let (stop, most) = (Arc::default(), Arc::new(AtomicU64::new(before)));
        let (stopped, noted): (Arc<AtomicBool>, _) = (Arc::clone(&stop), Arc::clone(&most));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                noted.fetch_max(usage::anonymous_bytes(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Ok(Self {
            stop,
            most,
            before,
            thread: Some(thread),
        })
    }

    /// All of it.
    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// What has been added since the beginning.
    pub(super) fn growth(&self) -> u64 {
        self.most() - self.before
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
