//! What a test case may set: which server, how long to wait, how large a pool.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::{PoolConfig, RecyclingMethod};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use crate::Hint;
use crate::Isolation;
use crate::backend::{ServerSocket, Tls};
use crate::on_failure::OnFailure;

/// How a test case runs. The defaults fit most applications.
///
/// ```
/// use std::time::Duration;
///
/// use actix_shareddb::Config;
///
/// let config = Config::new()
///     .pool_max_size(4)
///     .request_timeout(Duration::from_secs(60));
/// ```
///
/// These are all settings. What is written in a `Config` wins over the environment; only `allow_server` and `allow_database`
/// add to what their variables list.
///
/// | `Config` | environment variable | default |
/// |---|---|---|
/// | [`database_url`](Self::database_url) | `DATABASE_URL` | the embedded server, made from the PostgreSQL that is installed |
/// | | `ACTIX_SHAREDDB_PG_BIN` | looked for in `PATH` and in the usual folders |
/// | [`allow_server`](Self::allow_server) | `ACTIX_SHAREDDB_ALLOW_SERVER` | this machine's servers only |
/// | [`allow_database`](Self::allow_database) | `ACTIX_SHAREDDB_ALLOW_DATABASE` | none that looks like production |
/// | [`tls`](Self::tls) | | none |
/// | [`connection_limit_timeout`](Self::connection_limit_timeout) | | 30 s |
/// | [`isolation`](Self::isolation) | `ACTIX_SHAREDDB_ISOLATION` | `transaction` |
/// | [`keep_on_failure`](Self::keep_on_failure) | `ACTIX_SHAREDDB_ON_FAILURE=keep` | no |
/// | [`hint`](Self::hint), [`deny`](Self::deny) | | none |
/// | (to look at a failed test) | `ACTIX_SHAREDDB_ON_FAILURE=pause` | goes on |
/// | [`idle_in_transaction_timeout`](Self::idle_in_transaction_timeout) | | 2 s |
/// | [`lock_timeout`](Self::lock_timeout) | | 5 s |
/// | [`drain_timeout`](Self::drain_timeout) | | 5 s |
/// | [`request_timeout`](Self::request_timeout) | | 30 s |
/// | [`pool_max_size`](Self::pool_max_size) | | deadpool's |
/// | [`pool_wait_timeout`](Self::pool_wait_timeout) | | 10 s |
/// | [`recycling_method`](Self::recycling_method) | | `Fast` |
/// | [`deny_isolation_levels`](Self::deny_isolation_levels) | | no |
#[derive(Clone, Debug)]
#[must_use = "a configuration does nothing until a test case returns it"]
pub struct Config {
    database_url: Option<DatabaseUrl>,
    allowed_servers: Vec<String>,
    allowed_databases: Vec<String>,
    tls: Option<Tls>,
    connection_limit_timeout: Duration,
    lease_timeout: Duration,
    lock_timeout: Duration,
    drain_timeout: Duration,
    request_timeout: Duration,
    pool_size: usize,
    pool_wait_timeout: Duration,
    recycling_method: RecyclingMethod,
    hints: Vec<Hint>,
    denied: Vec<Hint>,
    isolation: Option<Isolation>,
    keep_on_failure: Option<bool>,
    deny_isolation_levels: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database_url: None,
            allowed_servers: Vec::new(),
            allowed_databases: Vec::new(),
            tls: None,
            connection_limit_timeout: Duration::from_secs(30),
            lease_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            pool_size: PoolConfig::default().max_size,
            pool_wait_timeout: Duration::from_secs(10),
            recycling_method: RecyclingMethod::Fast,
            hints: Vec::new(),
            denied: Vec::new(),
            isolation: None,
            keep_on_failure: None,
            deny_isolation_levels: false,
        }
    }
}

impl Config {
    /// The defaults, the same as [`Config::default`].
    ///
    /// ```
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// The server and database of this case, as a URL or as `key=value` pairs, in place of the environment
    /// variable `DATABASE_URL`. Default: that variable, and where it isn't set either, or empty, the embedded server: one of
    /// the tests' own, made from the PostgreSQL that is installed. An empty URL that is given here is an error when a test
    /// opens its database.
    ///
    /// ```
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().database_url("postgres://postgres@localhost/todo");
    /// ```
    pub fn database_url(mut self, url: impl Into<String>) -> Self {
        self.database_url = Some(DatabaseUrl(url.into()));
        self
    }

