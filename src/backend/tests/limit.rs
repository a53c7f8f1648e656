//! A server that has as many connections as it allows.

use std::fs;
use std::thread;
use std::time::Duration;

use super::super::{Backend, Queue};
use super::postgres::PrivatePostgres;
use crate::config::Config;
use crate::databases::Databases;
use crate::isolation::Isolation;
use crate::mux::record::Origin;
use crate::opened::Opened;
use crate::schema::Schema;
use crate::transaction::SharedTransaction;

/// How many connections the server allows to whom is no superuser.
const ALLOWED: usize = 3;

fn server() -> PrivatePostgres {
    let statements = format!(
        "ALTER SYSTEM SET max_connections = {}\n\
         ALTER SYSTEM SET superuser_reserved_connections = 1\n\
         CREATE ROLE alice LOGIN CREATEDB\n",
        ALLOWED + 1
    );
    PrivatePostgres::start("local all all trust\n", &statements)
}

fn url(server: &PrivatePostgres) -> String {
    let (folder, port) = (server.directory().display(), server.port());
    format!("host={folder} port={port} user=alice dbname=postgres")
}

/// Runs tests at once, each in a runtime on a thread of its own, as a harness does.
fn at_once<T: AsyncFnOnce() + Send + 'static>(tests: impl Iterator<Item = T>) {
    let threads: Vec<_> = tests
        .map(|test| {
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(test());
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

async fn fill(target: &tokio_postgres::Config) -> Vec<Backend> {
    let mut backends = Vec::new();
    for _ in 0..ALLOWED {
        backends.push(Backend::connect(target, None).await.unwrap());
    }
    backends
}

#[tokio::test]
async fn a_server_that_is_full_is_waited_for() {
    let server = server();
    let target = url(&server).parse().unwrap();
    let mut backends = fill(&target).await;

    let mut queue = Queue::new(Duration::from_secs(600));
    let mut refusals = 0;
    while let Err(error) = Backend::connect(&target, None).await {
        // The first refusal shows that it is full, and the second one that one is made to wait.
        refusals += 1;
        if refusals == 2 {
            backends.pop();
        }
        queue.wait(error, || {}).await.unwrap();
    }
    assert!(refusals >= 2);
}

#[tokio::test]
async fn one_who_has_waited_long_enough_is_told() {
    let server = server();
    let target = url(&server).parse().unwrap();
    let _backends = fill(&target).await;
    let config = Config::new()
        .database_url(url(&server))
        .connection_limit_timeout(Duration::from_nanos(1));
    let schemas = [Schema::existing(), Schema::sql("")];
    for (schema, event) in schemas.iter().zip([
        "",
        "cannot connect to the server of Config::database_url at FOLDER\n  caused by: ",
    ]) {
        let error = SharedTransaction::open(schema, &config)
            .await
            .expect_err("no transaction");
        let told = format!("{error:?}");
        let place = format!("FOLDER/.s.PGSQL.{}", server.port());
        // What the schema has become is called by its fingerprint.
        let database = told.split('\'').nth(3).unwrap_or_default();
        let is_prepared = database.starts_with("shareddb_");
        assert_eq!(is_prepared, !event.is_empty(), "{told}");
        assert_eq!(
            told.replace(&server.directory().display().to_string(), "FOLDER"),
            format!(
                "{event}the server has had no connection to spare for 1ns\n  \
                 caused by: no connection to PostgreSQL at {place} (user 'alice', database '{database}')\n  \
                 caused by: FATAL 53300: remaining connection slots are reserved for non-replication superuser connections\n  \
                 help: raise max_connections of the server; run fewer tests at a time (--test-threads), each of which \
                 takes one connection for each of its databases; or let them wait longer (Config::connection_limit_timeout)"
            )
        );
    }
}

#[tokio::test]
async fn another_error_is_not_waited_for() {
    let mut queue = Queue::new(Duration::from_secs(600));
    let target = "host=/nowhere user=alice".parse().unwrap();
    let Err(error) = Backend::connect(&target, None).await else {
        panic!("nobody listens there");
    };
    let words = format!("{error:?}");
    let room = || panic!("nobody needs room");
    let given_back = queue.wait(error, room).await.expect_err("it is given back");
    assert_eq!(format!("{given_back:?}"), words);
}

/// Those that prepare a schema need several connections, which those that wait for it must not keep from them. The
/// backends that are kept of a case that has ended are in nobody's way.
#[test]
fn many_tests_at_once_get_through() {
    let server = server();
    at_once((0..4 * ALLOWED).map(|nth| {
        // Every other one has another target.
        let config = Config::new()
            .database_url(url(&server))
            .lock_timeout(Duration::from_secs(5 + nth as u64 % 2))
            .connection_limit_timeout(Duration::from_secs(600));
        async move || {
            let schema = Schema::sql("CREATE TABLE limited ()");
            let transaction = SharedTransaction::open(&schema, &config).await.unwrap();
            let client = transaction.pool().unwrap().get().await.unwrap();
            let insert = "INSERT INTO limited DEFAULT VALUES";
            assert_eq!(client.execute(insert, &[]).await.unwrap(), 1);
            drop(client);
            transaction.rollback().await.unwrap();
        }
    }));
}

/// Each of these tests takes two connections. Had every one the first of them, none would get the second.
#[test]
fn tests_with_several_databases_do_not_wait_for_each_other_in_vain() {
    let server = server();
    at_once((0..2 * ALLOWED).map(|_| {
        let config = Config::new()
            .database_url(url(&server))
            .connection_limit_timeout(Duration::from_secs(600));
        async move || {
            let second = Schema::sql("CREATE TABLE second ()");
            let declared = Databases::new()
                .share("second", second, config.clone())
                .behind(Schema::sql("CREATE TABLE first ()"), config);
            let opened = Opened::open(&declared).await.unwrap();
            let pools = opened.pools(Origin::Test).unwrap();
            for (name, table) in [("default", "first"), ("second", "second")] {
                let client = pools.pool(name).get().await.unwrap();
                let insert = format!("INSERT INTO {table} DEFAULT VALUES");
                assert_eq!(client.execute(&insert, &[]).await.unwrap(), 1);
            }
            for (_, database) in opened.into_shared() {
                database.end().await.unwrap();
            }
        }
    }));
}

/// Only while it is opened must the second database not wait.
#[tokio::test]
async fn the_pool_of_a_second_database_waits_as_long_as_any() {
    let server = server();
    let target = url(&server).parse().unwrap();
    let config = Config::new()
        .database_url(url(&server))
        .connection_limit_timeout(Duration::from_secs(600));
    let own = config.clone().isolation(Isolation::Database);
    let declared = Databases::new()
        .share("second", Schema::sql(""), own)
        .behind(Schema::existing(), config);
    let opened = Opened::open(&declared).await.unwrap();
    let pools = opened.pools(Origin::Test).unwrap();

    // One connection is that of the transaction, one that of who makes the databases.
    let mut queue = Queue::new(Duration::from_secs(600));
    let last = loop {
        match Backend::connect(&target, None).await {
            Ok(last) => break last,
            Err(error) => queue.wait(error, || {}).await.unwrap(),
        }
    };
    let refusals = || {
        let log = fs::read_to_string(server.directory().join("log")).unwrap();
        log.matches("remaining connection slots").count()
    };
    let before = refusals();
    let pool = pools.pool("second");
    let (client, ()) = tokio::join!(pool.get(), async {
        while refusals() == before {
            tokio::task::yield_now().await;
        }
        drop(last);
    });
    drop(client.unwrap());
    for (_, database) in opened.into_shared() {
        database.end().await.unwrap();
    }
}
