//! Where tests may work: on this machine, in a database that doesn't look like production, or where the user says so by
//! name.
//!
//! Nobody loses data when a test runs in the wrong place, for nothing is committed there. But it takes locks and
//! connections, and rows that it writes are bloat for the next vacuum, so production is no place for it.

use std::env;
use std::net::IpAddr;

use tokio_postgres::config::Host;

use super::server::Url;
use crate::config::Config;
use crate::error::{Error, Result};

/// The servers and databases that the user allows by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) servers: Vec<String>,
    pub(super) databases: Vec<String>,
}

impl Permission {
    /// What the case allows, and the environment.
    pub(super) fn of(config: &Config) -> Self {
        Self::from(config, |variable| env::var(variable).unwrap_or_default())
    }

    fn from(config: &Config, environment: impl Fn(&str) -> String) -> Self {
        let both = |of_case: &[String], variable| {
            let of_environment = environment(variable);
            let mut names = of_case.to_vec();
            names.extend(names_in(&of_environment));
            names
        };
        Self {
            servers: both(config.allowed_servers(), ALLOW_SERVER),
            databases: both(config.allowed_databases(), ALLOW_DATABASE),
        }
    }

    /// Refuses what isn't on this machine or looks like production, unless it is allowed.
    pub(super) fn check(&self, url: &Url, target: &tokio_postgres::Config) -> Result<()> {
        let origin = url.origin;
        let refused: Vec<_> = servers(target)
            .into_iter()
            .filter(|server| !contains_host(&self.servers, &server.name))
            .filter_map(|server| Some((server.doubt()?, server.name)))
            .collect();
        if let Some((doubt, name)) = refused.first() {
            let event = format!("{origin} names the server '{name}', which {doubt}");
            let names: Vec<_> = refused.iter().map(|(_, name)| &name[..]).collect();
            return Err(Error::new(event).help(remedy(&names, ALLOW_SERVER, "allow_server")));
        }
        // What isn't named is named like the user, by PostgreSQL's rule.
        let database = target.get_dbname().or_else(|| target.get_user());
        let Some(name) = database.filter(|name| !self.databases.iter().any(|known| known == name))
        else {
            return Ok(());
        };
        match production(name) {
            Some(word) => Err(Error::new(format!(
                "{origin} names the database '{name}', which looks like production ('{word}')"
            ))
            .help(remedy(&[name], ALLOW_DATABASE, "allow_database"))),
            None => Ok(()),
        }
    }
}

const ALLOW_SERVER: &str = "ACTIX_SHAREDDB_ALLOW_SERVER";
const ALLOW_DATABASE: &str = "ACTIX_SHAREDDB_ALLOW_DATABASE";

fn remedy(names: &[&str], variable: &str, method: &str) -> String {
    let calls: String = names
        .iter()
        .map(|name| format!(".{method}({name:?})"))
        .collect();
    format!(
        "if it is meant for tests, allow it by name: set {variable}={} or call Config::new(){calls}",
        names.join(",")
    )
}

fn names_in(list: &str) -> impl Iterator<Item = String> {
    let names = list.split(',').map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Names of hosts are alike in both cases, and addresses however they are written.
fn contains_host(names: &[String], host: &str) -> bool {
    let address = |name: &str| name.parse::<IpAddr>().ok();
    names.iter().any(|name| {
        name.eq_ignore_ascii_case(host) || address(name).is_some_and(|ip| address(host) == Some(ip))
    })
}

struct Server {
    name: String,
    is_local: bool,
}

impl Server {
    /// Why it should be asked for before a test works there.
    fn doubt(&self) -> Option<String> {
        if !self.is_local {
            return Some("is not this machine".to_owned());
        }
        let word = production(&self.name)?;
        Some(format!("looks like production ('{word}')"))
    }
}

/// The names and addresses to which connections may go. Where addresses are given, a name is but a name, by which a
/// certificate is verified; but it tells where a tunnel leads.
fn servers(target: &tokio_postgres::Config) -> Vec<Server> {
    let addresses = target.get_hostaddrs();
    let named = target.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => Server {
            name: name.clone(),
            // A name is not looked up: what it means is not ours to trust.
            is_local: !addresses.is_empty()
                || match name.parse() {
                    Ok(address) => is_loopback(address),
                    Err(_) => name.eq_ignore_ascii_case("localhost"),
                },
        },
        #[cfg(unix)]
        Host::Unix(folder) => Server {
            name: folder.display().to_string(),
            is_local: true,
        },
    });
    let numeric = addresses.iter().map(|address| Server {
        name: address.to_string(),
        is_local: is_loopback(*address),
    });
    numeric.chain(named).collect()
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The word of a name by which it looks like production, unless another one says that it is for tests.
fn production(name: &str) -> Option<String> {
    let words = words(name);
    let is_test = words.iter().any(|word| TEST.contains(&&word[..]));
    words
        .into_iter()
        .find(|word| !is_test && PRODUCTION.contains(&&word[..]))
}

const PRODUCTION: [&str; 5] = ["prod", "production", "prd", "live", "master"];
const TEST: [&str; 8] = [
    "test",
    "tests",
    "testing",
    "dev",
    "development",
    "ci",
    "staging",
    "sandbox",
];

/// The words of a name, in lower case: `todoProduction-2` has `todo` and `production`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut follows_lower = false;
    for letter in name.chars() {
        let is_new = !letter.is_alphabetic() || (letter.is_uppercase() && follows_lower);
        if is_new {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphabetic()) {
            word.extend(letter.to_lowercase());
        }
        follows_lower = letter.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests;
