//! What a test, a transaction and a statement cost, each beside what it is compared with, in one run.
//!
//! `cargo bench --bench cost` uses `DATABASE_URL` or the embedded PostgreSQL. Both sides of a comparison take turns, so
//! that a change in the machine's speed hits both; the figures are medians, and the ratio is that of the medians.
//! `cargo bench --bench cost -- tests` runs one of its parts, which are `statements`, `transactions` and `tests`;
//! `-- soak` runs ten thousand transactions and prints what the process holds meanwhile.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops where something fails"
)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use actix_shareddb::__private::resolve;
use actix_shareddb::{
    Config, LiveServer, LiveServerTestCase, Pool, Result, Schema, SharedTransaction,
};
use actix_web::dev::Server;
use actix_web::rt::System;
use actix_web::{App, HttpResponse, HttpServer, web};
use deadpool_postgres::Manager;
use tokio::sync::oneshot;
use tokio_postgres::NoTls;

mod figures;
mod warm;

use figures::{compare, median, milliseconds};
use warm::Warm;

const SCHEMA: &str = "CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL); \
     INSERT INTO item (name) SELECT 'item ' || n FROM generate_series(1, 1000) n;";

fn main() {
    let is_asked_for = |part: &str| env::args().any(|argument| argument == part);
    if is_asked_for("soak") {
        return soak();
    }
    println!("medians; a ratio compares the two medians of one line\n");
    let parts: [(&str, fn()); 3] = [
        ("statements", statements),
        ("transactions", transactions),
        ("tests", tests),
    ];
    let all = !parts.iter().any(|(name, _)| is_asked_for(name));
    for (name, run) in parts {
        if all || is_asked_for(name) {
            run();
        }
    }
}

// ---- Statements, through the pool, from a handler ----

/// Runs statements one after the other, as a handler does, and answers how long one took, in nanoseconds.
async fn select(pool: web::Data<Pool>) -> HttpResponse {
    timed(&pool, "SELECT name FROM item WHERE id = $1").await
}

async fn insert(pool: web::Data<Pool>) -> HttpResponse {
    timed(
        &pool,
        "INSERT INTO item (id, name) VALUES (1000000 + nextval('item_id_seq'), 'x' || $1)",
    )
    .await
}

async fn timed(pool: &Pool, sql: &str) -> HttpResponse {
    let client = pool.get().await.unwrap();
    let statement = client.prepare_cached(sql).await.unwrap();
    let insert = sql.starts_with("INSERT");
    let start = Instant::now();
    for n in 0..STATEMENTS {
        if insert {
            client.execute(&statement, &[&n.to_string()]).await.unwrap();
        } else {
            client.query(&statement, &[&(n + 1)]).await.unwrap();
        }
    }
    HttpResponse::Ok().body((start.elapsed().as_nanos() / STATEMENTS as u128).to_string())
}

async fn get_one(pool: web::Data<Pool>) -> HttpResponse {
    let client = pool.get().await.unwrap();
    let statement = client
        .prepare_cached("SELECT name FROM item WHERE id = $1")
        .await
        .unwrap();
    let row = client.query_one(&statement, &[&1]).await.unwrap();
    HttpResponse::Ok().body(row.get::<_, String>(0))
}

async fn post_one(pool: web::Data<Pool>) -> HttpResponse {
    let client = pool.get().await.unwrap();
    let statement = client
        .prepare_cached("INSERT INTO item (name) VALUES ('new')")
        .await
        .unwrap();
    client.execute(&statement, &[]).await.unwrap();
    HttpResponse::Created().finish()
}

const STATEMENTS: i32 = 500;
const ROUNDS: usize = 31;

fn run(listener: TcpListener, pool: Pool) -> io::Result<Server> {
    let data = web::Data::new(pool);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/select", web::get().to(select))
            .route("/insert", web::get().to(insert))
            .route("/one", web::get().to(get_one))
            .route("/one", web::post().to(post_one))
    });
    Ok(server.workers(1).disable_signals().listen(listener)?.run())
}

