//! A schema becomes a database: made under another name, and renamed when it is complete.
//!
//! However many processes start together, one prepares: it holds an advisory lock, which the server releases when the
//! session ends, however it ends. `ALTER DATABASE ... RENAME` is atomic, so under its final name a database is
//! complete, and what a killed process leaves is a draft, which the next one drops.

use std::error::Error as _;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::code;
use super::server::Server;
use super::session::{Session, into_cause};
use crate::error::{Error, Result};
use crate::schema::{self, Script, Step, fingerprint};

/// The database that holds what `steps` make, prepared if it isn't there.
pub(super) async fn prepare(server: &Server, steps: &[Step]) -> Result<tokio_postgres::Config> {
    let began = Instant::now();
    loop {
        let maintenance = Session::open(server, server.config()).await?;
        let database = Database::named(server, &maintenance.client, steps).await?;
        if database.state(&maintenance.client).await? == State::Ready {
            maintenance.close().await;
            return Ok(database.config);
        }
        if lock(&maintenance.client, &database).await? {
            // Another process may have prepared it in between.
            match database.state(&maintenance.client).await? {
                State::Ready => {}
                // A date that can't be set only lets the database be dropped sooner, and it is prepared again.
                State::NotUsedToday => {
                    let _ = database
                        .mark_used(&maintenance.client, &database.name)
                        .await;
                }
                State::Absent => {
                    build(server, &maintenance.client, &database, steps).await?;
                    drop_unused(&maintenance.client, &database).await;
                }
            }
            maintenance.close().await;
            return Ok(database.config);
        }
        // Who prepares may need the connection that this one would wait with.
        maintenance.close().await;
        if began.elapsed() > PATIENCE {
            return Err(Error::new(format!(
                "another test process has been preparing the database {} for ten minutes",
                database.name
            ))
            .help("Is it stopped, or in a debugger?"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How long another process may take to prepare.
const PATIENCE: Duration = Duration::from_secs(600);

/// A schema takes longer than this to prepare, and a look costs a tenth of it.
const PAUSE: Duration = Duration::from_millis(30);

/// The database of one schema on one server.
struct Database {
    name: String,
    /// Its name until it is complete.
    draft: String,
    role: String,
    /// Today, as the server says, and as `mark_used` writes it.
    today: String,
    /// The comment of all databases of this package, up to the date.
    comment: String,
    config: tokio_postgres::Config,
}

#[derive(PartialEq, Eq)]
enum State {
    Absent,
    Ready,
    NotUsedToday,
}

impl Database {
    async fn named(server: &Server, client: &Client, steps: &[Step]) -> Result<Self> {
        let row = client
            .query_typed(
                "SELECT current_user::text, to_char(current_date, 'YYYY-MM-DD'),
                    (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())",
                &[],
            )
            .await?
            .pop()
            .ok_or_else(|| Error::new(format!("{} doesn't say who is connected", server.name())))?;
        let role: String = row.get(0);
        let name = format!("shareddb_{}", fingerprint(steps, &role));
        let mut config = server.config().clone();
        config.dbname(&name);
        Ok(Self {
            // Advisory locks belong to a database, so those who connect through another one hold another lock. They
            // must not drop our draft, hence the database's number.
            draft: format!("{name}_draft_{}", row.get::<_, u32>(2)),
            name,
            role,
            today: row.get(1),
            comment: format!(
                "actix-shareddb: prepared for {}, last used ",
                schema::package_dir()?.display()
            ),
            config,
        })
    }

    async fn state(&self, client: &Client) -> Result<State> {
        let rows = client
            .query_typed(
                "SELECT coalesce(right(pg_catalog.shobj_description(oid, 'pg_database'), 10) = $2, false)
                FROM pg_catalog.pg_database WHERE datname = $1",
                &[(&self.name, Type::TEXT), (&self.today, Type::TEXT)],
            )
            .await?;
        Ok(match rows.first().map(|row| row.get(0)) {
            None => State::Absent,
            Some(true) => State::Ready,
            Some(false) => State::NotUsedToday,
        })
    }

    /// Dates the database, so that those that nobody uses any more can be dropped.
    async fn mark_used(&self, client: &Client, name: &str) -> Result<()> {
        let comment = format!("{}{}", self.comment, self.today);
        let comment = format!(
            "COMMENT ON DATABASE {} IS {}",
            escape_identifier(name),
            escape_literal(&comment)
        );
        Ok(client.batch_execute(&comment).await?)
    }
}

/// Takes the lock of those who prepare this database, which lasts as long as the session, unless another one has it.
async fn lock(client: &Client, database: &Database) -> Result<bool> {
    // The server's own limits are for applications: here they could end the session that holds the lock.
    client
        .batch_execute(
            "SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings
                WHERE name IN ('statement_timeout', 'idle_session_timeout')",
        )
        .await?;
    let locked = client
        .query_typed(
            "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))",
            &[(&database.name, Type::TEXT)],
        )
        .await?;
    Ok(locked.first().is_some_and(|row| row.get(0)))
}

async fn build(
    server: &Server,
    client: &Client,
    database: &Database,
    steps: &[Step],
) -> Result<()> {
    let draft = escape_identifier(&database.draft);
    let drop_draft = format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)");
    client.batch_execute(&drop_draft).await?;
    client
        .batch_execute(&format!("CREATE DATABASE {draft}"))
        .await
        .map_err(|error| cannot_create(server, database, error))?;
    let outcome = fill(server, client, database, steps).await;
    if outcome.is_err() {
        // If this fails too, the draft is dropped by the next who prepares. What the user needs is the first error.
        let _ = client.batch_execute(&drop_draft).await;
        return outcome;
    }
    let name = escape_identifier(&database.name);
    match client
        .batch_execute(&format!("ALTER DATABASE {draft} RENAME TO {name}"))
        .await
    {
        // Someone who connects through another database was faster, by much or by little. The two are alike.
        Err(error)
            if error.code() == Some(&SqlState::DUPLICATE_DATABASE)
                || error.code() == Some(&SqlState::UNIQUE_VIOLATION) =>
        {
            Ok(client.batch_execute(&drop_draft).await?)
        }
        outcome => Ok(outcome?),
    }
}

async fn fill(server: &Server, client: &Client, database: &Database, steps: &[Step]) -> Result<()> {
    database.mark_used(client, &database.draft).await?;
    let mut config = server.config().clone();
    config.dbname(&database.draft);
    let session = Session::open(server, &config).await?;
    for step in steps {
        match step {
            Step::Script(script) => run(&session.client, script).await?,
            Step::Code(code) => code::run(server, &config, code).await?,
            Step::Watched(_) => {}
        }
    }
    session.close().await;
    Ok(())
}

/// Runs a script as a whole, and leaves the session as it was when new.
async fn run(client: &Client, script: &Script) -> Result<()> {
    let mut statement = 1;
    let outcome = async {
        let mut messages = pin!(client.simple_query_raw(script.text()).await?);
        while let Some(message) = messages.try_next().await? {
            if let SimpleQueryMessage::CommandComplete(_) = message {
                statement += 1;
            }
        }
        Ok(())
    }
    .await;
    outcome.map_err(|error| failed(script, statement, error))?;
    settle(client, script.place()).await
}

/// Leaves the session as it was when new, and sees that all was committed.
pub(super) async fn settle(client: &Client, place: &str) -> Result<()> {
    // A script's settings (pg_dump empties the search path) are not meant for the next one.
    match client.batch_execute("DISCARD ALL").await {
        // "DISCARD ALL cannot run inside a transaction block": what the script did would be rolled back without a word.
        Err(error) if error.code() == Some(&SqlState::ACTIVE_SQL_TRANSACTION) => {
            Err(Error::new(format!("{place} leaves a transaction open"))
                .help("It has a BEGIN without its COMMIT."))
        }
        outcome => Ok(outcome?),
    }
}

fn failed(script: &Script, statement: usize, error: tokio_postgres::Error) -> Error {
    let position = error.as_db_error().and_then(|error| error.position());
    let place = match position {
        Some(ErrorPosition::Original(position)) => script.place_of(*position),
        _ => script.place_of_statement(statement),
    };
    let help = match error.as_db_error() {
        Some(error) => error.where_().map(str::to_owned),
        // The other errors of the connection have a source: what the server sent was not in the protocol's plan.
        None if error.is_closed() || error.source().is_some() => None,
        None => Some(
            "COPY FROM STDIN and COPY TO STDOUT take their data from outside of SQL, which a schema has not: \
            use INSERT (pg_dump --inserts writes it)."
                .to_owned(),
        ),
    };
    let failed = Error::new(format!("the schema failed at {place}")).because(into_cause(error));
    match help {
        Some(help) => failed.help(help),
        None => failed,
    }
}

fn cannot_create(server: &Server, database: &Database, error: tokio_postgres::Error) -> Error {
    let may_not = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    let error = Error::new(format!(
        "cannot create a database for the schema on {}",
        server.name()
    ))
    .because(into_cause(error));
    if !may_not {
        return error;
    }
    error.help(format!(
        "Let the role create databases, as a superuser:\n    ALTER ROLE {} CREATEDB;\n\
        or use the database as it is, with Schema::existing().",
        escape_identifier(&database.role)
    ))
}

/// Drops this package's databases that no test has used for a while: those of earlier versions of its schema. Others
/// may be in use by a test process of this moment, of another branch perhaps.
async fn drop_unused(client: &Client, database: &Database) {
    let unused = client
        .query_typed(
            "SELECT datname::text FROM pg_catalog.pg_database
            WHERE starts_with(pg_catalog.shobj_description(oid, 'pg_database'), $1)
                AND right(pg_catalog.shobj_description(oid, 'pg_database'), 10) < to_char(current_date - 7, 'YYYY-MM-DD')
                AND starts_with(datname::text, 'shareddb_')
                AND datname NOT IN (SELECT datname FROM pg_catalog.pg_stat_activity WHERE datname IS NOT NULL)",
            &[(&database.comment, Type::TEXT)],
        )
        .await;
    // A courtesy to the server's disk, which must not fail a test: someone else may be dropping the same ones.
    for row in unused.iter().flatten() {
        let name = escape_identifier(row.get(0));
        let _ = client
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name}"))
            .await;
    }
}
