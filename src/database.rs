//! Which server and which database a test works in: found once per process, prepared once per server.

mod code;
mod permission;
mod prepare;
mod server;
mod session;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::config::Config;
use crate::error::Result;
use crate::schema::{Schema, Step};
use permission::Permission;
use server::Server;

/// The database in which a test opens its transaction.
///
/// Every test asks. The first one of a process that asks for a schema has it prepared, unless another process has
/// done so before; the others, on whatever thread and runtime, wait for it. After an error the next one tries again.
pub(crate) async fn resolve(schema: &Schema, config: &Config) -> Result<tokio_postgres::Config> {
    let url = server::url(config)?;
    let steps = schema.steps()?;
    let database = known(url, Permission::of(config), steps);
    let resolved = database
        .resolved
        .get_or_try_init(|| database.find(config))
        .await?;
    Ok(resolved.clone())
}

/// What a test asks for, and what was found for it.
struct Database {
    url: Option<server::Url>,
    permission: Permission,
    steps: Option<Vec<Step>>,
    resolved: OnceCell<tokio_postgres::Config>,
}

impl Database {
    async fn find(&self, config: &Config) -> Result<tokio_postgres::Config> {
        let server = match &self.url {
            Some(url) => Server::at(url, &self.permission, config)?,
            None => Server::embedded(config).await?,
        };
        match &self.steps {
            Some(steps) => prepare::prepare(&server, steps).await,
            None => Ok(server.into_config()),
        }
    }
}

/// The entry of `KNOWN` for this question. The texts themselves are compared, which is much cheaper than to take
/// their fingerprint for every test.
fn known(
    url: Option<server::Url>,
    permission: Permission,
    steps: Option<Vec<Step>>,
) -> Arc<Database> {
    // Nothing between lock and unlock leaves the list half changed, so a panic there does no harm.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(database) = known.iter().find(|database| {
        database.url == url && database.permission == permission && database.steps == steps
    }) {
        return Arc::clone(database);
    }
    let database = Arc::new(Database {
        url,
        permission,
        steps,
        resolved: OnceCell::new(),
    });
    known.push(Arc::clone(&database));
    database
}

static KNOWN: Mutex<Vec<Arc<Database>>> = Mutex::new(Vec::new());

#[cfg(test)]
mod tests;