    /// Lets the tests work on a server that isn't this machine, by its host name or address, which are compared with
    /// those of the connection string. May be called for several. Those that the environment variable
    /// `ACTIX_SHAREDDB_ALLOW_SERVER` lists, with commas in between, are allowed as well. Default: no others.
    ///
    /// A CI system's service container is such a server: there, set the variable to its name.
    ///
    /// ```
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new()
    ///     .database_url("postgres://postgres@db.example.com/todo")
    ///     .allow_server("db.example.com");
    /// ```
    pub fn allow_server(mut self, host: impl Into<String>) -> Self {
        self.allowed_servers.push(host.into());
        self
    }

    /// Lets the tests work in a database whose name looks like production, such as `todo_production`. May be called for
    /// several. Those that the environment variable `ACTIX_SHAREDDB_ALLOW_DATABASE` lists, with commas in between, are
    /// allowed as well. Default: no others.
    ///
    /// ```
    /// use actix_shareddb::Config;
    ///
    /// // What's on: the concerts of tonight.
    /// let config = Config::new()
    ///     .database_url("postgres://localhost/live_music")
    ///     .allow_database("live_music");
    /// ```
    pub fn allow_database(mut self, name: impl Into<String>) -> Self {
        self.allowed_databases.push(name.into());
        self
    }

    /// Encrypts the connections to the server: `tokio_postgres_rustls::MakeRustlsConnect`, `postgres_openssl`'s
    /// `MakeTlsConnector` or any other connector of `tokio_postgres`, such as the application gives to its own pool.
    /// Default: none, so that `sslmode=require` is an error.
    ///
    /// ```no_run
    /// # use actix_shareddb::Config;
    /// # use tokio_postgres::NoTls;
    /// # mod app { pub fn tls_connector() -> tokio_postgres::NoTls { tokio_postgres::NoTls } }
    /// let config = Config::new()
    ///     .database_url("postgres://alice@db.example.com/todo?sslmode=verify-full")
    ///     .allow_server("db.example.com")
    ///     .tls(app::tls_connector());
    /// ```
    ///
    /// All connections are encrypted, those by which statements are cancelled, too; but none to a Unix socket, as in libpq.
    /// `sslmode=prefer`, which is the default, takes what the server offers, and `sslmode=disable` does without.
    ///
    /// What is verified is for the connector to say, as always with `tokio_postgres`: the usual ones trust whom they are
    /// told to trust, and compare the certificate's name with the host's. So `sslmode=verify-full` and `verify-ca` mean
    /// `require` here, and `sslrootcert` is refused, for the connector has to load it.
    pub fn tls<T>(mut self, connector: T) -> Self
    where
        T: MakeTlsConnect<ServerSocket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        <T::TlsConnect as TlsConnect<ServerSocket>>::Future: Send + 'static,
    {
        self.tls = Some(Tls::new(connector));
        self
    }

    /// How long a test waits for a connection while the server has as many as it allows (`max_connections`), because others
    /// test there, too: other processes, other shards of the same run. Zero doesn't wait. Default: 30 seconds.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().connection_limit_timeout(Duration::from_secs(300));
    /// ```
    pub fn connection_limit_timeout(mut self, timeout: Duration) -> Self {
        self.connection_limit_timeout = timeout;
        self
    }

    /// How long a query waits for another client's transaction while that client does nothing: time in which the
    /// database works doesn't count. Then the query fails with `lock_not_available` (55P03), and the message names
    /// both sides. Zero doesn't wait. Default: 2 seconds.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().idle_in_transaction_timeout(Duration::from_millis(500));
    /// ```
    pub fn idle_in_transaction_timeout(mut self, timeout: Duration) -> Self {
        self.lease_timeout = timeout;
        self
    }

    /// How long a statement waits for a lock that another connection holds, such as another test's transaction that wrote
    /// the same unique key. Then it fails with PostgreSQL's own `lock_not_available` (55P03), with a hint, and with the name of
    /// that test and its last statement. It is the server's `lock_timeout`, in milliseconds, rounded up: what the
    /// application or the connection string sets wins, and zero waits for ever. Default: 5 seconds.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().lock_timeout(Duration::from_secs(1));
    /// ```
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How long HTTP requests and statements that are in flight when a test ends may run on before they are
    /// cancelled. Zero cancels them at once. Default: 5 seconds.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().drain_timeout(Duration::from_secs(1));
    /// ```
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// How long the test's HTTP client waits for the head of a response. Zero doesn't wait, so every request fails.
    /// Default: 30 seconds.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().request_timeout(Duration::from_secs(120));
    /// ```
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How many clients the application's pool holds at most. Default: as in production, deadpool's own default of
    /// two for each processor.
    ///
    /// ```
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().pool_max_size(1);
    /// ```
    ///
    /// # Panics
    ///
    /// If `size` is 0: such a pool yields no client, ever.
    pub fn pool_max_size(mut self, size: usize) -> Self {
        assert!(size > 0, "a pool of size 0 yields no client");
        self.pool_size = size;
        self
    }

