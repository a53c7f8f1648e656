//! What a test is told of how its application uses the database.

use std::net::TcpListener;
use std::thread;

use actix_shareddb::__private::run;
use actix_shareddb::{
    Config, Hint, LiveServer, LiveServerTestCase, Pool, Result, Schema, live_server,
};
use actix_web::dev::Server;
use actix_web::web::{Data, get};
use actix_web::{App, HttpResponse, HttpServer};
use tokio::sync::Notify;

use crate::live::failures::child;

/// Denies all of them, or tells of them.
#[derive(Default)]
struct Hinted<const DENIES: bool>;

impl<const DENIES: bool> LiveServerTestCase for Hinted<DENIES> {
    fn schema() -> Schema {
        Schema::sql("CREATE TABLE h (v int)")
    }

    fn config() -> Config {
        Hint::ALL
            .iter()
            .fold(Config::new(), |config, &hint| match DENIES {
                true => config.deny(hint),
                false => config.hint(hint),
            })
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(Data::new(pool.clone()))
                .route("/good", get().to(good))
                .route("/repeated", get().to(repeated))
                .route("/unguarded", get().to(unguarded))
                .route("/second", get().to(second))
                .route("/late", get().to(late))
                .route("/left", get().to(left))
        });
        Ok(server.workers(1).listen(listener)?.run())
    }
}

/// As it should be: three of a kind, writes in a block, a block that is rolled back when it is dropped.
async fn good(pool: Data<Pool>) -> HttpResponse {
    let mut client = pool.get().await.unwrap();
    for _ in 0..3 {
        client.execute("SELECT 1", &[]).await.unwrap();
    }
    client
        .batch_execute("INSERT INTO h VALUES (1); INSERT INTO h VALUES (2)")
        .await
        .unwrap();
    client
        .execute("UPDATE h SET v = 3 WHERE false", &[])
        .await
        .unwrap();
    let transaction = client.transaction().await.unwrap();
    for _ in 0..2 {
        transaction
            .execute("INSERT INTO h VALUES ($1)", &[&1])
            .await
            .unwrap();
    }
    HttpResponse::Ok().finish()
}

async fn repeated(pool: Data<Pool>) -> HttpResponse {
    let client = pool.get().await.unwrap();
    for value in 0..4 {
        client
            .query("SELECT v FROM h WHERE v = $1", &[&value])
            .await
            .unwrap();
    }
    HttpResponse::Ok().finish()
}

async fn unguarded(pool: Data<Pool>) -> HttpResponse {
    let client = pool.get().await.unwrap();
    client
        .execute("INSERT INTO h VALUES (1)", &[])
        .await
        .unwrap();
    client.execute("UPDATE h SET v = 2", &[]).await.unwrap();
    HttpResponse::Ok().finish()
}

async fn second(pool: Data<Pool>) -> HttpResponse {
    let mut client = pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    // It has not begun to do anything, so that the other one isn't in its way here.
    let other = pool.get().await.unwrap();
    other.execute("SELECT 2", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    HttpResponse::Ok().finish()
}

/// Lets the handler below go on when nothing is awaited.
static GO_ON: Notify = Notify::const_new();

async fn late(pool: Data<Pool>) -> HttpResponse {
    let client = pool.get().await.unwrap();
    client.batch_execute("BEGIN; SELECT 'early'").await.unwrap();
    actix_web::rt::spawn(async move {
        GO_ON.notified().await;
        client.batch_execute("COMMIT").await.unwrap();
    });
    HttpResponse::Ok().finish()
}

async fn left(pool: Data<Pool>) -> HttpResponse {
    let client = pool.get().await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    HttpResponse::Ok().finish()
}

/// What the test fails with.
fn failure(
    test: impl AsyncFnOnce(&mut Hinted<true>, &LiveServer) -> Result<()> + Send + 'static,
) -> String {
    let outcome = thread::spawn(|| run("it::a_test", test)).join();
    *outcome
        .expect_err("the test passed")
        .downcast::<String>()
        .unwrap()
}

#[test]
fn what_is_denied_fails_the_test() {
    for (paths, expected) in [
        (
            &["/repeated"][..],
            "denied, GET /repeated: the same statement 4 times: SELECT v FROM h WHERE v = $1 (RepeatedStatement)",
        ),
        (
            &["/unguarded"],
            "denied, GET /unguarded: two writes that aren't in one transaction: INSERT INTO h VALUES (1) and \
             UPDATE h SET v = 2 (UnguardedWrites)",
        ),
        (
            &["/second"],
            "denied, GET /second: session 1 is in a transaction block, and session 2 runs: SELECT 2 (SecondConnection)",
        ),
        (
            &["/left", "/left"],
            "denied, GET /left: session 1 was left in a transaction block, and the next request ran: BEGIN (LeftInBlock)",
        ),
    ] {
        let message = failure(async move |_, live| {
            for path in paths {
                live.get(path).send().await?;
            }
            Ok(())
        });
        assert_eq!(message, expected);
    }
}

#[test]
fn a_block_that_goes_on_after_the_response_is_denied() {
    let message = failure(async |_, live| {
        live.get("/late").send().await?;
        GO_ON.notify_one();
        while live
            .queries()
            .last()
            .is_none_or(|query| query.sql() != "COMMIT")
        {
            tokio::task::yield_now().await;
        }
        Ok(())
    });
    assert_eq!(
        message,
        "denied, GET /late: after the response, in its transaction block: COMMIT (OpenAcrossResponse)"
    );
}

live_server! {
    impl Hinted<true> {
        async fn what_is_good_is_not_denied(&self, live: &LiveServer) -> Result<()> {
            for _ in 0..3 {
                live.get("/good").send().await?;
            }
            Ok(())
        }
    }

    impl Hinted<false> {
        #[ignore = "runs under `hints_are_printed`"]
        async fn gives_hints(&self, live: &LiveServer) -> Result<()> {
            live.get("/unguarded").send().await?;
            live.get("/repeated").send().await?;
            Err(actix_shareddb::Error::other("so that the output is shown"))
        }

        #[ignore = "runs under `that_nothing_is_looked_for_is_printed`"]
        #[isolation(Database)]
        async fn gives_no_hints(&self, live: &LiveServer) -> Result<()> {
            live.get("/unguarded").send().await?;
            live.get("/repeated").send().await?;
            Err(actix_shareddb::Error::other("so that the output is shown"))
        }
    }
}

#[test]
fn that_nothing_is_looked_for_is_printed() {
    let (_, printed) = child("hints::gives_no_hints");
    let line = "Config::hint and Config::deny look for nothing in this test: they need a shared transaction, and it has a \
                database of its own";
    assert_eq!(printed.matches(line).count(), 1, "{printed}");
    assert!(!printed.contains("hint, "), "{printed}");
}

#[test]
fn hints_are_printed() {
    let (_, printed) = child("hints::gives_hints");
    let hints: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("hint, "))
        .collect();
    assert_eq!(
        hints,
        [
            "hint, GET /unguarded: two writes that aren't in one transaction: INSERT INTO h VALUES (1) and \
             UPDATE h SET v = 2 (UnguardedWrites)",
            "hint, GET /repeated: the same statement 4 times: SELECT v FROM h WHERE v = $1 (RepeatedStatement)",
        ]
    );
}
