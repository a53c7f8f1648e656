//! Whether what a schema becomes is there, so that nothing has to be prepared.

use postgres_protocol::escape::escape_literal;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::comment::{PURE, TODAY};
use super::server::Server;
use crate::backend::{Queue, says_full};
use crate::config::Config;
use crate::error::Result;
use crate::mux::Reads;
use crate::outer;
use crate::schema::{Step, fingerprint};

/// What a schema has become.
pub(super) struct Prepared {
    pub(super) config: tokio_postgres::Config,
    /// A copy of it, to which nobody connects, as who clones it demands.
    pub(super) template: String,
    pub(super) reads: Reads,
}

impl Prepared {
    pub(super) fn new(server: &Server, names: Names, reads: Reads) -> Self {
        let mut config = server.config().clone();
        config.dbname(&names.database);
        Self {
            config,
            template: names.template,
            reads,
        }
    }
}

/// What the databases of a schema are called.
pub(super) struct Names {
    pub(super) database: String,
    pub(super) template: String,
}

/// Who connects decides on privileges, so each role has databases of its own.
impl Names {
    pub(super) fn of(steps: &[Step], role: &str) -> Self {
        let database = format!("shareddb_{}", fingerprint(steps, role));
        Self {
            template: format!("{database}_template"),
            database,
        }
    }

    /// Asks on any connection to the server.
    pub(super) async fn state(&self, client: &Client) -> Result<State> {
        let messages = client.simple_query(&self.question()).await?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((row.get(1), row.get(2))),
            _ => None,
        });
        Ok(row.map_or(State::Absent, |(today, pure)| State::of(today, pure)))
    }

    /// Who is connected, whether the databases were used today, and whether nothing in them writes when it's read. There is no
    /// row if one of them is missing.
    fn question(&self) -> String {
        format!(
            "SELECT current_user, pg_catalog.bool_and(coalesce(pg_catalog.right(comment, 10) = {TODAY}, false)),
                pg_catalog.bool_and(coalesce(pg_catalog.strpos(comment, {}) > 0, false))
            FROM pg_catalog.pg_database, pg_catalog.shobj_description(oid, 'pg_database') AS comment
            WHERE datname IN ({}, {}) HAVING pg_catalog.count(*) = 2",
            escape_literal(PURE),
            escape_literal(&self.database),
            escape_literal(&self.template)
        )
    }
}

pub(super) enum State {
    Absent,
    Ready(Reads),
    NotUsedToday(Reads),
}

impl State {
    /// Of what the server says, as text.
    fn of(today: Option<&str>, pure: Option<&str>) -> Self {
        let reads = match pure {
            Some("t") => Reads::Pure,
            _ => Reads::Doubtful,
        };
        match today {
            Some("t") => Self::Ready(reads),
            _ => Self::NotUsedToday(reads),
        }
    }
}

/// Looks on a connection that is then kept for the next test of this process, which it saves one: to connect costs more than
/// all else that is done for a test.
///
/// None says that this doesn't tell: the databases may be missing, or the role not the one that logs in, or the server may let
/// nobody in at all, of which [`prepare`](super::prepare) tells better.
///
/// # Errors
///
/// If the server is full for too long.
pub(super) async fn at_once(
    server: &Server,
    steps: &[Step],
    settings: &Config,
) -> Result<Option<Prepared>> {
    let Some(role) = server.config().get_user() else {
        return Ok(None);
    };
    let names = Names::of(steps, role);
    let question = names.question();
    let prepared = Prepared::new(server, names, Reads::Doubtful);
    let target = outer::target(&prepared.config, settings);
    let tls = settings.encryption();
    let mut queue = Queue::new(server.patience());
    let (backend, row) = loop {
        match outer::ask(&target, tls, &question).await {
            Ok(answered) => break answered,
            Err(error) if says_full(&error) => {
                queue
                    .wait(error, outer::give_up_kept)
                    .await
                    .map_err(|error| server.cannot_connect(error))?;
            }
            Err(_) => return Ok(None),
        }
    };
    let row = row.unwrap_or_default();
    let [Some(is), today, pure] = &row[..] else {
        return Ok(None);
    };
    let State::Ready(reads) = State::of(today.as_deref(), pure.as_deref()) else {
        return Ok(None);
    };
    if is != role {
        return Ok(None);
    }
    backend.keep(target, tls);
    Ok(Some(Prepared { reads, ..prepared }))
}
