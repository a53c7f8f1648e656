//! One cluster, shared by all test processes of a user and a target directory, and gone when they are gone.
//!
//! Test processes come and go as they like: `cargo nextest` runs each test in one of its own, libtest drops no
//! statics, and any of them may be killed at any moment. So nothing here depends on code that runs at the end. What
//! a process has of the cluster are open files, which the kernel closes for it.
//!
//! ```text
//!  test processes       supervisor (supervise.sh)        postmaster
//!    │ │ │                watcher ────── SIGINT ────────>  │   │
//!    └─┴─┴── hold ──────> reads                            │   │
//!                           └─pipe─> stopper ─ SIGINT ──>  │   │
//!                         waiter ──────── waits for ───────┘   │
//!                           └────────── alive.lock ────────────┘
//! ```
//!
//! In the cluster's folder:
//!
//! * **`start.lock`** is locked by the process that decides whether to start the cluster.
//! * **`alive.lock`** is locked as long as any process of a started cluster lives. Such a lock belongs to the open
//!   file, not to a process: the starter takes it and passes it on to the supervisor as standard input, that to the
//!   postmaster, and that to its backends. Who can lock it knows from the kernel that nothing of the cluster is left.
//! * **`run`** names the *run folder* of the last start. Each start has a new one, of a random name, so that what is
//!   left of one start is never taken for a part of the next.
//! * **`data`** is the data directory. **`log`** is what the server said since it was started, `log.1` what it said
//!   the time before.
//!
//! In the run folder are PostgreSQL's socket and **`hold`**, a FIFO. A process holds the cluster by having the FIFO
//! open for writing; the watcher, which reads it, meets its end when the last one has gone.
//!
//! # To join
//!
//! Open `hold`, write a line, and see that the postmaster is ready. That is all while the cluster runs, and takes no
//! lock. When there is no `hold`, or nobody reads it, or the postmaster is not ready, then lock `start.lock`, so that
//! of many processes one starts the cluster and the others wait for that; try again, for it may have been started
//! meanwhile; and else lock `alive.lock`, which waits for a cluster that is about to stop, and start it.
//!
//! # To stop
//!
//! When the watcher meets the end of the FIFO it lingers, as the next process is often about to start. Then it takes
//! the name `hold` away, so that nobody can join any more, and reads once more. A line shows a process that joined
//! meanwhile, and the name is put back; a writer that is yet to write one is waited for. The end of the file is
//! final. A fast shutdown follows, which keeps what is in the databases for the next run. Who finds no `hold` waits
//! for `alive.lock` and starts the cluster again.
//!
//! # What may be killed
//!
//! * Test processes, one or all: the kernel closes their end of the FIFO.
//! * The starter: the kernel unlocks `start.lock`. If it had spawned the supervisor, that finds that nobody holds the
//!   cluster, unless somebody joined it.
//! * The postmaster: the waiter removes the run folder and ends the supervisor. Nobody reads the hold any more, by
//!   which [`Held::is_watched`] tells.
//! * The watcher: the stopper learns of it by the pipe, and stops the postmaster in its place.
//! * The stopper: nobody needs it, unless the watcher is killed too.
//! * The waiter: the other two stop the postmaster when the time has come.
//! * The whole supervisor at once: the next process to join finds the postmaster without a watcher, and
//!   [evicts](Cluster::evict) it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::account::Account;
use super::find::Installation;
use super::{Address, folder, initdb, start};
use crate::error::{Error, Result};

/// The embedded cluster as this process finds it: who runs it, from what, and where it is kept.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) installation: Installation,
    pub(super) account: Account,
    /// Holds all that is described above. Private to this user.
    pub(super) folder: PathBuf,
    /// How many seconds it runs on when nobody holds it.
    pub(super) linger: u32,
}

impl Cluster {
    /// The one that all processes of this user and target directory share.
    pub(super) fn of_this_process() -> Result<Self> {
        let account = Account::of_this_process()?;
        Self::kept_in(&folder::home(account)?, account, LINGER)
    }

    /// The one in a folder, which is private to this user. Other installations and settings have others there.
    pub(super) fn kept_in(home: &Path, account: Account, linger: u32) -> Result<Self> {
        let installation = Installation::find()?;
        let key = initdb::OPTIONS
            .iter()
            .chain(start::SETTINGS)
            .map(|option| option.as_bytes())
            .chain([installation.bin.as_os_str().as_bytes()]);
        let name = format!("cluster-{:016x}", folder::fingerprint(key));
        Ok(Self {
            installation,
            account,
            folder: folder::private(home.join(name), account)?,
            linger,
        })
    }

    /// Joins the cluster, and starts it first if it does not run.
    pub(super) fn join(&self) -> Result<Held> {
        self.join_or_start()
            .map_err(|error| start::remedy(error, self))
    }

