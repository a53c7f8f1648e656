//! The same application on a plain pool and on a shared one: its clients can't tell the difference, but nobody else ever
//! sees a row.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::thread;
use std::time::Duration;

use actix_shareddb::{
    __private::run, Config, LiveServer, LiveServerTestCase, Pool, Result, Schema,
};
use actix_web::dev::Server;
use actix_web::rt::System;
use actix_web::{App, HttpResponse, HttpServer, ResponseError, web};
use deadpool_postgres::Manager;
use futures_util::StreamExt as _;
use tokio::sync::{Notify, oneshot};
use tokio_postgres::NoTls;

use crate::stage::{self, Database};

// ---- The application ----

#[derive(Debug)]
struct Failure(String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl ResponseError for Failure {}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(match error.as_db_error() {
            Some(error) => format!("{} {}", error.code().code(), error.message()),
            None => error.to_string(),
        })
    }
}

impl From<deadpool_postgres::PoolError> for Failure {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self(error.to_string())
    }
}

type Answer = std::result::Result<HttpResponse, Failure>;

const INSERT: &str = "INSERT INTO audit VALUES ($1)";

async fn commit(pool: web::Data<Pool>) -> Answer {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    transaction.execute(INSERT, &[&"committed"]).await?;
    transaction.commit().await?;
    Ok(HttpResponse::Created().finish())
}

/// The second statement fails, and `?` drops the transaction.
async fn fail(pool: web::Data<Pool>) -> Answer {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    transaction.execute(INSERT, &[&"undone"]).await?;
    transaction
        .execute("INSERT INTO parent VALUES (1), (1)", &[])
        .await?;
    transaction.commit().await?;
    Ok(HttpResponse::Created().finish())
}

async fn fail_outside(pool: web::Data<Pool>) -> Answer {
    let client = pool.get().await?;
    client.execute(INSERT, &[&"before"]).await?;
    client
        .execute("INSERT INTO parent VALUES (1), (1)", &[])
        .await?;
    Ok(HttpResponse::Created().finish())
}

async fn nested(pool: web::Data<Pool>) -> Answer {
    let mut client = pool.get().await?;
    let mut outer = client.transaction().await?;
    outer.execute(INSERT, &[&"outer"]).await?;
    let inner = outer.transaction().await?;
    inner.execute(INSERT, &[&"inner"]).await?;
    let failed = inner.execute("SELECT 1 / 0", &[]).await;
    inner.rollback().await?;
    outer
        .execute(INSERT, &[&format!("{}", failed.is_err())])
        .await?;
    outer.commit().await?;
    Ok(HttpResponse::Created().finish())
}

/// One client's rows are read while another client writes for each.
async fn two_clients(pool: web::Data<Pool>) -> Answer {
    let reader = pool.get().await?;
    let writer = pool.get().await?;
    let rows = reader
        .query_raw(
            "SELECT n FROM generate_series(1, 2000) n",
            Vec::<i32>::new(),
        )
        .await?;
    let mut rows = pin!(rows);
    let mut written = 0;
    while let Some(row) = rows.next().await {
        let n: i32 = row?.get(0);
        if n % 400 == 0 {
            written += writer.execute(INSERT, &[&n.to_string()]).await?;
        }
    }
    Ok(HttpResponse::Ok().body(written.to_string()))
}

/// COMMIT and the like as plain SQL.
async fn by_hand(pool: web::Data<Pool>) -> Answer {
    let client = pool.get().await?;
    client
        .batch_execute("BEGIN; INSERT INTO audit VALUES ('by hand'); COMMIT")
        .await?;
    client.batch_execute("START TRANSACTION").await?;
    client.execute(INSERT, &[&"by hand, undone"]).await?;
    client.batch_execute("ROLLBACK; COMMIT").await?;
    Ok(HttpResponse::Created().finish())
}

/// The violation shows when the transaction is committed.
async fn deferred(pool: web::Data<Pool>) -> Answer {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    transaction
        .execute("INSERT INTO child VALUES (1, 999)", &[])
        .await?;
    transaction.commit().await?;
    Ok(HttpResponse::Created().finish())
}

async fn state(pool: web::Data<Pool>) -> Answer {
    let client = pool.get().await?;
    let rows = client
        .query("SELECT msg FROM audit ORDER BY msg", &[])
        .await?;
    let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(HttpResponse::Ok().body(rows.join(", ")))
}

fn serve(listener: TcpListener, pool: Pool) -> std::io::Result<Server> {
    let pool = web::Data::new(pool);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(pool.clone())
            .route("/commit", web::get().to(commit))
            .route("/fail", web::get().to(fail))
            .route("/fail-outside", web::get().to(fail_outside))
            .route("/nested", web::get().to(nested))
            .route("/two-clients", web::get().to(two_clients))
            .route("/by-hand", web::get().to(by_hand))
            .route("/deferred", web::get().to(deferred))
            .route("/state", web::get().to(state))
    });
    Ok(server.workers(2).disable_signals().listen(listener)?.run())
}

