//! One connection to the real server, ready to speak the raw protocol.
//!
//! Everything up to the first `ReadyForQuery` is left to `tokio_postgres`, with all its authentication methods; then the
//! stream is taken back from it. Nothing here knows what is said on the connection afterwards.

mod address;
mod cancel;
mod exchange;
mod socket;
mod startup;

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use self::address::Endpoint;
pub(crate) use self::cancel::Canceller;
pub(crate) use self::exchange::Answer;
pub(crate) use self::socket::Socket;
use self::startup::Failure;
use crate::error::{Error, Result};

/// An authenticated connection that nothing was said on yet.
///
/// Dropped, it just closes; the server rolls back what is open then.
pub(crate) struct Backend {
    /// Stands right behind the first `ReadyForQuery`.
    pub(crate) stream: Socket,
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
        stream: Socket,
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
    /// Hosts are tried in the order given, with `connect_timeout` for each address. A server that answers and refuses
    /// ends the search, unless it is only starting up or shutting down. `load_balance_hosts` and `target_session_attrs`
    /// have no effect: a test wants the same server every time, and learns from its first write if that is read-only.
    ///
    /// # Errors
    ///
    /// If no server could be reached or the one that was refuses, and if the configuration requires TLS, which is not
    /// supported yet.
    pub(crate) async fn connect(config: &Config) -> Result<Self> {
        // `Prefer` without a TLS implementation means a plain connection, as in libpq built without one.
        if !matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer) {
            return Err(
                Error::new("the connection string requires TLS, which is not supported yet").help(
                    "use sslmode=prefer or sslmode=disable, with a server on this machine or in a trusted network",
                ),
            );
        }
        let patience = config.get_connect_timeout().copied();
        let mut failures = Vec::new();
        for endpoint in Endpoint::list(config)? {
            let addresses = match endpoint.resolve().await {
                Ok(addresses) => addresses,
                Err(error) => {
                    failures.push((endpoint.to_string(), error.into()));
                    continue;
                }
            };
            for address in addresses {
                match within(patience, startup::open(config, &address)).await {
                    Ok(backend) => return Ok(backend),
                    Err(failure) => failures.push((address.to_string(), failure)),
                }
                if failures.last().is_some_and(|(_, failure)| failure.is_final) {
                    return Err(no_connection(config, failures));
                }
            }
        }
        Err(no_connection(config, failures))
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

/// The error of a search: its last failure ended it, the ones before it are mentioned.
fn no_connection(config: &Config, mut failures: Vec<(String, Failure)>) -> Error {
    let (place, last) = failures
        .pop()
        .expect("a list of endpoints is never empty, and each gives an address or a failure");
    let user = match config.get_user() {
        Some(user) => format!("'{user}'"),
        None => "that of the operating system".to_owned(),
    };
    let database = match config.get_dbname() {
        Some(database) => format!("'{database}'"),
        None => "named like the user".to_owned(),
    };
    let mut event =
        format!("no connection to PostgreSQL at {place} (user {user}, database {database})");
    for (place, failure) in failures {
        event.push_str(&format!(", nor before at {place}: {}", failure.cause));
    }
    Error::new(event).because(last.cause).help(last.help)
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
