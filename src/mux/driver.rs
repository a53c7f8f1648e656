//! The I/O shell: moves bytes between the clients' streams, the [`Mux`] and the backend's stream, and decides nothing.
//!
//! There is no task and no thread of its own, because a thread hop costs more than everything else together. Whichever
//! client polls its stream while it awaits something moves *everybody's* bytes: it writes what is to be written, reads
//! what there is to read, and wakes those for whom something came. So whoever is asleep and awaits something has polled
//! the backend's stream once, and its task is woken when bytes come.
//!
//! The backend's stream holds one waker for each runtime, that of the task that polled it last. That is enough as long
//! as one rule is kept: *a task that stops polling while the backend still owes a reply wakes another that awaits one.*

mod shared;
mod stream;

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use self::shared::{ClientEnd, Shared};
pub(crate) use self::stream::SessionStream;
use super::log;
use super::record::Origin;
use super::{Ending, Initial, Mux, Reach};

/// What is done about the backend's work over another connection.
pub(crate) trait Aside: Send + Sync + 'static {
    /// Cancels what the backend runs, and calls back when that is over, with whether there was anything.
    fn cancel(&self, reach: Reach, done: Done<bool>);

    /// Finds out who holds the lock that the backend waits for, if it waits for one, and calls back.
    fn find_blockers(&self, done: Done<Option<String>>);
}

pub(crate) type Done<T> = Box<dyn FnOnce(T) + Send>;

/// The stream of the real backend, which any runtime can poll.
pub(crate) trait BackendStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// No other runtime needs to be told of what comes.
    fn forget_other_runtimes(&mut self);
}

/// A multiplexer on a backend's stream, shared by all of its clients.
pub(crate) struct Driver<S> {
    shared: Arc<Mutex<Shared<S>>>,
    aside: Arc<dyn Aside>,
    lease_timeout: Duration,
    /// How long the backend may be silent before somebody looks who blocks it, and how often that is done.
    blocked_after: Option<Duration>,
    /// Who those are that connect by this handle.
    origin: Origin,
}

impl<S> Clone for Driver<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            aside: Arc::clone(&self.aside),
            lease_timeout: self.lease_timeout,
            blocked_after: self.blocked_after,
            origin: self.origin,
        }
    }
}

impl<S> fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl<S: BackendStream> Driver<S> {
    pub(crate) fn new(
        mux: Mux,
        stream: S,
        lease_timeout: Duration,
        blocked_after: Option<Duration>,
        aside: impl Aside,
    ) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared::new(mux, stream))),
            aside: Arc::new(aside),
            lease_timeout,
            blocked_after,
            origin: Origin::default(),
        }
    }

    /// The same driver, for clients of this origin.
    pub(crate) fn for_clients_of(&self, origin: Origin) -> Self {
        Self {
            origin,
            ..self.clone()
        }
    }

    /// Opens one more session. Its client speaks the protocol on the stream, from the StartupMessage on.
    pub(crate) fn connect(&self) -> SessionStream<S> {
        self.connect_client(None, None)
    }

    /// The same for a client from outside, which can cancel what it runs, and starts with settings of its own.
    pub(crate) fn connect_guest(
        &self,
        secret_key: Bytes,
        initial: Option<Arc<Initial>>,
    ) -> SessionStream<S> {
        self.connect_client(Some(secret_key), initial)
    }

    fn connect_client(
        &self,
        secret_key: Option<Bytes>,
        initial: Option<Arc<Initial>>,
    ) -> SessionStream<S> {
        let client = ClientEnd::new(secret_key, initial);
        let id = self.with(|shared| {
            let id = shared.mux.handle_connect();
            shared.mux.recorder_mut().note_origin(id, self.origin);
            shared.clients.insert(id, client);
            id
        });
        SessionStream::new(self.clone(), id)
    }

    /// From now on nothing new reaches the backend.
    pub(crate) fn close_gate(&self) {
        self.with(|shared| {
            shared.mux.close_gate(Instant::now());
            shared.route();
            shared.wake_one();
        });
    }

    /// Waits until the backend has nothing to do, before all sessions end.
    pub(crate) async fn idle(&self) {
        self.change(Mux::await_end);
        poll_fn(|context| {
            self.with(|shared| {
                shared.drive(None, context);
                if shared.mux.is_idle() {
                    return Poll::Ready(());
                }
                shared.finisher = Some(context.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    /// A CancelRequest has come from a client.
    pub(crate) fn cancel(&self, process_id: i32, secret_key: Bytes) {
        self.with(|shared| {
            let now = Instant::now();
            shared.mux.handle_cancel(process_id, secret_key, now);
            shared.route();
        });
    }

    /// Waits until no cancel is on its way, because one could hit what is sent afterwards.
    pub(crate) async fn no_cancel(&self) {
        poll_fn(|context| {
            self.with(|shared| {
                if !shared.mux.is_canceling() {
                    return Poll::Ready(());
                }
                shared.finisher = Some(context.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    /// Has what runs cancelled. A driver that has gone by the time at which that is done had nothing to lose.
    fn send_cancel(&self, reach: Reach) {
        let done = self.when_done(|shared, found| {
            shared.mux.handle_cancelled(found, Instant::now());
            shared.route();
            shared.wake_one();
            shared.wakes.extend(shared.finisher.take());
        });
        self.aside.cancel(reach, done);
    }

    /// Has somebody look who blocks the backend, which has been silent since then.
    fn find_blockers(&self, silent_since: Instant) {
        let done = self.when_done(move |shared, blockers| {
            shared.looking = false;
            shared.mux.handle_blockers(silent_since, blockers);
        });
        self.aside.find_blockers(done);
    }

    /// What to do under the lock when something aside is over, unless the driver has gone.
    fn when_done<T>(&self, then: impl FnOnce(&mut Shared<S>, T) + Send + 'static) -> Done<T> {
        let shared = Arc::downgrade(&self.shared);
        let aside = Arc::clone(&self.aside);
        let (lease_timeout, blocked_after) = (self.lease_timeout, self.blocked_after);
        let origin = self.origin;
        Box::new(move |outcome| {
            if let Some(shared) = shared.upgrade() {
                let driver = Self {
                    shared,
                    aside,
                    lease_timeout,
                    blocked_after,
                    origin,
                };
                driver.with(|shared| then(shared, outcome));
            }
        })
    }

    /// Ends all sessions and gives the backend's stream back, with what there is to say of how the transaction stands.
    pub(crate) fn finish(&self) -> (Ending, Option<S>) {
        self.with(|shared| {
            let ending = shared.mux.handle_end();
            shared.route();
            (ending, shared.stream.take())
        })
    }

    /// Looks at the multiplexer.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Mux) -> T) -> T {
        self.with(|shared| look(&shared.mux))
    }

    /// Changes what the multiplexer is to do with what comes.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Mux) -> T) -> T {
        self.with(|shared| change(&mut shared.mux))
    }

    /// Does something under the lock, then wakes whom it concerns.
    fn with<T>(&self, action: impl FnOnce(&mut Shared<S>) -> T) -> T {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let result = action(&mut shared);
        let wakes = std::mem::take(&mut shared.wakes);
        let answered = shared.take_log();
        let cancel_due = shared.cancel_due.take();
        drop(shared);
        if let Some(reach) = cancel_due {
            self.send_cancel(reach);
        }
        for waker in wakes {
            waker.wake();
        }
        for statement in &answered {
            log::tell(statement);
        }
        result
    }
}