// ---- Side by side ----

/// What a client of the application gets to see.
async fn visit(address: SocketAddr) -> Vec<String> {
    let client = awc::Client::builder()
        .timeout(Duration::from_secs(30))
        .finish();
    let mut answers = Vec::new();
    for path in [
        "/commit",
        "/fail",
        "/fail-outside",
        "/nested",
        "/two-clients",
        "/by-hand",
        "/deferred",
        "/commit",
    ] {
        for path in [path, "/state"] {
            let mut response = client
                .get(format!("http://{address}{path}"))
                .send()
                .await
                .unwrap();
            let body = response.body().await.unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            answers.push(format!("{path}: {} {body}", response.status().as_u16()));
        }
    }
    answers
}

/// Serves from a thread of the server's own until it is told to stop.
async fn visit_with(pool: Pool) -> Vec<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let thread = thread::spawn(move || {
        System::new().block_on(async {
            let server = serve(listener, pool).unwrap();
            tokio::select! { ended = server => ended.unwrap(), _ = stopped => {} }
        });
    });
    let answers = visit(address).await;
    stop.send(()).unwrap();
    thread.join().unwrap();
    answers
}

#[actix_web::test]
async fn handlers_behave_as_on_a_plain_pool() {
    Database::with(stage::SCHEMA, async |database| {
        let count = async || -> i64 {
            let row = database
                .observer
                .query_one("SELECT count(*) FROM audit", &[])
                .await;
            row.unwrap().get(0)
        };
        let transaction = database.open().await;
        let shared = visit_with(transaction.pool().unwrap()).await;
        assert_eq!(
            count().await,
            0,
            "nobody else sees a row while the test runs"
        );
        transaction.rollback().await.unwrap();
        assert_eq!(count().await, 0, "nor afterwards");

        let manager = Manager::new(database.config.clone(), NoTls);
        let plain = visit_with(Pool::builder(manager).build().unwrap()).await;
        assert_eq!(shared, plain);
        assert_ne!(count().await, 0, "a plain pool does commit");
    })
    .await;
}

// ---- A request that is in flight when the test ends ----

static SLOW: (Notify, Notify) = (Notify::const_new(), Notify::const_new());

/// Writes, waits for longer than its test lives, and tries to write again.
async fn slow(pool: web::Data<Pool>) -> Answer {
    let client = pool.get().await?;
    client
        .execute("INSERT INTO slow VALUES ('first')", &[])
        .await?;
    SLOW.0.notify_one();
    SLOW.1.notified().await;
    client
        .execute("INSERT INTO slow VALUES ('second')", &[])
        .await?;
    Ok(HttpResponse::Created().finish())
}

#[derive(Default)]
struct Slow;

impl LiveServerTestCase for Slow {
    fn schema() -> Schema {
        Schema::sql("CREATE TABLE slow (v text)")
    }

    fn config() -> Config {
        Config::new().drain_timeout(Duration::from_secs(20))
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        let pool = web::Data::new(pool);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(pool.clone())
                .route("/slow", web::post().to(slow))
        });
        Ok(server.workers(1).disable_signals().listen(listener)?.run())
    }

    async fn tear_down(&mut self, _live: &LiveServer) -> Result<()> {
        // What the handler waits for comes when the gate has closed: the hook is the last thing before that.
        actix_web::rt::spawn(async { SLOW.1.notify_one() });
        Ok(())
    }
}

#[test]
fn a_request_in_flight_reaches_the_database_no_more() {
    let (tell, answer) = std::sync::mpsc::channel();
    run("it::slow", async |_: &mut Slow, live: &LiveServer| {
        let request = live.post("/slow").send();
        actix_web::rt::spawn(async move {
            let mut response = request.await.unwrap();
            let body = response.body().await.unwrap();
            let _ = tell.send(String::from_utf8_lossy(&body).into_owned());
        });
        SLOW.0.notified().await;
    });
    // It was let come to its end, but its second statement was refused.
    let answer = answer.recv().unwrap();
    assert!(
        answer.contains("57P01 the test has ended") || answer.contains("closed"),
        "{answer}"
    );

    run(
        "it::slow",
        async |_: &mut Slow, live: &LiveServer| -> Result<()> {
            let client = live.pool().get().await?;
            let row = client.query_one("SELECT count(*) FROM slow", &[]).await?;
            assert_eq!(row.get::<_, i64>(0), 0, "no row is left");
            Ok(())
        },
    );
}
