//! Statements that nobody awaits any more: they must not keep the others waiting.

use std::time::Duration;

use actix_shareddb::{
    __private, LiveServer, LiveServerTestCase, Pool, Result, SharedTransaction, live_server,
};
use actix_web::dev::Server;
use actix_web::web::{self, Data};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_postgres::{Client, Statement};

use crate::stage::{Database, SCHEMA, connect};
use crate::wire;

/// Nothing here takes this long, and what sleeps an hour ends in time only when it is cancelled.
const PATIENCE: Duration = Duration::from_secs(30);

/// A statement sleeps in this database.
const SLEEPS: &str = "SELECT count(*) = 1 FROM pg_stat_activity \
     WHERE datname = current_database() AND wait_event = 'PgSleep'";

/// Plays a test on a shared transaction, which must be sound at the end.
async fn shared(test: impl AsyncFnOnce(&Database, &SharedTransaction)) {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        timeout(PATIENCE, test(database, &transaction))
            .await
            .expect("what sleeps is cancelled");
        transaction.rollback().await.unwrap();
    })
    .await;
}

/// Inserts and sleeps in a block, until the server is seen to do so; then the future is dropped.
async fn give_up(database: &Database, client: &mut Client, sleep: &Statement, inserts: bool) {
    let work = async {
        let transaction = client.transaction().await.unwrap();
        if inserts {
            let insert = "INSERT INTO t(v) VALUES ('given up')";
            transaction.execute(insert, &[]).await.unwrap();
        }
        transaction.execute(sleep, &[]).await.unwrap();
        transaction.commit().await.unwrap();
    };
    tokio::select! {
        () = work => panic!("it has slept"),
        () = database.until(SLEEPS) => {}
    }
}

async fn rows(client: &Client) -> String {
    let sql = "SELECT coalesce(string_agg(v, ',' ORDER BY id), '') FROM t";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_statement_whose_future_was_dropped_is_cancelled_when_another_session_waits() {
    shared(async |database, transaction| {
        let pool = transaction.pool().unwrap();
        let mut a = pool.get().await.unwrap();
        let b = pool.get().await.unwrap();
        let sleep = a.prepare("SELECT pg_sleep(3600)").await.unwrap();
        let mut kept = String::new();
        // As the first statement of a block it moves the savepoint of what was acknowledged before.
        for (value, inserts) in [("1", false), ("2", true), ("3", false)] {
            a.execute("INSERT INTO t(v) VALUES ($1)", &[&value])
                .await
                .unwrap();
            kept = format!("{kept}{}{value}", if kept.is_empty() { "" } else { "," });
            give_up(database, &mut a, &sleep, inserts).await;
            assert_eq!(rows(&b).await, kept);
            // The client that gave up goes on, too.
            assert_eq!(rows(&a).await, kept);
        }
    })
    .await;
}

#[tokio::test]
async fn a_result_that_nobody_reads_does_not_hold_up_the_end() {
    // The first would be read to its end, and the second has none to speak of.
    for rows in ["10000", "1000000000000"] {
        let sql = format!("SELECT generate_series(1, {rows}), repeat('x', 1000)");
        Database::with(SCHEMA, async |database| {
            let transaction = database.open().await;
            let stream = __private::session(&transaction);
            let mut stalled = wire::Client::start(Box::new(stream), &database.config).await;
            stalled.send(&[wire::query(&sql)]).await.unwrap();
            stalled.next().await.unwrap();
            // Less than what is granted to a statement that runs.
            timeout(Duration::from_secs(4), transaction.rollback())
                .await
                .expect("nobody has to wait for it")
                .unwrap();
            drop(stalled);
        })
        .await;
    }
}

#[tokio::test]
async fn who_waits_already_is_served() {
    shared(async |database, transaction| {
        let pool = transaction.pool().unwrap();
        let mut a = pool.get().await.unwrap();
        let b = pool.get().await.unwrap();
        let sleep = a.prepare("SELECT pg_sleep(3600)").await.unwrap();
        let waits = tokio::spawn(async move {
            // It is sent while the other one sleeps, or before, when it doesn't have to wait.
            loop {
                assert_eq!(rows(&b).await, "");
                tokio::task::yield_now().await;
            }
        });
        for inserts in [true, false, true] {
            give_up(database, &mut a, &sleep, inserts).await;
            assert_eq!(rows(&a).await, "");
        }
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
    })
    .await;
}

#[tokio::test]
async fn a_block_within_the_block_is_given_up_with_it() {
    shared(async |database, transaction| {
        let pool = transaction.pool().unwrap();
        let mut a = pool.get().await.unwrap();
        let b = pool.get().await.unwrap();
        let work = async {
            let mut outer = a.transaction().await.unwrap();
            let inner = outer.transaction().await.unwrap();
            inner.batch_execute("SELECT pg_sleep(3600)").await.unwrap();
            inner.commit().await.unwrap();
            outer.commit().await.unwrap();
        };
        tokio::select! {
            () = work => panic!("it has slept"),
            () = database.until(SLEEPS) => {}
        }
        assert_eq!(rows(&b).await, "");
    })
    .await;
}

#[tokio::test]
async fn the_statement_of_a_client_that_has_gone_is_cancelled() {
    shared(async |database, transaction| {
        let pool = transaction.pool().unwrap();
        let a = deadpool_postgres::Object::take(pool.get().await.unwrap());
        let b = pool.get().await.unwrap();
        let sleeps =
            a.batch_execute("BEGIN; INSERT INTO t(v) VALUES ('gone'); SELECT pg_sleep(3600)");
        tokio::select! {
            _ = sleeps => panic!("it has slept"),
            () = database.until(SLEEPS) => {}
        }
        drop(a);
        assert_eq!(rows(&b).await, "");
    })
    .await;
}

#[tokio::test]
async fn it_is_cancelled_for_clients_of_the_socket_too() {
    shared(async |database, transaction| {
        let url = transaction.database_url().unwrap().parse().unwrap();
        let mut a = connect(&url).await;
        let b = connect(&url).await;
        let sleep = a.prepare("SELECT pg_sleep(3600)").await.unwrap();
        give_up(database, &mut a, &sleep, true).await;
        assert_eq!(rows(&b).await, "");
    })
    .await;
}

/// An application with a handler that sleeps in a transaction.
struct Sleepy {
    events: UnboundedSender<&'static str>,
    told: UnboundedReceiver<&'static str>,
}

impl Default for Sleepy {
    fn default() -> Self {
        let (events, told) = unbounded_channel();
        Self { events, told }
    }
}

impl Sleepy {
    async fn next_event(&mut self) -> &'static str {
        let event = timeout(PATIENCE, self.told.recv()).await;
        event.expect("it is told").expect("the server is there")
    }
}

