//! What a test works in, whichever it is: a shared transaction, or a database of its own.

use std::time::Duration;

use crate::config::Config;
use crate::database::lane::OwnDatabase;
use crate::database::{self, Found};
use crate::error::Result;
use crate::isolation::Isolation;
use crate::mux::record::Origin;
use crate::schema::Schema;
use crate::{Pool, SharedTransaction};

/// A shared transaction or a database of the test's own, as [`Isolation`] says.
///
/// It is what a [`LiveServerTestCase`](crate::LiveServerTestCase) works in, without a server: for tests of a repository layer,
/// or of another web framework. A [`SharedTransaction`] is always one; this is either, by the [`Config`] or by the environment
/// variable `ACTIX_SHAREDDB_ISOLATION`.
///
/// ```no_run
/// use actix_shareddb::{Config, Isolation, Result, Schema, TestDatabase};
///
/// #[tokio::test]
/// async fn names_can_be_indexed() -> Result<()> {
///     let schema = Schema::sql("CREATE TABLE users (name text UNIQUE)");
///     let config = Config::new().isolation(Isolation::Database);
///     let database = TestDatabase::open(&schema, &config).await?;
///
///     let client = database.pool()?.get().await?;
///     client.batch_execute("CREATE INDEX CONCURRENTLY ON users (lower(name))").await?;
///
///     database.end().await
/// }
/// ```
///
/// Dropped without [`end`](Self::end), nothing is left all the same, but nothing is checked and nobody waits for it.
#[must_use = "a database that is dropped is not checked"]
#[derive(Debug)]
pub struct TestDatabase(Kind);

#[derive(Debug)]
pub(crate) enum Kind {
    Transaction(Box<SharedTransaction>),
    Database(Box<OwnDatabase>),
}

impl TestDatabase {
    /// Opens a transaction in the database that the schema and the configuration name, or clones it. It is prepared first if
    /// it has not been.
    ///
    /// ```no_run
    /// # async fn example() -> actix_shareddb::Result<()> {
    /// use actix_shareddb::{Config, Isolation, Schema, TestDatabase};
    ///
    /// let config = Config::new().isolation(Isolation::Database);
    /// let database = TestDatabase::open(&Schema::dir("migrations"), &config).await?;
    /// database.end().await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`SharedTransaction::open`], and if the database can't be cloned.
    pub async fn open(schema: &Schema, config: &Config) -> Result<Self> {
        let isolation = Isolation::of(config)?;
        let found = database::find(schema, isolation, config).await?;
        Self::open_in(found, isolation, config, config.connection_limit()).await
    }

    /// The same where the database has been found. A transaction waits so long for its connection.
    pub(crate) async fn open_in(
        found: Found,
        isolation: Isolation,
        config: &Config,
        patience: Duration,
    ) -> Result<Self> {
        Ok(Self(match isolation {
            Isolation::Transaction => Kind::Transaction(Box::new(
                SharedTransaction::open_in(found, config, patience).await?,
            )),
            Isolation::Database => {
                Kind::Database(Box::new(OwnDatabase::open_in(found, config).await?))
            }
        }))
    }

    /// Which of the two it is.
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, TestDatabase};
    /// # async fn example(database: TestDatabase) -> Result<()> {
    /// use actix_shareddb::Isolation;
    ///
    /// let commits = database.isolation() == Isolation::Database;
    /// # Ok(())
    /// # }
    /// ```
    pub fn isolation(&self) -> Isolation {
        match self.0 {
            Kind::Transaction(_) => Isolation::Transaction,
            Kind::Database(_) => Isolation::Database,
        }
    }

    /// Builds a pool, of the configured size: of clients that live in the transaction, or of plain connections to the database.
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, TestDatabase};
    /// # async fn example(database: TestDatabase) -> Result<()> {
    /// let client = database.pool()?.get().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the configured pool can't be built.
    pub fn pool(&self) -> Result<Pool> {
        match &self.0 {
            Kind::Transaction(transaction) => transaction.pool(),
            Kind::Database(database) => database.pool(),
        }
    }

    /// The URL at which any other PostgreSQL client reaches it: that of a socket to the transaction, see
    /// [`SharedTransaction::database_url`], or that of the database on its server.
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, TestDatabase};
    /// # async fn example(database: TestDatabase) -> Result<()> {
    /// std::process::Command::new("psql").arg(database.database_url()?).status()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub fn database_url(&self) -> Result<String> {
        match &self.0 {
            Kind::Transaction(transaction) => transaction.database_url(),
            Kind::Database(database) => Ok(database.database_url()),
        }
    }

    /// Rolls the transaction back, or drops the database.
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, TestDatabase};
    /// # async fn example(database: TestDatabase) -> Result<()> {
    /// // ...
    /// database.end().await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`SharedTransaction::rollback`], and if the database can't be dropped.
    pub async fn end(self) -> Result<()> {
        match self.0 {
            Kind::Transaction(transaction) => transaction.rollback().await,
            Kind::Database(database) => database.end().await,
        }
    }

    /// The same for connections of the application under test.
    pub(crate) fn database_url_of_server(&self) -> Result<String> {
        match &self.0 {
            Kind::Transaction(transaction) => transaction.database_url_of_server(),
            Kind::Database(database) => Ok(database.database_url()),
        }
    }

    /// A pool whose statements are recorded as those of this origin, if they are recorded.
    pub(crate) fn pool_of(&self, origin: Origin) -> Result<Pool> {
        match &self.0 {
            Kind::Transaction(transaction) => transaction.pool_of(origin),
            Kind::Database(database) => database.pool(),
        }
    }

    /// From now on a transaction refuses whatever a client asks for. Plain connections can't be refused anything.
    pub(crate) fn close_gate(&self) {
        if let Kind::Transaction(transaction) = &self.0 {
            transaction.close_gate();
        }
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }

    pub(crate) fn into_kind(self) -> Kind {
        self.0
    }
}
