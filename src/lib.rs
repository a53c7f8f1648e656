//! Live-server tests for actix-web applications: a real server, your own pool, and one PostgreSQL transaction under all
//! of it, rolled back when the test ends.
//!
//! ```no_run
//! # use std::net::TcpListener;
//! # use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server};
//! # mod app {
//! #     pub fn run(_: std::net::TcpListener, _: super::Pool) -> std::io::Result<actix_web::dev::Server> { todo!() }
//! # }
//! #[derive(Default)]
//! struct Todos;
//!
//! impl LiveServerTestCase for Todos {
//!     fn schema() -> Schema {
//!         Schema::dir("migrations")
//!     }
//!
//!     /// The very function that `main` calls.
//!     async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<actix_web::dev::Server> {
//!         Ok(app::run(listener, pool)?)
//!     }
//! }
//!
//! live_server! {
//!     impl Todos {
//!         async fn what_was_posted_is_listed(&mut self, live: &LiveServer) -> Result<()> {
//!             assert_eq!(live.post("/todos").send_body("milk").await?.status(), 201);
//!             let mut list = live.get("/todos").send().await?;
//!             assert_eq!(list.body().await?, "milk");
//!             Ok(())
//!         }
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! # Goals
//!
//! * **As in production.** Handlers keep their `deadpool_postgres::Pool`, `client.transaction()`, `prepare_cached`,
//!   `COPY`, pipelining. What they commit, the next request sees; what fails, fails with PostgreSQL's own words, and undoes
//!   what it would undo. Where that can't be had in one transaction, the test is told why.
//! * **Nothing is left.** No row is ever committed, so tests run in parallel against one database and clean up nothing.
//! * **Fast.** A test's transaction is opened and rolled back in well under a millisecond, and a statement costs no round
//!   trip more than without this crate.
//!
//! # How a test lives
//!
//! [`live_server!`] makes a `#[test]` of each method. For each, [`LiveServerTestCase`] tells in which order the hooks run;
//! [`LiveServer`] is what the test talks to. The database is that of `DATABASE_URL`, or the embedded server, made from the
//! PostgreSQL that is installed; [`Schema`] says what is in it, [`Config`] sets time limits and the like.
//! [`SharedTransaction`] is the same without a server, for tests of a repository layer. Clients other than the pool's, a
//! script or another process, join by [`LiveServer::database_url`].
//!
//! What needs real commits asks for a database of its own, cloned from the prepared one and dropped at the end: see
//! [`Isolation`].
//!
//! The [`guide`] builds [a first suite](guide::first_suite), looks at [what was run](guide::see_and_steer) and has
//! [more of HTTP](guide::http). It shows how to come from
//! [Zero To Production](guide::from_zero_to_production), [`init_service`](guide::from_init_service),
//! [`#[sqlx::test]`](guide::from_sqlx_test) and [Django](guide::from_django), and how applications on
//! [other pools](guide::other_pools) join.
//!
//! # What was run
//!
//! [`LiveServer::queries`] has every statement of a test, with its parameters, its outcome, and the HTTP request that it was
//! run for. [`assert_num_queries!`] counts those of a block. A test that fails prints them all; see
//! [`LiveServerTestCase`].
//!
//! # Logging
//!
//! Statements and HTTP exchanges are [`tracing`](https://docs.rs/tracing) events of level `DEBUG`, as a subscriber of the
//! test's sees them: `actix_shareddb::query`, with `sql`, `session`, `duration`, and `tag` or `sqlstate` and `error`; and
//! `actix_shareddb::exchange`, with `method`, `path`, `duration` and `outcome`. Parameters are not logged.
//!
//! # Many cases, and bad luck
//!
//! [`LiveServer::checkpoint`] remembers the rows, and [`restore`](LiveServer::restore) goes back to them, so that many cases
//! start from the same state. [`LiveServer::faults`] makes a statement of the application fail, come late or lose its
//! connection.
//!
//! # How it works
//!
//! ```text
//!  test --awc--> actix worker --> deadpool_postgres::Pool --> tokio_postgres::Client
//!  (test's thread,    (server's         (real, unmodified)              |  the wire protocol, in memory
//!   its own System)    thread)                                          v
//!                                                            session A   B   C ...
//!                                                                       |
//!                                                                       v
//!                                                            multiplexer: a state machine without I/O
//!                                                                       |
//!                                                                       v
//!                                                ONE connection to PostgreSQL, ONE outer transaction
//! ```
//!
//! Each session believes that it is alone. All that it does since its last commit is guarded by one savepoint, which is
//! moved by statements that ride in the client's own pipeline: `BEGIN` and `COMMIT` need no traffic, a failed statement is
//! undone by what precedes the next one, and a deferred constraint is checked where the application would have committed.
//! Sessions take turns, for a statement or for a whole transaction block. One that waits for a block whose client does
//! nothing gets an error that names both sides, instead of hanging.
//!
//! # Limits
//!
//! * Sequences are not rolled back, which is PostgreSQL's nature: ids differ from run to run. `currval()` and `lastval()` tell
//!   of any client's last insert; `RETURNING`, or to ask in the insert's block, is safe.
//! * `now()` stands still for the whole test, as it does in any transaction; `clock_timestamp()` moves.
//! * Two transaction blocks never run at the same time, so isolation levels are accepted, warned of and not exercised.
//!   [`Config::deny_isolation_levels`] makes an error of them.
//! * What belongs to a connection is shared: temporary tables and advisory locks. Settings are not, if the text of the
//!   statement names them: `set_config($1, $2, true)` sets for all.
//! * What triggers and functions notify is not delivered, because the outer transaction is never committed. `NOTIFY` and
//!   `SELECT pg_notify(...)` are, where they are statements of their own.
//! * What can't run in a transaction block (`VACUUM`, `CREATE DATABASE`, `CREATE INDEX CONCURRENTLY`) can't run here.
//!
//! A test that is about one of these gets a database of its own by `#[isolation(Database)]`.
//!
//! The [`faq`] has more, by the exact words of each error.
//!
//! # Related crates
//!
//! `actix-test` starts a server from an `App` factory and knows no database. `sqlx::test` creates a database for each test.
//! `pgtemp` and `postgresql_embedded` start servers. In other languages: `django-shareddb`, from which the idea is, and
//! Ecto's `SQL.Sandbox`.

