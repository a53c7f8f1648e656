//! What clones are made of.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::strategy::Strategy;
use crate::database::server::Server;
use crate::database::session::into_cause;
use crate::error::{Error, Result};

/// A database from which others are cloned.
#[derive(Clone)]
pub(in crate::database) struct Template {
    pub(in crate::database) server: Server,
    /// The database that clones are to be like.
    model: String,
    /// A copy of it that nobody connects to, if there is one.
    copy: Option<String>,
}

impl Template {
    /// Of a database that was prepared, with a copy.
    pub(in crate::database) fn prepared(server: Server, model: &str, copy: String) -> Self {
        Self {
            server,
            model: model.to_owned(),
            copy: Some(copy),
        }
    }

    /// The database that the server's URL names.
    pub(in crate::database) fn existing(server: Server) -> Self {
        let config = server.config();
        // What isn't named is named like the user, by PostgreSQL's rule.
        let model = config
            .get_dbname()
            .or_else(|| config.get_user())
            .unwrap_or("postgres");
        Self {
            model: model.to_owned(),
            copy: None,
            server,
        }
    }

    pub(super) fn is_existing(&self) -> bool {
        self.copy.is_none()
    }

    fn name(&self) -> &str {
        self.copy.as_deref().unwrap_or(&self.model)
    }

    /// The statement that makes a clone.
    pub(super) fn create(&self, clone: &str, strategy: Strategy) -> String {
        strategy.create(clone, self.name())
    }

    /// What `ALTER DATABASE ... SET` has set, which doesn't come with a clone.
    pub(super) async fn settings(&self, client: &Client) -> Result<Vec<String>> {
        let settings = "SELECT s.setting FROM pg_catalog.pg_db_role_setting r
            JOIN pg_catalog.pg_database d ON d.oid = r.setdatabase, unnest(r.setconfig) s (setting)
            WHERE d.datname = $1 AND r.setrole = 0";
        let rows = client
            .query_typed(settings, &[(&self.model, Type::TEXT)])
            .await?;
        Ok(rows
            .iter()
            .filter_map(|row| row.get::<_, &str>(0).split_once('='))
            .map(|(name, value)| assignment(name, value))
            .collect())
    }

    pub(super) fn cannot_clone(&self, error: tokio_postgres::Error) -> Error {
        let help = self.help(&error);
        let error = Error::new(format!(
            "cannot clone the database {} on {}",
            self.model,
            self.server.name()
        ))
        .because(into_cause(error));
        match help {
            Some(help) => error.help(help),
            None => error,
        }
    }

    fn help(&self, error: &tokio_postgres::Error) -> Option<String> {
        let said = error.as_db_error()?;
        let (model, user) = (
            &self.model,
            self.server.config().get_user().unwrap_or("alice"),
        );
        let (quoted, role) = (escape_identifier(model), escape_identifier(user));
        if *said.code() == SqlState::OBJECT_IN_USE && self.is_existing() {
            return Some(format!(
                "close what is connected to {model}, for PostgreSQL clones a database only while nobody else is connected \
                to it: psql, the application, tests in a shared transaction there;\n\
                or give the case a Schema, of which a template is made that nobody connects to"
            ));
        }
        if *said.code() != SqlState::INSUFFICIENT_PRIVILEGE {
            return None;
        }
        Some(if said.message().contains("to copy database") {
            format!(
                "let everybody who may create databases clone it, as its owner:\n    ALTER DATABASE {quoted} IS_TEMPLATE true;"
            )
        } else {
            format!(
                "let the role create databases, as a superuser:\n    ALTER ROLE {role} CREATEDB;"
            )
        })
    }
}

/// Lists come as their elements, each quoted where it must be.
fn assignment(name: &str, value: &str) -> String {
    let name = escape_identifier(name);
    let is_list = LISTS
        .iter()
        .any(|list| name.trim_matches('"').eq_ignore_ascii_case(list));
    if is_list && !value.is_empty() {
        format!("{name} TO {value}")
    } else {
        format!("{name} TO {}", escape_literal(value))
    }
}

/// Settings whose value is a list of identifiers, as the catalog has it.
const LISTS: &[&str] = &[
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
];
