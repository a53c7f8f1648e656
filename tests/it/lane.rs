//! The committed lane: what one transaction can't show, by the same trait and macro.

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use actix_shareddb::__private::{run, run_in};
use actix_shareddb::{
    Config, Isolation, LiveServer, LiveServerTestCase, Pool, Result, Schema, SharedTransaction,
    TestDatabase, assert_num_queries, live_server,
};
use actix_web::dev::Server;
use actix_web::web::Data;
use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::poll_fn;
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, IsolationLevel, NoTls};

use crate::live::failures::child;

const SCHEMA: &str = "
    CREATE TABLE note (id serial PRIMARY KEY, text text NOT NULL);
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_notify('notes', NEW.text); RETURN NEW; END $$;
    CREATE TRIGGER told AFTER INSERT ON note FOR EACH ROW EXECUTE FUNCTION tell();
    CREATE PROCEDURE in_two_steps() LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO note (text) VALUES ('one'); COMMIT; INSERT INTO note (text) VALUES ('two'); END $$;";

#[derive(Default)]
struct Notes;

impl LiveServerTestCase for Notes {
    fn schema() -> Schema {
        Schema::sql(SCHEMA)
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        let data = Data::new(pool);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/notes/{text}", web::post().to(post_note))
        });
        Ok(server.workers(1).listen(listener)?.run())
    }
}

async fn post_note(pool: Data<Pool>, text: web::Path<String>) -> HttpResponse {
    let client = pool.get().await.unwrap();
    let insert = "INSERT INTO note (text) VALUES ($1)";
    client.execute(insert, &[&*text]).await.unwrap();
    HttpResponse::Created().finish()
}

/// A client of somebody else's, with the notifications that it gets.
async fn stranger(url: &str) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(note) = message {
                // Nobody listens when the test has failed.
                let _ = sender.send(note.payload().to_owned());
            }
        }
    });
    (client, receiver)
}

async fn count(client: &Client) -> i64 {
    client
        .query_one("SELECT count(*) FROM note", &[])
        .await
        .unwrap()
        .get(0)
}

live_server! {
    impl Notes {
        #[isolation(Database)]
        async fn what_the_application_commits_is_committed(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.isolation(), Isolation::Database);
            assert_eq!(live.post("/notes/milk").send().await?.status(), 201);
            let (stranger, _) = stranger(&live.database_url()?).await;
            assert_eq!(count(&stranger).await, 1);
            Ok(())
        }

        /// The same number of rows, whichever of the two runs first.
        #[isolation(Database)]
        async fn nothing_is_left_of_another_test(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.post("/notes/bread").send().await?.status(), 201);
            assert_eq!(count(&**live.pool().get().await?).await, 1);
            Ok(())
        }

        /// Eight lines of documentation are looked through at once, and the attribute is found behind them,
        /// and between others.
        ///
        /// One,
        /// two,
        /// three,
        /// four,
        /// five,
        /// six.
        #[should_panic(expected = "not in a transaction")]
        #[isolation(Database)]
        #[allow(clippy::panic, reason = "an attribute behind it")]
        async fn an_attribute_stands_among_others(&self, live: &LiveServer) {
            assert_eq!(live.isolation(), Isolation::Transaction, "not in a transaction");
        }

        #[isolation(Transaction)]
        async fn a_test_stays_in_the_transaction_if_it_says_so(&self, live: &LiveServer) {
            assert_eq!(live.isolation(), Isolation::Transaction);
        }

        #[isolation(Database)]
        async fn a_trigger_notifies(&mut self, live: &LiveServer) -> Result<()> {
            let (stranger, mut notes) = stranger(&live.database_url()?).await;
            stranger.batch_execute("LISTEN notes").await?;
            live.post("/notes/heard").send().await?;
            assert_eq!(notes.recv().await.unwrap(), "heard");
            Ok(())
        }

        #[isolation(Database)]
        async fn what_cannot_run_in_a_transaction_runs(&mut self, live: &LiveServer) -> Result<()> {
            let client = live.pool().get().await?;
            client.batch_execute("CREATE INDEX CONCURRENTLY ON note (text)").await?;
            client.batch_execute("VACUUM note").await?;
            client.batch_execute("CALL in_two_steps()").await?;
            assert_eq!(count(&client).await, 2);
            Ok(())
        }

        #[isolation(Database)]
        async fn a_serializable_transaction_fails_to_serialize(&mut self, live: &LiveServer) -> Result<()> {
            let (mut one, mut other) = (live.pool().get().await?, live.pool().get().await?);
            let level = IsolationLevel::Serializable;
            let one = one.build_transaction().isolation_level(level).start().await?;
            let other = other.build_transaction().isolation_level(level).start().await?;
            let sql = "INSERT INTO note (text) SELECT count(*)::text FROM note";
            one.execute(sql, &[]).await?;
            other.execute(sql, &[]).await?;
            one.commit().await?;
            let refused = other.commit().await.unwrap_err();
            assert_eq!(refused.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
            Ok(())
        }

        #[isolation(Database)]
        async fn a_checkpoint_needs_the_transaction(&mut self, live: &LiveServer) -> Result<()> {
            let refused = live.checkpoint().await.unwrap_err();
            assert_eq!(
                format!("{refused:?}"),
                "queries, checkpoints and faults are those of a shared transaction, and this test has a database of its own\n  \
                 help: write `#[isolation(Transaction)]` above the test"
            );
            Ok(())
        }

        #[ignore = "fails on purpose, under `what_needs_the_transaction_panics_in_the_test`"]
        #[isolation(Database)]
        async fn asks_for_what_only_the_transaction_has(&mut self, live: &LiveServer) -> Result<()> {
            let response = live.post("/notes/milk").send().await?;
            let panics = |ask: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(ask)).is_err());
            panics(&|| drop(live.queries()));
            panics(&|| drop(live.capture_queries(async {})));
            panics(&|| drop(live.queries_of(&response)));
            panics(&|| drop(live.faults()));
            panics(&|| assert_num_queries!(live, 0, ()));
            Err(actix_shareddb::Error::other("so that the output is shown"))
        }

        /// A lock that a test waits for in vain is its own.
        #[isolation(Database)]
        async fn a_wait_for_a_lock_ends(&mut self, live: &LiveServer) -> Result<()> {
            let client = live.pool().get().await?;
            let timeout: String = client.query_one("SHOW lock_timeout", &[]).await?.get(0);
            assert_eq!(timeout, "5s");
            Ok(())
        }
    }
}