    /// How long `Pool::get` waits for a free client. A handler that never returns its clients then fails the test
    /// instead of hanging it. Zero doesn't wait. Default: 10 seconds.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().pool_wait_timeout(Duration::from_secs(1));
    /// ```
    pub fn pool_wait_timeout(mut self, timeout: Duration) -> Self {
        self.pool_wait_timeout = timeout;
        self
    }

    /// What the application's pool does with a client before it is handed out again. Default:
    /// [`RecyclingMethod::Fast`], which is deadpool's. Give it what production uses.
    ///
    /// ```
    /// use actix_shareddb::Config;
    /// use deadpool_postgres::RecyclingMethod;
    ///
    /// let config = Config::new().recycling_method(RecyclingMethod::Clean);
    /// ```
    pub fn recycling_method(mut self, method: RecyclingMethod) -> Self {
        self.recycling_method = method;
        self
    }

    /// Has a test print a line for each HTTP request that gives cause for this hint. Default: none.
    ///
    /// In a database of the test's own ([`Isolation::Database`]) nothing is seen of what the application does, and a line in
    /// the test's output says so.
    ///
    /// ```
    /// use actix_shareddb::{Config, Hint};
    ///
    /// let mut config = Config::new();
    /// for &hint in Hint::ALL {
    ///     config = config.hint(hint);
    /// }
    /// ```
    pub fn hint(mut self, hint: Hint) -> Self {
        self.hints.push(hint);
        self
    }

    /// Has a test fail that gives cause for this hint. Default: none.
    ///
    /// In a database of the test's own ([`Isolation::Database`]) nothing is seen of what the application does. The test
    /// doesn't fail for that, so that a suite can be run in databases unchanged, but a line in its output says so.
    ///
    /// ```
    /// use actix_shareddb::{Config, Hint};
    ///
    /// let config = Config::new().deny(Hint::RepeatedStatement);
    /// ```
    pub fn deny(mut self, hint: Hint) -> Self {
        self.denied.push(hint);
        self
    }

    pub(crate) fn hints(&self, hint: Hint) -> bool {
        self.hints.contains(&hint)
    }

    pub(crate) fn looks_for_causes(&self) -> bool {
        !self.hints.is_empty() || !self.denied.is_empty()
    }

    pub(crate) fn denies(&self, hint: Hint) -> bool {
        self.denied.contains(&hint)
    }

    /// What keeps the tests apart: a transaction that they share with nobody but the application, or a database of their own.
    /// It says so for all tests of a case; one of them says so by `#[isolation(Database)]`, see [`Isolation`]. Default: as the
    /// environment variable `ACTIX_SHAREDDB_ISOLATION` says, and without it [`Isolation::Transaction`].
    ///
    /// ```
    /// use actix_shareddb::{Config, Isolation};
    ///
    /// let config = Config::new().isolation(Isolation::Database);
    /// ```
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// Whether a live-server test that fails leaves its database, if it has one of its own ([`Isolation::Database`]). Its
    /// name is told with the failure, and so are the commands that look into it with `psql` and drop it. What nobody drops
    /// goes by itself when a week or more has passed and a changed schema of the package is prepared, unless somebody is
    /// connected to it.
    ///
    /// Default: if the environment variable `ACTIX_SHAREDDB_ON_FAILURE` is `keep`.
    ///
    /// ```
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().keep_on_failure(true);
    /// ```
    pub fn keep_on_failure(mut self, keep: bool) -> Self {
        self.keep_on_failure = Some(keep);
        self
    }

    /// Whether it is an error (0A000) to ask for the isolation levels `REPEATABLE READ` and `SERIALIZABLE`. In a shared
    /// transaction they are accepted and told by `SHOW`, but not exercised, as there is nobody to be isolated from, and the
    /// client gets a warning. A suite that relies on them may want to be stopped instead. Default: no.
    ///
    /// ```
    /// use actix_shareddb::Config;
    ///
    /// let config = Config::new().deny_isolation_levels(true);
    /// ```
    pub fn deny_isolation_levels(mut self, deny: bool) -> Self {
        self.deny_isolation_levels = deny;
        self
    }

    pub(crate) fn isolated(&self) -> Option<Isolation> {
        self.isolation
    }

    pub(crate) fn keeps(&self, on_failure: OnFailure) -> bool {
        self.keep_on_failure
            .unwrap_or(on_failure == OnFailure::Keep)
    }

    pub(crate) fn url(&self) -> Option<&str> {
        self.database_url.as_ref().map(|url| url.0.as_str())
    }

    pub(crate) fn allowed_servers(&self) -> &[String] {
        &self.allowed_servers
    }

