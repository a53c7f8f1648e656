//! Finds the PostgreSQL that is installed on this machine.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::error::{Error, Result};

/// The server programs of one PostgreSQL installation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Installation {
    /// The folder that holds them, without symbolic links.
    pub(super) bin: PathBuf,
}

impl Installation {
    /// The folder that `ACTIX_SHAREDDB_PG_BIN` names, or else the newest installation there is.
    pub(super) fn find() -> Result<Self> {
        Search {
            explicit: env::var_os(VARIABLE).filter(|value| !value.is_empty()),
            path: env::var_os("PATH"),
            root: PathBuf::from("/"),
        }
        .run()
    }

    /// Its version, as (15, 18). Costs the start of a process.
    pub(super) fn version(&self) -> Result<(u32, u32)> {
        let program = self.program("postgres");
        let failed = || {
            Error::new(format!(
                "failed to learn the version of {}",
                program.display()
            ))
        };
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .map_err(|error| failed().because(error))?;
        let said = String::from_utf8_lossy(&output.stdout);
        parse_version(&said).ok_or_else(|| failed().because(format!("it said {:?}", said.trim())))
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    fn at(folder: &Path) -> Option<Self> {
        let bin = folder.canonicalize().ok()?;
        let installation = Self { bin };
        PROGRAMS
            .iter()
            .all(|name| is_executable(&installation.program(name)))
            .then_some(installation)
    }
}

/// Where to look.
struct Search {
    explicit: Option<OsString>,
    path: Option<OsString>,
    /// What the usual folders are below.
    root: PathBuf,
}

impl Search {
    fn run(&self) -> Result<Installation> {
        if let Some(folder) = &self.explicit {
            let folder = Path::new(folder);
            return Installation::at(folder).ok_or_else(|| {
                Error::new(format!(
                    "{VARIABLE} names {}, which does not hold both `initdb` and `postgres`",
                    folder.display()
                ))
                .help("name the folder of the server programs, such as /usr/lib/postgresql/17/bin")
            });
        }

        let path: Vec<_> = self.path.iter().flat_map(env::split_paths).collect();
        // A distribution links `initdb` alone into the PATH: `postgres` is where the link leads.
        let linked = path
            .iter()
            .filter_map(|folder| folder.join("initdb").canonicalize().ok())
            .filter_map(|initdb| initdb.parent().map(Path::to_path_buf));
        let usual = USUAL.iter().flat_map(|pattern| expand(&self.root, pattern));
        let found: BTreeSet<_> = linked
            .chain(usual)
            .filter_map(|folder| Installation::at(&folder).map(|installation| installation.bin))
            .collect();
        if !found.is_empty() {
            return newest(found.into_iter().map(|bin| Installation { bin }).collect());
        }

        // Asked last, and only then: it is often a slow script, and seldom knows more than the folders do.
        let told = path
            .iter()
            .map(|folder| folder.join("pg_config"))
            .find(|program| is_executable(program))
            .and_then(|program| Command::new(program).arg("--bindir").output().ok())
            .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        told.as_deref()
            .and_then(Installation::at)
            .ok_or_else(|| not_found(&path, told.as_deref()))
    }
}

fn newest(mut found: Vec<Installation>) -> Result<Installation> {
    // The version of the only one does not matter here, and the process that tells it is saved.
    if found.len() == 1 {
        return Ok(found.remove(0));
    }
    let mut newest = None;
    let mut failure = None;
    for installation in found {
        match installation.version() {
            Ok(version) => newest = newest.max(Some((version, installation.bin))),
            Err(error) => failure = Some(error),
        }
    }
    match (newest, failure) {
        (Some((_, bin)), _) => Ok(Installation { bin }),
        (None, failure) => Err(failure.expect("each of several installations told or failed")),
    }
}

fn not_found(path: &[PathBuf], told: Option<&Path>) -> Error {
    let mut places: Vec<_> = path
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    places.extend(USUAL.iter().map(|pattern| format!("/{pattern}")));
    places.push(match told {
        Some(folder) => format!("{} (from `pg_config --bindir`)", folder.display()),
        None => "`pg_config --bindir` (no such program)".into(),
    });
    let install = if cfg!(target_os = "macos") {
        "`brew install postgresql@17`"
    } else {
        "`apt-get install postgresql` or `dnf install postgresql-server`"
    };
    Error::new(format!(
        "found no PostgreSQL server: no folder with both `initdb` and `postgres` in {}",
        places.join(", ")
    ))
    .help(format!(
        "install one with {install}; or set {VARIABLE} to the folder of its programs; \
         or set DATABASE_URL to a server that runs"
    ))
}

/// The folders below `root` that match a pattern, in which `*` stands for any part of one name.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    Path::new(pattern)
        .components()
        .fold(vec![root.to_path_buf()], |folders, component| {
            let Component::Normal(name) = component else {
                return folders;
            };
            let star = name.to_str().and_then(|name| name.split_once('*'));
            let Some((prefix, suffix)) = star else {
                return folders.iter().map(|folder| folder.join(name)).collect();
            };
            folders
                .iter()
                .filter_map(|folder| fs::read_dir(folder).ok())
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    path.file_name()
                        .and_then(|name| name.to_str()?.strip_prefix(prefix))
                        .is_some_and(|rest| rest.ends_with(suffix))
                })
                .collect()
        })
}

/// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 18beta1".
fn parse_version(said: &str) -> Option<(u32, u32)> {
    let (_, version) = said.split_once("(PostgreSQL) ")?;
    let mut numbers = version
        .split(|character: char| !character.is_ascii_digit())
        .map(str::parse);
    let major = numbers.next()?.ok()?;
    let is_release = version.trim_start_matches(|character: char| character.is_ascii_digit());
    let minor = match is_release.strip_prefix('.') {
        Some(_) => numbers.next()?.ok()?,
        None => 0,
    };
    Some((major, minor))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

const VARIABLE: &str = "ACTIX_SHAREDDB_PG_BIN";
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];
/// `scripts/setup` looks there, too.
const USUAL: [&str; 8] = [
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/libexec/postgresql*",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
    "home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "usr/local/pgsql/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// Programs that do no more than tell a version.
    fn install(folder: &Path, version: &str) -> PathBuf {
        for name in PROGRAMS {
            script(
                &folder.join(name),
                &format!("{name} (PostgreSQL) {version}"),
            );
        }
        folder.canonicalize().unwrap()
    }

    /// A program that says one thing.
    ///
    /// Another process writes it. Were it this one, a process that another test forks meanwhile could still hold the
    /// file open for writing when it is run, which then fails: "text file busy".
    fn script(path: &Path, says: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let written = Command::new("sh")
            .args([
                "-c",
                r#"printf '#!/bin/sh\necho "%s"\n' "$1" >"$0" && chmod 755 "$0""#,
            ])
            .args([path.as_os_str(), says.as_ref()])
            .status()
            .unwrap();
        assert!(written.success());
    }

    fn search(root: &TempDir) -> Search {
        Search {
            explicit: None,
            path: None,
            root: root.path().to_path_buf(),
        }
    }

    #[test]
    fn the_newest_of_all_usual_folders_is_taken() {
        let root = TempDir::new().unwrap();
        install(&root.path().join("usr/lib/postgresql/9.6/bin"), "9.6.24");
        install(&root.path().join("usr/pgsql-16/bin"), "16.9");
        let newest = install(&root.path().join("usr/lib/postgresql/16/bin"), "16.10");
        assert_eq!(search(&root).run().unwrap().bin, newest);
    }

    #[test]
    fn a_link_on_the_path_leads_to_the_folder() {
        let root = TempDir::new().unwrap();
        let bin = install(&root.path().join("opt/pg/bin"), "17.1");
        let path = root.path().join("links");
        fs::create_dir(&path).unwrap();
        symlink(bin.join("initdb"), path.join("initdb")).unwrap();
        let mut search = search(&root);
        search.path = Some(path.into());
        assert_eq!(search.run().unwrap().bin, bin);
    }

    #[test]
    fn pg_config_is_asked_when_no_folder_has_it() {
        let root = TempDir::new().unwrap();
        let bin = install(&root.path().join("opt/pg/bin"), "17.1");
        let path = root.path().join("path");
        script(&path.join("pg_config"), bin.to_str().unwrap());
        let mut search = search(&root);
        search.path = Some(path.into());
        assert_eq!(search.run().unwrap().bin, bin);
    }

    #[test]
    fn a_folder_with_one_of_the_two_programs_does_not_count() {
        let root = TempDir::new().unwrap();
        let bin = install(&root.path().join("usr/lib/postgresql/17/bin"), "17.1");
        fs::remove_file(bin.join("postgres")).unwrap();
        let mut search = search(&root);
        search.path = Some(bin.into());
        let told = format!("{:?}", search.run().unwrap_err());
        assert!(told.starts_with("found no PostgreSQL server"), "{told}");
        for place in USUAL {
            assert!(told.contains(place), "{told}");
        }
        assert!(told.contains("pg_config --bindir") && told.contains("DATABASE_URL"));
    }

    #[test]
    fn an_explicit_folder_is_the_only_one() {
        let root = TempDir::new().unwrap();
        install(&root.path().join("usr/lib/postgresql/17/bin"), "17.1");
        let explicit = install(&root.path().join("mine"), "12.3");
        let mut search = search(&root);
        search.explicit = Some(explicit.clone().into());
        assert_eq!(search.run().unwrap().bin, explicit);

        search.explicit = Some(root.path().join("nowhere").into());
        let told = search.run().unwrap_err().to_string();
        assert!(told.starts_with("ACTIX_SHAREDDB_PG_BIN names"), "{told}");
    }

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        for (said, version) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0)",
                Some((15, 18)),
            ),
            ("postgres (PostgreSQL) 18beta1\n", Some((18, 0))),
            ("postgres (PostgreSQL) 9.6.24", Some((9, 6))),
            ("postgres (PostgreSQL) 19devel", Some((19, 0))),
            ("postgres (PostgreSQL) ", None),
            ("sh: no such file", None),
        ] {
            assert_eq!(parse_version(said), version, "{said}");
        }
    }
}
