//! The shared transaction: opened on a real backend, used by any number of clients, rolled back.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use tokio::time::timeout;

use crate::backend::{Backend, Canceller, Stream};
use crate::config::Config;
use crate::database::{self, Found};
use crate::error::{Error, Result};
use crate::fault;
use crate::insider::Insider;
use crate::isolation::Isolation;
use crate::mux::driver::{Driver, SessionStream};
use crate::mux::message::parameter;
use crate::mux::record::Origin;
use crate::mux::{Deferral, Mux};
use crate::outer::{self, Ready};
use crate::pool;
use crate::queries::Recording;
use crate::schema::Schema;
use crate::socket::Entrance;

/// One transaction on one connection to PostgreSQL, in which all clients of its pools live.
///
/// [`LiveServerTestCase`](crate::LiveServerTestCase) opens one for each test. By itself it serves tests without a server
/// of ours: of a repository layer, or of another web framework.
///
/// Dropped without [`rollback`](Self::rollback) it is rolled back all the same, but nothing is checked and nobody is
/// told.
///
/// ```no_run
/// use actix_shareddb::{Config, Result, Schema, SharedTransaction};
///
/// #[tokio::test]
/// async fn names_are_unique() -> Result<()> {
///     let schema = Schema::sql("CREATE TABLE users (name text UNIQUE)");
///     let transaction = SharedTransaction::open(&schema, &Config::new()).await?;
///     let pool = transaction.pool()?;
///
///     let client = pool.get().await?;
///     client.execute("INSERT INTO users VALUES ('alice')", &[]).await?;
///     let again = client.execute("INSERT INTO users VALUES ('alice')", &[]).await;
///     assert!(again.is_err());
///     // The failure has cost nothing else, and another client sees the same rows.
///     let row = pool.get().await?.query_one("SELECT count(*) FROM users", &[]).await?;
///     assert_eq!(row.get::<_, i64>(0), 1);
///
///     transaction.rollback().await
/// }
/// ```
#[must_use = "a transaction that is dropped is rolled back unchecked"]
pub struct SharedTransaction {
    driver: Driver<Stream>,
    entrance: Arc<Entrance>,
    canceller: Canceller,
    recording: Recording,
    /// The connection, but for its stream, which the driver has.
    parameters: Vec<(String, String)>,
    process_id: i32,
    deferral: Deferral,
    target: tokio_postgres::Config,
    config: Config,
}

impl fmt::Debug for SharedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTransaction")
            .field("backend", &self.process_id)
            .finish_non_exhaustive()
    }
}

impl SharedTransaction {
    /// Opens a transaction in the database that the schema and the configuration name, which is prepared first if it
    /// has not been.
    ///
    /// ```no_run
    /// # async fn example() -> actix_shareddb::Result<()> {
    /// use actix_shareddb::{Config, Schema, SharedTransaction};
    ///
    /// let schema = Schema::dir("migrations");
    /// let transaction = SharedTransaction::open(&schema, &Config::new()).await?;
    /// // ...
    /// transaction.rollback().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no PostgreSQL, if it can't be reached or refuses the user, and if the schema can't be prepared.
    pub async fn open(schema: &Schema, config: &Config) -> Result<Self> {
        let found = database::find(schema, Isolation::Transaction, config).await?;
        Self::open_in(found, config, config.connection_limit()).await
    }

    /// The same where the database has been found, with so much patience while the server is full.
    pub(crate) async fn open_in(found: Found, config: &Config, patience: Duration) -> Result<Self> {
        // Where the user has named the application, that is its name.
        let name = match found.config.get_application_name() {
            Some(_) => None,
            None => test_name(),
        };
        let target = outer::target(&found.config, config);
        let Ready { backend, deferral } =
            outer::open(&target, config.encryption(), patience, found.is_prepared).await?;
        let canceller = backend.canceller();
        let mut mux = Mux::new(
            backend.parameters.clone(),
            deferral.clone(),
            config.lease(),
            Instant::now(),
        )
        .with_reads(found.reads)
        .deny_isolation_levels(config.denies_levels());
        if let Some(name) = &name {
            mux = mux.named(name);
        }
        // Several times within the server's own timeout, which begins when it begins to wait.
        let blocked_after = (!config.lock().is_zero()).then(|| config.lock() / 4);
        let driver = Driver::new(
            mux,
            backend.stream,
            config.lease(),
            blocked_after,
            canceller.clone(),
        );
        let user = parameter(&backend.parameters, "session_authorization").unwrap_or_default();
        // What isn't named is named like the user, by PostgreSQL's rule.
        let database = target.get_dbname().unwrap_or(user);
        Ok(Self {
            entrance: Entrance::new(
                driver.for_clients_of(Origin::Socket),
                canceller.clone(),
                user,
                database,
            ),
            recording: Recording::new(driver.clone()),
            canceller,
            driver,
            process_id: backend.process_id,
            deferral,
            parameters: backend.parameters,
            target,
            config: config.clone(),
        })
    }

