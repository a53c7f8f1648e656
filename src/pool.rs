//! The application's pool: deadpool's own, whose clients speak to a session instead of to a server.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool, Runtime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, NoTls};

use crate::backend::Stream;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::mux::driver::Driver;

/// Builds a pool whose clients all live in the driver's transaction.
pub(crate) fn build(
    driver: &Driver<Stream>,
    target: &tokio_postgres::Config,
    config: &Config,
) -> Result<Pool> {
    let manager = Manager::from_connect(
        target.clone(),
        Sessions(driver.clone()),
        manager_config(config),
    );
    of(manager, config)
}

pub(crate) fn manager_config(config: &Config) -> ManagerConfig {
    ManagerConfig {
        recycling_method: config.recycling().clone(),
    }
}

/// A pool as the configuration wants it, whatever its clients are.
pub(crate) fn of(manager: Manager, config: &Config) -> Result<Pool> {
    Pool::builder(manager)
        .max_size(config.size())
        .wait_timeout(Some(config.wait()))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::new("the pool could not be built").because(error))
}

/// Opens a session where deadpool would open a connection.
struct Sessions(Driver<Stream>);

impl Connect for Sessions {
    fn connect(
        &self,
        config: &tokio_postgres::Config,
    ) -> Pin<Box<dyn Future<Output = Result<Connected, tokio_postgres::Error>> + Send + '_>> {
        let mut config = config.clone();
        // A session's stream is in memory: there is nobody to hide from, and nothing to bind a password to.
        config
            .ssl_mode(SslMode::Disable)
            .channel_binding(ChannelBinding::Disable);
        Box::pin(async move {
            let (client, connection) = config.connect_raw(self.0.connect(), NoTls).await?;
            // Its error reaches whoever uses the client.
            let task = tokio::spawn(async move { drop(connection.await) });
            Ok((client, task))
        })
    }
}

type Connected = (Client, JoinHandle<()>);

/// An error of this crate as one of the client's, whose only way in is a stream that fails.
pub(crate) async fn into_client_error(error: Error) -> tokio_postgres::Error {
    let stream = Failing(Some(error));
    let mut config = tokio_postgres::Config::new();
    config.user("nobody").ssl_mode(SslMode::Disable);
    match config.connect_raw(stream, NoTls).await {
        Err(error) => error,
        Ok(_) => unreachable!("nothing is ever written to the stream"),
    }
}

struct Failing(Option<Error>);

impl AsyncRead for Failing {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Failing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        let error = self
            .0
            .take()
            .map_or_else(|| io::ErrorKind::BrokenPipe.into(), io::Error::other);
        Poll::Ready(Err(error))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
