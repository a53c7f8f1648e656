//! Makes the data directory, once.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;

use super::share::Cluster;
use super::start;
use crate::error::{Error, Result};

pub(super) const SUPERUSER: &str = "postgres";

/// Without a locale the order of strings is the same on every machine. Nobody but this user reaches the socket, so
/// no password is asked.
pub(super) const OPTIONS: &[&str] = &[
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
];

/// Whether the data directory is one that this installation can be expected to start with.
pub(super) fn is_whole(cluster: &Cluster) -> Result<bool> {
    let data = cluster.data();
    let Ok(version) = fs::read_to_string(data.join("PG_VERSION")) else {
        return Ok(false);
    };
    let (major, minor) = cluster.installation.version()?;
    // Before 10, a major version was two numbers.
    let ours = if major < 10 {
        format!("{major}.{minor}")
    } else {
        major.to_string()
    };
    Ok(version.trim() == ours && data.join("global/pg_control").is_file())
}

/// Makes the data directory in the place of what is there. The caller has locked `alive`, so nobody uses that.
pub(super) fn make(cluster: &Cluster, alive: &File, log: &File) -> Result<()> {
    // It gets its name when it is complete, so one that has the name is not half-made.
    let unfinished = cluster.folder.join("data.unfinished");
    for leftover in [&unfinished, &cluster.data()] {
        start::remove_if_there(leftover, |path| fs::remove_dir_all(path))?;
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .and_then(|()| cluster.account.hand_over(&unfinished))
        .map_err(|error| cluster.failed("make", "data.unfinished", error))?;

    let program = cluster.installation.program("initdb");
    let failed = || Error::new(format!("{} failed", program.display()));
    // It has the lock as well: should this process be killed, the next one waits until it has ended.
    let (alive, log, also_log) =
        (|| Ok((alive.try_clone()?, log.try_clone()?, log.try_clone()?)))()
            .map_err(|error: io::Error| failed().because(error))?;
    let status = cluster
        .account
        .command(&program)
        .args(OPTIONS)
        .arg("--pgdata")
        .arg(&unfinished)
        .stdin(alive)
        .stdout(log)
        .stderr(also_log)
        .status()
        .map_err(|error| start::not_run(&program, cluster, error))?;
    if !status.success() {
        return Err(start::explain(
            failed().because(format!("{status}; it said:\n{}", start::log_tail(cluster))),
            cluster,
        ));
    }
    fs::rename(&unfinished, cluster.data())
        .map_err(|error| cluster.failed("rename", "data.unfinished", error))
}
