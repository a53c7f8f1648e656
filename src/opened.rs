//! All the databases of one test, opened together and ended together.

use std::fmt;
use std::time::Duration;

use crate::backend::Queue;
use crate::config::Config;
use crate::database::{self, Found, lane};
use crate::databases::{Choice, DEFAULT, Declared, Pools, named};
use crate::error::{Error, Result};
use crate::isolation::Isolation;
use crate::live::Door;
use crate::mux::record::Origin;
use crate::schema::Schema;
use crate::{Pool, TestDatabase, outer};

/// The databases of a test, each by the names that it has. The first is the case's own.
pub(crate) struct Opened {
    shared: Vec<Shared>,
    names: Vec<(String, Access)>,
}

struct Shared {
    /// The first of its names.
    name: String,
    database: TestDatabase,
    target: tokio_postgres::Config,
}

/// What a name stands for.
enum Access {
    /// One of those that are shared, by its index.
    Shared(usize),
    External(Box<External>),
}

/// A database whose commits are real.
struct External {
    target: tokio_postgres::Config,
    config: Config,
}

impl Opened {
    /// Opens them all, or none: on a server that is full, a test that has one and waits for another would keep that from
    /// others that do the same.
    ///
    /// # Errors
    ///
    /// That of the first that can't be opened, with its name.
    pub(crate) async fn open(declared: &[Declared]) -> Result<Self, (String, Error)> {
        // To prepare a schema takes several connections, for a short time, and so is done while there is none to hold on to.
        let mut found = Vec::new();
        for database in declared {
            let of_it = database.find().await;
            found.push(of_it.map_err(|error| (database.name.clone(), error))?);
        }
        let mut queue = Queue::new(declared[0].config.connection_limit());
        loop {
            match Self::try_to_open(declared, &found).await {
                Err((name, error)) => queue
                    .wait(error, outer::give_up_kept)
                    .await
                    .map_err(|error| (name, error))?,
                opened => return opened,
            }
        }
    }

    async fn try_to_open(declared: &[Declared], found: &[Found]) -> Result<Self, (String, Error)> {
        let mut opened = Self {
            shared: Vec::new(),
            names: Vec::new(),
        };
        for (database, found) in declared.iter().zip(found) {
            let Declared { name, config, .. } = database;
            let access = match database.choice {
                Choice::Share(_) => opened
                    .share(name, found, config)
                    .await
                    .map_err(|error| (name.clone(), error))?,
                Choice::External => Access::External(Box::new(External {
                    target: found.config.clone(),
                    config: config.clone(),
                })),
            };
            opened.names.push((name.clone(), access));
        }
        Ok(opened)
    }

    async fn share(&mut self, name: &str, found: &Found, config: &Config) -> Result<Access> {
        let isolation = Isolation::of(config)?;
        let target = found.config.clone();
        let is_this =
            |shared: &Shared| shared.target == target && shared.database.isolation() == isolation;
        if let Some(index) = self.shared.iter().position(is_this) {
            return Ok(Access::Shared(index));
        }
        // Whoever has nothing yet may wait.
        let patience = match self.shared.is_empty() {
            true => config.connection_limit(),
            false => Duration::ZERO,
        };
        let database = TestDatabase::open_in(found.clone(), isolation, config, patience).await?;
        self.shared.push(Shared {
            name: name.to_owned(),
            database,
            target,
        });
        Ok(Access::Shared(self.shared.len() - 1))
    }

    /// That of which the case itself tells.
    pub(crate) fn first(&self) -> &TestDatabase {
        &self.shared[0].database
    }

    /// New pools of all of them, whose statements are recorded as those of this origin.
    pub(crate) fn pools(&self, origin: Origin) -> Result<Pools> {
        let pool = |access: &Access| -> Result<Pool> {
            match access {
                Access::Shared(index) => self.shared[*index].database.pool_of(origin),
                Access::External(external) => lane::plain_pool(&external.target, &external.config),
            }
        };
        let pools = self
            .names
            .iter()
            .map(|(name, access)| Ok((name.clone(), pool(access)?)));
        Ok(Pools::new(pools.collect::<Result<_>>()?))
    }

    /// How other clients come in.
    pub(crate) fn doors(&self) -> Vec<(String, Door)> {
        let door = |access: &Access| match access {
            Access::Shared(index) => Door::of(&self.shared[*index].database),
            Access::External(external) => Door::of_database(&external.target),
        };
        let doors = self
            .names
            .iter()
            .map(|(name, access)| (name.clone(), door(access)));
        doors.collect()
    }

    /// The URL of the database with this name, for connections of the application's own.
    #[track_caller]
    fn url_for_server(&self, name: &str) -> Result<String> {
        match named(&self.names, name) {
            Access::Shared(index) => self.shared[*index].database.database_url_of_server(),
            Access::External(external) => Ok(lane::url(&external.target)),
        }
    }

    /// From now on no transaction takes anything any more.
    pub(crate) fn close_gates(&self) {
        for shared in &self.shared {
            shared.database.close_gate();
        }
    }

    /// Those that have to be ended, by the first of their names.
    pub(crate) fn into_shared(self) -> impl Iterator<Item = (String, TestDatabase)> {
        self.shared
            .into_iter()
            .map(|shared| (shared.name, shared.database))
    }
}

/// The URLs of a test's databases, for [`connect`](crate::LiveServerTestCase::connect).
///
/// ```
/// use actix_shareddb::{DatabaseUrls, Result};
///
/// fn options(urls: &DatabaseUrls<'_>) -> Result<[String; 2]> {
///     Ok([urls.database_url()?, urls.database_url_of("audit")?])
/// }
/// ```
pub struct DatabaseUrls<'a>(&'a Opened);

impl<'a> DatabaseUrls<'a> {
    pub(crate) fn new(databases: &'a Opened) -> Self {
        Self(databases)
    }

    /// That of the case's own database, as [`LiveServer::database_url`](crate::LiveServer::database_url) is for the test.
    ///
    /// ```
    /// use actix_shareddb::{DatabaseUrls, Result};
    ///
    /// fn options(urls: &DatabaseUrls<'_>) -> Result<String> {
    ///     Ok(format!("{}?application_name=listener", urls.database_url()?))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub fn database_url(&self) -> Result<String> {
        self.0.url_for_server(DEFAULT)
    }

    /// That of another database, by the name that it has in [`Databases`](crate::Databases).
    ///
    /// ```
    /// use actix_shareddb::{DatabaseUrls, Result};
    ///
    /// fn audit(urls: &DatabaseUrls<'_>) -> Result<String> {
    ///     urls.database_url_of("audit")
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    ///
    /// # Panics
    ///
    /// If no database has the name.
    #[track_caller]
    pub fn database_url_of(&self, database: &str) -> Result<String> {
        self.0.url_for_server(database)
    }
}

impl fmt::Debug for DatabaseUrls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.names.iter().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

impl Declared {
    async fn find(&self) -> Result<Found> {
        match &self.choice {
            Choice::Share(schema) => {
                let isolation = Isolation::of(&self.config)?;
                database::find(schema, isolation, &self.config).await
            }
            Choice::External if self.config.url().is_none() => {
                Err(Error::new("the external database has no URL").help(
                    "say by Config::database_url which one it is, or share it; what the application commits there stays",
                ))
            }
            Choice::External => {
                database::find(&Schema::existing(), Isolation::Database, &self.config).await
            }
        }
    }
}
