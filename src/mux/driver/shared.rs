//! What all clients share: the multiplexer, both ends of the backend's stream, and what each client has yet to read.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::ReadBuf;

use super::BackendStream;
use crate::mux::log::Log;
use crate::mux::message::{self, Message, ProtocolViolation, Startup, to_session};
use crate::mux::record::Statement;
use crate::mux::{Initial, Mux, Reach, SessionId, Transmit};

/// How much is read from the backend at a time.
const CHUNK: usize = 32 * 1024;

/// How much may wait to be written to the backend before a client that sends more is told to wait.
pub(super) const BACKLOG: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) mux: Mux,
    /// `None` once the transaction is over.
    pub(super) stream: Option<S>,
    from_backend: BytesMut,
    pub(super) to_backend: BytesMut,
    /// What was written may still be on this side, where a stream encrypts.
    unflushed: bool,
    chunk: Box<[u8]>,
    pub(super) clients: BTreeMap<SessionId, ClientEnd>,
    /// Who waits for the backend to have nothing to do.
    pub(super) finisher: Option<Waker>,
    /// What runs is to be cancelled.
    pub(super) cancel_due: Option<Reach>,
    /// Somebody looks who blocks the backend.
    pub(super) looking: bool,
    /// Tasks to be woken when the lock is free.
    pub(super) wakes: Vec<Waker>,
    log: Log,
}

/// A client's side of its session.
#[derive(Debug, Default)]
pub(super) struct ClientEnd {
    /// What the client has sent of a message that isn't whole yet.
    pub(super) partial: BytesMut,
    started: bool,
    /// With which it may cancel what it runs.
    secret_key: Option<Bytes>,
    initial: Option<Arc<Initial>>,
    /// What the client has yet to read.
    pub(super) unread: BytesMut,
    pub(super) closed: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl<S: BackendStream> Shared<S> {
    pub(super) fn new(mux: Mux, stream: S) -> Self {
        Self {
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
        }
    }

    /// Moves bytes until there is nothing left to move now. The task of `context` is woken when there is more.
    pub(super) fn drive(&mut self, by: Option<SessionId>, context: &mut Context<'_>) {
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
    pub(super) fn route(&mut self) {
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

    pub(super) fn take_log(&mut self) -> Vec<Statement> {
        self.log.take(self.mux.recorder())
    }

    pub(super) fn is_readable(&self, id: SessionId) -> bool {
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
        let reader = self.mux.busy_sessions().next();
        let unread = reader
            .and_then(|id| self.clients.get(&id))
            .map_or(0, |client| client.unread.len());
        if let Some(id) = reader {
            self.mux.handle_unread(id, unread);
        }
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
    pub(super) fn take_client_messages(&mut self, id: SessionId) -> Result<(), ProtocolViolation> {
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

    /// A client's stream is closed.
    pub(super) fn disconnect(&mut self, id: SessionId) {
        self.mux.handle_disconnect(id, Instant::now());
        self.route();
        self.wake_one();
    }

    /// Somebody stops polling: another one that awaits something has to go on.
    pub(super) fn wake_one(&mut self) {
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

impl ClientEnd {
    pub(super) fn new(secret_key: Option<Bytes>, initial: Option<Arc<Initial>>) -> Self {
        Self {
            secret_key,
            initial,
            ..Self::default()
        }
    }

    pub(super) fn is_readable(&self) -> bool {
        !self.unread.is_empty() || self.closed
    }
}
