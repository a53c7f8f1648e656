//! A test case, and the life of one test.

use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::panic::AssertUnwindSafe;

use actix_web::dev::Server;
use actix_web::rt::System;
use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, join, join_all};

use crate::databases::{DEFAULT, Declared};
use crate::mux::record::Origin;
use crate::on_failure::OnFailure;
use crate::opened::{DatabaseUrls, Opened};
use crate::pause;
use crate::server::ServerThread;
use crate::test_database::Kind;
use crate::verdict::{Failure, Outcome, Verdict};
use crate::{Config, Databases, FromPools, Isolation, LiveServer, Pool, Result, Schema};

/// What the tests of one application have in common: its schema, how it is served, what each test starts from.
///
/// The tests themselves are written in [`live_server!`](crate::live_server). Each of them gets a value of its own,
/// made by `Default`, so fields that `set_up` fills are ordinary fields.
///
/// ```no_run
/// use std::net::TcpListener;
///
/// use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, live_server};
/// use actix_web::{App, HttpResponse, HttpServer, dev::Server, web};
///
/// // The application: what `main` calls.
/// fn run(listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
///     let server = HttpServer::new(move || {
///         App::new()
///             .app_data(web::Data::new(pool.clone()))
///             .route("/health", web::get().to(HttpResponse::Ok))
///     });
///     Ok(server.listen(listener)?.run())
/// }
///
/// #[derive(Default)]
/// struct Health {
///     alice: i32,
/// }
///
/// impl LiveServerTestCase for Health {
///     async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
///         Ok(run(listener, pool)?)
///     }
///
///     async fn set_up(&mut self, live: &LiveServer) -> Result<()> {
///         let client = live.pool().get().await?;
///         let row = client
///             .query_one("INSERT INTO users (name) VALUES ('alice') RETURNING id", &[])
///             .await?;
///         self.alice = row.get(0);
///         Ok(())
///     }
/// }
///
/// live_server! {
///     impl Health {
///         async fn the_server_is_healthy(&mut self, live: &LiveServer) -> Result<()> {
///             assert_eq!(live.get("/health").send().await?.status(), 200);
///             Ok(())
///         }
///     }
/// }
/// ```
///
/// # The life of a test
///
/// 1. `Default` makes the case, and the shared transaction is opened, or the database made: see [`Isolation`].
/// 2. [`connect`](Self::connect) takes the URLs for connections of the application's own, [`prepare`](Self::prepare) writes what
///    the application reads when it starts.
/// 3. [`serve`](Self::serve) builds the server, on a thread of the server's own.
/// 4. [`set_up`](Self::set_up), the test, [`tear_down`](Self::tear_down). The last of them runs whenever the first was
///    begun, whether or not anything failed or panicked in between.
/// 5. No statement gets through any more. HTTP requests that the test sent and didn't wait for may come to their end,
///    for as long as the [`Config`] says.
/// 6. The transaction is rolled back, and those of [all other databases](Self::databases). Meanwhile the server is stopped,
///    and what it still does is dropped. A database of the test's own is dropped after that, whoever is connected to it.
///
/// The first failure is the test's; later ones, and the panics of handlers, are told along with it. The output of a test that
/// failed ends with what it did: its HTTP requests, the statements that each of them ran, and, if there were any when it
/// failed, the transaction blocks that were open and those who waited:
///
/// ```text
/// what the test did, and its SQL:
///
/// POST /transfers => 409 Conflict, 2.1 ms
///       {"error":"points are more than there are"}
///       START TRANSACTION
///    1  INSERT INTO transfers (sender, recipient) VALUES ($1, $2)  [1, 2]  => INSERT 0 1, 0.4 ms
///    2  UPDATE users SET points = points + $2 WHERE id = $1  [1, -11]  => ERROR 23514: new row for ...
///       ROLLBACK
/// ```
///
/// With `ACTIX_SHAREDDB_ON_FAILURE=pause` in the environment it also waits before anything is taken back, and prints the
/// addresses of its server and of its transaction, or of its database, for `curl` and `psql`. A line on standard input, or
/// SIGUSR1, goes on.
pub trait LiveServerTestCase<P: FromPools = Pool>: Default + Send + 'static {
    /// Where the tables come from. By default, the database is used as it is that `DATABASE_URL` names; without one it is the
    /// embedded server's, which is empty.
    ///
    /// ```no_run
    /// # use std::net::TcpListener;
    /// # use actix_shareddb::{Config, LiveServer, LiveServerTestCase, Pool, Result, Schema};
    /// # use actix_web::dev::Server;
    /// # #[derive(Default)]
    /// # struct Todos { folder: Option<std::path::PathBuf> }
    /// # impl LiveServerTestCase for Todos {
    /// fn schema() -> Schema {
    ///     Schema::dir("migrations")
    /// }
    /// # async fn serve(&self, _: TcpListener, _: Pool) -> Result<Server> { todo!() }
    /// # }
    /// ```
    fn schema() -> Schema {
        Schema::existing()
    }

    /// The settings of the transaction, the server and the client.
    ///
    /// ```no_run
    /// # use std::net::TcpListener;
    /// # use actix_shareddb::{Config, LiveServer, LiveServerTestCase, Pool, Result, Schema};
    /// # use actix_web::dev::Server;
    /// # #[derive(Default)]
    /// # struct Todos { folder: Option<std::path::PathBuf> }
    /// # impl LiveServerTestCase for Todos {
    /// fn config() -> Config {
    ///     Config::new().pool_max_size(4)
    /// }
    /// # async fn serve(&self, _: TcpListener, _: Pool) -> Result<Server> { todo!() }
    /// # }
    /// ```
    fn config() -> Config {
        Config::default()
    }

    /// The databases that the application uses beside this one. By default, there are none. With some, the case is a
    /// `LiveServerTestCase<Pools>`, whose [`serve`](Self::serve) gets the pools of all: see [`Databases`].
    ///
    /// ```no_run
    /// # use std::net::TcpListener;
    /// # use actix_shareddb::{Config, Databases, LiveServerTestCase, Pools, Result, Schema};
    /// # #[derive(Default)]
    /// # struct Shop;
    /// # impl LiveServerTestCase<Pools> for Shop {
    /// fn databases() -> Databases {
    ///     Databases::new().share("audit", Schema::dir("migrations/audit"), Config::new())
    /// }
    /// # async fn serve(&self, _: TcpListener, _: Pools) -> Result<actix_web::dev::Server> { unimplemented!() }
    /// # }
    /// # fn main() {}
    /// ```
    fn databases() -> Databases {
        Databases::new()
    }

    /// Takes the URLs at which connections of the application's own join the transaction: one that listens, another pool.
    ///
    /// What is run on them counts as the application's own, for [`LiveServer::queries`] and [`LiveServer::faults`].
    ///
    /// They are those of [`LiveServer::database_url`], known before there is a server. A socket is opened only where its URL
    /// is asked for, so that applications that have the pool alone do without it.
    ///
    /// ```no_run
    /// # use std::net::TcpListener;
    /// # use actix_shareddb::{DatabaseUrls, LiveServerTestCase, Pool, Result};
    /// # use actix_web::dev::Server;
    /// # mod app {
    /// #     use super::*;
    /// #     pub fn run(_: TcpListener, _: Pool, _: &str) -> std::io::Result<Server> { todo!() }
    /// # }
    /// #[derive(Default)]
    /// struct Chat {
    ///     database_url: String,
    /// }
    ///
    /// impl LiveServerTestCase for Chat {
    ///     fn connect(&mut self, urls: &DatabaseUrls<'_>) -> Result<()> {
    ///         self.database_url = urls.database_url()?;
    ///         Ok(())
    ///     }
    ///
    ///     async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
    ///         Ok(app::run(listener, pool, &self.database_url)?)
    ///     }
    /// }
    /// # fn main() {}
    /// ```
    #[expect(unused_variables, reason = "the name is documentation")]
    fn connect(&mut self, urls: &DatabaseUrls<'_>) -> Result<()> {
        Ok(())
    }

    /// Prepares what the application needs when it starts: rows that it reads, services that it calls.
    ///
    /// ```no_run
    /// # use std::net::TcpListener;
    /// # use actix_shareddb::{Config, LiveServer, LiveServerTestCase, Pool, Result, Schema};
    /// # use actix_web::dev::Server;
    /// # #[derive(Default)]
    /// # struct Todos { folder: Option<std::path::PathBuf> }
    /// # impl LiveServerTestCase for Todos {
    /// async fn prepare(&mut self, pool: &Pool) -> Result<()> {
    ///     let client = pool.get().await?;
    ///     client.execute("UPDATE settings SET greeting = 'hello'", &[]).await?;
    ///     Ok(())
    /// }
    /// # async fn serve(&self, _: TcpListener, _: Pool) -> Result<Server> { todo!() }
    /// # }
    /// ```
    #[expect(unused_variables, reason = "the name is documentation")]
    fn prepare(&mut self, pool: &P) -> impl Future<Output = Result<()>> {
        async { Ok(()) }
    }

    /// Builds the server from the listener and the pool, as `main` does, without waiting for it.
    ///
    /// It is run on the server's own thread, inside its actix [`System`]: what it spawns there, with `tokio::spawn` or
    /// `actix_web::rt::spawn`, and connections that it makes, live as long as the server. It may await what an application
    /// awaits before it serves. The errors of `std::io` are converted by `?`, others by [`Error::other`](crate::Error::other).
    ///
    /// ```no_run
    /// # use std::net::TcpListener;
    /// # use actix_shareddb::{Config, LiveServer, LiveServerTestCase, Pool, Result, Schema};
    /// # use actix_web::dev::Server;
    /// # mod app {
    /// #     use super::*;
    /// #     pub fn run(_: TcpListener, _: Pool) -> std::io::Result<Server> { todo!() }
    /// # }
    /// # #[derive(Default)]
    /// # struct Todos { folder: Option<std::path::PathBuf> }
    /// # impl LiveServerTestCase for Todos {
    /// async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
    ///     Ok(app::run(listener, pool)?)
    /// }
    /// # }
    /// # fn main() {}
    /// ```
    fn serve(&self, listener: TcpListener, pool: P) -> impl Future<Output = Result<Server>>;

    /// Prepares what every test of this case starts from.
    ///
    /// ```no_run
    /// # use std::net::TcpListener;
    /// # use actix_shareddb::{Config, LiveServer, LiveServerTestCase, Pool, Result, Schema};
    /// # use actix_web::dev::Server;
    /// # #[derive(Default)]
    /// # struct Todos { folder: Option<std::path::PathBuf> }
    /// # impl LiveServerTestCase for Todos {
    /// async fn set_up(&mut self, live: &LiveServer) -> Result<()> {
    ///     let client = live.pool().get().await?;
    ///     client.execute("INSERT INTO users (name) VALUES ('alice')", &[]).await?;
    ///     Ok(())
    /// }
    /// # async fn serve(&self, _: TcpListener, _: Pool) -> Result<Server> { todo!() }
    /// # }
    /// ```
    #[expect(unused_variables, reason = "the name is documentation")]
    fn set_up(&mut self, live: &LiveServer) -> impl Future<Output = Result<()>> {
        async { Ok(()) }
    }

    /// Releases what the transaction's end doesn't: files, processes, mocks. Rows need no tearing down.
    ///
    /// ```no_run
    /// # use std::net::TcpListener;
    /// # use actix_shareddb::{Config, LiveServer, LiveServerTestCase, Pool, Result, Schema};
    /// # use actix_web::dev::Server;
    /// # #[derive(Default)]
    /// # struct Todos { folder: Option<std::path::PathBuf> }
    /// # impl LiveServerTestCase for Todos {
    /// async fn tear_down(&mut self, _: &LiveServer) -> Result<()> {
    ///     if let Some(folder) = self.folder.take() {
    ///         std::fs::remove_dir_all(folder)?;
    ///     }
    ///     Ok(())
    /// }
    /// # async fn serve(&self, _: TcpListener, _: Pool) -> Result<Server> { todo!() }
    /// # }
    /// ```
    #[expect(unused_variables, reason = "the name is documentation")]
    fn tear_down(&mut self, live: &LiveServer) -> impl Future<Output = Result<()>> {
        async { Ok(()) }
    }
}