// What a test names.
mod case;
mod choice;
mod config;
mod databases;
mod error;
#[doc = include_str!("faq.md")]
pub mod faq {}
pub mod guide;
mod isolation;
mod live;
mod macros;
mod schema;
mod test_database;
mod transaction;

// The life of one test: its databases, its server, what it sends, and how it ends.
mod cookies;
mod exchange;
mod in_flight;
mod middleware;
mod on_failure;
mod opened;
mod panics;
mod pause;
mod server;
mod signals;
mod verdict;

// What is seen of a shared transaction, and what is done to it.
mod checkpoint;
mod fault;
mod insider;
mod queries;

// The shared transaction: the multiplexer, and what comes in on the one side and goes out on the other.
mod mux;
mod outer;
mod pool;
mod secret;
mod socket;

// The server underneath, and the databases on it.
mod backend;
mod cluster;
mod database;

pub use backend::ServerSocket;
pub use case::LiveServerTestCase;
pub use checkpoint::Checkpoint;
pub use config::Config;
pub use databases::{Databases, FromPools, Pools};
pub use deadpool_postgres::Pool;
pub use error::{Error, Result};
pub use fault::{Fault, Faults};
pub use isolation::Isolation;
pub use live::LiveServer;
pub use opened::DatabaseUrls;
pub use queries::{Exchange, Hint, Queries, Query};
pub use schema::Schema;
pub use test_database::TestDatabase;
pub use transaction::SharedTransaction;

#[cfg(fuzzing)]
#[doc(hidden)]
#[path = "fuzzing.rs"]
pub mod __fuzzing;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
