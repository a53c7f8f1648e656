//! The running server, as the test sees it.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::rt::time::timeout;
use awc::ClientRequest;
use awc::ws::WebsocketsRequest;

use crate::backend::Stream;
use crate::cookies::Jar;
use crate::database::lane;
use crate::databases::{DEFAULT, named};
use crate::exchange::Exchanges;
use crate::in_flight::InFlight;
use crate::insider::Insider;
use crate::middleware::Middleware;
use crate::mux::driver::Driver;
use crate::opened::Opened;
use crate::queries::Recording;
use crate::socket::Entrance;
use crate::test_database::Kind;
use crate::{Config, Error, Isolation, Pool, Pools, Result, TestDatabase};

/// A server that runs for one test, with a client to talk to it and a pool on the same transaction.
///
/// ```no_run
/// # use actix_shareddb::{LiveServer, Result};
/// # async fn example(live: &LiveServer) -> Result<()> {
/// let created = live.post("/todos").send_body("milk").await?;
/// assert_eq!(created.status(), 201);
///
/// let client = live.pool().get().await?;
/// let count: i64 = client.query_one("SELECT count(*) FROM todos", &[]).await?.get(0);
/// assert_eq!(count, 1);
/// # Ok(())
/// # }
/// ```
///
/// A path starts with `/`, as it does in the application's routes; the methods that take one panic otherwise.
///
/// The client is an ordinary [`awc::Client`] but for two settings: it waits for a response as long as the
/// [`Config`] says, and it doesn't follow redirects, so that a test sees the response that the handler gave. Nor does it
/// keep cookies. [`with_cookies`](Self::with_cookies) and [`with_redirects`](Self::with_redirects) give the same server with
/// a client that does.
#[derive(Clone)]
pub struct LiveServer {
    server: Rc<Server>,
    client: awc::Client,
    jar: Option<Jar>,
    follows_redirects: bool,
}

/// What all handles of one server share.
struct Server {
    address: SocketAddr,
    in_flight: InFlight,
    request_timeout: Duration,
    pools: Pools,
    doors: Vec<(String, Door)>,
}

/// How other clients come in, and how this one reaches what only a shared transaction has.
pub(crate) enum Door {
    Transaction {
        entrance: Arc<Entrance>,
        recording: Recording,
        insider: Box<Insider>,
    },
    Database {
        url: String,
        /// The same without a password.
        shown: String,
    },
}

impl Door {
    pub(crate) fn of(database: &TestDatabase) -> Self {
        match database.kind() {
            Kind::Transaction(transaction) => Self::Transaction {
                entrance: Arc::clone(transaction.entrance()),
                recording: transaction.recording().clone(),
                insider: Box::new(transaction.insider()),
            },
            Kind::Database(database) => Self::of_database(database.target()),
        }
    }

    pub(crate) fn of_database(target: &tokio_postgres::Config) -> Self {
        Self::Database {
            url: lane::url(target),
            shown: lane::url_to_show(target),
        }
    }

    fn url(&self) -> Result<String> {
        match self {
            Self::Transaction { entrance, .. } => entrance.url(),
            Self::Database { url, .. } => Ok(url.clone()),
        }
    }
}

impl LiveServer {
    pub(crate) fn new(
        address: SocketAddr,
        pools: Pools,
        config: &Config,
        databases: &Opened,
    ) -> Self {
        let exchanges = match databases.first().kind() {
            Kind::Transaction(transaction) => transaction.recording().exchanges().clone(),
            Kind::Database(_) => Exchanges::default(),
        };
        let server = Server {
            address,
            in_flight: InFlight::new(exchanges),
            request_timeout: config.request(),
            pools,
            doors: databases.doors(),
        };
        Self::with_client(Rc::new(server), None, false)
    }

    fn with_client(server: Rc<Server>, jar: Option<Jar>, follows_redirects: bool) -> Self {
        let mut builder = awc::Client::builder().timeout(server.request_timeout);
        if !follows_redirects {
            builder = builder.disable_redirects();
        }
        let builder = builder.wrap(Middleware(server.in_flight.clone()));
        let client = match &jar {
            Some(jar) => builder.wrap(Middleware(jar.clone())).finish(),
            None => builder.finish(),
        };
        Self {
            server,
            client,
            jar,
            follows_redirects,
        }
    }

    /// The same server with a client that keeps cookies, as the browser of one user does: what a response sets, later
    /// requests bring. Each call gives a user of its own.
    ///
    /// The rules are those of [RFC 6265](https://www.rfc-editor.org/rfc/rfc6265) for paths, expiry and deletion. A `Secure`
    /// cookie is sent although the server speaks plain HTTP, as browsers do for an address of the machine itself. A cookie
    /// that the test writes into a request wins over a kept one of the same name.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// let (alice, bob) = (live.with_cookies(), live.with_cookies());
    /// alice.post("/login").send_form(&[("name", "alice")]).await?;
    ///
    /// assert_eq!(alice.get("/account").send().await?.status(), 200);
    /// assert_eq!(bob.get("/account").send().await?.status(), 401);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "it is the handle that is returned whose client keeps cookies"]
    pub fn with_cookies(&self) -> Self {
        let server = Rc::clone(&self.server);
        Self::with_client(server, Some(Jar::default()), self.follows_redirects)
    }