    fn join_or_start(&self) -> Result<Held> {
        if let Some(held) = self.hold() {
            return Ok(held);
        }
        // Until this returns.
        let deciding = self.open_lock("start.lock")?;
        deciding
            .lock()
            .map_err(|error| self.failed("lock", "start.lock", error))?;
        let alive = self.open_lock("alive.lock")?;
        let began = Instant::now();
        let mut evicted = false;
        loop {
            if let Some(held) = self.hold() {
                return Ok(held);
            }
            match alive.try_lock() {
                Ok(()) => return start::start(self, alive),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(self.failed("lock", "alive.lock", error));
                }
            }
            if began.elapsed() > STOP_TIMEOUT {
                return Err(Error::new(format!(
                    "the PostgreSQL in {} neither runs nor ends",
                    self.folder.display()
                ))
                .help(format!(
                    "look for the `postgres` processes of this folder, and into {}",
                    self.log().display()
                )));
            }
            if !evicted && began.elapsed() > ORPHANED_AFTER {
                evicted = self.evict();
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Joins the cluster if it runs.
    pub(super) fn hold(&self) -> Option<Held> {
        let run = self.run_folder()?;
        let hold = open_fifo(&run.join("hold")).ok()?;
        let held = Held { hold, run };
        (held.is_watched() && self.is_ready(&held.run) && answers(&held.run)).then_some(held)
    }

    /// Whether the postmaster that was started in a run folder takes connections.
    pub(super) fn is_ready(&self, run: &Path) -> bool {
        // The lines are told in the comment on LOCK_FILE_LINE_PID and the following in PostgreSQL's miscadmin.h.
        // The one of the socket's folder tells a file that an earlier postmaster left.
        let file = fs::read(self.data().join(PID_FILE)).unwrap_or_default();
        let mut lines = file.split(|&byte| byte == b'\n');
        lines.nth(4) == Some(run.as_os_str().as_bytes())
            && lines
                .nth(2)
                .is_some_and(|status| status.starts_with(b"ready"))
    }

    /// Stops a postmaster that takes connections though nothing watches over it. Says whether it found one.
    ///
    /// That it answers in its private folder shows that it lives, and so that the process number in its file is its
    /// own.
    fn evict(&self) -> bool {
        let Some(run) = self.run_folder() else {
            return false;
        };
        if !self.is_ready(&run) || !answers(&run) || is_watched(&run) {
            return false;
        }
        self.stop()
    }

    /// Tells the postmaster, which is known to live, to stop. Says whether that was possible.
    pub(super) fn stop(&self) -> bool {
        let file = fs::read_to_string(self.data().join(PID_FILE)).unwrap_or_default();
        let Some(postmaster) = file
            .lines()
            .next()
            .filter(|line| line.parse::<u32>().is_ok())
        else {
            return false;
        };
        Command::new("sh")
            .args(["-c", r#"kill -INT "$0""#, postmaster])
            .status()
            .is_ok_and(|status| status.success())
    }

    /// The run folder of the last start.
    pub(super) fn run_folder(&self) -> Option<PathBuf> {
        let name = fs::read(self.folder.join("run")).ok()?;
        Some(PathBuf::from(OsString::from_vec(name))).filter(|run| folder::is_run_folder(run))
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// An error of the file system, in the cluster's folder.
    pub(super) fn failed(&self, what: &str, name: &str, error: io::Error) -> Error {
        Error::new(format!(
            "failed to {what} {}",
            self.folder.join(name).display()
        ))
        .because(error)
    }

    fn open_lock(&self, name: &str) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.folder.join(name))
            .map_err(|error| self.failed("open", name, error))
    }
}

/// A hold on the running cluster, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) hold: File,
    pub(super) run: PathBuf,
}

impl Held {
    pub(super) fn address(&self) -> Address {
        Address {
            socket_dir: self.run.clone(),
            port: start::PORT,
            user: initdb::SUPERUSER.to_owned(),
        }
    }

    /// Whether a supervisor reads the hold. It does not outlive its postmaster, so this tells of both.
    ///
    /// The line that is written to find out is the one by which the watcher knows that somebody joined.
    pub(super) fn is_watched(&self) -> bool {
        (&self.hold).write_all(b"\n").is_ok()
    }
}

/// Opens a FIFO for writing, whether or not somebody reads it.
pub(super) fn open_fifo(path: &Path) -> io::Result<File> {
    // To open a FIFO for writing waits for a reader. The first descriptor is one, and to open it for both waits for
    // nobody, on Linux as on macOS. It goes at once, for a process that reads its own hold would never learn that
    // nobody else does.
    let _reader = OpenOptions::new().read(true).write(true).open(path)?;
    OpenOptions::new().write(true).open(path)
}

/// Whether a watcher reads the hold, be it that it has withdrawn its name for a moment.
fn is_watched(run: &Path) -> bool {
    ["hold", "withdrawn"]
        .iter()
        .filter_map(|name| open_fifo(&run.join(name)).ok())
        .any(|mut hold| hold.write_all(b"\n").is_ok())
}

/// A postmaster that was killed leaves its files, but nobody listens.
fn answers(run: &Path) -> bool {
    UnixStream::connect(start::socket(run)).is_ok()
}

/// Test binaries of one `cargo test` follow each other at once, and so does the next run of a small suite.
const LINGER: u32 = 3;
pub(super) const PID_FILE: &str = "postmaster.pid";
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A watched postmaster that takes no new holds stops within milliseconds of that.
const ORPHANED_AFTER: Duration = Duration::from_millis(500);

/// Crash recovery and the last checkpoint take their time, but no more than this.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
