//! A session's stream, as its client holds it: what is written to it is taken to the multiplexer, and whoever polls it moves
//! everybody's bytes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::shared::BACKLOG;
use super::{BackendStream, Driver};
use crate::mux::SessionId;

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
        let (mut awaits, mut waits) = (false, false);
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
                    waits = shared.mux.is_waiting(id);
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
            if this.poll_timer(waits, context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<S: BackendStream> SessionStream<S> {
    pub(super) fn new(driver: Driver<S>, id: SessionId) -> Self {
        Self {
            driver,
            id,
            timer: None,
            watch: None,
        }
    }

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

    /// Runs while the session waits for its turn, as it does now or not; ready when something may have come of it.
    ///
    /// The task is woken at the latest after one lease timeout, which is soon enough to look.
    fn poll_timer(&mut self, waits: bool, context: &mut Context<'_>) -> Poll<()> {
        let period = self.driver.lease_timeout;
        if !waits {
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
        // A client that has sent something may not read again before it is woken.
        loop {
            let waits = this.driver.with(|shared| {
                shared.drive(Some(id), context);
                shared.mux.is_waiting(id)
            });
            if this.poll_timer(waits, context).is_pending() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let id = self.id;
        self.driver.with(|shared| shared.disconnect(id));
        Poll::Ready(Ok(()))
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