/// A server on a thread of its own, with nothing around it.
struct Plain {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Plain {
    fn start(serve: impl FnOnce(TcpListener) -> Server + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            System::new().block_on(async move {
                let server = serve(listener);
                tokio::select! { _ = server => {}, _ = stopped => {} }
            });
        });
        Self {
            address,
            stop,
            thread,
        }
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

fn plain_pool(config: tokio_postgres::Config, begin: bool) -> Pool {
    let manager = Manager::new(config, NoTls);
    let builder = Pool::builder(manager).max_size(1);
    if !begin {
        return builder.build().unwrap();
    }
    builder
        .post_create(deadpool_postgres::Hook::async_fn(|client, _| {
            Box::pin(async move {
                client.batch_execute("BEGIN").await.unwrap();
                Ok(())
            })
        }))
        .build()
        .unwrap()
}

async fn body(client: &awc::Client, address: SocketAddr, path: &str) -> String {
    let url = format!("http://{address}{path}");
    let mut response = client
        .get(url)
        .timeout(Duration::from_secs(60))
        .send()
        .await
        .unwrap();
    String::from_utf8(response.body().await.unwrap().to_vec()).unwrap()
}

fn statements() {
    System::new().block_on(async {
        let (schema, config) = (Schema::sql(SCHEMA), Config::new().pool_max_size(1));
        let target = resolve(&schema, &config).await.unwrap();
        let client = awc::Client::default();
        let mut select = [const { Vec::new() }; 3];
        let mut insert = [const { Vec::new() }; 3];
        let mut request = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            // Whether the system puts a client and its backend on one processor or on two is a matter of luck, and makes
            // more of a difference than anything else. So the lots are drawn anew for each round.
            let transaction = SharedTransaction::open(&schema, &config).await.unwrap();
            let pools = [
                transaction.pool().unwrap(),
                plain_pool(target.clone(), false),
                plain_pool(target.clone(), true),
            ];
            for (index, pool) in pools.into_iter().enumerate() {
                let server = Plain::start(move |listener| run(listener, pool).unwrap());
                let nanoseconds = body(&client, server.address, "/select").await;
                select[index].push(nanoseconds.parse::<f64>().unwrap() / 1e3);
                // Nothing that a plain pool commits is wanted.
                if index != 1 {
                    let nanoseconds = body(&client, server.address, "/insert").await;
                    insert[index].push(nanoseconds.parse::<f64>().unwrap() / 1e3);
                }
                let start = Instant::now();
                for _ in 0..50 {
                    body(&client, server.address, "/one").await;
                }
                request[index].push(start.elapsed().as_secs_f64() * 1e6 / 50.0);
                server.stop();
            }
            transaction.rollback().await.unwrap();
        }
        compare(
            "prepared point select, us",
            "plain pool",
            &select[0],
            &select[1],
        );
        compare(
            "prepared point select, us",
            "plain pool in BEGIN",
            &select[0],
            &select[2],
        );
        compare(
            "single-row INSERT, us",
            "plain pool in BEGIN",
            &insert[0],
            &insert[2],
        );
        compare(
            "HTTP GET with one select, us",
            "plain pool",
            &request[0],
            &request[1],
        );
    });
}

// ---- Transactions ----

fn transactions() {
    System::new().block_on(async {
        let (schema, config) = (Schema::sql(SCHEMA), Config::new());
        let target = resolve(&schema, &config).await.unwrap();
        let (mut kept, mut fresh) = (Vec::new(), Vec::new());
        for _ in 0..301 {
            let start = Instant::now();
            let transaction = SharedTransaction::open(&schema, &config).await.unwrap();
            let pool = transaction.pool().unwrap();
            let client = pool.get().await.unwrap();
            client.batch_execute("SELECT 1").await.unwrap();
            transaction.rollback().await.unwrap();
            kept.push(milliseconds(start));
            let start = Instant::now();
            let (client, connection) = target.connect(NoTls).await.unwrap();
            let task = tokio::spawn(connection);
            client.batch_execute("BEGIN").await.unwrap();
            client.batch_execute("SELECT 1").await.unwrap();
            client.batch_execute("ROLLBACK").await.unwrap();
            drop(client);
            task.await.unwrap().unwrap();
            fresh.push(milliseconds(start));
        }
        compare(
            "open, SELECT 1, roll back, ms",
            "connect, the same, close",
            &kept,
            &fresh,
        );
    });
}