impl LiveServerTestCase for Sleepy {
    async fn serve(&self, listener: std::net::TcpListener, pool: Pool) -> Result<Server> {
        let events = self.events.clone();
        let server = actix_web::HttpServer::new(move || {
            actix_web::App::new()
                .app_data(Data::new(pool.clone()))
                .app_data(Data::new(events.clone()))
                .route("/sleep", web::post().to(sleep))
                .route("/answer", web::get().to(answer))
        });
        Ok(server.workers(1).listen(listener)?.run())
    }
}

struct OnDrop(Data<UnboundedSender<&'static str>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send("given up");
    }
}

async fn sleep(pool: Data<Pool>, events: Data<UnboundedSender<&'static str>>) -> String {
    let mut client = pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let _given_up = OnDrop(events.clone());
    events.send("sleeps").unwrap();
    transaction
        .batch_execute("CREATE TABLE given_up (); SELECT pg_sleep(3600)")
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    "slept".to_owned()
}

async fn answer(pool: Data<Pool>) -> String {
    let sql = "SELECT count(*) FROM pg_tables WHERE tablename = 'given_up'";
    let row = pool.get().await.unwrap().query_one(sql, &[]).await.unwrap();
    format!("{} tables", row.get::<_, i64>(0))
}

live_server! {
    impl Sleepy {
        /// Its client resets the connection, so the server drops the handler's future.
        async fn an_http_request_that_its_client_gave_up_holds_up_nobody(&mut self, live: &LiveServer) -> Result<()> {
            let mut client = TcpStream::connect(live.addr()).await.unwrap();
            let request = "POST /sleep HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
            client.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(self.next_event().await, "sleeps");
            client.set_zero_linger().unwrap();
            drop(client);
            assert_eq!(self.next_event().await, "given up");
            let mut response = live.get("/answer").timeout(PATIENCE).send().await?;
            assert_eq!(response.body().await?, "0 tables");
            Ok(())
        }
    }
}
