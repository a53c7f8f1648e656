//! A schema becomes a database: made under another name, and renamed when it is complete.
//!
//! However many processes start together, one prepares: it holds an advisory lock, which the server releases when the
//! session ends, however it ends. `ALTER DATABASE ... RENAME` is atomic, so under its final name a database is
//! complete, and what a killed process leaves is a draft, which the next one drops.

use std::error::Error as _;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use postgres_protocol::escape::escape_identifier;
use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::code;
use super::comment;
use super::lane::Strategy;
use super::look;
use super::ready::{Names, Prepared, State};
use super::server::Server;
use super::session::{Session, into_cause};
use crate::error::{Error, Result};
use crate::mux::Reads;
use crate::schema::{Script, Step};

/// The database that holds what `steps` make, prepared if it isn't there.
pub(super) async fn prepare(server: &Server, steps: &[Step]) -> Result<Prepared> {
    let began = Instant::now();
    loop {
        let maintenance = Session::open(server, server.config()).await?;
        let database = Database::named(server, &maintenance.client, steps).await?;
        if let State::Ready(reads) = database.names.state(&maintenance.client).await? {
            maintenance.close().await;
            return Ok(Prepared::new(server, database.names, reads));
        }
        if lock(&maintenance.client, &database).await? {
            // Another process may have prepared it in between.
            let reads = match database.names.state(&maintenance.client).await? {
                State::Ready(reads) => reads,
                // A date that can't be set only lets the database be dropped sooner, and it is prepared again.
                State::NotUsedToday(reads) => {
                    for name in [&database.names.database, &database.names.template] {
                        let _ = comment::write(&maintenance.client, name, reads).await;
                    }
                    reads
                }
                State::Absent => {
                    let reads = build(server, &maintenance.client, &database, steps).await?;
                    drop_unused(&maintenance.client).await;
                    reads
                }
            };
            maintenance.close().await;
            return Ok(Prepared::new(server, database.names, reads));
        }
        // Who prepares may need the connection that this one would wait with.
        maintenance.close().await;
        if began.elapsed() > PATIENCE {
            return Err(Error::new(format!(
                "another test process has been preparing the database {} for ten minutes",
                database.names.database
            ))
            .help(
                "end it if it hangs, is stopped or sits in a debugger; its session on the server is shown by\n    \
                 SELECT a.* FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE l.locktype = 'advisory'",
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How long another process may take to prepare.
const PATIENCE: Duration = Duration::from_secs(600);

/// A schema takes longer than this to prepare, and a look costs a tenth of it.
const PAUSE: Duration = Duration::from_millis(30);

/// The database of one schema on one server, while it is being prepared.
struct Database {
    names: Names,
    /// Its name until it is complete.
    draft: String,
    /// That of the template until then.
    template_draft: String,
    role: String,
}

impl Database {
    async fn named(server: &Server, client: &Client, steps: &[Step]) -> Result<Self> {
        let row = client
            .query_typed(
                "SELECT current_user::text, oid FROM pg_catalog.pg_database WHERE datname = current_database()",
                &[],
            )
            .await?
            .pop()
            .ok_or_else(|| Error::new(format!("{} doesn't say who is connected", server.name())))?;
        let (role, through): (String, u32) = (row.get(0), row.get(1));
        let names = Names::of(steps, &role);
        Ok(Self {
            // Advisory locks belong to a database, so those who connect through another one hold another lock. They
            // must not drop our draft, hence the database's number.
            draft: format!("{}_draft_{through}", names.database),
            template_draft: format!("{}_copy_{through}", names.database),
            names,
            role,
        })
    }
}

/// The server's own limits are for applications: here they would end a wait, or a session that has to stay.
pub(super) async fn lift_limits(client: &Client) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(
            "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
                WHERE name IN ('statement_timeout', 'idle_session_timeout')",
        )
        .await
}

/// Takes the lock of those who prepare this database, which lasts as long as the session, unless another one has it.
async fn lock(client: &Client, database: &Database) -> Result<bool> {
    lift_limits(client).await?;
    let locked = client
        .query_typed(
            "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))",
            &[(&database.names.database, Type::TEXT)],
        )
        .await?;
    Ok(locked.first().is_some_and(|row| row.get(0)))
}

async fn build(
    server: &Server,
    client: &Client,
    database: &Database,
    steps: &[Step],
) -> Result<Reads> {
    drop_drafts(client, database).await?;
    client
        .batch_execute(&format!(
            "CREATE DATABASE {}",
            escape_identifier(&database.draft)
        ))
        .await
        .map_err(|error| cannot_create(server, database, error))?;
    let outcome = async {
        let reads = fill(server, client, database, steps).await?;
        copy(client, database, reads).await?;
        Ok(reads)
    }
    .await;
    if outcome.is_err() {
        // If this fails too, the drafts are dropped by the next who prepares. What the user needs is the first error.
        let _ = drop_drafts(client, database).await;
        return outcome;
    }
    // The database itself comes last: it is complete when it has its template.
    rename(client, &database.template_draft, &database.names.template).await?;
    rename(client, &database.draft, &database.names.database).await?;
    outcome
}

async fn drop_drafts(client: &Client, database: &Database) -> Result<()> {
    for draft in [&database.draft, &database.template_draft] {
        client.batch_execute(&drop_statement(draft)).await?;
    }
    Ok(())
}

fn drop_statement(draft: &str) -> String {
    format!(
        "DROP DATABASE IF EXISTS {} WITH (FORCE)",
        escape_identifier(draft)
    )
}

async fn rename(client: &Client, draft: &str, name: &str) -> Result<()> {
    let rename = format!(
        "ALTER DATABASE {} RENAME TO {}",
        escape_identifier(draft),
        escape_identifier(name)
    );
    match client.batch_execute(&rename).await {
        // Someone who connects through another database was faster, by much or by little. The two are alike.
        Err(error)
            if error.code() == Some(&SqlState::DUPLICATE_DATABASE)
                || error.code() == Some(&SqlState::UNIQUE_VIOLATION) =>
        {
            Ok(client.batch_execute(&drop_statement(draft)).await?)
        }
        outcome => Ok(outcome?),
    }
}

/// Copies the draft while nobody is connected to it, as there soon will be tests that are.
async fn copy(client: &Client, database: &Database, reads: Reads) -> Result<()> {
    let strategy = Strategy::of(client).await?;
    let create = strategy.create(&database.template_draft, &database.draft);
    client.batch_execute(&create).await.map_err(cannot_copy)?;
    let closed = format!(
        "ALTER DATABASE {} ALLOW_CONNECTIONS false",
        escape_identifier(&database.template_draft)
    );
    client.batch_execute(&closed).await?;
    comment::write(client, &database.template_draft, reads).await
}

/// PostgreSQL has waited by then for those who were about to go.
fn cannot_copy(error: tokio_postgres::Error) -> Error {
    if error.code() != Some(&SqlState::OBJECT_IN_USE) {
        return error.into();
    }
    Error::new("the schema's code has left connections to its database open")
        .because(into_cause(error))
        .help(
            "close them before it returns, and wait for the programs that it starts: the database is copied then, and \
            nobody may be connected to it",
        )
}

async fn fill(
    server: &Server,
    client: &Client,
    database: &Database,
    steps: &[Step],
) -> Result<Reads> {
    comment::write(client, &database.draft, Reads::Doubtful).await?;
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
    let reads = look::reads(&session.client).await?;
    comment::write(client, &database.draft, reads).await?;
    session.close().await;
    Ok(reads)
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
                .help("it has a BEGIN without its COMMIT"))
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
            use INSERT (pg_dump --inserts writes it)"
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
        "let the role create databases, as a superuser:\n    ALTER ROLE {} CREATEDB;\n\
        or use the database as it is, with Schema::existing()",
        escape_identifier(&database.role)
    ))
}

/// Drops this package's databases that no test has used for a while: those of earlier versions of its schema. Others
/// may be in use by a test process of this moment, of another branch perhaps.
async fn drop_unused(client: &Client) {
    let Ok(beginning) = comment::beginning() else {
        return;
    };
    let unused = client
        .query_typed(
            "SELECT datname::text FROM pg_catalog.pg_database
            WHERE starts_with(pg_catalog.shobj_description(oid, 'pg_database'), $1)
                AND right(pg_catalog.shobj_description(oid, 'pg_database'), 10) < to_char(current_date - 7, 'YYYY-MM-DD')
                AND starts_with(datname::text, 'shareddb_')
                AND datname NOT IN (SELECT datname FROM pg_catalog.pg_stat_activity WHERE datname IS NOT NULL)",
            &[(&beginning, Type::TEXT)],
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
