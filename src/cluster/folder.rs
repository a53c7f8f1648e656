//! Where the cluster is kept, and why it is safe to use what is found there.
//!
//! An ordinary user's clusters are in the cargo target directory, where `cargo clean` removes them. Root's are in
//! `/var/tmp`: the user that serves in root's place must be able to reach them, and a target directory is often
//! below a home that is closed to everybody else. Where neither is to be had, a temporary folder serves.
//!
//! The socket is always in a temporary folder, for the name of a socket may not be longer than about a hundred bytes.

use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use super::account::Account;
use crate::error::{Error, Result};

/// The folder of all clusters of this user and target directory.
pub(super) fn home(account: Account) -> Result<PathBuf> {
    let target = target_dir();
    if !account.is_root()
        && let Some(target) = &target
        && let Ok(home) = private(target.join(NAME), account)
    {
        return Ok(home);
    }
    let of_target = target.map_or(0, |target| fingerprint([target.as_os_str().as_bytes()]));
    let name = format!("{NAME}-{}-{of_target:016x}", account.uid());
    let folders = [PathBuf::from("/var/tmp"), env::temp_dir()];
    let temporary = first_open(folders, account).ok_or_else(|| no_temporary_folder(account))?;
    private(temporary.join(name), account)
}

/// A name for the socket's folder that nothing else has. The folder is yet to be made.
pub(super) fn run_folder(account: Account) -> Result<PathBuf> {
    let name = format!("{RUN_PREFIX}{:016x}", RandomState::new().hash_one(()));
    let short = [env::temp_dir(), PathBuf::from("/tmp")]
        .into_iter()
        .filter(|folder| folder.as_os_str().len() + name.len() < LONGEST_RUN_FOLDER);
    first_open(short, account)
        .map(|folder| folder.join(&name))
        .ok_or_else(|| no_temporary_folder(account))
}

/// Whether a path may be one that [`run_folder`] gave, so that it may be removed.
pub(super) fn is_run_folder(path: &Path) -> bool {
    path.is_absolute()
        && path
            .file_name()
            .is_some_and(|name| name.as_bytes().starts_with(RUN_PREFIX.as_bytes()))
}

