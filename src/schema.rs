//! Where the tables come from, and the fingerprint that tells one schema from another.

mod code;
mod files;

use std::env;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use crate::error::{Error, Result};
pub(crate) use code::{Code, Work};
pub(crate) use files::{Script, Watched};

/// The tables, types and rows that every test of a case starts from.
///
/// A schema is prepared once and committed, in a database of the crate's own, and found again by later tests, by
/// other test processes and by later runs. Any change to its text makes another database. Each process reads the files of a
/// schema once, so that all of its tests see the same.
///
/// ```
/// use actix_shareddb::Schema;
///
/// let schema = Schema::dir("migrations");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a schema does nothing until a test case returns it"]
pub struct Schema(Vec<Source>);

#[derive(Clone, Debug, PartialEq)]
enum Source {
    Existing,
    Sql(String),
    Dir(PathBuf),
    Code(Code),
    Watched(PathBuf),
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
        Self(vec![Source::Existing])
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
        Self(vec![Source::Sql(text.into())])
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
        Self(vec![Source::Dir(path.into())])
    }

    /// What a migration tool, or any other code, makes of an empty database.
    ///
    /// The code runs once on each server for a fingerprint, however many test processes start together, so the fingerprint
    /// has to change whenever the outcome does. It is any text: a version, or what the code reads. Files needn't be a part
    /// of it, see [`depends_on`](Self::depends_on).
    ///
    /// ```
    /// use actix_shareddb::{Error, Schema};
    ///
    /// let schema = Schema::run("refinery", async |client| {
    ///     let migrations = refinery::load_sql_migrations("migrations").map_err(Error::other)?;
    ///     let runner = refinery::Runner::new(&migrations);
    ///     runner.run_async(client).await.map_err(Error::other)?;
    ///     Ok(())
    /// })
    /// .depends_on("migrations");
    /// ```
    ///
    /// The client is that of a database which is to become the prepared one, and no longer there when the code returns an
    /// error, panics or is killed. The code runs on a thread of its own, so it may block.
    pub fn run(
        fingerprint: impl Into<String>,
        code: impl AsyncFn(&mut Client) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(vec![Source::Code(Code::with(fingerprint.into(), code))])
    }

    /// The same for what connects by itself: a migration tool that takes a URL, a library with a driver of its own, or a
    /// program.
    ///
    /// ```
    /// use std::process::Command;
    ///
    /// use actix_shareddb::{Error, Schema};
    ///
    /// let schema = Schema::run_at("sqlx", async |url| {
    ///     let mut sqlx = Command::new("sqlx");
    ///     let status = sqlx.args(["migrate", "run"]).env("DATABASE_URL", url).status()?;
    ///     match status.success() {
    ///         true => Ok(()),
    ///         false => Err(Error::other(format!("sqlx migrate run: {status}"))),
    ///     }
    /// })
    /// .depends_on("migrations");
    /// ```
    ///
    /// The URL is that of the database which is to become the prepared one. It is good for as long as the code runs: whatever
    /// connects by it has to be closed before, or there is an error that says so.
    pub fn run_at(
        fingerprint: impl Into<String>,
        code: impl AsyncFn(&str) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(vec![Source::Code(Code::at(fingerprint.into(), code))])
    }

    /// Makes the text of a file, or of all files below a directory, a part of the fingerprint: the files that the code of
    /// [`run`](Self::run) or [`run_at`](Self::run_at) reads. Each test process reads them, so that no change is missed.
    ///
    /// The path is relative to the directory of the package under test. Hidden files don't count.
    ///
    /// ```
    /// use actix_shareddb::Schema;
    ///
    /// let schema = Schema::run("2", async |client| {
    ///     let text = std::fs::read_to_string("schema/tables.sql")?;
    ///     Ok(client.batch_execute(&text).await?)
    /// })
    /// .depends_on("schema/tables.sql");
    /// ```
    pub fn depends_on(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.push(Source::Watched(path.into()));
        self
    }

    /// One schema after the other, in one database: migrations, and then the rows that all tests start from.
    ///
    /// ```
    /// use actix_shareddb::Schema;
    ///
    /// let schema = Schema::dir("migrations")
    ///     .then(Schema::sql("INSERT INTO users (name) VALUES ('admin')"));
    /// ```
    ///
    /// [`Schema::existing`] can't be a part of it, as nothing is committed there.
    pub fn then(mut self, next: Self) -> Self {
        self.0.extend(next.0);
        self
    }

    /// Whether the tests see a database that was made for it, in which nobody commits anything any more.
    pub(crate) fn is_prepared(&self) -> bool {
        !matches!(self.0[..], [Source::Existing])
    }

    /// Whether it's made of the same: the same directories, texts, and fingerprints of code.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// What has to run in an empty database, as the files are now; `None` for a database that is used as it is.
    pub(crate) fn steps(&self) -> Result<Option<Vec<Step>>> {
        if !self.is_prepared() {
            return Ok(None);
        }
        let mut steps = Vec::new();
        for source in &self.0 {
            match source {
                Source::Existing => {
                    return Err(Error::new(
                        "Schema::existing() was combined with another schema",
                    )
                    .help(
                        "make all of it with Schema::dir, sql or run, or write the rows in `set_up`; nothing is ever \
                        committed to an existing database",
                    ));
                }
                Source::Sql(text) => steps.push(Step::Script(Script::of_text(text))),
                Source::Dir(path) => {
                    steps.extend(files::read_dir(path)?.into_iter().map(Step::Script));
                }
                Source::Code(code) => steps.push(Step::Code(code.clone())),
                Source::Watched(path) => {
                    steps.extend(files::watch(path)?.into_iter().map(Step::Watched));
                }
            }
        }
        Ok(Some(steps))
    }
}

/// A part of what makes a prepared database what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Script(Script),
    Code(Code),
    Watched(Watched),
}

/// A digest of everything that makes the prepared database what it is: the steps, in their order, the role that
/// owns the tables, and the version of this crate, which may come to prepare differently.
pub(crate) fn fingerprint(steps: &[Step], role: &str) -> String {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(role.as_bytes());
    for step in steps {
        let (kind, name, content) = match step {
            Step::Script(script) => ("script", script.name(), script.text().as_bytes()),
            Step::Code(code) => ("code", "", code.fingerprint().as_bytes()),
            Step::Watched(watched) => ("watched", watched.name(), watched.content()),
        };
        add(kind.as_bytes());
        add(name.as_bytes());
        add(content);
    }
    digest.finalize()[..FINGERPRINT_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Short enough for a database's name with a suffix (63 bytes), long enough never to meet its like.
const FINGERPRINT_BYTES: usize = 12;

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
