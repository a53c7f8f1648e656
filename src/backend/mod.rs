//! One connection to the real server, ready to speak the raw protocol.
//!
//! Everything up to the first `ReadyForQuery` is left to `tokio_postgres`, with all its authentication methods; then the
//! stream is taken back from it. Nothing here knows what is said on the connection afterwards.

mod address;
mod cancel;
mod exchange;
mod queue;
mod rehearsal;
mod search;
mod socket;
mod startup;
mod stream;
mod tls;

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio_postgres::{Client, Config, Connection};

pub(crate) use self::cancel::Canceller;
pub(crate) use self::exchange::Answer;
pub(crate) use self::queue::{Queue, says_full};
use self::search::Search;
pub(crate) use self::stream::Stream;
pub use self::tls::ServerSocket;
pub(crate) use self::tls::Tls;
use crate::error::Result;

/// An authenticated connection that nothing was said on yet.
///
/// Dropped, it just closes; the server rolls back what is open then.
pub(crate) struct Backend {
    /// Stands right behind the first `ReadyForQuery`.
    pub(crate) stream: Stream,
    /// Every `ParameterStatus` of the startup, in order.
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) process_id: i32,
    pub(crate) canceller: Canceller,
    /// How many answers are still to come, and what was read of them.
    owed: usize,
    unread: BytesMut,
}

impl Backend {
    /// The connection that a stream belongs to, on which nothing is under way.
    pub(crate) fn new(
        stream: Stream,
        parameters: Vec<(String, String)>,
        canceller: Canceller,
    ) -> Self {
        Self {
            stream,
            parameters,
            process_id: canceller.process_id,
            canceller,
            owed: 0,
            unread: BytesMut::new(),
        }
    }

    /// Connects to the first host that answers, and authenticates there.
    ///
    /// # Errors
    ///
    /// As [`Search`] says.
    pub(crate) async fn connect(config: &Config, tls: Option<&Tls>) -> Result<Self> {
        let mut search = Search::new(config, tls)?;
        while let Some((address, encryption)) = search.next().await {
            let opened = startup::open(config, &address, &encryption);
            match within(search.patience(), opened).await {
                Ok(backend) => return Ok(backend),
                Err(failure) => search.failed(&address, failure)?,
            }
        }
        Err(search.in_vain())
    }

    /// The server's major version, 0 where it doesn't tell.
    pub(crate) fn major_version(&self) -> u32 {
        let mut parameters = self.parameters.iter();
        let version = parameters.find(|(name, _)| name == "server_version");
        let major = version
            .and_then(|(_, version)| version.split(|char: char| !char.is_ascii_digit()).next());
        major.and_then(|major| major.parse().ok()).unwrap_or(0)
    }

    /// A handle for cancelling what runs on this connection, independent of its stream.
    pub(crate) fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }
}

/// Connects an ordinary client to the first host that answers. Somebody has to poll the connection.
///
/// # Errors
///
/// As [`Search`] says.
pub(crate) async fn client(
    config: &Config,
    tls: Option<&Tls>,
) -> Result<(Client, Connection<Stream, Stream>)> {
    let mut search = Search::new(config, tls)?;
    while let Some((address, encryption)) = search.next().await {
        let connected = startup::client(config, &address, &encryption);
        match within(search.patience(), connected).await {
            Ok(client) => return Ok(client),
            Err(failure) => search.failed(&address, failure)?,
        }
    }
    Err(search.in_vain())
}

async fn within<T, E: From<io::Error>>(
    patience: Option<Duration>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(patience) = patience else {
        return work.await;
    };
    tokio::time::timeout(patience, work)
        .await
        .unwrap_or_else(|_| {
            let words = format!("no answer within {patience:?} (connect_timeout)");
            Err(io::Error::new(io::ErrorKind::TimedOut, words).into())
        })
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