    /// Builds a pool, of the configured size, whose clients live in this transaction. Each call gives a pool of its own,
    /// as each of two services would have one.
    ///
    /// ```no_run
    /// # async fn example(transaction: &actix_shareddb::SharedTransaction) -> actix_shareddb::Result<()> {
    /// let orders = transaction.pool()?;
    /// let invoices = transaction.pool()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the configured pool can't be built.
    pub fn pool(&self) -> Result<Pool> {
        self.pool_of(Origin::Test)
    }

    /// The same for clients whose statements are recorded as those of this origin.
    pub(crate) fn pool_of(&self, origin: Origin) -> Result<Pool> {
        let driver = self.driver.for_clients_of(origin);
        pool::build(&driver, &self.target, &self.config)
    }

    pub(crate) fn driver(&self) -> &Driver<Stream> {
        &self.driver
    }

    pub(crate) fn insider(&self) -> Insider {
        Insider::new(&self.driver, &self.target)
    }

    pub(crate) fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The URL of a socket at which any other PostgreSQL client joins this transaction: `psql`, a migration tool, another
    /// process, a driver of another language.
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, SharedTransaction};
    /// # fn example(transaction: &SharedTransaction) -> Result<()> {
    /// let url = transaction.database_url()?; // postgres://postgres:5f3a...@127.0.0.1:49152/todo
    /// std::process::Command::new("./seed.py").env("DATABASE_URL", &url).status()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Each connection is one more session: it sees what the pools' clients wrote, takes turns with them, and what it
    /// commits is rolled back with the rest. The socket is opened by the first call, on a thread of its own, and closed
    /// with the transaction.
    ///
    /// It listens on 127.0.0.1 and asks for the password, which is made anew for each transaction. The user name in the
    /// URL is that of the real session, and so is everybody's, whatever name they come with. The client's encoding must
    /// be UTF-8, which most use by themselves. What else a client sets when it connects, by `options`, `PGOPTIONS` or
    /// parameters such as `DateStyle`, is its own, and RESET goes back to it; what PostgreSQL would refuse is refused.
    ///
    /// In `pg_stat_activity` the transaction's one connection has the name of the test, as far as its thread has one. An
    /// `application_name` that the connection string gives, or a client for itself, comes first: the server shows that of
    /// the client that it worked for last, which is also what the client's `SHOW application_name` says.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub fn database_url(&self) -> Result<String> {
        self.entrance.url()
    }

    /// The same for connections of the application under test.
    pub(crate) fn database_url_of_server(&self) -> Result<String> {
        self.driver
            .change(|mux| mux.recorder_mut().give_socket_to_server());
        self.database_url()
    }

    /// Opens the socket of [`database_url`](Self::database_url) at an address of the caller's, and returns its URL.
    ///
    /// Without a password, everybody who reaches the address is let in. The listener is made non-blocking.
    ///
    /// ```no_run
    /// # async fn example(transaction: &actix_shareddb::SharedTransaction) -> actix_shareddb::Result<()> {
    /// let listener = std::net::TcpListener::bind("127.0.0.1:5433")?;
    /// let url = transaction.listen(listener, Some("a password"))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the socket is open already.
    pub fn listen(&self, listener: TcpListener, password: Option<&str>) -> Result<String> {
        self.entrance.listen(listener, password.map(str::to_owned))
    }

    /// Waits until somebody has joined through the socket and all who did have gone. From then on nobody else is let in:
    /// who connects to a [listener of the caller's](Self::listen) waits in its queue, for the next transaction there.
    ///
    /// ```no_run
    /// # async fn example(transaction: actix_shareddb::SharedTransaction) -> actix_shareddb::Result<()> {
    /// println!("psql {}", transaction.database_url()?);
    /// transaction.last_client_gone().await;
    /// transaction.rollback().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn last_client_gone(&self) {
        self.entrance.deserted().await;
    }

    pub(crate) fn entrance(&self) -> &Arc<Entrance> {
        &self.entrance
    }

    /// Opens a session that speaks the raw protocol.
    pub(crate) fn session(&self) -> SessionStream<Stream> {
        self.driver.connect()
    }

    /// From now on whatever a client asks for is refused; what runs goes on.
    pub(crate) fn close_gate(&self) {
        self.driver.close_gate();
    }

    /// Ends the transaction, with everything that was written in it.
    ///
    /// Nothing new reaches the database from the moment of the call. A statement that still runs may finish within the
    /// configured drain timeout, and is cancelled after it.
    ///
    /// ```no_run
    /// # async fn example(transaction: actix_shareddb::SharedTransaction) -> actix_shareddb::Result<()> {
    /// let client = transaction.pool()?.get().await?;
    /// client.execute("DELETE FROM todos", &[]).await?;
    /// transaction.rollback().await?; // They are back.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the transaction was lost on the way, so that something may have been committed; if a deferred constraint turns
    /// out to be violated by what the test left; if the connection breaks; and if a [fault](Self::faults) was never met that
    /// isn't [optional](crate::Faults::optional).
    pub async fn rollback(self) -> Result<()> {
        self.driver.close_gate();
        let unmet = self.unmet_faults();
        self.roll_back().await?;
        unmet.map_or(Ok(()), Err)
    }

    pub(crate) fn unmet_faults(&self) -> Option<Error> {
        fault::unmet(&self.driver)
    }

    /// The same without a look at the faults.
    pub(crate) async fn roll_back(self) -> Result<()> {
        self.driver.close_gate();
        let drained = self.drain().await;
        let (ending, stream) = self.driver.finish();
        self.entrance.close().await;
        self.driver.no_cancel().await;
        if let Some(lost) = ending.lost {
            let report = lost.0;
            let mut error = Error::new(report.message).because(report.detail);
            if !report.hint.is_empty() {
                error = error.help(report.hint);
            }
            return Err(error);
        }
        drained?;
        let Some(stream) = stream else {
            return Err(Error::new("the shared transaction was ended twice"));
        };
        let mut ended = Ready {
            backend: Backend::new(stream, self.parameters, self.canceller),
            // Whatever the test has changed about it is rolled back.
            deferral: self.deferral,
        };
        if !ending.has_begun {
            ended.keep(self.target, self.config.encryption());
            return Ok(());
        }
        let checked = ended.roll_back(ending.undo).await;
        if checked.is_ok() && !ending.doubtful {
            ended.keep(self.target, self.config.encryption());
        }
        checked
    }

    /// Waits for what runs, and cancels it when it takes too long.
    async fn drain(&self) -> Result<()> {
        let patience = self.config.drain();
        if timeout(patience, self.driver.idle()).await.is_ok() {
            return Ok(());
        }
        self.canceller.cancel().await?;
        if timeout(CANCEL_PATIENCE, self.driver.idle()).await.is_ok() {
            return Ok(());
        }
        let sql = self
            .driver
            .look(|mux| mux.running_sql())
            .unwrap_or_default();
        Err(Error::new(format!(
            "a statement went on after it was cancelled: {sql}"
        )))
    }
}

/// How long a cancelled statement may take to end.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// The name of the test that runs on this thread, as far as the test harness names its threads.
fn test_name() -> Option<String> {
    let thread = thread::current();
    let is_of_test = |name: &&str| *name != "main" && !name.starts_with("tokio-");
    let name = thread.name().filter(is_of_test)?;
    // The server keeps 63 bytes, and what tells tests apart stands at the end.
    let start = name.len().saturating_sub(63);
    let start = (start..=name.len()).find(|&start| name.is_char_boundary(start))?;
    Some(name[start..].to_owned())
}
