//! Random HTTP load over many tests in one process, checked against a model: `cargo run --release --bin soak -- MINUTES`.
//!
//! Each test begins with an empty model. Clients add, transfer, fail inside and outside of blocks, give up on requests
//! that are under way, and vanish from the socket amid a transaction. Whenever all is quiet the table must be what the
//! model says, and after each test a connection from outside must find nothing. The process must not grow.
//!
//! A client that gives up doesn't know, as anywhere, whether its request was carried out; but once it was, it stays so.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops where something fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use std::{env, fs};

use actix_shareddb::__private::{resolve, run};
use actix_shareddb::{Config, LiveServer, LiveServerTestCase, Pool, Result, Schema};
use actix_web::dev::Server;
use actix_web::rt::System;
use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::NoTls;

const SCHEMA: &str =
    "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0))";

// ---- The application ----

type Answer = Result<HttpResponse, actix_web::Error>;

/// What any error of the database is to the client.
fn refused(error: impl std::fmt::Display) -> actix_web::Error {
    actix_web::error::ErrorConflict(error.to_string())
}

async fn open(pool: web::Data<Pool>, path: web::Path<(i32, i32)>) -> Answer {
    let client = pool.get().await.map_err(refused)?;
    let sql = "INSERT INTO account VALUES ($1, $2)";
    let statement = client.prepare_cached(sql).await.map_err(refused)?;
    let (id, balance) = path.into_inner();
    client
        .execute(&statement, &[&id, &balance])
        .await
        .map_err(refused)?;
    Ok(HttpResponse::Created().finish())
}

async fn transfer(pool: web::Data<Pool>, path: web::Path<(i32, i32, i32)>) -> Answer {
    let (from, to, amount) = path.into_inner();
    let mut client = pool.get().await.map_err(refused)?;
    let block = client.transaction().await.map_err(refused)?;
    let sql = "UPDATE account SET balance = balance + $2 WHERE id = $1";
    block.execute(sql, &[&to, &amount]).await.map_err(refused)?;
    // Fails where the balance doesn't suffice, after half of it was done.
    block
        .execute(sql, &[&from, &-amount])
        .await
        .map_err(refused)?;
    block.commit().await.map_err(refused)?;
    Ok(HttpResponse::Ok().finish())
}

/// Opens an account, unless the client is gone before half a second has passed.
async fn dawdle(pool: web::Data<Pool>, path: web::Path<(i32, i32)>) -> Answer {
    let mut client = pool.get().await.map_err(refused)?;
    let block = client.transaction().await.map_err(refused)?;
    let (id, balance) = path.into_inner();
    let sql = "INSERT INTO account VALUES ($1, $2)";
    block
        .execute(sql, &[&id, &balance])
        .await
        .map_err(refused)?;
    block
        .batch_execute("SELECT pg_sleep(0.5)")
        .await
        .map_err(refused)?;
    block.commit().await.map_err(refused)?;
    Ok(HttpResponse::Created().finish())
}

async fn all(pool: web::Data<Pool>) -> Answer {
    let client = pool.get().await.map_err(refused)?;
    let sql = "SELECT id, balance FROM account ORDER BY id";
    let rows = client.query(sql, &[]).await.map_err(refused)?;
    let accounts = rows.iter().map(|row| (row.get(0), row.get(1)));
    Ok(HttpResponse::Ok().json(accounts.collect::<Vec<(i32, i32)>>()))
}

#[derive(Default)]
struct Bank;

impl LiveServerTestCase for Bank {
    fn schema() -> Schema {
        Schema::sql(SCHEMA)
    }

    fn config() -> Config {
        Config::new().idle_in_transaction_timeout(Duration::from_secs(30))
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        let data = web::Data::new(pool);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/open/{id}/{balance}", web::post().to(open))
                .route("/transfer/{from}/{to}/{amount}", web::post().to(transfer))
                .route("/dawdle/{id}/{balance}", web::post().to(dawdle))
                .route("/all", web::get().to(all))
        });
        Ok(server.workers(2).listen(listener)?.run())
    }
}

// ---- The load ----

/// What a client does next.
#[derive(Clone, Copy, Debug)]
enum Action {
    Open { id: i32, balance: i32 },
    OpenAgain { id: i32 },
    Transfer { from: i32, to: i32, amount: i32 },
    GiveUp { id: i32 },
    Vanish { id: i32 },
    Read,
}

/// The accounts, and what they hold.
type Model = BTreeMap<i32, i32>;

/// Some actions at a time that have no account in common, so that each has one outcome.
fn choose(random: &mut StdRng, model: &Model, next: &mut i32) -> Vec<Action> {
    let mut free: Vec<i32> = model.keys().copied().collect();
    let mut actions = Vec::new();
    for _ in 0..random.random_range(1..8) {
        let mut take = |random: &mut StdRng| {
            (!free.is_empty()).then(|| free.swap_remove(random.random_range(0..free.len())))
        };
        let mut fresh = || {
            *next += 1;
            *next
        };
        let action = match random.random_range(0..100) {
            0..35 => Action::Open {
                id: fresh(),
                balance: random.random_range(0..100),
            },
            35..45 => match take(random) {
                Some(id) => Action::OpenAgain { id },
                None => continue,
            },
            45..80 => match (take(random), take(random)) {
                (Some(from), Some(to)) => Action::Transfer {
                    from,
                    to,
                    amount: random.random_range(0..120),
                },
                _ => continue,
            },
            80..82 => Action::GiveUp { id: fresh() },
            82..86 => Action::Vanish { id: fresh() },
            _ => Action::Read,
        };
        actions.push(action);
    }
    actions
}

