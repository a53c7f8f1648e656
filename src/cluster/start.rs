//! Starts the cluster: the run folder, the supervisor with the postmaster in it, and the wait until that is ready.

use std::error::Error as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::share::{Cluster, Held, PID_FILE, POLL_INTERVAL, open_fifo};
use super::{folder, health, initdb};
use crate::error::{Error, Result};

/// A part of the socket's name, and of nothing else: there is no listening on any network.
pub(super) const PORT: u16 = 5432;

/// Not durable, and without what only replication needs. Else as PostgreSQL is by default, which is what an
/// application is likely to meet in production.
pub(super) const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "port=5432",
    "max_connections=200",
    // A migration of a thousand tables, or what empties them all, locks several objects of each in one transaction.
    "max_locks_per_transaction=256",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_logical_replication_workers=0",
    "huge_pages=off",
    "log_destination=stderr",
    "logging_collector=off",
    "log_checkpoints=off",
];

/// Starts the cluster. The caller has locked `start.lock`, and `alive`, which is passed on.
pub(super) fn start(cluster: &Cluster, alive: File) -> Result<Held> {
    let kept = initdb::is_whole(cluster)? && !health::has_crashed_with_the_system(cluster);
    if kept && let Some(held) = launch(cluster, &alive, false)? {
        return Ok(held);
    }
    // What was kept, if anything, can't be used: a crash of the system damaged it, for instance. It is only a
    // cache, so it is made anew, and what is wrong otherwise shows when that fails too.
    launch(cluster, &alive, true)?.ok_or_else(|| {
        let ended = Error::new("the embedded server ended while it started")
            .because(format!("it said:\n{}", log_tail(cluster)));
        explain(ended, cluster)
    })
}

/// Starts the postmaster, of a new data directory if so told. Gives nothing when it ends before it is ready, or yields no
/// session.
fn launch(cluster: &Cluster, alive: &File, anew: bool) -> Result<Option<Held>> {
    let log = new_log(cluster)?;
    if anew {
        initdb::make(cluster, alive, &log)?;
    }
    // A postmaster that was killed leaves this file, and PostgreSQL refuses to start if any process has its number
    // by now: soon so in a container, where numbers are small and a killed process may stay in the table for ever.
    // That the caller has the lock is the better evidence.
    remove_if_there(&cluster.data().join(PID_FILE), |path| fs::remove_file(path))?;
    health::note_boot(cluster)?;
    let held = new_hold(cluster)?;
    let failed = |error| Error::new("failed to hand over the hold").because(error);
    // With a writer, this does not wait.
    let hold = File::open(held.run.join("hold")).map_err(failed)?;
    let alive = alive.try_clone().map_err(failed)?;

    let mut supervisor = cluster
        .account
        .command("/bin/sh")
        .args(["-c", SUPERVISE, "supervise"])
        .arg(&held.run)
        .arg(cluster.linger.to_string())
        .arg(cluster.installation.program("postgres"))
        .arg("-D")
        .arg(cluster.data())
        .arg("-k")
        .arg(&held.run)
        .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
        .stdin(alive)
        .stdout(hold)
        .stderr(log)
        // Ctrl-C ends the tests, not the cluster, which then follows in good order.
        .process_group(0)
        .spawn()
        .map_err(|error| not_run(Path::new("/bin/sh"), cluster, error))?;

    let began = Instant::now();
    while !cluster.is_ready(&held.run) {
        let ended = supervisor
            .try_wait()
            .map_err(|error| Error::new("failed to wait for the supervisor").because(error))?;
        if ended.is_some() {
            return Ok(None);
        }
        if began.elapsed() > START_TIMEOUT {
            let late = Error::new("the embedded server did not get ready in time").because(
                format!("after {START_TIMEOUT:?} it said:\n{}", log_tail(cluster)),
            );
            return Err(explain(late, cluster));
        }
        thread::sleep(POLL_INTERVAL);
    }
    if anew || health::yields_a_session(&held.run).unwrap_or(false) {
        return Ok(Some(held));
    }
    cluster.stop();
    supervisor
        .wait()
        .map_err(|error| Error::new("failed to wait for the supervisor").because(error))?;
    Ok(None)
}

