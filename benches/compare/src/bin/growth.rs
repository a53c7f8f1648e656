//! Whether a unit costs the same when there are many: `cargo run --release --bin growth`.
//!
//! Statements, rows and failures of one test, and sessions at a time. What is printed is microseconds for each, and how
//! many times that of the first line it is. The same is done on a plain connection within BEGIN, side by side, where that
//! makes sense.

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
        for (what, sql) in [
            ("SELECT of one row", "SELECT name FROM item WHERE id = 1"),
            (
                "INSERT of one row",
                "INSERT INTO item (name) VALUES (DEFAULT)",
            ),
            (
                "UPDATE of the same row",
                "UPDATE item SET name = name WHERE id = 1",
            ),
        ] {
            println!("\n{what}, microseconds each");
            println!(
                "{:>10} {:>10} {:>8} {:>14} {:>8}",
                "statements", "shared", "", "plain, BEGIN", ""
            );
            let mut first = None;
            for count in [10, 100, 1_000, 10_000, 100_000] {
                let shared = shared(sql, count).await;
                let plain = plain(sql, count).await;
                let (s, p) = *first.get_or_insert((shared, plain));
                println!(
                    "{count:>10} {shared:>10.1} {:>7.2}x {plain:>14.1} {:>7.2}x",
                    shared / s,
                    plain / p
                );
            }
        }
        println!("\nA statement of each of so many sessions, microseconds each");
        println!("{:>10} {:>10}", "sessions", "shared");
        let mut first = None;
        for count in [1, 10, 100, 1_000] {
            let each = sessions(count).await;
            let f = *first.get_or_insert(each);
            println!("{count:>10} {each:>10.1} {:>7.2}x", each / f);
        }
    });
}

async fn repeat(client: &Client, sql: &str, count: u32) -> f64 {
    client
        .batch_execute("INSERT INTO item (id, name) VALUES (1, 'one') ON CONFLICT DO NOTHING")
        .await
        .unwrap();
    let statement = client.prepare(sql).await.unwrap();
    client.execute(&statement, &[]).await.unwrap();
    let start = Instant::now();
    for _ in 0..count {
        client.execute(&statement, &[]).await.unwrap();
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