#[test]
fn what_needs_the_transaction_panics_in_the_test() {
    let (_, printed) = child("lane::asks_for_what_only_the_transaction_has");
    let words = "queries, checkpoints and faults are those of a shared transaction, and this test has a database of its own; \
                 write `#[isolation(Transaction)]` above the test";
    assert_eq!(printed.matches(words).count(), 5, "{printed}");
    // And once for the test's own failure.
    let place = "panicked at tests/it/lane.rs:";
    assert_eq!(printed.matches(place).count(), 6, "{printed}");
}

/// All tests of a case.
#[derive(Default)]
struct Committed;

impl LiveServerTestCase for Committed {
    fn schema() -> Schema {
        Schema::sql(SCHEMA)
    }

    fn config() -> Config {
        Config::new()
            .isolation(Isolation::Database)
            .pool_max_size(3)
    }

    async fn prepare(&mut self, pool: &Pool) -> Result<()> {
        let client = pool.get().await?;
        client
            .batch_execute("INSERT INTO note (text) VALUES ('prepared')")
            .await?;
        Ok(())
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Notes.serve(listener, pool).await
    }
}

live_server! {
    impl Committed {
        async fn a_case_asks_for_databases(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.isolation(), Isolation::Database);
            assert_eq!(count(&**live.pool().get().await?).await, 1);
            assert_eq!(live.pool().status().max_size, 3);
            Ok(())
        }

        #[isolation(Transaction)]
        async fn a_test_of_it_asks_for_the_transaction(&mut self, live: &LiveServer) -> Result<()> {
            assert_eq!(live.isolation(), Isolation::Transaction);
            assert_eq!(count(&**live.pool().get().await?).await, 1);
            Ok(())
        }
    }
}

/// Whether a database of a test is still there.
fn is_there(url: &str) -> bool {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        match tokio_postgres::connect(url, NoTls).await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(
                    error.code(),
                    Some(&SqlState::INVALID_CATALOG_NAME),
                    "{error}"
                );
                false
            }
        }
    })
}

