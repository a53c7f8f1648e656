//! What many clients at once get done through the shared transaction, beside a plain pool of the same size.
//!
//! `cargo bench --bench throughput` uses `DATABASE_URL` or the embedded PostgreSQL. Both sides take turns, so that a
//! change in the machine's speed hits both; the figures are medians, and the ratio is the median of the rounds' ratios.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops where something fails"
)]

use std::time::Instant;

use actix_shareddb::__private::resolve;
use actix_shareddb::{Config, Pool, Schema, SharedTransaction};
use deadpool_postgres::Manager;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

mod figures;

use figures::median;

const SCHEMA: &str = "CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL); \
     INSERT INTO item (name) SELECT 'item ' || n FROM generate_series(1, 1000) n; \
     CREATE TABLE scratch (n int UNIQUE);";

const ROUNDS: usize = 9;
const STATEMENTS: usize = 12_000;

#[derive(Clone, Copy)]
enum Load {
    Selects,
    Inserts,
    /// One INSERT of ten violates a constraint.
    FailingInserts,
    /// BEGIN, INSERT, SELECT, COMMIT.
    Blocks,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    println!("statements (or blocks) a second; medians of {ROUNDS} rounds\n");
    println!("{:<32} {:>9} {:>9}  ratio", "", "shared", "plain");
    runtime.block_on(async {
        for clients in [8, 32, 1] {
            compare(clients, "point selects", Load::Selects).await;
            compare(clients, "inserts", Load::Inserts).await;
            compare(clients, "inserts, 10% fail", Load::FailingInserts).await;
            compare(clients, "blocks of two statements", Load::Blocks).await;
        }
    });
}

async fn compare(clients: usize, name: &str, load: Load) {
    let (schema, config) = (Schema::sql(SCHEMA), Config::new().pool_max_size(clients));
    let target = resolve(&schema, &config).await.unwrap();
    let manager = Manager::new(target, NoTls);
    let plain = Pool::builder(manager).max_size(clients).build().unwrap();
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let transaction = SharedTransaction::open(&schema, &config).await.unwrap();
        let shared = transaction.pool().unwrap();
        run(&shared, clients, load, STATEMENTS / 20, 0).await;
        let rate = run(&shared, clients, load, STATEMENTS, 1 << 20).await;
        transaction.rollback().await.unwrap();

        run(&plain, clients, load, STATEMENTS / 20, 0).await;
        let plain_rate = run(&plain, clients, load, STATEMENTS, 1 << 20).await;
        let client = plain.get().await.unwrap();
        client.batch_execute("TRUNCATE scratch").await.unwrap();
        ours.push(rate);
        theirs.push(plain_rate);
        ratios.push(rate / plain_rate);
    }
    println!(
        "{:<32} {:>9.0} {:>9.0}  {:>5.2}",
        format!("{clients:>2} clients, {name}"),
        median(&ours),
        median(&theirs),
        median(&ratios)
    );
}

/// Runs so many statements on so many clients at once, and answers how many a second. What they insert are numbers from
/// `first` on.
async fn run(pool: &Pool, clients: usize, load: Load, statements: usize, first: i32) -> f64 {
    let each = statements / clients;
    let start = Instant::now();
    let workers: Vec<_> = (0..clients)
        .map(|worker| {
            let pool = pool.clone();
            let first = first + (worker * each) as i32;
            tokio::spawn(work(pool, load, first, each as i32))
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    (each * clients) as f64 / start.elapsed().as_secs_f64()
}

async fn work(pool: Pool, load: Load, first: i32, count: i32) {
    let mut client = pool.get().await.unwrap();
    let select = client
        .prepare_cached("SELECT name FROM item WHERE id = $1")
        .await
        .unwrap();
    let insert = client
        .prepare_cached("INSERT INTO scratch VALUES ($1)")
        .await
        .unwrap();
    for n in 0..count {
        match load {
            Load::Selects => {
                client.query_one(&select, &[&(1 + n % 1000)]).await.unwrap();
            }
            Load::Inserts => {
                client.execute(&insert, &[&(first + n)]).await.unwrap();
            }
            Load::FailingInserts if n % 10 == 9 => {
                let error = client.execute(&insert, &[&(first + n - 1)]).await;
                let code = error.unwrap_err().code().cloned();
                assert_eq!(code, Some(SqlState::UNIQUE_VIOLATION));
            }
            Load::FailingInserts => {
                client.execute(&insert, &[&(first + n)]).await.unwrap();
            }
            Load::Blocks => {
                let block = client.transaction().await.unwrap();
                block.execute(&insert, &[&(first + n)]).await.unwrap();
                block.query_one(&select, &[&(1 + n % 1000)]).await.unwrap();
                block.commit().await.unwrap();
            }
        }
    }
}
