//! Which server and which database a test works in: found once per process, prepared once per server.

mod code;
mod comment;
pub(crate) mod lane;
mod look;
mod permission;
mod prepare;
mod ready;
mod server;
mod session;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::config::Config;
use crate::error::Result;
use crate::isolation::Isolation;
use crate::mux::Reads;
use crate::schema::Schema;
use lane::Template;
use permission::Permission;
use ready::Prepared;
use server::Server;

/// The database in which a test opens its transaction, and the one that a test's own is cloned from.
///
/// The first test of a process that asks for a schema reads its files, and has it prepared, unless another process has done so
/// before; the others, on whatever thread and runtime, wait for it. After an error the next one tries again. Where it's there
/// already, a test that is isolated by a transaction finds it with the connection that it goes on to use.
pub(crate) async fn find(schema: &Schema, isolation: Isolation, config: &Config) -> Result<Found> {
    let url = server::url(config)?;
    let database = known(url, Permission::of(config), schema);
    let found = database
        .found
        .get_or_try_init(|| database.find(isolation, config))
        .await?;
    Ok(found.clone())
}

/// The same for who only wants the address of the former.
pub(crate) async fn resolve(schema: &Schema, config: &Config) -> Result<tokio_postgres::Config> {
    Ok(find(schema, Isolation::Database, config).await?.config)
}

/// What a test asks for, and what was found for it.
struct Database {
    url: Option<server::Url>,
    permission: Permission,
    schema: Schema,
    found: OnceCell<Found>,
}

#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) config: tokio_postgres::Config,
    /// Nobody commits anything there.
    pub(crate) is_prepared: bool,
    /// Of one that isn't prepared nothing is known, for it may change.
    pub(crate) reads: Reads,
    template: Template,
}

impl Database {
    async fn find(&self, isolation: Isolation, config: &Config) -> Result<Found> {
        let steps = self.schema.steps()?;
        let server = match &self.url {
            Some(url) => Server::at(url, &self.permission, config)?,
            None => Server::embedded(config).await?,
        };
        let Some(steps) = steps else {
            let config = server.config().clone();
            let template = match self.url {
                Some(_) => Template::existing(server),
                // Nothing is ever committed to the embedded server's own database, so it is as this one is.
                None => Template::prepared(server, "postgres", "template0".to_owned()),
            };
            return Ok(Found {
                config,
                is_prepared: false,
                reads: Reads::Doubtful,
                template,
            });
        };
        let ready = match isolation {
            Isolation::Transaction => ready::at_once(&server, &steps, config).await?,
            Isolation::Database => None,
        };
        let Prepared {
            config,
            template,
            reads,
        } = match ready {
            Some(prepared) => prepared,
            None => prepare::prepare(&server, &steps).await?,
        };
        let model = config.get_dbname().unwrap_or_default();
        Ok(Found {
            template: Template::prepared(server, model, template),
            config,
            is_prepared: true,
            reads,
        })
    }
}

/// The entry of `KNOWN` for this question.
fn known(url: Option<server::Url>, permission: Permission, schema: &Schema) -> Arc<Database> {
    // Nothing between lock and unlock leaves the list half changed, so a panic there does no harm.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(database) = known.iter().find(|database| {
        database.url == url && database.permission == permission && database.schema.is_like(schema)
    }) {
        return Arc::clone(database);
    }
    let database = Arc::new(Database {
        url,
        permission,
        schema: schema.clone(),
        found: OnceCell::new(),
    });
    known.push(Arc::clone(&database));
    database
}

static KNOWN: Mutex<Vec<Arc<Database>>> = Mutex::new(Vec::new());

#[cfg(test)]
mod tests;
