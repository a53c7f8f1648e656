//! TLS, which the crate itself knows nothing of: a connector of the user's encrypts, behind one hook.

use std::error::Error as StdError;
use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect, TlsStream};

use super::socket::Socket;

/// The connector of a [`Config`](crate::Config), whatever its type.
#[derive(Clone)]
pub(crate) struct Tls(Arc<dyn Connector>);

impl Tls {
    pub(crate) fn new<T>(connector: T) -> Self
    where
        T: MakeTlsConnect<ServerSocket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        <T::TlsConnect as TlsConnect<ServerSocket>>::Future: Send + 'static,
    {
        Self(Arc::new(connector))
    }

    /// The handshake with the server, which has agreed to it.
    pub(super) fn handshake(&self, domain: &str, socket: ServerSocket) -> Handshake {
        self.0.connect(domain, socket)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

pub(super) type Source = Box<dyn StdError + Send + Sync>;

/// What a connector makes of a socket.
pub(super) type Tunnel = Box<dyn TlsStream + Send + Unpin>;

pub(super) type Handshake = Pin<Box<dyn Future<Output = Result<Tunnel, Source>> + Send>>;

trait Connector: Send + Sync {
    fn connect(&self, domain: &str, socket: ServerSocket) -> Handshake;
}

impl<T> Connector for T
where
    T: MakeTlsConnect<ServerSocket> + Clone + Send + Sync,
    T::Stream: Send + 'static,
    <T::TlsConnect as TlsConnect<ServerSocket>>::Future: Send + 'static,
{
    fn connect(&self, domain: &str, socket: ServerSocket) -> Handshake {
        match self.clone().make_tls_connect(domain) {
            Ok(connector) => {
                let handshake = connector.connect(socket);
                Box::pin(async {
                    let stream = handshake.await.map_err(Into::into)?;
                    Ok(Box::new(stream) as Tunnel)
                })
            }
            Err(error) => Box::pin(ready(Err(error.into()))),
        }
    }
}

/// The socket to the server as a TLS connector sees it: what [`Config::tls`](crate::Config::tls) asks connectors to work
/// on. It's a stream of bytes, and nothing else.
///
/// ```no_run
/// use actix_shareddb::{Config, ServerSocket};
/// use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
///
/// fn encrypted<T>(connector: T) -> Config
/// where
///     T: MakeTlsConnect<ServerSocket> + Clone + Send + Sync + 'static,
///     T::Stream: Send + 'static,
///     <T::TlsConnect as TlsConnect<ServerSocket>>::Future: Send + 'static,
/// {
///     Config::new().tls(connector)
/// }
/// ```
pub struct ServerSocket(Arc<Mutex<Socket>>);

impl fmt::Debug for ServerSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSocket")
    }
}

impl ServerSocket {
    /// The socket twice: for the connector, and for who has to reach it below what that makes of it.
    pub(super) fn shared(socket: Socket) -> (Self, Self) {
        let socket = Arc::new(Mutex::new(socket));
        (Self(Arc::clone(&socket)), Self(socket))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Socket> {
        // A panic within a poll leaves a socket that can be polled again, or says that it can't.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for ServerSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ServerSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(cx)
    }
}

/// To `tokio_postgres`, a connection that is encrypted already, if at all.
pub(super) struct Established;

impl<S: TlsStream + Unpin> TlsConnect<S> for Established {
    type Stream = S;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<S, Self::Error>>;

    fn connect(self, stream: S) -> Self::Future {
        ready(Ok(stream))
    }
}
