//! The server: named by a URL, and then on this machine, or the embedded one.

use std::env;
use std::time::Duration;

use tokio_postgres::config::Host;

use super::permission::Permission;
use crate::backend::Tls;
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
    let url = |origin, text: &str| {
        let text = text.trim().to_owned();
        (!text.is_empty()).then_some(Url { origin, text })
    };
    if let Some(text) = config.url() {
        // Whoever says so much doesn't mean whatever happens to be in the environment.
        let url = url("Config::database_url", text).ok_or_else(|| {
            Error::new("Config::database_url is empty")
                .help("name the database, or leave the call out to use DATABASE_URL or the embedded server")
        })?;
        return Ok(Some(url));
    }
    match env::var("DATABASE_URL") {
        // CI systems can often empty a variable, but not unset it.
        Ok(text) => Ok(url("DATABASE_URL", &text)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Error::new("DATABASE_URL is not UTF-8")
            .help("write what isn't ASCII in it as %XX, for example ä as %C3%A4")),
    }
}

/// A server, with the database that connections go to unless they ask for another.
#[derive(Clone, Debug)]
pub(super) struct Server {
    config: tokio_postgres::Config,
    tls: Option<Tls>,
    /// How long to wait for a connection while it has as many as it allows.
    patience: Duration,
    /// What errors call it.
    name: String,
}

impl Server {
    /// The server that a URL names, if tests may work there.
    pub(super) fn at(url: &Url, permission: &Permission, settings: &Config) -> Result<Self> {
        let origin = url.origin;
        let config = parse(&url.text).map_err(|error| invalid(url, error))?;
        let hosts = hosts(&config);
        if hosts.is_empty() {
            return Err(Error::new(format!("{origin} names no host")).help(
                "for example postgres://user@localhost/name, or postgres://user@%2Fvar%2Frun%2Fpostgresql/name for a Unix socket",
            ));
        }
        // What looks like a host is then the end of a password, which must not be shown.
        if hosts.iter().any(|host| host.contains('@')) {
            return Err(Error::new(format!("{origin} has more than one '@'"))
                .help("in a password, write '@' as %40"));
        }
        permission.check(url, &config)?;
        Ok(Self {
            config,
            tls: settings.encryption().cloned(),
            patience: settings.connection_limit(),
            name: format!("the server of {origin} at {}", hosts.join(", ")),
        })
    }

    /// The embedded server, which this crate runs itself.
    pub(super) async fn embedded(settings: &Config) -> Result<Self> {
        let address = tokio::task::spawn_blocking(cluster::join)
            .await
            .map_err(|error| {
                Error::new("the embedded server could not be started").because(error)
            })??;
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&address.socket_dir)
            .port(address.port)
            .user(&address.user)
            .dbname("postgres");
        Ok(Self {
            config,
            tls: None,
            patience: settings.connection_limit(),
            name: format!("the embedded server at {}", address.socket_dir.display()),
        })
    }

    pub(super) fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn cannot_connect(&self, error: Error) -> Error {
        error.during(format!("cannot connect to {}", self.name))
    }
}

/// Two modes of libpq's are unknown to `tokio_postgres`, with which it is the connector that verifies.
fn parse(text: &str) -> Result<tokio_postgres::Config, tokio_postgres::Error> {
    text.parse().or_else(|error| {
        let mut text = text.to_owned();
        for mode in ["verify-full", "verify-ca"] {
            for quote in ["", "'"] {
                let mode = format!("sslmode={quote}{mode}{quote}");
                text = text.replace(&mode, "sslmode=require");
            }
        }
        // What else is wrong is wrong in the original, too.
        text.parse().map_err(|_| error)
    })
}

fn invalid(url: &Url, error: tokio_postgres::Error) -> Error {
    if let Some(option) = FILES.iter().find(|&&option| names(&url.text, option)) {
        return Error::new(format!(
            "{} has the option {option}, which only a TLS connector can obey",
            url.origin
        ))
        .help("have the connector given to Config::tls load the file, and leave the option out");
    }
    let invalid = Error::new(format!("{} is not a valid connection string", url.origin))
        .help("for example postgres://user:password@localhost:5432/name");
    // The cause may quote an unknown option, which in a string that isn't quoted as it should be is a piece of the
    // password. With one '@' at most, and no password outside of the user's part, it can't be.
    let may_quote = url.text.matches('@').count() <= 1 && !url.text.contains("password");
    match error.into_source() {
        Some(cause) if may_quote || !cause.to_string().contains('`') => invalid.because(cause),
        _ => invalid,
    }
}

/// Where connections go: to the addresses, if any are given, and the host names are then but names.
fn hosts(config: &tokio_postgres::Config) -> Vec<String> {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().map(ToString::to_string).collect();
    }
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(folder) => folder.display().to_string(),
    });
    hosts.collect()
}

/// libpq's names for the files that certificates and keys are in.
const FILES: [&str; 5] = ["sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword"];

/// Whether a connection string sets an option that `tokio_postgres` doesn't know.
fn names(text: &str, option: &str) -> bool {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(option) {
        let begins = before.is_empty() || before.ends_with(['?', '&', ' ', '\n', '\t']);
        if begins && after.trim_start().starts_with('=') {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests;
