//! The threads of the shards. Each reports its end immediately, so that the first failure is detected at once.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use log::error;

use super::error::{ShardError, ShardFailure};

/// A running thread with its result, or why it could not be started.
type Life = io::Result<JoinHandle<io::Result<()>>>;

pub(super) struct Threads {
    /// `None` if its end was reported.
    lives: Vec<Option<Life>>,
    /// The indices of the shards that have ended, in the order of their ends.
    ends: Receiver<usize>,
}

impl Threads {
    /// Starts a thread for each shard.
    pub(super) fn start<F>(shards: impl IntoIterator<Item = F>) -> Self
    where
        F: FnOnce() -> io::Result<()> + Send + 'static,
    {
        let (report, ends) = mpsc::channel();
        let start = |(index, run): (usize, F)| {
            // If the thread is not started, `end` is dropped with the closure and reports it.
            let end = End(index, report.clone());
            let thread = thread::Builder::new().name(format!("throng-shard-{index}"));
            Some(thread.spawn(move || {
                let _end = end;
                run()
            }))
        };
        let lives = shards.into_iter().enumerate().map(start).collect();
        Self { lives, ends }
    }

    /// Blocks until the next shard has ended. Returns `None` when all ends were reported.
    pub(super) fn join_next(&mut self) -> Option<Result<usize, ShardError>> {
        let shard = self.ends.recv().ok()?;
        let ended = match self.lives.get_mut(shard)?.take()? {
            Ok(thread) => thread.join(),
            Err(error) => Ok(Err(error)),
        };
        Some(match ended {
            Ok(Ok(())) => Ok(shard),
            Ok(Err(error)) => Err(ShardError::new(shard, ShardFailure::Failed(error))),
            Err(panic) => Err(ShardError::panicked(shard, &*panic)),
        })
    }

    /// Blocks until all shards have ended. Returns those that failed, in order of their indices.
    pub(super) fn join(&mut self) -> Vec<ShardError> {
        let ends = std::iter::from_fn(|| self.join_next());
        let mut failed: Vec<ShardError> = ends.filter_map(Result::err).collect();
        failed.sort_by_key(|error| error.shard);
        failed
    }
}

/// Reports the end of a shard, also after a panic, when everything the shard owned is dropped.
struct End(usize, Sender<usize>);

impl Drop for End {
    fn drop(&mut self) {
        let Self(shard, report) = self;
        if thread::panicking() {
            error!("shard {shard} panicked; its connections are closed");
        }
        // Fails if `Threads` was dropped, which is allowed.
        let _ = report.send(*shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Run = Box<dyn FnOnce() -> io::Result<()> + Send>;

    /// Creates two shards: the first ends as `how` does, the last one when the sender is dropped.
    fn ending(how: impl Fn() -> io::Result<()> + Clone + Send + 'static) -> (Threads, Sender<()>) {
        let (go, may_go) = mpsc::channel();
        let first: Run = Box::new(how);
        let last: Run = Box::new(move || {
            let _ = may_go.recv();
            Ok(())
        });
        (Threads::start([first, last]), go)
    }

    #[test]
    fn an_end_is_reported_while_others_go_on() {
        let (mut threads, go) = ending(|| Ok(()));
        assert!(matches!(threads.join_next(), Some(Ok(0))));
        drop(go);
        assert!(matches!(threads.join_next(), Some(Ok(1))));
        assert!(threads.join_next().is_none());
    }

    #[test]
    fn an_error_is_reported_while_others_go_on() {
        let (mut threads, go) = ending(|| Err(io::ErrorKind::OutOfMemory.into()));
        let error = threads.join_next().expect("one").expect_err("it failed");
        assert_eq!(error.shard, 0);
        assert!(
            matches!(error.failure, ShardFailure::Failed(error) if error.kind() == io::ErrorKind::OutOfMemory)
        );
        drop(go);
        assert!(threads.join().is_empty(), "what was reported");
    }

    #[test]
    fn a_panic_is_reported_while_others_go_on() {
        let (mut threads, go) = ending(|| panic!("as agreed"));
        let error = threads.join_next().expect("one").expect_err("it failed");
        assert_eq!(error.to_string(), "shard 0 panicked: as agreed");
        drop(go);
        assert!(threads.join().is_empty(), "what was reported");
    }

    #[test]
    fn failures_are_in_order_of_the_shards_whichever_came_first() {
        let (go, may_go) = mpsc::channel();
        let first: Run = Box::new(move || {
            let _: Result<(), _> = may_go.recv();
            Err(io::Error::other("later"))
        });
        let last: Run = Box::new(move || {
            drop(go);
            Err(io::Error::other("earlier"))
        });
        let failed = Threads::start([first, last]).join();
        let shards: Vec<usize> = failed.iter().map(|error| error.shard).collect();
        assert_eq!(shards, [0, 1]);
    }
}