/// Does it, and checks the answer.
async fn act(live: &LiveServer, url: &str, model: &Model, action: Action) {
    let expect = async |path: String, status: u16| {
        let answer = live.post(&path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    };
    match action {
        Action::Open { id, balance } => expect(format!("/open/{id}/{balance}"), 201).await,
        Action::OpenAgain { id } => expect(format!("/open/{id}/0"), 409).await,
        Action::Transfer { from, to, amount } => {
            let status = if model[&from] < amount { 409 } else { 200 };
            expect(format!("/transfer/{from}/{to}/{amount}"), status).await;
        }
        Action::GiveUp { id } => {
            // Dropped while the handler is at it.
            let request = live.post(&format!("/dawdle/{id}/1")).send();
            let _ = tokio::time::timeout(Duration::from_millis(20), request).await;
        }
        Action::Vanish { id } => {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            let task = tokio::spawn(connection);
            let sql = format!("BEGIN; INSERT INTO account VALUES ({id}, 1)");
            client.batch_execute(&sql).await.unwrap();
            task.abort();
        }
        Action::Read => {
            let answer = live.get("/all").send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    }
}

/// What the model is after it.
fn apply(model: &mut Model, action: Action) {
    match action {
        Action::Open { id, balance } => {
            model.insert(id, balance);
        }
        Action::Transfer { from, to, amount } if model[&from] >= amount => {
            *model.get_mut(&from).unwrap() -= amount;
            *model.get_mut(&to).unwrap() += amount;
        }
        Action::Transfer { .. }
        | Action::OpenAgain { .. }
        | Action::GiveUp { .. }
        | Action::Vanish { .. }
        | Action::Read => {}
    }
}

async fn load(live: &LiveServer, random: &mut StdRng) -> u64 {
    let url = live.database_url().unwrap();
    let (mut model, mut next, mut done) = (Model::new(), 0, 0);
    let mut unknown = BTreeSet::new();
    for _ in 0..random.random_range(1..40) {
        let actions = choose(random, &model, &mut next);
        join_all(
            actions
                .iter()
                .map(|&action| act(live, &url, &model, action)),
        )
        .await;
        for &action in &actions {
            apply(&mut model, action);
            done += 1;
        }
        let mut answer = live.get("/all").send().await.unwrap();
        let accounts: Model = answer
            .json::<Vec<_>>()
            .limit(1 << 22)
            .await
            .unwrap()
            .into_iter()
            .collect();
        // Whoever gave up may have been heard, at the latest when the handler has come to its end.
        for action in actions {
            if let Action::GiveUp { id } = action {
                unknown.insert(id);
            }
        }
        unknown.retain(|id| match accounts.get(id) {
            Some(&balance) => {
                model.insert(*id, balance);
                assert_eq!(balance, 1);
                false
            }
            None => true,
        });
        assert_eq!(accounts, model);
    }
    done
}

// ---- What must not grow ----

struct Held {
    memory: u64,
    threads: u64,
    files: usize,
    backends: i64,
}

impl Held {
    /// Looks from outside, and sees to it that no row is to be seen.
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let backends = System::new().block_on(async {
            let schema = Schema::sql(SCHEMA);
            let target = resolve(&schema, &Config::new()).await.unwrap();
            let (client, connection) = target.connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            let rows = client
                .query_one("SELECT count(*) FROM account", &[])
                .await
                .unwrap();
            assert_eq!(rows.get::<_, i64>(0), 0, "a row was committed");
            let sql = "SELECT count(*) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            client.query_one(sql, &[]).await.unwrap().get(0)
        });
        Self {
            memory: field("VmRSS:"),
            threads: field("Threads:"),
            files: fs::read_dir("/proc/self/fd").unwrap().count(),
            backends,
        }
    }
}

fn main() {
    let argument = |index| {
        env::args()
            .nth(index)
            .map(|text| text.parse::<u64>().unwrap())
    };
    let minutes = argument(1).unwrap_or(30);
    let seed = argument(2).unwrap_or_else(rand::random);
    println!("{minutes} minutes, seed {seed}");
    println!("minute    tests   actions  RSS, KiB  threads  files  backends");
    let mut random = StdRng::seed_from_u64(seed);
    let (start, mut tests, mut actions) = (Instant::now(), 0_u64, 0);
    let mut first = None;
    for minute in 1..=minutes {
        while start.elapsed() < Duration::from_secs(minute * 60) {
            run::<Bank, _, _>("soak::random_load", async |_, live: &LiveServer| {
                actions += load(live, &mut random).await;
            });
            tests += 1;
        }
        let held = Held::now();
        println!(
            "{minute:>6} {tests:>8} {actions:>9} {:>9} {:>8} {:>6} {:>9}",
            held.memory, held.threads, held.files, held.backends
        );
        let first = first.get_or_insert(Held { ..held });
        assert!(held.memory < first.memory * 3 / 2, "memory grows");
        assert!(held.threads <= first.threads + 2, "threads are left behind");
        assert!(held.files <= first.files + 8, "files are left open");
        assert!(
            held.backends <= first.backends + 2,
            "backends are left behind"
        );
    }
}
