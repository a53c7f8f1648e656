//! What keeps tests apart: a transaction that is rolled back, or a database that is dropped.

use crate::choice;
use crate::config::Config;
use crate::error::Result;

/// What keeps a test apart from the others. The isolation levels of SQL are another matter: in a shared transaction they are not
/// exercised, see [`Config::deny_isolation_levels`].
///
/// What is written wins, the test before its case; what says nothing is run as the environment variable
/// `ACTIX_SHAREDDB_ISOLATION` says, `transaction` or `database`, and without it in a shared transaction. So a suite can be run
/// in databases now and then, unchanged, to prove that the shared transaction hides nothing.
///
/// ```no_run
/// # use std::net::TcpListener;
/// # use actix_shareddb::{Config, Isolation, LiveServer, LiveServerTestCase, Pool, Result, live_server};
/// # #[derive(Default)]
/// # struct Todos;
/// # impl LiveServerTestCase for Todos {
/// #     async fn serve(&self, _: TcpListener, _: Pool) -> Result<actix_web::dev::Server> { unimplemented!() }
/// # }
/// live_server! {
///     impl Todos {
///         #[isolation(Database)]
///         async fn an_index_is_built_while_todos_are_written(&mut self, live: &LiveServer) -> Result<()> {
///             let client = live.pool().get().await?;
///             client.batch_execute("CREATE INDEX CONCURRENTLY ON todos (title)").await?;
///             Ok(())
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// One transaction that all clients share, rolled back at the end: the fast one.
    #[default]
    Transaction,
    /// A database of its own, cloned from the prepared one and dropped at the end, with plain connections: for what needs real
    /// commits. Isolation levels, notifications from triggers, `CREATE INDEX CONCURRENTLY`, `VACUUM` and procedures that commit
    /// are as in production.
    Database,
}

impl Isolation {
    /// As the configuration says, or else the environment.
    pub(crate) fn of(config: &Config) -> Result<Self> {
        match config.isolated() {
            Some(isolation) => Ok(isolation),
            None => Self::parse(choice::value(VARIABLE)),
        }
    }

    fn parse(value: Option<String>) -> Result<Self> {
        let chosen = choice::choose(VARIABLE, value.as_deref(), CHOICES)?;
        Ok(chosen.unwrap_or_default())
    }
}

const VARIABLE: &str = "ACTIX_SHAREDDB_ISOLATION";
const CHOICES: &[(&str, Isolation)] = &[
    ("transaction", Isolation::Transaction),
    ("database", Isolation::Database),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Isolation> {
        Isolation::parse(Some(value.to_owned()))
    }

    #[test]
    fn the_variable_is_read() {
        assert_eq!(Isolation::parse(None).unwrap(), Isolation::Transaction);
        assert_eq!(parse("").unwrap(), Isolation::Transaction);
        assert_eq!(parse("transaction").unwrap(), Isolation::Transaction);
        assert_eq!(parse(" database\n").unwrap(), Isolation::Database);
    }

    #[test]
    fn another_value_is_an_error_that_says_which_there_are() {
        for value in ["Database", "databases", "1"] {
            assert_eq!(
                format!("{:?}", parse(value).unwrap_err()),
                format!(
                    "ACTIX_SHAREDDB_ISOLATION is '{value}'\n  help: it is 'transaction' or 'database', or not set"
                )
            );
        }
    }

    #[test]
    fn what_is_written_comes_first() {
        for isolation in [Isolation::Transaction, Isolation::Database] {
            assert_eq!(
                Isolation::of(&Config::new().isolation(isolation)).unwrap(),
                isolation
            );
        }
    }
}
