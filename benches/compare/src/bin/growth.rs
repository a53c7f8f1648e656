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
        let counts = [10, 100, 1_000, 10_000, 100_000];
        for (what, sql, counts) in [
            (
                "SELECT of one row",
                "SELECT name FROM item WHERE id = 0",
                &counts[..],
            ),
            (
                "INSERT of one row",
                "INSERT INTO item DEFAULT VALUES",
                &counts,
            ),
            (
                "UPDATE of the same row",
                "UPDATE item SET name = name WHERE id = 0",
                // PostgreSQL keeps every version of a row until the transaction ends that made it, and goes through them.
                &counts[..4],
            ),
        ] {
            let each = async |count| [shared(sql, count).await, plain(sql, count).await];
            table(what, "statements", counts, |count| count, each).await;
        }
        let counts = [1_000, 10_000, 100_000, 1_000_000];
        let each = async |count| {
            let sql = format!("SELECT n, 'item ' || n FROM generate_series(1, {count}) n");
            let all = [shared(&sql, 1).await, plain(&sql, 1).await];
            all.map(|all| all / f64::from(count))
        };
        let what = "a row of those that one SELECT returns";
        table(what, "rows", &counts, |count| count / 10, each).await;
        let counts = [10, 100, 1_000, 10_000];
        let what = "a test of those one after the other that insert a row";
        let each = async |count| [tests(count).await];
        table(what, "tests", &counts, |count| count * 10, each).await;
        let counts = [1, 10, 100, 1_000];
        let what = "a statement of each of the sessions";
        let each = async |count| [sessions(count).await];
        table(what, "sessions", &counts, |count| count * 10, each).await;
    });
}

/// Prints what one of so many costs, ours and, where there is another way, the other's, and how many times that of the first
/// line. `statements` says how much work a count is.
async fn table<const WAYS: usize>(
    what: &str,
    unit: &str,
    counts: &[u32],
    statements: impl Fn(u32) -> u32,
    each: impl AsyncFn(u32) -> [f64; WAYS],
) {
    println!("\n{what}, microseconds each");
    print!("{unit:>10}");
    for way in &["shared", "plain, BEGIN"][..WAYS] {
        print!(" {way:>14} {:>8}", "");
    }
    println!();
    let mut first = None;
    for &count in counts {
        let mut figures = [const { Vec::new() }; WAYS];
        for _ in 0..rounds(statements(count)) {
            for (figures, figure) in figures.iter_mut().zip(each(count).await) {
                figures.push(figure);
            }
        }
        let medians = figures.map(median);
        print!("{count:>10}");
        for (median, first) in medians.iter().zip(first.get_or_insert(medians)) {
            print!(" {median:>14.3} {:>7.2}x", median / *first);
        }
        println!();
    }
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
async fn sessions(count: u32) -> f64 {
    let schema = Schema::sql(SCHEMA);
    let config = Config::new().pool_max_size(count as usize);
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
    let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(10 * count);
    drop(clients);
    transaction.rollback().await.unwrap();
    each
}