/// Runs one test of a case from `Default` to rollback.
#[track_caller]
pub fn run<C, P, R>(name: &str, test: impl AsyncFnOnce(&mut C, &LiveServer) -> R)
where
    C: LiveServerTestCase<P>,
    P: FromPools,
    R: Outcome,
{
    run_in(None, name, test);
}

/// The same in what the test itself asks for. What `live_server!` calls.
#[track_caller]
pub fn run_in<C, P, R>(
    isolation: Option<Isolation>,
    name: &str,
    test: impl AsyncFnOnce(&mut C, &LiveServer) -> R,
) where
    C: LiveServerTestCase<P>,
    P: FromPools,
    R: Outcome,
{
    run_boxed(isolation, name, Box::new(test));
}

/// A test whose type is forgotten: what follows is much code, and is compiled once for each case instead of once for each
/// test.
type Test<'t, C> = Box<dyn Run<C> + 't>;

trait Run<C> {
    fn run<'a>(self: Box<Self>, case: &'a mut C, live: &'a LiveServer) -> LocalBoxFuture<'a, Told>
    where
        Self: 'a;
}

impl<C, R, T> Run<C> for T
where
    R: Outcome,
    T: AsyncFnOnce(&mut C, &LiveServer) -> R,
{
    fn run<'a>(self: Box<Self>, case: &'a mut C, live: &'a LiveServer) -> LocalBoxFuture<'a, Told>
    where
        Self: 'a,
    {
        Box::pin(async move { Told(self(case, live).await.into_result()) })
    }
}

