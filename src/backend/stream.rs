//! The connection to the server, encrypted or not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::address::Address;
use super::socket::Socket;
use super::tls::{ServerSocket, Source, Tls, Tunnel};
use crate::mux::driver::BackendStream;

/// A stream that belongs to no runtime, as [`Socket`] is one.
pub(crate) enum Stream {
    Plain(Socket),
    Encrypted {
        tunnel: Tunnel,
        /// What the tunnel works on.
        socket: ServerSocket,
    },
}

/// Whether and how connections to one host are encrypted.
#[derive(Clone)]
pub(super) struct Encryption {
    mode: SslMode,
    negotiation: SslNegotiation,
    connector: Option<Tls>,
    /// The name that the server's certificate should have.
    domain: String,
}

/// Why there is no connection, or none that is as it should be.
pub(super) enum Unconnected {
    /// No server was met.
    Unreachable(io::Error),
    /// It offers no encryption, which is required.
    Unencrypted,
    Handshake(Source),
}

impl Encryption {
    pub(super) fn of(config: &Config, connector: Option<&Tls>, domain: &str) -> Self {
        Self {
            mode: config.get_ssl_mode(),
            negotiation: config.get_ssl_negotiation(),
            connector: connector.cloned(),
            domain: domain.to_owned(),
        }
    }

    /// What encrypts, if that is wanted. As in libpq, nothing is on a Unix socket, which nobody can listen in on.
    fn connector(&self, address: &Address) -> Option<&Tls> {
        let is_wanted = self.mode != SslMode::Disable && matches!(address, Address::Tcp(_));
        self.connector.as_ref().filter(|_| is_wanted)
    }
}

/// As the cancel's connection sees it.
impl From<Unconnected> for io::Error {
    fn from(reason: Unconnected) -> Self {
        match reason {
            Unconnected::Unreachable(error) => error,
            Unconnected::Unencrypted => Self::other(UNENCRYPTED),
            Unconnected::Handshake(error) => Self::other(error),
        }
    }
}

pub(super) const UNENCRYPTED: &str = "the server does not support TLS";

impl Stream {
    /// Connects with the help of the current runtime, which the stream then forgets, and agrees with the server on
    /// encryption.
    pub(super) async fn connect(
        address: &Address,
        encryption: &Encryption,
    ) -> Result<Self, Unconnected> {
        let mut socket = Socket::connect(address)
            .await
            .map_err(Unconnected::Unreachable)?;
        let Some(connector) = encryption.connector(address) else {
            return Ok(Self::Plain(socket));
        };
        if encryption.negotiation == SslNegotiation::Postgres
            && !agrees(&mut socket)
                .await
                .map_err(Unconnected::Unreachable)?
        {
            return match encryption.mode {
                SslMode::Require => Err(Unconnected::Unencrypted),
                _ => Ok(Self::Plain(socket)),
            };
        }
        let (lent, socket) = ServerSocket::shared(socket);
        let handshake = connector.handshake(&encryption.domain, lent);
        let tunnel = handshake.await.map_err(Unconnected::Handshake)?;
        Ok(Self::Encrypted { tunnel, socket })
    }

    /// Drops the registrations with all runtimes, see [`Socket::forget_runtimes`].
    pub(crate) fn forget_runtimes(&mut self) {
        match self {
            Self::Plain(socket) => socket.forget_runtimes(),
            Self::Encrypted { socket, .. } => socket.lock().forget_runtimes(),
        }
    }

    /// Whether nothing has come, neither bytes nor the end. What has come is lost.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Encrypted { tunnel, socket } => {
                if !socket.lock().is_quiet() {
                    return false;
                }
                // What has come may be in the tunnel by now.
                let mut context = Context::from_waker(Waker::noop());
                let mut byte = [0];
                let mut buffer = ReadBuf::new(&mut byte);
                let read = Pin::new(tunnel).poll_read(&mut context, &mut buffer);
                read.is_pending()
            }
        }
    }

    fn inner(&mut self) -> Pin<&mut (dyn TlsStream + Send + Unpin)> {
        match self {
            Self::Plain(socket) => Pin::new(socket),
            Self::Encrypted { tunnel, .. } => Pin::new(&mut **tunnel),
        }
    }
}

/// Asks for encryption, which the server answers with one byte.
async fn agrees(socket: &mut Socket) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    Ok(socket.read_u8().await? == b'S')
}

impl BackendStream for Stream {
    fn forget_other_runtimes(&mut self) {
        match self {
            Self::Plain(socket) => socket.forget_other_runtimes(),
            Self::Encrypted { socket, .. } => socket.lock().forget_other_runtimes(),
        }
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Plain(socket) => socket.channel_binding(),
            Self::Encrypted { tunnel, .. } => tunnel.channel_binding(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Encrypted { tunnel, .. } => tunnel.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            // What is written to a socket is on its way.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Encrypted { tunnel, .. } => Pin::new(tunnel).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

/// Nothing encrypts it, so it has nothing to bind to.
impl TlsStream for Socket {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}