    pub(crate) fn allowed_databases(&self) -> &[String] {
        &self.allowed_databases
    }

    pub(crate) fn encryption(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(crate) fn connection_limit(&self) -> Duration {
        self.connection_limit_timeout
    }

    pub(crate) fn lease(&self) -> Duration {
        self.lease_timeout
    }

    pub(crate) fn lock(&self) -> Duration {
        self.lock_timeout
    }

    /// The same as an option of a connection. The server counts in milliseconds, none of which is for ever, as no time is.
    pub(crate) fn lock_option(&self) -> String {
        let milliseconds = self.lock_timeout.as_nanos().div_ceil(1_000_000);
        let most = i32::MAX.unsigned_abs().into();
        format!("-c lock_timeout={}ms", milliseconds.min(most))
    }

    pub(crate) fn drain(&self) -> Duration {
        self.drain_timeout
    }

    pub(crate) fn request(&self) -> Duration {
        self.request_timeout
    }

    pub(crate) fn size(&self) -> usize {
        self.pool_size
    }

    pub(crate) fn wait(&self) -> Duration {
        self.pool_wait_timeout
    }

    pub(crate) fn denies_levels(&self) -> bool {
        self.deny_isolation_levels
    }

    pub(crate) fn recycling(&self) -> &RecyclingMethod {
        &self.recycling_method
    }
}

/// A URL may hold a password, so it is never shown.
#[derive(Clone)]
struct DatabaseUrl(String);

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let config = Config::new();
        assert_eq!(config.url(), None);
        assert!(config.allowed_servers().is_empty());
        assert!(config.allowed_databases().is_empty());
        assert_eq!(config.connection_limit(), Duration::from_secs(30));
        assert_eq!(config.lease(), Duration::from_secs(2));
        assert_eq!(config.lock(), Duration::from_secs(5));
        assert_eq!(config.drain(), Duration::from_secs(5));
        assert_eq!(config.request(), Duration::from_secs(30));
        assert_eq!(config.size(), PoolConfig::default().max_size);
        assert_eq!(config.wait(), Duration::from_secs(10));
        assert!(matches!(config.recycling(), RecyclingMethod::Fast));
        assert_eq!(config.isolated(), None);
        assert!(!config.denies_levels());
    }

    #[test]
    fn each_setter_sets_its_own_value() {
        let config = Config::new()
            .database_url("postgres://localhost/todo")
            .allow_server("one")
            .allow_server("two")
            .allow_database("three")
            .connection_limit_timeout(Duration::from_secs(107))
            .idle_in_transaction_timeout(Duration::from_secs(101))
            .lock_timeout(Duration::from_secs(106))
            .drain_timeout(Duration::from_secs(102))
            .request_timeout(Duration::from_secs(103))
            .pool_max_size(104)
            .pool_wait_timeout(Duration::from_secs(105))
            .recycling_method(RecyclingMethod::Verified)
            .isolation(Isolation::Database)
            .keep_on_failure(true)
            .deny_isolation_levels(true);
        assert_eq!(config.url(), Some("postgres://localhost/todo"));
        assert_eq!(config.allowed_servers(), ["one", "two"]);
        assert_eq!(config.allowed_databases(), ["three"]);
        assert_eq!(config.connection_limit(), Duration::from_secs(107));
        assert_eq!(config.lease(), Duration::from_secs(101));
        assert_eq!(config.lock(), Duration::from_secs(106));
        assert_eq!(config.drain(), Duration::from_secs(102));
        assert_eq!(config.request(), Duration::from_secs(103));
        assert_eq!(config.size(), 104);
        assert_eq!(config.wait(), Duration::from_secs(105));
        assert!(matches!(config.recycling(), RecyclingMethod::Verified));
        assert_eq!(config.isolated(), Some(Isolation::Database));
        assert!(config.keeps(OnFailure::End));
        assert!(config.denies_levels());
    }

    #[test]
    fn a_short_time_for_a_lock_is_not_for_ever() {
        for (timeout, milliseconds) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(1001), 2),
            (Duration::from_secs(5), 5000),
            (Duration::MAX, 2_147_483_647),
        ] {
            assert_eq!(
                Config::new().lock_timeout(timeout).lock_option(),
                format!("-c lock_timeout={milliseconds}ms")
            );
        }
    }

    #[test]
    #[should_panic(expected = "a pool of size 0 yields no client")]
    fn a_pool_of_size_0_is_refused() {
        let _ = Config::new().pool_max_size(0);
    }

    #[test]
    fn debug_hides_the_password() {
        let config = Config::new().database_url("postgres://alice:secret@localhost/todo");
        let shown = format!("{config:?}");
        assert!(shown.contains("database_url: Some([hidden])"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
