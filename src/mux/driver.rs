//! The I/O shell: moves bytes between the clients' streams, the [`Mux`] and the backend's stream, and decides nothing.
//!
//! There is no task and no thread of its own, because a thread hop costs more than everything else together. Whichever
//! client polls its stream while it awaits something moves *everybody's* bytes: it writes what is to be written, reads
//! what there is to read, and wakes those for whom something came. So whoever is asleep and awaits something has polled
//! the backend's stream once, and its task is woken when bytes come.
//!
//! The backend's stream holds one waker for each runtime, that of the task that polled it last. That is enough as long
//! as one rule is kept: *a task that stops polling while the backend still owes a reply wakes another that awaits one.*

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::log::{self, Log};
use super::message::{self, Message, ProtocolViolation, Startup, to_session};
use super::record::{Origin, Statement};
use super::{Ending, Initial, Mux, Reach, SessionId, Transmit};

/// How much is read from the backend at a time.
const CHUNK: usize = 32 * 1024;

/// How much may wait to be written to the backend before a client that sends more is told to wait.
const BACKLOG: usize = 1 << 20;

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

#[derive(Debug)]
struct Shared<S> {
    mux: Mux,
    /// `None` once the transaction is over.
    stream: Option<S>,
    from_backend: BytesMut,
    to_backend: BytesMut,
    /// What was written may still be on this side, where a stream encrypts.
    unflushed: bool,
    chunk: Box<[u8]>,
    clients: BTreeMap<SessionId, ClientEnd>,
    /// Who waits for the backend to have nothing to do.
    finisher: Option<Waker>,
    /// What runs is to be cancelled.
    cancel_due: Option<Reach>,
    /// Somebody looks who blocks the backend.
    looking: bool,
    /// Tasks to be woken when the lock is free.
    wakes: Vec<Waker>,
    log: Log,
}

