//! The server: named by a URL, and then on this machine, or the embedded one.

use std::env;
use std::net::IpAddr;

use tokio_postgres::config::Host;

use crate::cluster;
use crate::config::Config;
use crate::error::{Error, Result};

/// A connection string and where it was given, which is what errors call it: it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) origin: &'static str,
    pub(super) text: String,
}

/// The URL of the case, or else that of the environment, or none.
pub(super) fn url(config: &Config) -> Result<Option<Url>> {
    let (origin, text) = match config.url() {
        Some(text) => ("Config::database_url", text.to_owned()),
        None => match env::var("DATABASE_URL") {
            Ok(text) => ("DATABASE_URL", text),
            Err(env::VarError::NotPresent) => return Ok(None),
            Err(env::VarError::NotUnicode(_)) => {
                return Err(Error::new("DATABASE_URL is not UTF-8"));
            }
        },
    };
    // CI systems can often empty a variable, but not unset it.
    let text = text.trim();
    Ok((!text.is_empty()).then(|| Url {
        origin,
        text: text.to_owned(),
    }))
}

/// A server, with the database that connections go to unless they ask for another.
#[derive(Debug)]
pub(super) struct Server {
    config: tokio_postgres::Config,
    /// What errors call it.
    name: String,
}

impl Server {
    /// The server that a URL names, if that is this machine or the user says that a remote one is meant.
    pub(super) fn at(url: &Url) -> Result<Self> {
        let allow_remote = env::var_os(ALLOW_REMOTE).is_some_and(|value| value == "1");
        Self::parse(url, allow_remote)
    }

    pub(super) fn parse(url: &Url, allow_remote: bool) -> Result<Self> {
        let origin = url.origin;
        let config = url
            .text
            .parse::<tokio_postgres::Config>()
            .map_err(|error| invalid(url, error))?;
        let hosts = hosts(&config);
        if hosts.is_empty() {
            return Err(Error::new(format!("{origin} names no host")).help(
                "For example postgres://user@localhost/name, or postgres://user@%2Fvar%2Frun%2Fpostgresql/name for a Unix socket.",
            ));
        }
        // What looks like a host is then the end of a password, which must not be shown.
        if hosts.iter().any(|host| host.name.contains('@')) {
            return Err(Error::new(format!("{origin} has more than one '@'"))
                .help("In a password, write '@' as %40."));
        }
        if let Some(remote) = hosts.iter().find(|host| !host.is_local)
            && !allow_remote
        {
            return Err(Error::new(format!(
                "{origin} names the host '{}', which is not this machine",
                remote.name
            ))
            .help(format!(
                "If this database is meant for tests, set {ALLOW_REMOTE}=1."
            )));
        }
        let names: Vec<_> = hosts.into_iter().map(|host| host.name).collect();
        Ok(Self {
            config,
            name: format!("the server of {origin} at {}", names.join(", ")),
        })
    }

    /// The private server that this crate runs itself.
    pub(super) async fn embedded() -> Result<Self> {
        let address = tokio::task::spawn_blocking(cluster::join)
            .await
            .map_err(|error| {
                Error::new("the private server could not be started").because(error)
            })??;
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&address.socket_dir)
            .port(address.port)
            .user(&address.user)
            .dbname("postgres");
        Ok(Self {
            config,
            name: format!("the private server at {}", address.socket_dir.display()),
        })
    }

    pub(super) fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    pub(super) fn into_config(self) -> tokio_postgres::Config {
        self.config
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

const ALLOW_REMOTE: &str = "SHAREDDB_ALLOW_REMOTE";

fn invalid(url: &Url, error: tokio_postgres::Error) -> Error {
    let invalid = Error::new(format!("{} is not a valid connection string", url.origin))
        .help("For example postgres://user:password@localhost:5432/name.");
    // The cause may quote an unknown option, which in a string that isn't quoted as it should be is a piece of the
    // password. With one '@' at most, and no password outside of the user's part, it can't be.
    let may_quote = url.text.matches('@').count() <= 1 && !url.text.contains("password");
    match error.into_source() {
        Some(cause) if may_quote || !cause.to_string().contains('`') => invalid.because(cause),
        _ => invalid,
    }
}

struct Address {
    name: String,
    is_local: bool,
}

/// Where connections go: to the addresses, if any are given, and the host names are then but names.
fn hosts(config: &tokio_postgres::Config) -> Vec<Address> {
    if !config.get_hostaddrs().is_empty() {
        return config
            .get_hostaddrs()
            .iter()
            .map(|address| Address {
                name: address.to_string(),
                is_local: is_loopback(*address),
            })
            .collect();
    }
    config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => Address {
                name: name.clone(),
                // A name is not looked up: what it means is not ours to trust.
                is_local: match name.parse() {
                    Ok(address) => is_loopback(address),
                    Err(_) => name.eq_ignore_ascii_case("localhost"),
                },
            },
            #[cfg(unix)]
            Host::Unix(dir) => Address {
                name: dir.display().to_string(),
                is_local: true,
            },
        })
        .collect()
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests;
