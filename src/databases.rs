//! The databases of an application that has several: how a case names them, and the pools that it gets.

use std::fmt;

use crate::Pool;
use crate::config::Config;
use crate::schema::Schema;

/// The databases that an application uses beside its first one, each by a name.
///
/// ```no_run
/// use std::net::TcpListener;
///
/// use actix_shareddb::{Config, Databases, LiveServerTestCase, Pools, Result, Schema};
/// # mod app {
/// #     use actix_shareddb::Pool;
/// #     pub fn run(_: std::net::TcpListener, _: Pool, _: Pool, _: Pool) -> std::io::Result<actix_web::dev::Server> { todo!() }
/// # }
///
/// #[derive(Default)]
/// struct Shop;
///
/// impl LiveServerTestCase<Pools> for Shop {
///     fn schema() -> Schema {
///         Schema::dir("migrations/shop")
///     }
///
///     fn databases() -> Databases {
///         Databases::new()
///             .share("audit", Schema::dir("migrations/audit"), Config::new())
///             .external("zip codes", Config::new().database_url("postgres://localhost/zip_codes"))
///     }
///
///     /// The very function that `main` calls.
///     async fn serve(&self, listener: TcpListener, pools: Pools) -> Result<actix_web::dev::Server> {
///         Ok(app::run(listener, pools.pool("default"), pools.pool("audit"), pools.pool("zip codes"))?)
///     }
/// }
/// ```
///
/// The first one, of which [`schema`](crate::LiveServerTestCase::schema) and [`config`](crate::LiveServerTestCase::config)
/// tell, is called `default`. Each one that is shared is a transaction of its own, or a database of the test's own if its
/// [`Config`] says so, and all of them are rolled back together. What isn't named here no test can reach.
///
/// What a failed test tells of its statements, and what it can ask of them, is of the first one, as are checkpoints, faults
/// and hints.
///
/// Two names may stand for one database, as those of a pool for reading and one for writing: then they share its
/// transaction, with the settings of the first.
#[derive(Clone, Debug, Default)]
#[must_use = "databases do nothing until a test case returns them"]
pub struct Databases(Vec<Declared>);

/// A database by its name.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) choice: Choice,
}

#[derive(Clone, Debug)]
pub(crate) enum Choice {
    Share(Schema),
    External,
}

/// What the database is called of which the case itself tells.
pub(crate) const DEFAULT: &str = "default";

impl Databases {
    /// None yet, the same as [`Databases::default`].
    ///
    /// ```
    /// use actix_shareddb::Databases;
    ///
    /// let databases = Databases::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// A database that the test shares with the application, as it does the first one. Where its configuration names no
    /// server, it is on that of the environment, or on the embedded one.
    ///
    /// Of its [`Config`] those settings count that are about a database, its connections and its pool, and
    /// [`isolation`](Config::isolation), which a test's own `#[isolation(..)]` gives to all that don't say it. What is about
    /// the test as a whole is taken from the case's [`config`](crate::LiveServerTestCase::config):
    /// [`connection_limit_timeout`](Config::connection_limit_timeout), [`request_timeout`](Config::request_timeout),
    /// [`hint`](Config::hint), [`deny`](Config::deny), [`keep_on_failure`](Config::keep_on_failure), and the
    /// [`drain_timeout`](Config::drain_timeout) of HTTP requests.
    ///
    /// ```
    /// use actix_shareddb::{Config, Databases, Schema};
    ///
    /// let databases = Databases::new().share("audit", Schema::dir("migrations/audit"), Config::new());
    /// ```
    ///
    /// # Panics
    ///
    /// If another database has the name, or if it is `default`.
    pub fn share(self, name: impl Into<String>, schema: Schema, config: Config) -> Self {
        self.declare(name.into(), config, Choice::Share(schema))
    }

    /// A database that isn't shared: the application gets plain connections to it, and what it commits there stays. It has
    /// to be named by [`Config::database_url`], so that it is never one that only happens to be there. Of its other settings
    /// those count that are about connections and the pool.
    ///
    /// ```
    /// use actix_shareddb::{Config, Databases};
    ///
    /// let zip_codes = Config::new().database_url("postgres://localhost/zip_codes");
    /// let databases = Databases::new().external("zip codes", zip_codes);
    /// ```
    ///
    /// # Panics
    ///
    /// If another database has the name, or if it is `default`.
    pub fn external(self, name: impl Into<String>, config: Config) -> Self {
        self.declare(name.into(), config, Choice::External)
    }

