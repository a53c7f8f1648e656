//! A connected stream that any tokio runtime can poll.

use std::io::{self, Read as _};
use std::net;
#[cfg(unix)]
use std::os::unix::net as unix;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::runtime::{Handle, Id};

use super::address::Address;

/// A TCP or Unix stream that belongs to no runtime.
///
/// A stream of tokio's is tied to the reactor of the runtime that made it: polled from another runtime it still costs a
/// hop to that reactor's thread, and it fails once that runtime is gone. A backend is shared by the runtimes of the test
/// and of the server's workers, and is kept when all of them have ended. So this type owns a plain non-blocking socket,
/// and registers a duplicate of its descriptor with each runtime that polls it, the first time it does.
///
/// The reactors don't disturb each other: each one is told of all bytes that arrive, and learns from the read itself
/// when another runtime took them. As with any stream, a runtime wakes only the task that polled last there.
///
/// Polling it panics, as all of tokio's I/O does, on a runtime that was built without `enable_io`.
pub(crate) struct Socket {
    connection: Connection,
    registrations: Vec<(Id, Box<dyn Registration>)>,
}

impl Socket {
    /// Connects with the help of the current runtime, which the socket then forgets.
    pub(super) async fn connect(address: &Address) -> io::Result<Self> {
        let connection = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Connection::Tcp(stream.into_std()?)
            }
            #[cfg(unix)]
            Address::Unix(path) => Connection::Unix(UnixStream::connect(path).await?.into_std()?),
        };
        Ok(Self {
            connection,
            registrations: Vec::new(),
        })
    }

    /// Drops the registrations with all runtimes, which come back by themselves where it is polled again.
    ///
    /// Without it a socket that outlives many runtimes would keep a descriptor for each of them; and tokio reserves the
    /// right to give the id of a finished runtime to a new one.
    pub(crate) fn forget_runtimes(&mut self) {
        self.registrations.clear();
    }

    /// Drops the registrations with all runtimes but the current one.
    ///
    /// Every runtime that is registered is woken by every byte, and each of these wake-ups costs as much as the rest of a
    /// round trip. So whoever polls alone should see to it that it is alone.
    pub(crate) fn forget_other_runtimes(&mut self) {
        if let Ok(here) = Handle::try_current().map(|handle| handle.id()) {
            self.registrations.retain(|(id, _)| *id == here);
        }
    }

    /// Whether nothing has come, neither bytes nor the end. What has come is lost.
    pub(super) fn is_quiet(&self) -> bool {
        // A runtime learns of it only when its reactor has run, so the socket itself is asked.
        let read = match &self.connection {
            Connection::Tcp(stream) => (&mut &*stream).read(&mut [0]),
            #[cfg(unix)]
            Connection::Unix(stream) => (&mut &*stream).read(&mut [0]),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The stream as the current runtime sees it.
    fn here(&mut self) -> io::Result<Pin<&mut dyn Registration>> {
        let runtime = Handle::try_current()
            .map_err(|_| {
                io::Error::other("a backend's socket was polled outside of a tokio runtime")
            })?
            .id();
        let known = self.registrations.iter().position(|(id, _)| *id == runtime);
        let index = match known {
            Some(index) => index,
            None => {
                self.registrations
                    .push((runtime, self.connection.register()?));
                self.registrations.len() - 1
            }
        };
        Ok(Pin::new(&mut *self.registrations[index].1))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().here()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().here()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().here()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().here()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().here()?.poll_shutdown(cx)
    }
}

enum Connection {
    Tcp(net::TcpStream),
    #[cfg(unix)]
    Unix(unix::UnixStream),
}

impl Connection {
    /// Registers a duplicate with the current runtime. Being non-blocking is a property that duplicates share.
    fn register(&self) -> io::Result<Box<dyn Registration>> {
        Ok(match self {
            Self::Tcp(stream) => Box::new(TcpStream::from_std(stream.try_clone()?)?),
            #[cfg(unix)]
            Self::Unix(stream) => Box::new(UnixStream::from_std(stream.try_clone()?)?),
        })
    }
}

/// A stream of tokio's, of either kind.
trait Registration: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Registration for S {}

#[cfg(test)]
#[cfg(unix)]
#[path = "tests/socket.rs"]
mod tests;
