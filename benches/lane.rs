//! What the database below the tests costs: one of a test's own beside one that is cloned by hand, a shared transaction in few
//! tables beside one in many, and the first test of a run.
//!
//! `cargo bench --bench lane` uses `DATABASE_URL` or the embedded PostgreSQL. Both sides of a comparison take turns, so that a
//! change in the machine's speed hits both; the figures are medians. `-- clones`, `-- tables` and `-- first` run one part.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops where something fails"
)]

use std::env;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use actix_shareddb::__private::resolve;
use actix_shareddb::{Config, Isolation, Schema, SharedTransaction, TestDatabase};
use futures_util::future::join_all;
use tokio_postgres::NoTls;

mod figures;

use figures::{compare, median, milliseconds};

fn main() {
    let is_asked_for = |part: &str| env::args().any(|argument| argument == part);
    if is_asked_for(CHILD) {
        return block_on(one_transaction(&schema(10)));
    }
    println!("medians; a ratio compares the two medians of one line\n");
    let parts: [(&str, fn()); 3] = [("first", first), ("clones", clones), ("tables", tables)];
    let all = !parts.iter().any(|(name, _)| is_asked_for(name));
    for (name, run) in parts {
        if all || is_asked_for(name) {
            run();
        }
    }
}

/// Tables as applications have them: a key, a unique column, a reference, an index.
fn schema(tables: usize) -> Schema {
    Schema::sql(format!(
        "DO $$ BEGIN FOR i IN 1..{tables} LOOP
            EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, name text UNIQUE, other int)', i);
            EXECUTE format('CREATE INDEX ON t%s (other)', i);
        END LOOP; END $$;
        INSERT INTO t1 (name) SELECT 'row ' || n FROM generate_series(1, 1000) n;"
    ))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

// ---- A database of a test's own ----

fn clones() {
    block_on(async {
        for (tables, rounds) in [(10, 15), (40, 11), (200, 7), (1000, 5)] {
            let schema = schema(tables);
            let prepared = resolve(&schema, &committed()).await.unwrap();
            let ours = |_| own_database(&schema);
            let theirs = |nth| clone_by_hand(&prepared, nth);
            for at_once in [1, 2, 8] {
                let (mut own, mut by_hand) = (Vec::new(), Vec::new());
                // The first one connects.
                several(at_once, ours).await;
                for round in 0..rounds {
                    // What the first of the two has left to be written is written by the second.
                    if round % 2 == 0 {
                        own.push(several(at_once, ours).await);
                    }
                    by_hand.push(several(at_once, theirs).await);
                    if round % 2 == 1 {
                        own.push(several(at_once, ours).await);
                    }
                }
                compare(
                    &format!("own, {tables} tables, {at_once} at once, ms"),
                    "CREATE DATABASE by hand",
                    &own,
                    &by_hand,
                );
            }
        }
    });
}

/// What each of so many at a time costs.
async fn several<T: Future<Output = ()>>(at_once: u32, test: impl Fn(u32) -> T) -> f64 {
    let start = Instant::now();
    join_all((0..at_once).map(test)).await;
    milliseconds(start) / f64::from(at_once)
}

fn committed() -> Config {
    Config::new()
        .isolation(Isolation::Database)
        .pool_max_size(1)
}

async fn own_database(schema: &Schema) {
    let database = TestDatabase::open(schema, &committed()).await.unwrap();
    let pool = database.pool().unwrap();
    let client = pool.get().await.unwrap();
    client.batch_execute("SELECT 1").await.unwrap();
    drop((client, pool));
    database.end().await.unwrap();
}

/// As everybody would write it.
async fn clone_by_hand(template: &tokio_postgres::Config, nth: u32) {
    let name = format!("by_hand_{nth}");
    let mut config = template.clone();
    let (admin, connection) = config.dbname("postgres").connect(NoTls).await.unwrap();
    let admin_task = tokio::spawn(connection);
    let create = format!(
        "CREATE DATABASE {name} TEMPLATE {}",
        template.get_dbname().unwrap()
    );
    admin.batch_execute(&create).await.unwrap();
    let (client, connection) = config.dbname(&name).connect(NoTls).await.unwrap();
    let task = tokio::spawn(connection);
    client.batch_execute("SELECT 1").await.unwrap();
    drop(client);
    task.await.unwrap().unwrap();
    admin
        .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
        .await
        .unwrap();
    drop(admin);
    admin_task.await.unwrap().unwrap();
}

// ---- Few tables and many ----

async fn one_transaction(schema: &Schema) {
    let transaction = SharedTransaction::open(schema, &Config::new())
        .await
        .unwrap();
    let client = transaction.pool().unwrap().get().await.unwrap();
    let insert = "INSERT INTO t1 (name) VALUES ('one more')";
    client.batch_execute(insert).await.unwrap();
    drop(client);
    transaction.rollback().await.unwrap();
}

fn tables() {
    block_on(async {
        let (few, many) = (schema(10), schema(1000));
        let (mut in_few, mut in_many) = (Vec::new(), Vec::new());
        for round in 0..301 {
            for (schema, times) in [(&few, &mut in_few), (&many, &mut in_many)] {
                let start = Instant::now();
                one_transaction(schema).await;
                // The first ones prepare and connect.
                if round > 0 {
                    times.push(milliseconds(start));
                }
            }
        }
        compare(
            "transaction, 1000 tables, ms",
            "10 tables",
            &in_many,
            &in_few,
        );
    });
}

// ---- The first test of a run ----

const CHILD: &str = "child-of-first";

/// A process that is started, opens a transaction, and ends; the server runs already.
fn first() {
    let run = || {
        let status = Command::new(env::current_exe().unwrap())
            .arg(CHILD)
            .status();
        assert!(status.unwrap().success());
    };
    let timed = |rounds, pause| {
        let mut times = Vec::new();
        for _ in 0..rounds {
            thread::sleep(pause);
            let start = Instant::now();
            run();
            times.push(milliseconds(start));
        }
        median(&times)
    };
    run();
    let running = timed(15, Duration::ZERO);
    println!("{:<32} {running:>9.2}", "first transaction of a run, ms");
    // This process holds no embedded server yet, so that each of these has to start it.
    if env::var_os("DATABASE_URL").is_none() {
        let stopped = timed(3, STOPPED);
        println!("{:<32} {stopped:>9.2}", "the same, server stopped, ms");
    }
}

/// After so long, the embedded server has stopped.
const STOPPED: Duration = Duration::from_secs(8);
