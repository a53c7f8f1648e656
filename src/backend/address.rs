//! Where a server listens: the lists of a connection string, and the addresses that they stand for.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::error::{Error, Result};

/// What a socket can be opened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

/// One of the hosts of a connection string.
pub(super) struct Endpoint {
    host: Host,
    /// The name that goes with a `hostaddr`.
    name: Option<Host>,
    port: u16,
}

impl Endpoint {
    /// The hosts and ports of a connection string, paired by the rules of libpq: a `hostaddr` spares the look-up of its
    /// `host`, and one port serves all hosts. Never an empty list.
    pub(super) fn list(config: &Config) -> Result<Vec<Self>> {
        let (names, numeric, ports) = (
            config.get_hosts(),
            config.get_hostaddrs(),
            config.get_ports(),
        );
        let hosts: Vec<Host> = match numeric {
            [] => names.to_vec(),
            numeric => numeric.iter().map(|ip| Host::Tcp(ip.to_string())).collect(),
        };
        if hosts.is_empty() {
            return Err(Error::new("the connection string names no host")
                .help("add one, such as host=localhost"));
        }
        let names_fit = names.is_empty() || names.len() == hosts.len();
        let ports_fit = ports.len() <= 1 || ports.len() == hosts.len();
        if !names_fit || !ports_fit {
            return Err(Error::new(format!(
                "the connection string names {} hosts, {} hostaddrs and {} ports, which can't be paired",
                names.len(),
                numeric.len(),
                ports.len()
            ))
            .help("give as many of each, or leave hostaddr out, or give one port for all hosts"));
        }
        let endpoint = |(index, host)| Self {
            host,
            name: names.get(index).filter(|_| !numeric.is_empty()).cloned(),
            port: ports
                .get(index)
                .or_else(|| ports.first())
                .copied()
                .unwrap_or(5432),
        };
        Ok(hosts.into_iter().enumerate().map(endpoint).collect())
    }

    /// Whether bytes on the way there can be read by others than root.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.host, Host::Tcp(_))
    }

    /// The name that the server's certificate should have.
    pub(super) fn domain(&self) -> String {
        match self.name.as_ref().unwrap_or(&self.host) {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(folder) => folder.display().to_string(),
        }
    }

    /// Every address that it stands for, in the order in which they should be tried. Never an empty list.
    pub(super) async fn resolve(&self) -> io::Result<Vec<Address>> {
        match &self.host {
            Host::Tcp(name) => {
                let found = tokio::net::lookup_host((name.as_str(), self.port)).await?;
                let addresses: Vec<_> = found.map(Address::Tcp).collect();
                if addresses.is_empty() {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        "the name has no address",
                    ));
                }
                Ok(addresses)
            }
            #[cfg(unix)]
            Host::Unix(directory) => {
                let path = directory.join(format!(".s.PGSQL.{}", self.port));
                Ok(vec![Address::Unix(path)])
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(name) => write!(f, "{name}:{}", self.port),
            #[cfg(unix)]
            Host::Unix(directory) => write!(f, "{}:{}", directory.display(), self.port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