/// The outcome of a test, in the words that are told.
struct Told(Result<(), String>);

impl Outcome for Told {
    fn into_result(self) -> Result<(), String> {
        self.0
    }
}

#[track_caller]
fn run_boxed<C, P>(isolation: Option<Isolation>, name: &str, test: Test<'_, C>)
where
    C: LiveServerTestCase<P>,
    P: FromPools,
{
    // As the test harness spells it: without the crate.
    let name = name.split_once("::").map_or(name, |(_, path)| path);
    let config = match isolation {
        Some(isolation) => C::config().isolation(isolation),
        None => C::config(),
    };
    let mut databases = C::databases().behind(C::schema(), config);
    for other in &mut databases[1..] {
        if let (Some(isolation), None) = (isolation, other.config.isolated()) {
            other.config = other.config.clone().isolation(isolation);
        }
    }
    let mut verdict = Verdict::default();
    System::new().block_on(in_databases(name, test, &databases, &mut verdict));
    verdict.pronounce();
}

async fn in_databases<C, P>(
    name: &str,
    test: Test<'_, C>,
    declared: &[Declared],
    verdict: &mut Verdict,
) where
    C: LiveServerTestCase<P>,
    P: FromPools,
{
    let on_failure = match OnFailure::of_environment() {
        Ok(on_failure) => on_failure,
        Err(error) => return verdict.note(Err(Failure::new("the test was not run", error))),
    };
    let case = C::default();
    let config = &declared[0].config;
    let databases = match Opened::open(declared).await {
        Ok(databases) => databases,
        Err((name, error)) => {
            let event = event("the test's database", "did not open", &name);
            return verdict.note(Err(Failure::new(&event, error)));
        }
    };
    let served = on_server(name, test, case, config, &databases, on_failure, verdict).await;
    let stop = async {
        match served {
            Ok(server) => server.stop().await,
            Err(failure) => Err(failure),
        }
    };
    let (mut roll_back, mut own) = (Vec::new(), Vec::new());
    for (name, database) in databases.into_shared() {
        match database.into_kind() {
            Kind::Transaction(transaction) => roll_back.push(async move {
                let event = event("the rollback", "failed", &name);
                attempt(&event, async || transaction.roll_back().await).await
            }),
            Kind::Database(database) => own.push((name, database)),
        }
    }
    // The gates are closed, so the server can end meanwhile.
    let (stopped, rolled_back) = join(stop, join_all(roll_back)).await;
    verdict.note(stopped);
    for rolled_back in rolled_back {
        verdict.note(rolled_back);
    }
    // Plain connections end with the server.
    let is_kept = !verdict.is_clean() && config.keeps(on_failure);
    for (name, database) in own {
        if !is_kept {
            let event = event("the end of the database", "failed", &name);
            verdict.note(attempt(&event, async || database.end().await).await);
            continue;
        }
        match database.keep().await {
            Ok(words) => verdict.tell(words),
            Err(error) => verdict.note(Err(Failure::new("the database was not kept", error))),
        }
    }
}

/// What happened to a database, by its name if there may be several.
fn event(what: &str, happened: &str, database: &str) -> String {
    match database {
        DEFAULT => format!("{what} {happened}"),
        name => format!("{what} {happened} for '{name}'"),
    }
}

/// What needs databases and a server, which is to be stopped. An `Err` says why there was no server.
async fn on_server<C, P>(
    name: &str,
    test: Test<'_, C>,
    mut case: C,
    config: &Config,
    databases: &Opened,
    on_failure: OnFailure,
    verdict: &mut Verdict,
) -> Result<ServerThread, Failure>
where
    C: LiveServerTestCase<P>,
    P: FromPools,
{
    if let Kind::Transaction(transaction) = databases.first().kind() {
        verdict.watch(transaction.recording());
    }
    let new_pools = |origin| {
        databases
            .pools(origin)
            .map_err(|error| Failure::new("the pool was not built", error))
    };
    // Two pools of each: a session belongs to the runtime that it was made on, and a test that blocks its thread must not
    // block the server.
    let pools = new_pools(Origin::Test)?;
    let pools_of_server = P::from_pools(new_pools(Origin::Server)?);
    attempt("`connect` failed", async || {
        case.connect(&DatabaseUrls::new(databases))
    })
    .await?;
    let prepared = P::from_pools(pools.clone());
    attempt("`prepare` failed", async || case.prepare(&prepared).await).await?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(|error| Failure::new("no port of 127.0.0.1 could be bound", error))?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::new("the listener has no address", error))?;
    // The case goes to the server's thread and back, so that it needs to be `Send` only.
    let (mut case, server) = ServerThread::start(
        format!("live-server {name}"),
        verdict.panics(),
        async move || {
            let server = case.serve(listener, pools_of_server).await;
            (case, server)
        },
    )
    .await?;

    let live = LiveServer::new(address, pools, config, databases);
    verdict.note(attempt("`set_up` failed", async || case.set_up(&live).await).await);
    if verdict.is_clean() {
        verdict.note(attempt("the test failed", async || test.run(&mut case, &live).await).await);
    }
    verdict.tell_story();
    if on_failure == OnFailure::Pause && !verdict.is_clean() {
        pause::until_told(name, verdict.story(), &live).await;
    }
    verdict.note(attempt("`tear_down` failed", async || case.tear_down(&live).await).await);

    databases.close_gates();
    live.drain(config.drain()).await;
    if let Kind::Transaction(transaction) = databases.first().kind()
        && let Some(error) = transaction.unmet_faults()
    {
        verdict.note_unmet(&error);
    }
    verdict.look_for_causes(config);
    Ok(server)
}

/// Runs a part of a test's life; a panic in it is a failure like any other.
async fn attempt<R: Outcome>(event: &str, part: impl AsyncFnOnce() -> R) -> Result<(), Failure> {
    // What a panic leaves behind is torn down and dropped, not relied on.
    match AssertUnwindSafe(async { part().await })
        .catch_unwind()
        .await
    {
        Ok(outcome) => outcome
            .into_result()
            .map_err(|words| Failure::Error(format!("{event}: {words}"))),
        Err(payload) => Err(Failure::Panic(payload)),
    }
}