#[test]
fn the_database_is_dropped_at_the_end_whatever_happens() {
    let mut url = String::new();
    run("it::lane", async |_: &mut Committed, live: &LiveServer| {
        url = live.database_url().unwrap();
        // In flight when the test ends.
        actix_web::rt::spawn(live.post("/notes/late").send());
    });
    assert!(!is_there(&url));

    let (sender, receiver) = std::sync::mpsc::channel();
    let failed = catch_unwind(|| {
        run(
            "it::lane",
            async |_: &mut Committed, live: &LiveServer| -> () {
                sender.send(live.database_url().unwrap()).unwrap();
                panic!("oh no");
            },
        );
    });
    assert!(failed.is_err());
    assert!(!is_there(&receiver.recv().unwrap()));
}

/// Keeps what failed.
#[derive(Default)]
struct Kept;

impl LiveServerTestCase for Kept {
    fn schema() -> Schema {
        Schema::sql(SCHEMA)
    }

    fn config() -> Config {
        Config::new().keep_on_failure(true)
    }

    async fn serve(&self, listener: TcpListener, pool: Pool) -> Result<Server> {
        Notes.serve(listener, pool).await
    }
}

#[test]
fn a_database_is_kept_if_it_is_asked_for_and_the_test_has_failed() {
    let test = |fails: bool| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let outcome = catch_unwind(|| {
            run_in(
                Some(Isolation::Database),
                "it::kept",
                async |_: &mut Kept, live: &LiveServer| {
                    sender.send(live.database_url().unwrap()).unwrap();
                    match fails {
                        true => Err("oh no"),
                        false => Ok(()),
                    }
                },
            );
        });
        (receiver.recv().unwrap(), outcome)
    };
    let (url, passed) = test(false);
    assert!(passed.is_ok());
    assert!(!is_there(&url));

    let (url, failed) = test(true);
    let words = failed.unwrap_err();
    let words = words.downcast_ref::<String>().unwrap();
    let (_, name) = url.split_once("shareddb_lane_").unwrap();
    let name = format!("shareddb_lane_{}", name.split('?').next().unwrap());
    assert!(
        words.contains(&format!("the test's database was kept as {name}")),
        "{words}"
    );
    let (_, command) = words.split_once("psql '").unwrap();
    let told = command.split('\'').next().unwrap();
    assert!(is_there(told));
    // Nobody wants to look at this one.
    let (_, command) = words
        .split_once("\nto drop it:\n  psql '")
        .expect("how to drop it is told");
    let (url, drop) = command.split_once("' -c '").expect("a command");
    let drop = drop.split('\'').next().unwrap();
    assert_eq!(drop, format!("DROP DATABASE {name}"));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (client, _) = stranger(url).await;
        client.batch_execute(drop).await.unwrap();
    });
    assert!(!is_there(told));
}

#[tokio::test]
async fn it_serves_without_a_server_of_ours_too() {
    let schema = Schema::sql(SCHEMA);
    let committed = Config::new()
        .isolation(Isolation::Database)
        .lock_timeout(Duration::from_secs(7));
    for (config, isolation) in [
        (committed, Isolation::Database),
        (
            Config::new().isolation(Isolation::Transaction),
            Isolation::Transaction,
        ),
    ] {
        let database = TestDatabase::open(&schema, &config).await.unwrap();
        assert_eq!(database.isolation(), isolation);
        let client = database.pool().unwrap().get().await.unwrap();
        client
            .batch_execute("INSERT INTO note (text) VALUES ('x')")
            .await
            .unwrap();
        let (stranger, _) = stranger(&database.database_url().unwrap()).await;
        assert_eq!(count(&stranger).await, 1);
        drop(client);
        drop(stranger);
        database.end().await.unwrap();
    }
}

/// Both at once on one schema: the lane's template has no other users.
#[tokio::test]
async fn shared_transactions_and_databases_go_together() {
    let schema = Schema::sql(SCHEMA);
    let committed = Config::new().isolation(Isolation::Database);
    let shared = SharedTransaction::open(&schema, &Config::new())
        .await
        .unwrap();
    let client = shared.pool().unwrap().get().await.unwrap();
    client
        .batch_execute("INSERT INTO note (text) VALUES ('shared')")
        .await
        .unwrap();
    let own = TestDatabase::open(&schema, &committed).await.unwrap();
    assert_eq!(count(&own.pool().unwrap().get().await.unwrap()).await, 0);
    own.end().await.unwrap();
    assert_eq!(count(&client).await, 1);
    drop(client);
    shared.rollback().await.unwrap();
}