    fn declare(mut self, name: String, config: Config, choice: Choice) -> Self {
        assert!(
            name != DEFAULT,
            "'{DEFAULT}' is the database of which the case's schema and config tell; give the other one another name"
        );
        let is_known = self.0.iter().any(|known| known.name == name);
        assert!(!is_known, "two databases are called '{name}'");
        self.0.push(Declared {
            name,
            config,
            choice,
        });
        self
    }

    /// All of them, with the first one in front.
    pub(crate) fn behind(self, schema: Schema, config: Config) -> Vec<Declared> {
        let first = Declared {
            name: DEFAULT.to_owned(),
            config,
            choice: Choice::Share(schema),
        };
        std::iter::once(first).chain(self.0).collect()
    }
}

/// The pools of an application's databases, by the names that [`Databases`] gives them.
///
/// ```no_run
/// use actix_shareddb::Pools;
///
/// struct Application {
///     orders: actix_shareddb::Pool,
///     audit: actix_shareddb::Pool,
/// }
///
/// fn application(pools: &Pools) -> Application {
///     Application { orders: pools.pool("default"), audit: pools.pool("audit") }
/// }
/// ```
#[derive(Clone)]
pub struct Pools(Vec<(String, Pool)>);

impl Pools {
    pub(crate) fn new(pools: Vec<(String, Pool)>) -> Self {
        Self(pools)
    }

    /// That of the case's own database.
    pub(crate) fn first(&self) -> &Pool {
        named(&self.0, DEFAULT)
    }

    /// The pool of a database. That of which the case itself tells is called `default`.
    ///
    /// ```no_run
    /// # use actix_shareddb::{Pools, Result};
    /// # async fn example(pools: &Pools) -> Result<()> {
    /// let audit = pools.pool("audit").get().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If no database has the name.
    #[track_caller]
    pub fn pool(&self, name: &str) -> Pool {
        named(&self.0, name).clone()
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// What a case may get its databases as: the [`Pool`] of the first one, which is what most applications have, or [`Pools`].
///
/// Nothing else can implement it.
pub trait FromPools: sealed::FromPools {}

impl FromPools for Pool {}

impl FromPools for Pools {}

mod sealed {
    use super::{Pool, Pools};

    #[expect(unnameable_types, reason = "so that nobody else implements it")]
    pub trait FromPools: Send + 'static {
        fn from_pools(pools: Pools) -> Self;
    }

    impl FromPools for Pool {
        fn from_pools(pools: Pools) -> Self {
            pools.first().clone()
        }
    }

    impl FromPools for Pools {
        fn from_pools(pools: Pools) -> Self {
            pools
        }
    }
}

/// What belongs to a name.
#[track_caller]
pub(crate) fn named<'a, T>(all: &'a [(String, T)], name: &str) -> &'a T {
    match all.iter().find(|(known, _)| known == name) {
        Some((_, found)) => found,
        None => {
            let known: Vec<_> = all.iter().map(|(name, _)| format!("'{name}'")).collect();
            panic!(
                "no database is called '{name}', there is {}; LiveServerTestCase::databases names them, to be shared or as external ones",
                known.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_is_in_front() {
        let databases = Databases::new()
            .share("audit", Schema::existing(), Config::new())
            .external("warehouse", Config::new());
        let all = databases.behind(Schema::existing(), Config::new());
        let names: Vec<_> = all.iter().map(|declared| &declared.name[..]).collect();
        assert_eq!(names, ["default", "audit", "warehouse"]);
        assert!(matches!(all[2].choice, Choice::External));
    }

    #[test]
    #[should_panic(expected = "two databases are called 'audit'")]
    fn a_name_is_given_once() {
        let _ = Databases::new().external("audit", Config::new()).share(
            "audit",
            Schema::existing(),
            Config::new(),
        );
    }

    #[test]
    #[should_panic(
        expected = "'default' is the database of which the case's schema and config tell"
    )]
    fn the_name_of_the_first_one_is_taken() {
        let _ = Databases::new().external("default", Config::new());
    }

    #[test]
    #[should_panic(
        expected = "no database is called 'adit', there is 'default', 'audit'; \
                               LiveServerTestCase::databases names them, to be shared or as external ones"
    )]
    fn a_name_that_nothing_has_is_told_with_those_there_are() {
        let known = [("default".to_owned(), 1), ("audit".to_owned(), 2)];
        assert_eq!(*named(&known, "audit"), 2);
        named(&known, "adit");
    }
}
