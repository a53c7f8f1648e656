//! actix-shareddb: the shared transaction, and its lane of real commits.

use std::net::TcpListener;
use std::time::Duration;

use actix_shareddb::__private::run;
use actix_shareddb::{Config, Isolation, LiveServer, LiveServerTestCase, Pool, Result, Schema};
use actix_web::dev::Server;

use super::{Way, in_threads};
use crate::application::{self, NOTE};
use crate::ground;

/// The case, which is a type for each schema and lane.
#[derive(Default)]
struct Notes<const TABLES: usize, const COMMITS: bool>;

impl<const TABLES: usize, const COMMITS: bool> LiveServerTestCase for Notes<TABLES, COMMITS> {
    fn schema() -> Schema {
        Schema::dir(ground::migrations_folder(TABLES))
    }

    fn config() -> Config {
        Config::new().isolation(match COMMITS {
            true => Isolation::Database,
            false => Isolation::Transaction,
        })
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(application::with_deadpool(listener, pool))
    }
}

/// What `live_server!` makes of a test.
fn test<C: LiveServerTestCase>() {
    run::<C, _, _>("compare::writes_and_reads", async |_, live: &LiveServer| {
        assert_eq!(
            live.post("/notes").send_body(NOTE).await.unwrap().status(),
            201
        );
        let read = live
            .get("/notes")
            .send()
            .await
            .unwrap()
            .body()
            .await
            .unwrap();
        assert_eq!(read, NOTE);
    });
}

/// The test of a schema.
fn of<const COMMITS: bool>(tables: usize) -> fn() {
    match tables {
        10 => test::<Notes<10, COMMITS>>,
        40 => test::<Notes<40, COMMITS>>,
        200 => test::<Notes<200, COMMITS>>,
        1000 => test::<Notes<1000, COMMITS>>,
        _ => panic!("there is no case of {tables} tables"),
    }
}

/// Tests in a shared transaction.
pub(crate) struct Transaction(usize);

impl Transaction {
    pub(crate) fn new(tables: usize) -> Self {
        ground::migrations(tables);
        Self(tables)
    }
}

impl Way for Transaction {
    fn name(&self) -> &'static str {
        "actix-shareddb"
    }

    fn run(&self, tests: usize, threads: usize) -> Duration {
        in_threads(tests, threads, of::<false>(self.0))
    }
}

/// Tests that commit, each in a database of its own.
pub(crate) struct Lane(usize);

impl Lane {
    pub(crate) fn new(tables: usize) -> Self {
        ground::migrations(tables);
        Self(tables)
    }
}

impl Way for Lane {
    fn name(&self) -> &'static str {
        "actix-shareddb, committing"
    }

    fn run(&self, tests: usize, threads: usize) -> Duration {
        in_threads(tests, threads, of::<true>(self.0))
    }
}
