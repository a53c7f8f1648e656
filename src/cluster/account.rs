//! Who runs the server: this user, or, since PostgreSQL refuses root, an unprivileged one in its place.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use crate::error::{Error, Result};

/// The user whose process this is, and the one that the server runs as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    uid: u32,
    server: Option<Unprivileged>,
}

/// A user that root gives its place to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Unprivileged {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account of this process.
    pub(super) fn of_this_process() -> Result<Self> {
        let uid = effective_uid()
            .map_err(|error| Error::new("failed to find out which user this is").because(error))?;
        let server = match uid {
            0 => Some(Unprivileged::find()?),
            _ => None,
        };
        Ok(Self { uid, server })
    }

    pub(super) fn uid(self) -> u32 {
        self.uid
    }

    /// Whether the server runs as another user than this process, so that it must be let through to its folders.
    pub(super) fn is_root(self) -> bool {
        self.server.is_some()
    }

    /// A command that runs as the server's user.
    ///
    /// Its folder is `/`, for this process's may be closed to that user. Variables that steer PostgreSQL are the
    /// application's and must not leak in; language and time zone are the same on every machine.
    pub(super) fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.current_dir("/").env("LC_ALL", "C").env("TZ", "UTC");
        if let Some(server) = self.server {
            command.uid(server.uid).gid(server.gid);
        }
        command
    }

    /// Gives a file or folder to the server's user.
    pub(super) fn hand_over(self, path: &Path) -> io::Result<()> {
        match self.server {
            Some(server) => chown(path, Some(server.uid), Some(server.gid)),
            None => Ok(()),
        }
    }
}

impl Unprivileged {
    fn find() -> Result<Self> {
        let passwd = fs::read_to_string(PASSWD)
            .map_err(|error| Error::new(format!("failed to read {PASSWD}")).because(error))?;
        NAMES
            .iter()
            .find_map(|name| Self::parse(&passwd, name))
            .ok_or_else(|| {
                Error::new(format!(
                    "PostgreSQL can't run as root, and {PASSWD} has neither of the users {} to run it as",
                    NAMES.join(", ")
                ))
                .help("run the tests as an ordinary user, or set DATABASE_URL to a server that runs")
            })
    }

    fn parse(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok().filter(|&uid| uid != 0)?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { uid, gid })
        })
    }
}

/// std has no `geteuid`. What a process creates is its own, and a pipe is created without a trace in any folder.
fn effective_uid() -> io::Result<u32> {
    let (reader, _writer) = io::pipe()?;
    Ok(File::from(OwnedFd::from(reader)).metadata()?.uid())
}

const PASSWD: &str = "/etc/passwd";
const NAMES: [&str; 2] = ["postgres", "nobody"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n\
                      # postgres:x:1:1::/:/bin/sh\n\
                      postgresql:x:5:6::/:/bin/sh\n\
                      postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n\
                      nobody:*:4294967294:4294967294:Unprivileged User:/var/empty:/usr/bin/false\n\
                      half:x:7\n";
        for (name, expected) in [
            ("postgres", Some((101, 104))),
            ("nobody", Some((4_294_967_294, 4_294_967_294))),
            ("root", None),
            ("half", None),
            ("alice", None),
        ] {
            let expected = expected.map(|(uid, gid)| Unprivileged { uid, gid });
            assert_eq!(Unprivileged::parse(passwd, name), expected, "{name}");
        }
    }

    #[test]
    fn the_effective_user_owns_what_the_process_creates() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(
            effective_uid().unwrap(),
            file.as_file().metadata().unwrap().uid()
        );
    }

    #[test]
    fn variables_that_steer_postgres_are_not_passed_on() {
        let account = Account {
            uid: 1,
            server: None,
        };
        let command = account.command("true");
        let kept = |name: &str| {
            command
                .get_envs()
                .any(|(variable, value)| variable == name && value.is_some())
        };
        assert!(kept("TZ") && kept("LC_ALL"));
        assert!(
            command.get_envs().all(|(variable, value)| value.is_none()
                || !variable.as_encoded_bytes().starts_with(b"PG"))
        );
    }
}
