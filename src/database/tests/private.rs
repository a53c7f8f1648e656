//! A PostgreSQL server for the tests of this module, stopped when the last of them has ended.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::config::Config;

pub(super) struct Private {
    postgres: Child,
    dir: TempDir,
}

impl Private {
    /// Starts the server, or joins the tests that use it.
    pub(super) fn join() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Private>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(private) = running.upgrade() {
            return private;
        }
        let private = Arc::new(Self::start());
        *running = Arc::downgrade(&private);
        private
    }

    fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("shareddb-test-")
            .tempdir_in("/tmp")
            .expect("a temporary directory");
        let bin = bin_dir();
        let (uid, gid) = unprivileged();
        chown(dir.path(), Some(uid), Some(gid)).expect("chown");
        let command = |name: &str| {
            let mut command = Command::new(bin.join(name));
            command
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if is_root() {
                command.uid(uid).gid(gid);
            }
            command
        };
        let data = dir.path().join("data");
        let made = command("initdb")
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .status()
            .expect("initdb");
        assert!(made.success(), "initdb failed");
        let postgres = command("postgres")
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            // Nobody but the tests changes anything.
            .args(["-c", "autovacuum=off"])
            .spawn()
            .expect("postgres");
        let mut private = Self { postgres, dir };
        while !command("pg_isready")
            .arg("-h")
            .arg(private.dir.path())
            .status()
            .expect("pg_isready")
            .success()
        {
            let ended = private.postgres.try_wait().expect("its state");
            assert_eq!(ended, None, "the server ended before it was ready");
        }
        private
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A configuration of the crate for this server.
    pub(super) fn config(&self, user: &str, database: &str) -> Config {
        Config::new().database_url(format!(
            "host={} user={user} dbname={database}",
            self.dir.path().display()
        ))
    }

    /// A superuser's connection, to see and do what the code under test can't.
    pub(super) async fn client(&self, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.dir.path())
            .user("postgres")
            .dbname(database);
        connect(&config).await
    }

    pub(super) async fn databases_like(&self, name: &str) -> Vec<String> {
        self.client("postgres")
            .await
            .query("SELECT datname::text FROM pg_database WHERE starts_with(datname::text, $1) ORDER BY 1", &[&name])
            .await
            .expect("the databases")
            .iter()
            .map(|row| row.get(0))
            .collect()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // An immediate shutdown: what it holds goes with its directory.
        let _ = Command::new("kill")
            .args(["-QUIT", &self.postgres.id().to_string()])
            .status();
        let _ = self.postgres.wait();
    }
}

pub(super) async fn connect(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn bin_dir() -> PathBuf {
    let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed in /usr/lib/postgresql")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    versions.sort();
    versions.pop().expect("a version of PostgreSQL").join("bin")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc").uid() == 0
}

/// The user and group that the server runs as.
fn unprivileged() -> (u32, u32) {
    if !is_root() {
        let own = fs::metadata("/proc/self").expect("/proc");
        return (own.uid(), own.gid());
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let postgres = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("a user postgres");
    let mut ids = postgres
        .split(':')
        .skip(2)
        .map(|id| id.parse().expect("a number"));
    (
        ids.next().expect("a user id"),
        ids.next().expect("a group id"),
    )
}
