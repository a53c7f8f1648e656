//! The committed lane: a test gets a database of its own, cloned from a template, with plain connections to it.
//!
//! ```text
//!  schema ──prepared──> shareddb_<fingerprint>             shared transactions are opened here
//!             └─cloned─> shareddb_<fingerprint>_template   nobody connects here, as PostgreSQL demands of a template
//!                          ├──> shareddb_lane_<keeper>_1   one for each test, dropped at its end
//!                          └──> shareddb_lane_<keeper>_2
//! ```
//!
//! A process has one [`Keeper`](keeper::Keeper) for each server, which makes the clones and drops them. Its sessions bear
//! its name, so that the server itself tells whether it lives: a clone whose keeper has no session is what a killed process
//! left, and the next keeper drops it.

mod keeper;
mod strategy;
mod template;
mod url;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, Pool};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use super::Found;
use crate::backend::{self, Queue, Tls, says_full};
use crate::config::Config;
use crate::error::Result;
use crate::pool;
use keeper::Clone;
pub(super) use strategy::Strategy;
pub(super) use template::Template;

/// A database that belongs to one test.
///
/// Dropped without [`end`](Self::end) it is dropped on the server all the same, but nobody waits for that.
pub(crate) struct OwnDatabase {
    clone: Clone,
    target: tokio_postgres::Config,
    config: Config,
}

impl fmt::Debug for OwnDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnDatabase")
            .field("name", &self.clone.name())
            .finish_non_exhaustive()
    }
}

impl OwnDatabase {
    /// Clones the database that was found.
    pub(crate) async fn open_in(found: Found, config: &Config) -> Result<Self> {
        let template = found.template;
        let clone = keeper::of(&template)?.clone_of(&template).await?;
        let mut target = template.server.config().clone();
        target.dbname(clone.name());
        add_options(&mut target, config);
        Ok(Self {
            clone,
            target,
            config: config.clone(),
        })
    }

    /// A plain pool, as production builds it.
    pub(crate) fn pool(&self) -> Result<Pool> {
        plain_pool(&self.target, &self.config)
    }

    /// Where any other client reaches it.
    pub(crate) fn database_url(&self) -> String {
        url(&self.target)
    }

    pub(crate) fn target(&self) -> &tokio_postgres::Config {
        &self.target
    }

    /// Drops the database, whoever is connected to it.
    pub(crate) async fn end(self) -> Result<()> {
        self.clone.remove().await
    }

    /// Leaves the database for somebody to look at, and says how to do that, and how to drop it.
    pub(crate) async fn keep(self) -> Result<String> {
        let maintenance = url_to_show(self.clone.maintenance());
        let name = self.clone.keep().await?;
        let url = url_to_show(&self.target);
        // Its name needs no quotes.
        Ok(format!(
            "the test's database was kept as {name}:\n  psql '{url}'\nto drop it:\n  \
             psql '{maintenance}' -c 'DROP DATABASE {name}'"
        ))
    }
}

/// Lets a wait for a lock end as in a shared transaction. It stands first, so that what the user sets wins.
fn add_options(target: &mut tokio_postgres::Config, config: &Config) {
    let own = config.lock_option();
    let options = match target.get_options() {
        Some(options) => format!("{own} {options}"),
        None => own,
    };
    target.options(options);
    if target.get_application_name().is_none() {
        target.application_name("actix-shareddb");
    }
}

/// A pool of plain connections, as production builds it.
pub(crate) fn plain_pool(target: &tokio_postgres::Config, config: &Config) -> Result<Pool> {
    let connections = Connections {
        tls: config.encryption().cloned(),
        patience: config.connection_limit(),
    };
    let settings = pool::manager_config(config);
    let manager = Manager::from_connect(target.clone(), connections, settings);
    pool::of(manager, config)
}

/// The URL of a database, for a program.
pub(crate) fn url(target: &tokio_postgres::Config) -> String {
    url::of(target, url::Password::Told)
}

/// The same for people, without the password.
pub(crate) fn url_to_show(target: &tokio_postgres::Config) -> String {
    url::of(target, url::Password::Hidden)
}

/// Opens connections as a manager of deadpool's own does, or through the user's TLS connector; while the server is full, it
/// waits.
struct Connections {
    tls: Option<Tls>,
    patience: Duration,
}

type Connected = (Client, JoinHandle<()>);

impl Connect for Connections {
    fn connect(
        &self,
        config: &tokio_postgres::Config,
    ) -> Pin<Box<dyn Future<Output = Result<Connected, tokio_postgres::Error>> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            let mut queue = Queue::new(self.patience);
            loop {
                match self.try_to_connect(&config).await {
                    Err(error) if says_full(&error) && queue.pause().await => {}
                    outcome => return outcome,
                }
            }
        })
    }
}

impl Connections {
    async fn try_to_connect(
        &self,
        config: &tokio_postgres::Config,
    ) -> Result<Connected, tokio_postgres::Error> {
        // Their errors reach whoever uses the client.
        let Some(tls) = &self.tls else {
            let (client, connection) = config.connect(NoTls).await?;
            let task = tokio::spawn(async move { drop(connection.await) });
            return Ok((client, task));
        };
        match backend::client(config, Some(tls)).await {
            Ok((client, connection)) => {
                let task = tokio::spawn(async move { drop(connection.await) });
                Ok((client, task))
            }
            Err(error) => Err(pool::into_client_error(error).await),
        }
    }
}
