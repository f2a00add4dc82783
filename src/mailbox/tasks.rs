//! Tasks of async runtimes that wait for a loop. They leave a waker and are woken by it, so any runtime works.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::handle::Handle;
use super::oneshot::{self, oneshot};
use crate::error::MailboxError;
use crate::net::Net;

/// # Tasks
/// These methods do not block, and work with any runtime. Each task that waits for room needs its own clone of the
/// handle.
impl<H: ?Sized> Handle<H> {
    /// Waits until there is room for a command, without blocking the thread. Use it where a thread would call a
    /// blocking method.
    ///
    /// The next `try_` form of this handle is then accepted, whatever other threads and tasks do meanwhile: it may
    /// exceed the limits of the mailbox by this one command. (It is refused only if the loop was dropped.) The handle
    /// stays ready until that command. Clones are not ready; each has to wait itself. A handle that is ready and not
    /// used takes no room from others.
    ///
    /// ```
    /// use throng::{Config, ConnectionId, EventLoop, Frame, Handle, Handler, MailboxError, Net};
    ///
    /// #[derive(Default)]
    /// struct Game { score: u32 }
    ///
    /// impl Handler for Game {
    ///     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
    /// }
    ///
    /// async fn count(mut handle: Handle<Game>) -> Result<u32, MailboxError> {
    ///     for _ in 0..1000 {
    ///         handle.ready().await?;
    ///         handle.try_post(|game, _| game.score += 1)?;
    ///     }
    ///     handle.ready().await?;
    ///     let score = handle.try_call(|game, _| game.score).await?;
    ///     handle.stop()?;
    ///     Ok(score)
    /// }
    ///
    /// let mut event_loop = EventLoop::<Game>::new(Config::default().max_pending_commands(10))?;
    /// let handle = event_loop.handle();
    /// // Any runtime.
    /// let task = std::thread::spawn(|| smol::block_on(count(handle)));
    /// event_loop.run(&mut Game::default())?;
    /// assert_eq!(task.join().unwrap().unwrap(), 1000);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// A task that waits is woken when half of the mailbox is free, like a blocked thread. Nothing is lost if the
    /// future is dropped before it is complete, as `select!` does: the handle keeps waiting, until it is ready or
    /// dropped.
    ///
    /// # Errors
    /// Returns [`MailboxError::Closed`].
    pub fn ready(&mut self) -> Ready<'_, H> {
        Ready { handle: self }
    }

    /// Polls for room, as [`ready`](Self::ready) does, for implementations of [`Future`] and of sinks. Wakes the task
    /// that polled last.
    ///
    /// # Errors
    /// Returns [`MailboxError::Closed`].
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), MailboxError>> {
        let ready = self.commands.poll_ready(context.waker());
        ready.map_err(MailboxError::from)
    }

    /// Like [`call`](Self::call), but never blocks: runs a closure in the loop, and returns a future of its return
    /// value. The closure is queued by this call, and runs whether or not the future is polled or dropped.
    ///
    /// To wait for room as well, await [`ready`](Self::ready) first; see its example.
    ///
    /// # Errors
    /// The future returns [`MailboxError::Full`] if there was no room for the closure, and [`MailboxError::Closed`] if
    /// the loop is dropped, or the closure panics, before the closure has returned. It works in callbacks, too, because
    /// waiting for a future does not block a loop.
    pub fn try_call<R: Send + 'static>(
        &self,
        closure: impl FnOnce(&mut H, &mut Net) -> R + Send + 'static,
    ) -> Answer<R> {
        let (teller, receiver) = oneshot();
        let posted = self.try_post(move |handler, net| teller.tell(closure(handler, net)));
        Answer {
            receiver: posted.map(|()| receiver).map_err(MailboxError::from),
        }
    }
}

/// The future of [`Handle::ready`].
#[must_use = "futures do nothing unless polled"]
pub struct Ready<'h, H: ?Sized> {
    handle: &'h mut Handle<H>,
}

impl<H: ?Sized> Future for Ready<'_, H> {
    type Output = Result<(), MailboxError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.handle.poll_ready(context)
    }
}

impl<H: ?Sized> fmt::Debug for Ready<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("handle", &self.handle)
            .finish()
    }
}

/// The future of [`Handle::try_call`].
#[must_use = "it tells whether the closure was queued"]
pub struct Answer<R> {
    receiver: Result<oneshot::Receiver<R>, MailboxError>,
}

impl<R> Future for Answer<R> {
    type Output = Result<R, MailboxError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.receiver {
            Ok(receiver) => {
                let answer = receiver.poll(context.waker());
                answer.map(|value| value.ok_or(MailboxError::Closed))
            }
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl<R> fmt::Debug for Answer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("refused", &self.receiver.as_ref().err())
            .finish_non_exhaustive()
    }
}
