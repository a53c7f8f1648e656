//! Makes the databases of a process's tests on one server, and drops them.

use std::future::{Future, pending};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use postgres_protocol::escape::escape_identifier;
use tokio::runtime::{self, Handle};
use tokio::sync::OnceCell;

use super::strategy::Strategy;
use super::template::Template;
use crate::database::server::Server;
use crate::database::session::{Session, into_cause};
use crate::database::{comment, prepare};
use crate::error::{Error, Result};
use crate::mux::Reads;
use crate::secret;

/// The one that works on this server for this process.
pub(super) fn of(template: &Template) -> Result<Arc<Keeper>> {
    static KEEPERS: Mutex<Vec<Arc<Keeper>>> = Mutex::new(Vec::new());
    // Nothing between lock and unlock leaves the list half changed, so a panic there does no harm.
    let mut keepers = KEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
    let config = maintenance(template);
    if let Some(keeper) = keepers.iter().find(|keeper| keeper.config == config) {
        return Ok(Arc::clone(keeper));
    }
    let keeper = Arc::new(Keeper::new(template.server.clone(), config)?);
    keepers.push(Arc::clone(&keeper));
    Ok(keeper)
}

/// Where the keeper connects to: never to what it clones, which may have no other users.
fn maintenance(template: &Template) -> tokio_postgres::Config {
    let mut config = template.server.config().clone();
    if template.is_existing() {
        config.dbname("postgres");
    }
    config
}

/// Lives as long as the process, on a thread of its own: tests and their runtimes come and go.
pub(super) struct Keeper {
    server: Server,
    config: tokio_postgres::Config,
    /// What its sessions are called, and how the names of its clones begin.
    name: String,
    runtime: Handle,
    idle: Mutex<Vec<Session>>,
    /// How many clones were made.
    made: AtomicU64,
    /// Known when the leftovers have been seen to.
    strategy: OnceCell<Strategy>,
}

impl Keeper {
    fn new(server: Server, config: tokio_postgres::Config) -> Result<Self> {
        let not_started =
            |error| Error::new("the keeper of databases did not start").because(error);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(not_started)?;
        let handle = runtime.handle().clone();
        // Not joined: it has to be there for the last test, and nobody knows which one that is.
        thread::Builder::new()
            .name("shareddb lane".to_owned())
            .spawn(move || runtime.block_on(pending::<()>()))
            .map_err(not_started)?;
        let name = format!("{PREFIX}{:.16}", secret::password());
        Ok(Self {
            server,
            config,
            name,
            runtime: handle,
            idle: Mutex::new(Vec::new()),
            made: AtomicU64::new(0),
            strategy: OnceCell::new(),
        })
    }

    /// Makes a clone.
    pub(super) async fn clone_of(self: &Arc<Self>, template: &Template) -> Result<Clone> {
        let (keeper, template) = (Arc::clone(self), template.clone());
        self.on_thread(async move {
            let strategy = *keeper.strategy.get_or_try_init(|| keeper.begin()).await?;
            keeper.make(&template, strategy).await
        })
        .await
    }

    async fn make(self: &Arc<Self>, template: &Template, strategy: Strategy) -> Result<Clone> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let clone = Clone {
            name: Some(format!("{}_{number}", self.name)),
            keeper: Arc::clone(self),
        };
        let session = self.session().await?;
        let create = template.create(clone.name(), strategy);
        session
            .client
            .batch_execute(&create)
            .await
            .map_err(|error| template.cannot_clone(error))?;
        // What belongs to the database and isn't in it: ALTER DATABASE ... SET.
        for setting in template.settings(&session.client).await? {
            let name = escape_identifier(clone.name());
            let alter = format!("ALTER DATABASE {name} SET {setting}");
            session.client.batch_execute(&alter).await?;
        }
        self.put_back(session);
        Ok(clone)
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        let session = self.session().await?;
        session
            .client
            .batch_execute(&drop_statement(name))
            .await
            .map_err(|error| {
                Error::new(format!("the test's database {name} could not be dropped"))
                    .because(into_cause(error))
            })?;
        self.put_back(session);
        Ok(())
    }

    /// Drops what killed processes have left: clones whose keeper has no session any more.
    async fn begin(&self) -> Result<Strategy> {
        let session = self.session().await?;
        for row in session.client.query_typed(LEFT, &[]).await? {
            // Another process may be at the same one, and another role's can't be dropped: neither is this test's fault.
            let _ = session
                .client
                .batch_execute(&drop_statement(row.get(0)))
                .await;
        }
        let strategy = Strategy::of(&session.client).await?;
        self.put_back(session);
        Ok(strategy)
    }

    /// A session that is idle, or a new one. One that an error has happened on is not put back.
    async fn session(&self) -> Result<Session> {
        while let Some(session) = self.idle().pop() {
            if !session.client.is_closed() {
                return Ok(session);
            }
        }
        let mut config = self.config.clone();
        config.application_name(&self.name);
        let session = Session::open(&self.server, &config).await?;
        prepare::lift_limits(&session.client).await?;
        Ok(session)
    }

    fn put_back(&self, session: Session) {
        self.idle().push(session);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs work on the keeper's thread. It goes on if nobody waits for it any more.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.runtime.spawn(work).await.unwrap_or_else(|error| {
            Err(Error::new("the keeper of databases has ended").because(error))
        })
    }
}

/// A database that one test has to itself. Dropped without [`remove`](Self::remove), it is dropped on the server behind
/// everybody's back.
pub(super) struct Clone {
    keeper: Arc<Keeper>,
    /// `None` when it has been seen to.
    name: Option<String>,
}

impl Clone {
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Where to connect to for dropping it.
    pub(super) fn maintenance(&self) -> &tokio_postgres::Config {
        &self.keeper.config
    }

    pub(super) async fn remove(mut self) -> Result<()> {
        let (keeper, name) = (Arc::clone(&self.keeper), self.name.take());
        self.keeper
            .on_thread(async move { keeper.drop_database(&name.unwrap_or_default()).await })
            .await
    }

    /// Makes it one of those that are dropped when nobody has used them for long. Gives its name.
    pub(super) async fn keep(mut self) -> Result<String> {
        let (keeper, name) = (Arc::clone(&self.keeper), self.name.take());
        self.keeper
            .on_thread(async move {
                let name = name.unwrap_or_default();
                let session = keeper.session().await?;
                comment::write(&session.client, &name, Reads::Doubtful).await?;
                keeper.put_back(session);
                Ok(name)
            })
            .await
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            let keeper = Arc::clone(&self.keeper);
            // What fails here is dropped by the next keeper.
            self.keeper
                .runtime
                .spawn(async move { drop(keeper.drop_database(&name).await) });
        }
    }
}

fn drop_statement(name: &str) -> String {
    format!(
        "DROP DATABASE IF EXISTS {} WITH (FORCE)",
        escape_identifier(name)
    )
}

/// How the names of keepers and their clones begin. 16 characters that are the keeper's own follow.
const PREFIX: &str = "shareddb_lane_";

/// Clones without a keeper. One that was kept on purpose has a comment, with the date.
const LEFT: &str = "SELECT d.datname::text FROM pg_catalog.pg_database d
    WHERE d.datname ~ '^shareddb_lane_[0-9a-f]{16}_[0-9]+$'
        AND pg_catalog.shobj_description(d.oid, 'pg_database') IS NULL
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_stat_activity a WHERE a.application_name = left(d.datname::text, 30)
        )";
