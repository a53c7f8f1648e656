//! Which of the hosts of a connection string to connect to.

use std::time::Duration;
use std::vec;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::address::{Address, Endpoint};
use super::startup::Failure;
use super::stream::Encryption;
use super::tls::Tls;
use crate::error::{Error, Result};

/// The hosts, in the order given, with `connect_timeout` for each address.
///
/// A server that answers and refuses ends the search, unless it is only starting up or shutting down.
/// `load_balance_hosts` and `target_session_attrs` have no effect: a test wants the same server every time, and learns
/// from its first write if that is read-only.
///
/// It fails if no server could be reached or the one that was refuses, and if the configuration requires TLS and there is
/// nothing that encrypts.
pub(super) struct Search<'a> {
    config: &'a Config,
    tls: Option<&'a Tls>,
    endpoints: vec::IntoIter<Endpoint>,
    /// What is left to try of one endpoint.
    addresses: vec::IntoIter<Address>,
    encryption: Encryption,
    failures: Vec<(String, Failure)>,
}

impl<'a> Search<'a> {
    pub(super) fn new(config: &'a Config, tls: Option<&'a Tls>) -> Result<Self> {
        let endpoints = Endpoint::list(config)?;
        // `Prefer` without a TLS implementation means a plain connection, as in libpq built without one.
        if config.get_ssl_mode() == SslMode::Require
            && tls.is_none()
            && endpoints.iter().any(Endpoint::is_remote)
        {
            return Err(Error::new(
                "the connection string requires TLS, and the configuration has no connector for it",
            )
            .help(
                "give Config::tls the connector that the application gives to its own pool, such as \
                 tokio_postgres_rustls::MakeRustlsConnect; or use sslmode=prefer or sslmode=disable, with a server on \
                 this machine or in a trusted network",
            ));
        }
        Ok(Self {
            config,
            tls,
            endpoints: endpoints.into_iter(),
            addresses: Vec::new().into_iter(),
            encryption: Encryption::of(config, tls, ""),
            failures: Vec::new(),
        })
    }

    /// Where to try next.
    pub(super) async fn next(&mut self) -> Option<(Address, Encryption)> {
        loop {
            if let Some(address) = self.addresses.next() {
                return Some((address, self.encryption.clone()));
            }
            let endpoint = self.endpoints.next()?;
            match endpoint.resolve().await {
                Ok(addresses) => {
                    self.addresses = addresses.into_iter();
                    self.encryption = Encryption::of(self.config, self.tls, &endpoint.domain());
                }
                Err(error) => self.failures.push((endpoint.to_string(), error.into())),
            }
        }
    }

    /// How long an address may take.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.config.get_connect_timeout().copied()
    }

    /// Notes why there was no connection. An error says that this was the last try.
    pub(super) fn failed(&mut self, address: &Address, failure: Failure) -> Result<()> {
        let is_final = failure.is_final;
        self.failures.push((address.to_string(), failure));
        match is_final {
            true => Err(self.in_vain()),
            false => Ok(()),
        }
    }

    /// The error of a search: its last failure ended it, the ones before it are mentioned.
    pub(super) fn in_vain(&mut self) -> Error {
        let (place, last) = self
            .failures
            .pop()
            .expect("a list of endpoints is never empty, and each gives an address or a failure");
        let user = match self.config.get_user() {
            Some(user) => format!("'{user}'"),
            None => "that of the operating system".to_owned(),
        };
        let database = match self.config.get_dbname() {
            Some(database) => format!("'{database}'"),
            None => "named like the user".to_owned(),
        };
        let mut event =
            format!("no connection to PostgreSQL at {place} (user {user}, database {database})");
        for (place, failure) in self.failures.drain(..) {
            event.push_str(&format!(", nor before at {place}: {}", failure.cause));
        }
        Error::new(event).because(last.cause).help(last.help)
    }
}
