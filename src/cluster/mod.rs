//! The embedded default: a PostgreSQL cluster of the crate's own, for when no `DATABASE_URL` names another one.
//!
//! It is made from the PostgreSQL that is installed ([`find`]), kept in the cargo target directory so that `initdb`
//! is paid once ([`folder`], [`initdb`]), started by the first test process and shared with all others ([`share`],
//! [`start`]), and stopped when the last one has gone, however it went. Root, whom PostgreSQL refuses to serve, runs
//! it as another user ([`account`]).
//!
//! Nothing here knows a schema: the outcome is an [`Address`] that takes connections.
//!
//! The cluster is fast because it is not durable: a crash of the operating system may damage it, and after one, as
//! whenever what was kept can't be used, it is made anew ([`health`]).

#[cfg(unix)]
mod account;
#[cfg(unix)]
mod find;
#[cfg(unix)]
mod folder;
#[cfg(unix)]
mod health;
#[cfg(unix)]
mod initdb;
#[cfg(unix)]
mod share;
#[cfg(unix)]
mod start;
#[cfg(unix)]
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::error::Result;

/// Where the cluster listens, and as whom to log in. No password is asked: only this user can reach the socket.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// The folder of the Unix socket.
    pub(crate) socket_dir: PathBuf,
    /// The port, which is no more than a part of the socket's name.
    pub(crate) port: u16,
    /// The superuser.
    pub(crate) user: String,
}

/// Joins the embedded cluster, and starts it first when no other test process runs it. Blocks meanwhile.
///
/// The process holds the cluster until it ends. To call this again costs microseconds, unless the cluster was lost
/// in the meantime: then it is started again. A failure is not remembered, so the next call tries again.
#[cfg(unix)]
pub(crate) fn join() -> Result<Address> {
    use std::sync::{Mutex, PoisonError};

    static HELD: Mutex<Option<share::Held>> = Mutex::new(None);

    // The guarded value is replaced in one step, so a panic elsewhere can't have left it half-made.
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(held) = held.as_ref().filter(|held| held.is_watched()) {
        return Ok(held.address());
    }
    let new = share::Cluster::of_this_process()?.join()?;
    let address = new.address();
    *held = Some(new);
    Ok(address)
}

/// The embedded cluster is shared through Unix sockets, FIFOs and signals, which this system lacks.
#[cfg(not(unix))]
pub(crate) fn join() -> Result<Address> {
    Err(
        crate::error::Error::new("the embedded server runs on Unix systems only")
            .help("set DATABASE_URL to a PostgreSQL server that runs on this machine"),
    )
}