/// The socket in a run folder.
pub(super) fn socket(run: &Path) -> PathBuf {
    run.join(format!(".s.PGSQL.{PORT}"))
}

/// A run folder with a hold in it, and this process's hold on that.
fn new_hold(cluster: &Cluster) -> Result<Held> {
    // Nothing of the last start lives, so its folder is only there if that was killed.
    if let Some(last) = cluster.run_folder() {
        remove_if_there(&last, |path| fs::remove_dir_all(path))?;
    }
    let run = folder::run_folder(cluster.account)?;
    // Noted before it is made, so that it is found and removed if this process is killed in between.
    note_run_folder(cluster, &run).map_err(|error| cluster.failed("write", "run", error))?;
    let failed = |error: io::Error| {
        Error::new(format!("failed to make {}", run.join("hold").display())).because(error)
    };
    DirBuilder::new().mode(0o700).create(&run).map_err(failed)?;
    let made = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(run.join("hold"))
        .output()
        .map_err(|error| not_run(Path::new("mkfifo"), cluster, error))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        return Err(failed(io::Error::other(said.trim().to_owned())));
    }
    cluster.account.hand_over(&run).map_err(failed)?;
    let hold = open_fifo(&run.join("hold")).map_err(failed)?;
    Ok(Held { hold, run })
}

/// Removes a file or folder that may be gone already.
pub(super) fn remove_if_there(
    path: &Path,
    remove: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<()> {
    match remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::new(format!("failed to remove {}", path.display())).because(error))
        }
        _ => Ok(()),
    }
}

fn note_run_folder(cluster: &Cluster, run: &Path) -> io::Result<()> {
    let unfinished = cluster.folder.join("run.unfinished");
    File::create(&unfinished)?.write_all(run.as_os_str().as_bytes())?;
    fs::rename(unfinished, cluster.folder.join("run"))
}

fn new_log(cluster: &Cluster) -> Result<File> {
    let log = cluster.log();
    match fs::rename(&log, log.with_extension("1")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(cluster.failed("rename", "log", error));
        }
        _ => {}
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log)
        .map_err(|error| cluster.failed("open", "log", error))
}

/// The last lines of the log.
pub(super) fn log_tail(cluster: &Cluster) -> String {
    let log = fs::read(cluster.log()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Says what to do about an error whose cause is in the log.
pub(super) fn explain(error: Error, cluster: &Cluster) -> Error {
    let said = log_tail(cluster);
    let folder = cluster.folder.display();
    let remedy = if said.contains("No space left on device") {
        return no_space(error, cluster);
    } else if said.contains("could not create any Unix-domain sockets") {
        "set TMPDIR to a folder in which this user may create a socket".to_owned()
    } else if said.contains("could not create shared memory segment") {
        "allow more shared memory (kern.sysv.shmmni and kern.sysv.shmall on macOS)".to_owned()
    } else if said.contains("Permission denied") {
        format!("see that the server's user can reach {folder} and /dev/null")
    } else {
        format!("the whole log is in {}", cluster.log().display())
    };
    error.help(format!(
        "{remedy}; or set DATABASE_URL to a server that runs"
    ))
}

/// Says what to do about an error of the file system, wherever it was met.
pub(super) fn remedy(error: Error, cluster: &Cluster) -> Error {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => no_space(error, cluster),
        _ => error,
    }
}

fn no_space(error: Error, cluster: &Cluster) -> Error {
    error.help(format!(
        "free some space for {} and for the temporary folder; or set DATABASE_URL to a server that runs",
        cluster.folder.display()
    ))
}

/// A program that could not be started at all.
pub(super) fn not_run(program: &Path, cluster: &Cluster, error: io::Error) -> Error {
    let user = if cluster.account.is_root() {
        " as the user that stands in for root"
    } else {
        ""
    };
    Error::new(format!("failed to run {}{user}", program.display()))
        .because(error)
        .help("see that it is there and that this user may run it, or set DATABASE_URL to a server that runs")
}

const SUPERVISE: &str = include_str!("supervise.sh");
const LOG_TAIL_LINES: usize = 20;

/// Ready takes a tenth of a second, and longer only to recover from a crash.
const START_TIMEOUT: Duration = Duration::from_secs(60);