/// A client's side of its session.
#[derive(Debug, Default)]
struct ClientEnd {
    /// What the client has sent of a message that isn't whole yet.
    partial: BytesMut,
    started: bool,
    /// With which it may cancel what it runs.
    secret_key: Option<Bytes>,
    initial: Option<Arc<Initial>>,
    /// What the client has yet to read.
    unread: BytesMut,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl<S: BackendStream> Driver<S> {
    pub(crate) fn new(
        mux: Mux,
        stream: S,
        lease_timeout: Duration,
        blocked_after: Option<Duration>,
        aside: impl Aside,
    ) -> Self {
        let shared = Shared {
            mux,
            stream: Some(stream),
            from_backend: BytesMut::new(),
            to_backend: BytesMut::new(),
            unflushed: false,
            chunk: vec![0; CHUNK].into_boxed_slice(),
            clients: BTreeMap::new(),
            finisher: None,
            cancel_due: None,
            looking: false,
            wakes: Vec::new(),
            log: Log::default(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
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
        let client = ClientEnd {
            secret_key,
            initial,
            ..ClientEnd::default()
        };
        let id = self.with(|shared| {
            let id = shared.mux.handle_connect();
            shared.mux.recorder_mut().note_origin(id, self.origin);
            shared.clients.insert(id, client);
            id
        });
        SessionStream {
            driver: self.clone(),
            id,
            timer: None,
            watch: None,
        }
    }

    /// From now on nothing new reaches the backend.
    pub(crate) fn close_gate(&self) {
        self.with(|shared| {
            shared.mux.close_gate(Instant::now());
            shared.route();
            shared.wake_one();
        });
    }

    /// Waits until the backend has nothing to do.
    pub(crate) async fn idle(&self) {
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

impl<S: BackendStream> Shared<S> {
    /// Moves bytes until there is nothing left to move now. The task of `context` is woken when there is more.
    fn drive(&mut self, by: Option<SessionId>, context: &mut Context<'_>) {
        if let Some(stream) = &mut self.stream
            && !self.mux.busy_sessions().any(|id| Some(id) != by)
        {
            stream.forget_other_runtimes();
        }
        loop {
            self.route();
            let mut moved = self.write(context);
            if self.mux.awaits_backend() {
                moved |= self.read(context);
            }
            if !moved {
                break;
            }
        }
        if self.to_backend.len() < BACKLOG {
            for client in self.clients.values_mut() {
                self.wakes.extend(client.writer.take());
            }
        }
        if self.mux.is_idle() {
            self.wakes.extend(self.finisher.take());
        }
    }

    /// Hands the multiplexer's output to where it belongs.
    fn route(&mut self) {
        while let Some(transmit) = self.mux.poll_transmit() {
            match transmit {
                Transmit::Backend(bytes) => self.to_backend.extend_from_slice(&bytes),
                Transmit::Session(id, bytes) => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.unread.extend_from_slice(&bytes);
                        self.wakes.extend(client.reader.take());
                    }
                }
                Transmit::Cancel(reach) => self.cancel_due = Some(reach),
                Transmit::Close(id) => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.closed = true;
                        self.wakes.extend(client.reader.take());
                        self.wakes.extend(client.writer.take());
                    }
                }
            }
        }
    }

    fn take_log(&mut self) -> Vec<Statement> {
        self.log.take(self.mux.recorder())
    }

    fn is_readable(&self, id: SessionId) -> bool {
        self.clients.get(&id).is_some_and(ClientEnd::is_readable)
    }

    fn write(&mut self, context: &mut Context<'_>) -> bool {
        let Some(stream) = &mut self.stream else {
            self.to_backend.clear();
            return false;
        };
        let mut moved = false;
        while !self.to_backend.is_empty() {
            match Pin::new(&mut *stream).poll_write(context, &self.to_backend) {
                Poll::Pending => break,
                // What the server said before it went is still to be read.
                Poll::Ready(Err(_) | Ok(0)) => {
                    self.to_backend.clear();
                    break;
                }
                Poll::Ready(Ok(written)) => {
                    self.to_backend.advance(written);
                    self.unflushed = true;
                    moved = true;
                }
            }
        }
        if self.unflushed && Pin::new(stream).poll_flush(context).is_ready() {
            self.unflushed = false;
        }
        moved
    }

    fn read(&mut self, context: &mut Context<'_>) -> bool {
        let unread = self
            .mux
            .busy_sessions()
            .next()
            .and_then(|id| self.clients.get(&id))
            .map_or(0, |client| client.unread.len());
        let Some(stream) = self
            .stream
            .as_mut()
            .filter(|_| self.mux.wants_backend(unread))
        else {
            return false;
        };
        let mut chunk = ReadBuf::new(&mut self.chunk);
        let cause = match Pin::new(stream).poll_read(context, &mut chunk) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if !chunk.filled().is_empty() => {
                self.from_backend.extend_from_slice(chunk.filled());
                match self.take_backend_messages() {
                    Ok(()) => return true,
                    Err(violation) => violation.to_string(),
                }
            }
            Poll::Ready(Ok(())) => "the server closed the connection unexpectedly".to_owned(),
            Poll::Ready(Err(error)) => error.to_string(),
        };
        self.mux.handle_backend_gone(&cause);
        true
    }

    fn take_backend_messages(&mut self) -> Result<(), ProtocolViolation> {
        let now = Instant::now();
        while let Some(message) = Message::take_backend(&mut self.from_backend)? {
            self.mux.handle_backend(message, now)?;
        }
        Ok(())
    }

    /// Takes what a client has sent; an error is the client's.
    fn take_client_messages(&mut self, id: SessionId) -> Result<(), ProtocolViolation> {
        let now = Instant::now();
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        if !client.started {
            match Startup::take(&mut client.partial)? {
                None => return Ok(()),
                Some(Startup::Unsupported(code)) => return Err(message::unsupported(code)),
                Some(Startup::Encryption(_)) => {
                    client.unread.extend_from_slice(to_session::NO_ENCRYPTION);
                    return self.take_client_messages(id);
                }
                Some(Startup::Cancel { .. }) => {
                    client.closed = true;
                    return Ok(());
                }
                Some(Startup::Session { parameters, .. }) => {
                    client.started = true;
                    let name = message::parameter(&parameters, "application_name");
                    let name = name.unwrap_or_default();
                    let (secret_key, initial) = (client.secret_key.take(), client.initial.take());
                    self.mux.handle_startup(id, name, secret_key, initial);
                }
            }
        }
        while let Some(client) = self.clients.get_mut(&id)
            && let Some(message) = Message::take_frontend(&mut client.partial)?
        {
            self.mux.handle_frontend(id, message, now);
        }
        Ok(())
    }

    /// Somebody stops polling: another one that awaits something has to go on.
    fn wake_one(&mut self) {
        if !self.mux.awaits_backend() && self.to_backend.is_empty() && !self.unflushed {
            return;
        }
        let next = self
            .mux
            .busy_sessions()
            .find_map(|id| self.clients.get_mut(&id)?.reader.take());
        self.wakes.extend(next.or_else(|| self.finisher.take()));
    }
}