/// Makes a folder that only this user can write to, or finds that it is one already.
///
/// In a folder that everybody can write to, somebody else may have put it there first, to read or to change what
/// this process would then keep in it.
pub(super) fn private(path: PathBuf, account: Account) -> Result<PathBuf> {
    let failed = |error: io::Error| {
        Error::new(format!("failed to make the folder {}", path.display())).because(error)
    };
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(&path).map_err(failed)?;
    if !found.is_dir() || found.uid() != account.uid() {
        return Err(Error::new(format!(
            "{} is not a folder of this user's, so what is in it can't be trusted",
            path.display()
        ))
        .help("remove it, or set DATABASE_URL to a server that runs"));
    }
    // The server's user passes through to the folders that are its own, and can't list or write.
    let mode = if account.is_root() { 0o711 } else { 0o700 };
    if found.mode() & 0o7777 != mode {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(path)
}

/// A number that stands for some byte strings, the same in every process (FNV-1a).
pub(super) fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    parts
        .into_iter()
        .flat_map(|part| part.iter().chain(&[0]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The cargo target directory that this program was built in.
fn target_dir() -> Option<PathBuf> {
    // A relative one is relative to where cargo was called, which is not known here.
    if let Some(folder) = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from)
        && folder.is_absolute()
        && folder.is_dir()
    {
        return Some(folder);
    }
    let program = env::current_exe().ok()?;
    enclosing_target(&program).map(Path::to_path_buf)
}

fn enclosing_target(program: &Path) -> Option<&Path> {
    let enclosing = || program.ancestors().skip(1);
    enclosing()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .or_else(|| enclosing().find(|folder| folder.ends_with("target")))
}

/// The first folder that is there and that the server's user can enter.
fn first_open(folders: impl IntoIterator<Item = PathBuf>, account: Account) -> Option<PathBuf> {
    folders
        .into_iter()
        .filter(|folder| folder.is_absolute() && folder.is_dir())
        .find(|folder| !account.is_root() || is_open_to_all(folder))
}

fn is_open_to_all(folder: &Path) -> bool {
    folder.canonicalize().is_ok_and(|folder| {
        folder.ancestors().all(|ancestor| {
            ancestor
                .metadata()
                .is_ok_and(|metadata| metadata.mode() & 0o001 != 0)
        })
    })
}

fn no_temporary_folder(account: Account) -> Error {
    let reason = if account.is_root() {
        " (of which another user must be able to enter every part, for PostgreSQL can't run as root)"
    } else {
        ""
    };
    Error::new(format!(
        "found no temporary folder with a short name{reason}: neither TMPDIR nor /tmp serves"
    ))
    .help("set TMPDIR to such a folder, or DATABASE_URL to a server that runs")
}

const NAME: &str = "actix-shareddb";
const RUN_PREFIX: &str = "shareddb-";

/// `sun_path` has 104 bytes on macOS, 108 on Linux, and must hold "/.s.PGSQL.5432" and an end as well.
const LONGEST_RUN_FOLDER: usize = 88;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_target_directory_is_the_nearest_one_with_a_tag() {
        let base = TempDir::new().unwrap();
        let tagged = base.path().join("target/elsewhere");
        let program = tagged.join("debug/deps/program");
        fs::create_dir_all(&tagged).unwrap();
        assert_eq!(
            enclosing_target(&program),
            Some(base.path().join("target").as_path())
        );
        fs::write(tagged.join("CACHEDIR.TAG"), "").unwrap();
        assert_eq!(enclosing_target(&program), Some(tagged.as_path()));
        assert_eq!(enclosing_target(Path::new("/usr/bin/program")), None);
    }

    #[test]
    fn a_private_folder_is_made_once_and_found_again() {
        let base = TempDir::new().unwrap();
        let account = Account::of_this_process().unwrap();
        let folder = private(base.path().join("home"), account).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        private(folder.clone(), account).unwrap();
        assert_eq!(folder.metadata().unwrap().mode() & 0o022, 0);
    }

    #[test]
    fn a_link_is_no_private_folder() {
        let base = TempDir::new().unwrap();
        let account = Account::of_this_process().unwrap();
        let link = base.path().join("home");
        symlink(base.path(), &link).unwrap();
        let told = private(link, account).unwrap_err().to_string();
        assert!(told.contains("is not a folder of this user's"), "{told}");
    }

    #[test]
    fn a_folder_of_another_user_is_no_private_folder() {
        let account = Account::of_this_process().unwrap();
        let base = TempDir::new().unwrap();
        // Root can give a folder away; everybody else finds one that is root's.
        let folder = if account.is_root() {
            account.hand_over(base.path()).unwrap();
            base.path().to_path_buf()
        } else {
            PathBuf::from("/usr")
        };
        let told = private(folder, account).unwrap_err().to_string();
        assert!(told.contains("is not a folder of this user's"), "{told}");
    }

    #[test]
    fn run_folders_are_short_and_never_the_same() {
        let account = Account::of_this_process().unwrap();
        let one = run_folder(account).unwrap();
        let other = run_folder(account).unwrap();
        assert_ne!(one, other);
        assert!(one.as_os_str().len() <= LONGEST_RUN_FOLDER);
        assert!(is_run_folder(&one) && !is_run_folder(Path::new("/tmp")));
        assert!(!is_run_folder(Path::new("shareddb-1")));
    }

    #[test]
    fn fingerprints_keep_the_parts_apart() {
        assert_ne!(
            fingerprint([b"ab".as_slice(), b"c"]),
            fingerprint([b"a".as_slice(), b"bc"])
        );
    }
}
