//! Whether a unit costs the same when there are many: `cargo run --release --bin growth`.
//!
//! Statements of one test, rows of one statement, sessions at a time, and tests of one process. What is printed is
//! microseconds for each, and how many times that of the first line it is. The same statements are run on a plain
//! connection within BEGIN, in turns with ours.
//!
//! Where a client and its server process run, on one processor or on two, is luck that lasts for a connection's life, and
//! makes more of a difference than anything else. So each figure is the median of several connections.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops where something fails"
)]

use std::time::Instant;

use actix_shareddb::__private::resolve;
use actix_shareddb::{Config, Schema, SharedTransaction};
use actix_web::rt::System;
use tokio_postgres::{Client, NoTls};

const SCHEMA: &str = "CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE)";

fn main() {
    System::new().block_on(async {
        for (what, sql, most) in [
            (
                "SELECT of one row",
                "SELECT name FROM item WHERE id = 0",
                100_000,
            ),
            (
                "INSERT of one row",
                "INSERT INTO item DEFAULT VALUES",
                100_000,
            ),
            (
                "UPDATE of the same row",
                "UPDATE item SET name = name WHERE id = 0",
                // PostgreSQL keeps every version of a row until the transaction ends that made it, and goes through them.
                10_000,
            ),
        ] {
            println!("\n{what}, microseconds each");
            println!(
                "{:>10} {:>10} {:>8} {:>14} {:>8}",
                "statements", "shared", "", "plain, BEGIN", ""
            );
            let mut first = None;
            for count in [10, 100, 1_000, 10_000, 100_000]
                .into_iter()
                .filter(|&count| count <= most)
            {
                let (mut of_shared, mut of_plain) = (Vec::new(), Vec::new());
                for _ in 0..rounds(count) {
                    of_shared.push(shared(sql, count).await);
                    of_plain.push(plain(sql, count).await);
                }
                let (shared, plain) = (median(of_shared), median(of_plain));
                let (s, p) = *first.get_or_insert((shared, plain));
                println!(
                    "{count:>10} {shared:>10.1} {:>7.2}x {plain:>14.1} {:>7.2}x",
                    shared / s,
                    plain / p
                );
            }
        }
        println!("\nA row of so many that one SELECT returns, microseconds each");
        println!(
            "{:>10} {:>10} {:>8} {:>14} {:>8}",
            "rows", "shared", "", "plain, BEGIN", ""
        );
        let mut first = None;
        for count in [1_000, 10_000, 100_000, 1_000_000] {
            let sql = format!("SELECT n, 'item ' || n FROM generate_series(1, {count}) n");
            let (mut of_shared, mut of_plain) = (Vec::new(), Vec::new());
            for _ in 0..rounds(count / 10) {
                of_shared.push(shared(&sql, 1).await / f64::from(count));
                of_plain.push(plain(&sql, 1).await / f64::from(count));
            }
            let (shared, plain) = (median(of_shared), median(of_plain));
            let (s, p) = *first.get_or_insert((shared, plain));
            println!(
                "{count:>10} {shared:>10.3} {:>7.2}x {plain:>14.3} {:>7.2}x",
                shared / s,
                plain / p
            );
        }
        println!("\nA test of so many one after the other that insert a row, microseconds each");
        println!("{:>10} {:>10}", "tests", "shared");
        let mut first = None;
        for count in [10, 100, 1_000, 10_000] {
            let mut of_tests = Vec::new();
            for _ in 0..rounds(count * 10) {
                of_tests.push(tests(count).await);
            }
            let each = median(of_tests);
            let f = *first.get_or_insert(each);
            println!("{count:>10} {each:>10.1} {:>7.2}x", each / f);
        }
        println!("\nA statement of each of so many sessions, microseconds each");
        println!("{:>10} {:>10}", "sessions", "shared");
        let mut first = None;
        for count in [1, 10, 100, 1_000] {
            let mut of_sessions = Vec::new();
            for _ in 0..rounds(count as u32 * 10) {
                of_sessions.push(sessions(count).await);
            }
            let each = median(of_sessions);
            let f = *first.get_or_insert(each);
            println!("{count:>10} {each:>10.1} {:>7.2}x", each / f);
        }
    });
}

/// The more connections the less each has to do, to an odd number.
fn rounds(statements: u32) -> usize {
    match statements {
        0..=1_000 => 31,
        1_001..=10_000 => 9,
        _ => 5,
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

async fn repeat(client: &Client, sql: &str, count: u32) -> f64 {
    client
        .batch_execute("INSERT INTO item (id, name) VALUES (0, 'one')")
        .await
        .unwrap();
    let statement = client.prepare(sql).await.unwrap();
    client.query(&statement, &[]).await.unwrap();
    let start = Instant::now();
    for _ in 0..count {
        client.query(&statement, &[]).await.unwrap();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

async fn shared(sql: &str, count: u32) -> f64 {
    let schema = Schema::sql(SCHEMA);
    let transaction = SharedTransaction::open(&schema, &Config::new())
        .await
        .unwrap();
    let pool = transaction.pool().unwrap();
    let client = pool.get().await.unwrap();
    let each = repeat(&client, sql, count).await;
    drop(client);
    transaction.rollback().await.unwrap();
    each
}

async fn plain(sql: &str, count: u32) -> f64 {
    let target = resolve(&Schema::sql(SCHEMA), &Config::new()).await.unwrap();
    let (client, connection) = target.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN").await.unwrap();
    let each = repeat(&client, sql, count).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    each
}

async fn tests(count: u32) -> f64 {
    let schema = Schema::sql(SCHEMA);
    let config = Config::new();
    let start = Instant::now();
    for _ in 0..count {
        let transaction = SharedTransaction::open(&schema, &config).await.unwrap();
        let client = transaction.pool().unwrap().get().await.unwrap();
        client
            .batch_execute("INSERT INTO item DEFAULT VALUES")
            .await
            .unwrap();
        drop(client);
        transaction.rollback().await.unwrap();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

/// Ten statements of each session, in turns.
async fn sessions(count: usize) -> f64 {
    let schema = Schema::sql(SCHEMA);
    let config = Config::new().pool_max_size(count);
    let transaction = SharedTransaction::open(&schema, &config).await.unwrap();
    let pool = transaction.pool().unwrap();
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = pool.get().await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        clients.push(client);
    }
    let start = Instant::now();
    for _ in 0..10 {
        for client in &clients {
            client.batch_execute("SELECT 1").await.unwrap();
        }
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / (10 * count) as f64;
    drop(clients);
    transaction.rollback().await.unwrap();
    each
}