/// A session's stream, as its client holds it.
#[derive(Debug)]
pub(crate) struct SessionStream<S: BackendStream> {
    driver: Driver<S>,
    id: SessionId,
    /// Runs while the session waits for its turn.
    timer: Option<Pin<Box<Sleep>>>,
    /// Runs on after the session has awaited the backend, so that a statement seldom pays for it.
    watch: Option<Pin<Box<Sleep>>>,
}

impl<S: BackendStream> AsyncRead for SessionStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let id = this.id;
        let mut awaits = false;
        loop {
            let ready = this.driver.with(|shared| {
                let is_busy = shared.mux.is_busy(id);
                if !shared.is_readable(id) && is_busy {
                    shared.drive(Some(id), context);
                }
                let Some(client) = shared.clients.get_mut(&id) else {
                    return Poll::Ready(());
                };
                if !client.is_readable() {
                    client.reader = Some(context.waker().clone());
                    awaits = is_busy;
                    return Poll::Pending;
                }
                let length = client.unread.len().min(buffer.remaining());
                buffer.put_slice(&client.unread[..length]);
                client.unread.advance(length);
                shared.wake_one();
                Poll::Ready(())
            });
            if ready.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if awaits {
                this.poll_watch(context);
            }
            if this.poll_timer(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<S: BackendStream> SessionStream<S> {
    /// Sees that somebody looks who blocks the backend, where this session awaits it for long.
    fn poll_watch(&mut self, context: &mut Context<'_>) {
        let Some(period) = self.driver.blocked_after else {
            return;
        };
        let timer = self
            .watch
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(period)));
        while timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            timer.as_mut().reset((now + period).into());
            let silent_since = self.driver.with(|shared| {
                let since = shared.mux.silent_since()?;
                let is_due = !shared.looking && now.saturating_duration_since(since) >= period;
                shared.looking |= is_due;
                is_due.then_some(since)
            });
            if let Some(since) = silent_since {
                self.driver.find_blockers(since);
            }
        }
    }

    /// Runs while the session waits for its turn; ready when something may have come of it.
    ///
    /// The task is woken at the latest after one lease timeout, which is soon enough to look.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let id = self.id;
        let period = self.driver.lease_timeout;
        if !self.driver.look(|mux| mux.is_waiting(id)) {
            self.timer = None;
            return Poll::Pending;
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(period)));
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let now = Instant::now();
        let due = self.driver.with(|shared| {
            shared.mux.handle_timeout(now);
            shared.route();
            shared.mux.poll_timeout()
        });
        let due = due.filter(|&due| due > now).unwrap_or(now + period);
        timer.as_mut().reset(due.into());
        Poll::Ready(())
    }
}

impl ClientEnd {
    fn is_readable(&self) -> bool {
        !self.unread.is_empty() || self.closed
    }
}

impl<S: BackendStream> AsyncWrite for SessionStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let id = self.id;
        self.driver.with(|shared| {
            if shared.to_backend.len() >= BACKLOG {
                shared.drive(Some(id), context);
            }
            let is_full = shared.to_backend.len() >= BACKLOG;
            let Some(client) = shared.clients.get_mut(&id).filter(|client| !client.closed) else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            if is_full {
                client.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            client.partial.extend_from_slice(bytes);
            if let Err(violation) = shared.take_client_messages(id) {
                shared.mux.handle_violation(id, &violation, Instant::now());
            }
            shared.route();
            Poll::Ready(Ok(bytes.len()))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let id = this.id;
        this.driver.with(|shared| shared.drive(Some(id), context));
        // A client that has sent something may not read again before it is woken.
        while this.poll_timer(context).is_ready() {}
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let id = self.id;
        self.driver.with(|shared| shared.disconnect(id));
        Poll::Ready(Ok(()))
    }
}

impl<S: BackendStream> Shared<S> {
    fn disconnect(&mut self, id: SessionId) {
        self.mux.handle_disconnect(id, Instant::now());
        self.route();
        self.wake_one();
    }
}

impl<S: BackendStream> Drop for SessionStream<S> {
    fn drop(&mut self) {
        let id = self.id;
        self.driver.with(|shared| {
            shared.clients.remove(&id);
            shared.disconnect(id);
        });
    }
}
