//! Where the tables come from, and the fingerprint that tells one schema from another.

use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The tables, types and rows that every test of a case starts from.
///
/// A schema is prepared once and committed, in a database of the crate's own, and found again by later tests, by
/// other test processes and by later runs. Any change to its text makes another database.
///
/// ```
/// use actix_shareddb::Schema;
///
/// let schema = Schema::dir("migrations");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a schema does nothing until a test case returns it"]
pub struct Schema(Source);

#[derive(Clone, Debug)]
enum Source {
    Existing,
    Sql(String),
    Dir(PathBuf),
}

impl Schema {
    /// The database that `DATABASE_URL` names, just as it is. Nothing is ever committed to it, only rolled back.
    ///
    /// ```
    /// use actix_shareddb::Schema;
    ///
    /// let schema = Schema::existing();
    /// ```
    pub fn existing() -> Self {
        Self(Source::Existing)
    }

    /// A script, which runs in an empty database.
    ///
    /// It is sent to the server as a whole, so it is all or nothing, and may hold any number of statements; those of
    /// `psql` itself (`\i`, `\copy`) and `COPY ... FROM STDIN` are no part of SQL and fail.
    ///
    /// ```
    /// use actix_shareddb::Schema;
    ///
    /// let schema = Schema::sql(
    ///     "CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
    ///      INSERT INTO users (name) VALUES ('admin');",
    /// );
    /// ```
    pub fn sql(text: impl Into<String>) -> Self {
        Self(Source::Sql(text.into()))
    }

    /// All `*.sql` files of a directory, in the order of their names, byte by byte: `10.sql` comes before `9.sql`,
    /// `0009.sql` before `0010.sql`.
    ///
    /// The path is relative to the directory of the package under test. Each file runs as [`Schema::sql`] says, in a
    /// session that is as new. Not read: subdirectories, hidden files, and `*.down.sql`, by which migration
    /// tools call the way back.
    ///
    /// ```
    /// use actix_shareddb::Schema;
    ///
    /// let schema = Schema::dir("migrations");
    /// ```
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        Self(Source::Dir(path.into()))
    }

    /// Whether the tests see a database that was made for it, in which nobody commits anything any more.
    pub(crate) fn is_prepared(&self) -> bool {
        !matches!(self.0, Source::Existing)
    }

    /// What has to run in an empty database, read anew each time so that no change is missed; `None` for a database
    /// that is used as it is.
    pub(crate) fn scripts(&self) -> Result<Option<Vec<Script>>> {
        match &self.0 {
            Source::Existing => Ok(None),
            Source::Sql(text) => Ok(Some(vec![Script {
                name: String::new(),
                place: "<Schema::sql>".to_owned(),
                text: text.clone(),
            }])),
            Source::Dir(path) => read_dir(path).map(Some),
        }
    }
}

/// One text that the server runs as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// The file's name, which is part of the schema: a renamed migration may run at another time.
    name: String,
    /// What errors call it. Where the directory is doesn't matter to the schema.
    place: String,
    text: String,
}

impl Script {
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where in the text the server's position is, which counts characters from 1.
    pub(crate) fn place_of(&self, position: u32) -> String {
        let before = self.text.chars().take(position.saturating_sub(1) as usize);
        let (mut line, mut column) = (1, 1);
        for character in before {
            if character == '\n' {
                (line, column) = (line + 1, 1);
            } else {
                column += 1;
            }
        }
        format!("{}:{line}:{column}", self.place)
    }
}

/// A digest of everything that makes the prepared database what it is: the scripts, in their order, the role that
/// owns the tables, and the version of this crate, which may come to prepare differently.
pub(crate) fn fingerprint(scripts: &[Script], role: &str) -> String {
    let mut digest = Sha256::new();
    let mut add = |part: &str| {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    };
    add(env!("CARGO_PKG_VERSION"));
    add(role);
    for script in scripts {
        add(&script.name);
        add(&script.text);
    }
    digest.finalize()[..FINGERPRINT_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Short enough for a database's name with a suffix (63 bytes), long enough never to meet its like.
const FINGERPRINT_BYTES: usize = 12;

fn read_dir(path: &Path) -> Result<Vec<Script>> {
    let whole = package_dir()?.join(path);
    let unreadable = |error| {
        Error::new(format!(
            "cannot read the schema's directory {}",
            whole.display()
        ))
        .because(error)
        .help(
            "The path given to Schema::dir is relative to the directory of the package under test.",
        )
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(&whole).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let is_script = |name: &str| {
            name.ends_with(".sql") && !name.ends_with(".down.sql") && !name.starts_with('.')
        };
        // The lossy form is only asked whether the file is one of ours; a name that it misrepresents is refused.
        if is_script(&name.to_string_lossy()) && !whole.join(&name).is_dir() {
            names.push(name.into_string().map_err(|name| {
                Error::new(format!(
                    "the name of the schema's file {} is not UTF-8",
                    whole.join(name).display()
                ))
            })?);
        }
    }
    if names.is_empty() {
        return Err(Error::new(format!(
            "the schema's directory {} holds no *.sql file",
            whole.display()
        ))
        .help("Subdirectories, hidden files and *.down.sql are not read. For a database without tables use Schema::sql(\"\")."));
    }
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| {
            let place = path.join(&name).display().to_string();
            let text = fs::read_to_string(whole.join(&name)).map_err(|error| {
                Error::new(format!("cannot read the schema's file {place}")).because(error)
            })?;
            // Editors on Windows put a byte order mark at the start, which the server takes for a word.
            let text = match text.strip_prefix('\u{feff}') {
                Some(text) => text.to_owned(),
                None => text,
            };
            Ok(Script { name, place, text })
        })
        .collect()
}

/// The directory of the package under test: cargo sets it for tests. Without cargo, that is the current directory.
pub(crate) fn package_dir() -> Result<PathBuf> {
    match env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => Ok(dir.into()),
        None => env::current_dir()
            .map_err(|error| Error::new("cannot find the current directory").because(error)),
    }
}

#[cfg(test)]
mod tests;