    /// The same server with a client that follows redirects, up to ten in a row. It shares the cookies of this one, if this
    /// one keeps them.
    ///
    /// As with [`awc`], 301, 302 and 303 are followed by a GET, 307 and 308 with the same method and body. Each hop is an
    /// [exchange](crate::Exchange) of its own.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// let created = live.post("/todos").send_form(&[("title", "milk")]).await?;
    /// assert_eq!(created.status(), 303);
    ///
    /// let browser = live.with_cookies().with_redirects();
    /// let mut page = browser.post("/todos").send_form(&[("title", "eggs")]).await?;
    /// assert_eq!(page.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "it is the handle that is returned whose client follows redirects"]
    pub fn with_redirects(&self) -> Self {
        Self::with_client(Rc::clone(&self.server), self.jar.clone(), true)
    }

    /// The address that the server listens on, with the port that the system chose.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// // A client that says half of its request, and goes.
    /// let mut client = tokio::net::TcpStream::connect(live.addr()).await?;
    /// tokio::io::AsyncWriteExt::write_all(&mut client, b"POST /todos HTTP/1.1\r\n").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn addr(&self) -> SocketAddr {
        self.server.address
    }

    /// The full URL of a path, for a client other than this one: a browser, another process.
    ///
    /// The empty path gives the base URL, without a slash at its end.
    ///
    /// ```no_run
    /// # fn example(live: &actix_shareddb::LiveServer) {
    /// let login = live.url("/login?next=/todos"); // http://127.0.0.1:49152/login?next=/todos
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the path is neither empty nor starts with `/`.
    #[track_caller]
    pub fn url(&self, path: &str) -> String {
        self.absolute("http", path)
    }

    /// A GET request.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// let list = live.get("/todos?owner=7").send().await?.body().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn get(&self, path: &str) -> ClientRequest {
        self.request(Method::GET, path)
    }

    /// A POST request.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// let todo = serde_json::json!({ "title": "milk" });
    /// let created = live.post("/todos").send_json(&todo).await?;
    /// assert_eq!(created.status(), 201);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn post(&self, path: &str) -> ClientRequest {
        self.request(Method::POST, path)
    }

    /// A PUT request.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// let stored = live.put("/notes/7").send_body("buy milk").await?;
    /// assert_eq!(stored.status(), 204);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn put(&self, path: &str) -> ClientRequest {
        self.request(Method::PUT, path)
    }

    /// A PATCH request.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// let done = serde_json::json!({ "done": true });
    /// let changed = live.patch("/todos/7").send_json(&done).await?;
    /// assert_eq!(changed.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn patch(&self, path: &str) -> ClientRequest {
        self.request(Method::PATCH, path)
    }

    /// A DELETE request.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// assert_eq!(live.delete("/todos/7").send().await?.status(), 204);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn delete(&self, path: &str) -> ClientRequest {
        self.request(Method::DELETE, path)
    }

    /// A HEAD request.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// let head = live.head("/todos").send().await?;
    /// assert_eq!(head.headers().get("content-type").unwrap(), "application/json");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn head(&self, path: &str) -> ClientRequest {
        self.request(Method::HEAD, path)
    }

    /// An OPTIONS request.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// let origin = ("origin", "https://example.com");
    /// let allowed = live.options("/todos").insert_header(origin).send().await?;
    /// assert!(allowed.headers().contains_key("access-control-allow-origin"));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn options(&self, path: &str) -> ClientRequest {
        self.request(Method::OPTIONS, path)
    }

    /// A request with any method.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// use actix_web::http::Method;
    ///
    /// let purge = Method::from_bytes(b"PURGE").expect("it is a token");
    /// assert_eq!(live.request(purge, "/cache").send().await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn request(&self, method: Method, path: &str) -> ClientRequest {
        self.client.request(method, self.url(path))
    }

    /// A WebSocket handshake.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// let (response, mut socket) = live.ws("/events").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn ws(&self, path: &str) -> WebsocketsRequest {
        self.client.ws(self.absolute("ws", path))
    }

    /// The client that the requests above are made with.
    ///
    /// It takes full URLs, so it can follow a link that the server gave.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// let created = live.post("/todos").send_body("milk").await?;
    /// let path = created.headers().get("location").unwrap().to_str().unwrap();
    /// let todo = live.client().get(live.url(path)).send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn client(&self) -> &awc::Client {
        &self.client
    }

    /// A pool on the transaction that the application works in.
    ///
    /// It isn't the application's own pool, so a test that keeps clients takes none away from the application.
    ///
    /// ```no_run
    /// # async fn example(live: &actix_shareddb::LiveServer) -> actix_shareddb::Result<()> {
    /// let client = live.pool().get().await?;
    /// client.execute("UPDATE todos SET done = true", &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pool(&self) -> &Pool {
        self.server.pools.first()
    }

    /// The URL of a socket at which any other PostgreSQL client joins the test's transaction: a browser test's seeding
    /// script, `psql`, a second service. See [`SharedTransaction::database_url`](crate::SharedTransaction::database_url). With
    /// [`Isolation::Database`], it is the URL of the database itself.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # fn example(live: &LiveServer) -> Result<()> {
    /// std::process::Command::new("psql")
    ///     .args([&live.database_url()?, "-c", "INSERT INTO todos (title) VALUES ('milk')"])
    ///     .status()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub fn database_url(&self) -> Result<String> {
        self.door().url()
    }

    /// The same for people: with the password of this one test, but not with that of a server.
    pub(crate) fn database_url_to_show(&self) -> Result<String> {
        match self.door() {
            Door::Transaction { entrance, .. } => entrance.url(),
            Door::Database { shown, .. } => Ok(shown.clone()),
        }
    }

    /// That of the first database.
    fn door(&self) -> &Door {
        named(&self.server.doors, DEFAULT)
    }

    /// The pool of another database of the application, by the name that it has in [`Databases`](crate::Databases).
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// let audit = live.pool_of("audit").get().await?;
    /// let attempts: i64 = audit.query_one("SELECT count(*) FROM attempts", &[]).await?.get(0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If no database has the name.
    #[track_caller]
    pub fn pool_of(&self, database: &str) -> Pool {
        self.server.pools.pool(database)
    }

    /// The URL of another database of the application, as [`database_url`](Self::database_url) is that of the first one.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # fn example(live: &LiveServer) -> Result<()> {
    /// std::process::Command::new("psql").arg(live.database_url_of("audit")?).status()?;
    /// # Ok(())
    /// # }
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
        named(&self.server.doors, database).url()
    }

    /// What keeps this test apart from the others, for one that may come out differently.
    ///
    /// ```no_run
    /// # use actix_shareddb::{Isolation, LiveServer};
    /// # fn example(live: &LiveServer) {
    /// // Two clients that wait for each other: the shared transaction refuses at once, a server finds a deadlock.
    /// let expected = match live.isolation() {
    ///     Isolation::Transaction => "55P03",
    ///     _ => "40P01",
    /// };
    /// # }
    /// ```
    pub fn isolation(&self) -> Isolation {
        match self.door() {
            Door::Transaction { .. } => Isolation::Transaction,
            Door::Database { .. } => Isolation::Database,
        }
    }

    #[track_caller]
    pub(crate) fn driver(&self) -> &Driver<Stream> {
        match self.door() {
            Door::Transaction { insider, .. } => insider.driver(),
            Door::Database { .. } => panic!("{NO_TRANSACTION}; {TAKE_TRANSACTION}"),
        }
    }

    pub(crate) fn insider(&self) -> Result<&Insider> {
        match self.door() {
            Door::Transaction { insider, .. } => Ok(insider),
            Door::Database { .. } => Err(Error::new(NO_TRANSACTION).help(TAKE_TRANSACTION)),
        }
    }

    #[track_caller]
    pub(crate) fn recording(&self) -> &Recording {
        match self.door() {
            Door::Transaction { recording, .. } => recording,
            Door::Database { .. } => panic!("{NO_TRANSACTION}; {TAKE_TRANSACTION}"),
        }
    }

    /// Waits for the HTTP requests in flight: for those of tasks that the test spawned and didn't await.
    ///
    /// Those of other clients, a browser's for instance, can't be seen from here.
    pub(crate) async fn drain(&self, deadline: Duration) {
        // What has no answer at the deadline is cut off with the server.
        let _ = timeout(deadline, self.server.in_flight.none()).await;
    }

    #[track_caller]
    fn absolute(&self, scheme: &str, path: &str) -> String {
        assert!(
            path.is_empty() || path.starts_with('/'),
            "the path {path:?} does not start with '/'"
        );
        format!("{scheme}://{}{path}", self.server.address)
    }
}

/// What passes by on plain connections isn't seen, and what they commit isn't taken back.
const NO_TRANSACTION: &str = "queries, checkpoints and faults are those of a shared transaction, and this test has a \
     database of its own";
const TAKE_TRANSACTION: &str = "write `#[isolation(Transaction)]` above the test";

impl fmt::Debug for LiveServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveServer")
            .field("url", &self.url(""))
            .finish_non_exhaustive()
    }
}