// ---- Whole tests ----

#[derive(Default)]
struct Items;

impl LiveServerTestCase for Items {
    fn schema() -> Schema {
        Schema::sql(SCHEMA)
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Ok(run(listener, pool)?)
    }
}

/// GET, POST, GET.
async fn whole_test(_case: &mut Items, live: &LiveServer) -> Result<()> {
    assert_eq!(live.get("/one").send().await?.body().await?, "item 1");
    assert_eq!(live.post("/one").send().await?.status(), 201);
    assert_eq!(live.get("/one").send().await?.body().await?, "item 1");
    Ok(())
}

/// The same requests to a server with nothing around it.
fn bare_test(serve: impl FnOnce(TcpListener) -> Server + Send + 'static) {
    System::new().block_on(async {
        let server = Plain::start(serve);
        let client = awc::Client::default();
        let url = format!("http://{}/one", server.address);
        let get = async || client.get(&url).send().await.unwrap().body().await.unwrap();
        assert_eq!(get().await, "item 1");
        assert_eq!(client.post(&url).send().await.unwrap().status(), 201);
        assert_eq!(get().await, "item 1");
        server.stop();
    });
}

/// The server without a database.
fn without_database(listener: TcpListener) -> Server {
    let server = HttpServer::new(|| {
        let get = web::get().to(async || HttpResponse::Ok().body("item 1"));
        let post = web::post().to(async || HttpResponse::Created().finish());
        App::new().route("/one", get).route("/one", post)
    });
    server
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run()
}

fn tests() {
    let [mut live, mut bare, mut floor] = [const { Vec::new() }; 3];
    let target = System::new().block_on(async {
        let (schema, config) = (Schema::sql(SCHEMA), Config::new());
        resolve(&schema, &config).await.unwrap()
    });
    let mut warm = Warm::connect(&target);
    for _ in 0..301 {
        let start = Instant::now();
        actix_shareddb::__private::run("cost::whole_test", whole_test);
        live.push(milliseconds(start));
        let start = Instant::now();
        bare_test(without_database);
        bare.push(milliseconds(start));
        let start = Instant::now();
        let pool = warm.pool();
        bare_test(|listener| run(listener, pool).unwrap());
        warm.start_over();
        floor.push(milliseconds(start));
    }
    compare("a whole test, ms", "bare actix server", &live, &bare);
    compare(
        "a whole test, ms",
        "made connection in BEGIN",
        &live,
        &floor,
    );
    println!("  difference: {:.2} ms", median(&live) - median(&bare));
}

// ---- Growth ----

fn soak() {
    println!(
        "{:>6}  {:>9}  {:>7}  {:>5}  {:>8}",
        "tests", "RSS, KiB", "threads", "files", "backends"
    );
    for test in 0..=10_000 {
        if test % 1_000 == 0 {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            let files = fs::read_dir("/proc/self/fd").unwrap().count();
            println!(
                "{test:>6}  {:>9}  {:>7}  {files:>5}  {:>8}",
                field("VmRSS:"),
                field("Threads:"),
                backends()
            );
        }
        System::new().block_on(async {
            let transaction = SharedTransaction::open(&Schema::sql(SCHEMA), &Config::new())
                .await
                .unwrap();
            let pool = transaction.pool().unwrap();
            let client = pool.get().await.unwrap();
            client
                .batch_execute("INSERT INTO item (name) VALUES ('x')")
                .await
                .unwrap();
            transaction.rollback().await.unwrap();
        });
    }
}

fn backends() -> i64 {
    System::new().block_on(async {
        let target = resolve(&Schema::sql(SCHEMA), &Config::new()).await.unwrap();
        let (client, connection) = target.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        client.query_one(sql, &[]).await.unwrap().get(0)
    })
}
