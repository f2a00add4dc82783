//! Loops on threads of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use throng::{EventLoop, Handler, ListenOptions};

use super::PATIENCE;
use super::drivers::{Driver, listening_by};
use super::recorder::Echo;

/// A loop on a thread of its own, which ends with it.
pub struct Server {
    pub addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `handler` on a free port.
    pub fn start<H: Handler + Send + 'static>(handler: H, options: ListenOptions) -> Self {
        Self::start_by::<EventLoop, H>(handler, options)
    }

    /// Serves `handler` on a free port, with a driver.
    pub fn start_by<D: Driver, H: Handler + Send + 'static>(
        mut handler: H,
        options: ListenOptions,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (mut driver, addr) = listening_by::<D>(options);
            tell.send(addr).expect("the test waits");
            while !stopped.load(Ordering::Relaxed) {
                driver.turn(&mut handler);
            }
        });
        let addr = told.recv().expect("it listens");
        Self {
            addr,
            stop,
            thread: Some(thread),
        }
    }

    /// An echo server with the default framing.
    pub fn echo() -> Self {
        Self::echo_by::<EventLoop>()
    }

    /// An echo server with the default framing, and a driver.
    pub fn echo_by<D: Driver>() -> Self {
        Self::start_by::<D, Echo>(Echo, ListenOptions::default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

/// Runs `what` on a thread of its own, and fails if it hangs.
pub fn within_patience<R: Send + 'static>(what: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(what()));
    told.recv_timeout(PATIENCE).expect("it hangs, or panicked")
}

/// Waits until another thread has made `what` return `true`.
pub fn wait_until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < deadline, "it did not happen in time");
        std::thread::yield_now();
    }
}
