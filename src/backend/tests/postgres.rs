//! A private PostgreSQL server for tests: its own data directory, a free port on 127.0.0.1 and a Unix socket.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

/// A running server. Stopped, and its directory removed, when dropped.
pub(crate) struct PrivatePostgres {
    directory: TempDir,
    programs: PathBuf,
    /// Whom PostgreSQL runs as, if not as ourselves.
    user: Option<(u32, u32)>,
    port: u16,
}

impl PrivatePostgres {
    /// Starts a server with this `pg_hba.conf`. The statements, one a line, are run by the superuser `postgres` before
    /// anyone can connect.
    pub(crate) fn start(hba: &str, statements: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let user = unprivileged_user(directory.path());
        if let Some((uid, gid)) = user {
            chown(directory.path(), Some(uid), Some(gid)).expect("root can give a directory away");
        }
        let mut server = Self {
            directory,
            programs: find_programs(),
            user,
            port: 0,
        };
        server.initialize(hba, statements);
        for _ in 0..10 {
            server.port = free_port();
            match server.try_to_start() {
                Ok(()) => return server,
                // Somebody took the port between its choice and its use.
                Err(log) if log.contains("Address already in use") => {}
                Err(log) => panic!("the private server doesn't start:\n{log}"),
            }
        }
        panic!("ten free ports in a row were taken by others before the private server could");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where the Unix socket is.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn initialize(&self, hba: &str, statements: &str) {
        let mut initdb = self.command("initdb");
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        expect_success(initdb.output());
        fs::write(self.data().join("pg_hba.conf"), hba).expect("pg_hba.conf can be written");

        let mut single = self.command("postgres");
        single.args(["--single", "-c", "exit_on_error=on", "postgres"]);
        let input = self.directory.path().join("statements.sql");
        fs::write(&input, statements).expect("the statements can be written");
        single.stdin(fs::File::open(&input).expect("the statements were just written"));
        expect_success(single.output());
    }

    /// Gives the server's log if it didn't start.
    fn try_to_start(&self) -> Result<(), String> {
        let log = self.directory.path().join("log");
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='{}' -c fsync=off",
            self.port,
            self.directory.path().display()
        );
        let status = self
            .command("pg_ctl")
            .args(["start", "--wait", "--silent", "-o", &options, "-l"])
            .arg(&log)
            // The server inherits these, and a pipe that it holds would never end.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("pg_ctl can be run");
        if status.success() {
            return Ok(());
        }
        Err(fs::read_to_string(&log).unwrap_or_else(|error| format!("no log: {error}")))
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program that is to work on the data directory, as a user that PostgreSQL agrees to run as.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .env("PGDATA", self.data())
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // It signals the process that the data directory names, and waits until it is gone.
        let stopped = self
            .command("pg_ctl")
            .args(["stop", "--mode=immediate", "--wait", "--silent"])
            .output();
        if !thread::panicking() {
            expect_success(stopped);
        }
    }
}

fn expect_success(output: std::io::Result<Output>) {
    let output = output.expect("a program of PostgreSQL can be run");
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("some port is free");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// The user `postgres`, if we are root, as whom PostgreSQL refuses to run. `ours` is any file that belongs to us.
fn unprivileged_user(ours: &Path) -> Option<(u32, u32)> {
    if fs::metadata(ours)
        .expect("our own file can be looked at")
        .uid()
        != 0
    {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("root can read /etc/passwd");
    let user = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == "postgres")
        .expect("PostgreSQL won't run as root, and there is no user 'postgres' to run it as: `useradd postgres`");
    let id = |field: &str| field.parse().expect("/etc/passwd holds numeric ids");
    Some((id(user[2]), id(user[3])))
}

/// The directory of `initdb` and its like.
fn find_programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        candidates.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let mut installed: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    installed.sort();
    candidates.extend(installed.into_iter().rev());
    candidates
        .into_iter()
        .find(|directory| directory.join("initdb").is_file() && directory.join("pg_ctl").is_file())
        .expect("these tests need PostgreSQL's programs: `apt-get install postgresql` or `brew install postgresql`")
}
