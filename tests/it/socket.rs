//! Other clients, over the socket: good ones, bad ones, and ones that cancel.

use std::time::Duration;

use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, SharedTransaction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::programs::{output, psql, run};
use crate::stage::{Database, connect};
use crate::wire;

/// Nothing here takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const SCHEMA: &str = "CREATE TABLE t (id serial PRIMARY KEY, v text UNIQUE)";

/// Plays a test on a shared transaction, which is rolled back after it and must leave nothing.
pub(crate) async fn shared(test: impl AsyncFnOnce(&SharedTransaction)) {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        test(&transaction).await;
        transaction.rollback().await.unwrap();
        let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
        assert_eq!(count(&database.observer, tables).await, 1);
        assert_eq!(count(&database.observer, "SELECT count(*) FROM t").await, 0);
    })
    .await;
}

pub(crate) async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// A client of another driver's making, as far as the server can tell.
async fn outsider(transaction: &SharedTransaction) -> Client {
    connect(&transaction.database_url().unwrap().parse().unwrap()).await
}

/// A pool as an application in another process has it: its clients connect over TCP.
fn pool_over_tcp(config: tokio_postgres::Config) -> Pool {
    use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
    let recycling_method = RecyclingMethod::Clean;
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
    Pool::builder(manager).max_size(3).build().unwrap()
}

/// What the clients of a pool get, one after the other and several at once.
async fn work_of_a_pool(pool: &Pool) -> Vec<String> {
    let mut seen = Vec::new();
    let insert = "INSERT INTO t (v) VALUES ($1)";
    for (value, is_kept) in [("a", true), ("b", false), ("c", true)] {
        let mut client = pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let statement = transaction.prepare_cached(insert).await.unwrap();
        transaction.execute(&statement, &[&value]).await.unwrap();
        if is_kept {
            transaction.commit().await.unwrap();
        }
    }
    let many = (0..12).map(async |number: i32| {
        let mut client = pool.get().await.unwrap();
        let mut transaction = client.transaction().await.unwrap();
        let value = number.to_string();
        let statement = transaction.prepare_cached(insert).await.unwrap();
        transaction.execute(&statement, &[&value]).await.unwrap();
        let nested = transaction.transaction().await.unwrap();
        let again = nested.execute(&statement, &[&value]).await;
        let code = again.unwrap_err().code().unwrap().code().to_owned();
        nested.rollback().await.unwrap();
        if number % 3 == 0 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
        }
        format!("{number} {code}")
    });
    seen.extend(futures_util::future::join_all(many).await);
    let client = pool.get().await.unwrap();
    let list = client.prepare_cached("SELECT v FROM t ORDER BY v").await;
    let rows = client.query(&list.unwrap(), &[]).await.unwrap();
    seen.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    assert_eq!(pool.status().size, 3);
    seen
}

#[tokio::test]
async fn a_pool_of_another_process_works_as_on_a_plain_server() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let url = transaction.database_url().unwrap();
        let shared = work_of_a_pool(&pool_over_tcp(url.parse().unwrap())).await;
        transaction.rollback().await.unwrap();
        let plain = work_of_a_pool(&pool_over_tcp(database.config.clone())).await;
        assert_eq!(shared, plain);
        assert_eq!(shared.len(), 12 + 2 + 8);
    })
    .await;
}

#[tokio::test]
async fn a_cancel_ends_the_statement_of_its_own_session_alone() {
    shared(async |transaction| {
        let a = outsider(transaction).await;
        let b = outsider(transaction).await;
        a.execute("INSERT INTO t (v) VALUES ('before')", &[])
            .await
            .unwrap();

        let token = a.cancel_token();
        let sleeps = a.batch_execute("INSERT INTO t (v) VALUES ('cancelled'); SELECT pg_sleep(60)");
        let waits = b.execute("INSERT INTO t (v) VALUES ('b')", &[]);
        let cancels = async {
            // It does nothing until the statement runs, as with PostgreSQL.
            loop {
                token.cancel_query(NoTls).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (slept, waited) = timeout(PATIENCE, async {
            tokio::select! {
                both = async { tokio::join!(sleeps, waits) } => both,
                () = cancels => unreachable!(),
            }
        })
        .await
        .expect("the statement is cancelled");
        assert_eq!(slept.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
        assert_eq!(waited.unwrap(), 1);

        a.execute("INSERT INTO t (v) VALUES ('after')", &[])
            .await
            .unwrap();
        let row = b
            .query_one("SELECT string_agg(v, ',' ORDER BY id) FROM t", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, String>(0), "before,b,after");
    })
    .await;
}

#[tokio::test]
async fn a_storm_of_cancels_undoes_nothing_that_was_acknowledged() {
    shared(async |transaction| {
        let a = outsider(transaction).await;
        let b = outsider(transaction).await;
        let token = a.cancel_token();
        let mut kept = 0;
        let mut cancelled = 0;
        let work = async {
            // What is over in no time is where a cancel comes late, and what takes some is where it hits.
            let brief = "INSERT INTO t (v) VALUES (NULL)";
            let longer = "INSERT INTO t (v) SELECT NULL FROM pg_sleep(0.003)";
            let both = [
                (brief, true),
                (longer, true),
                (brief, false),
                (longer, false),
            ];
            for (sql, is_simple) in both.into_iter().cycle().take(400) {
                let one = async {
                    match is_simple {
                        true => a.batch_execute(sql).await,
                        false => a.execute(sql, &[]).await.map(drop),
                    }
                };
                let (one, other) = tokio::join!(one, b.execute(brief, &[]));
                other.expect("nobody cancels this session");
                kept += 1;
                match one {
                    Ok(()) => kept += 1,
                    Err(error) => {
                        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error:?}");
                        cancelled += 1;
                    }
                }
            }
        };
        let storm = async {
            loop {
                token.cancel_query(NoTls).await.unwrap();
            }
        };
        let both = async {
            tokio::select! {
                () = work => {}
                () = storm => unreachable!(),
            }
        };
        timeout(PATIENCE, both)
            .await
            .expect("the work comes to an end");
        assert_eq!(count(&b, "SELECT count(*) FROM t").await, kept);
        assert!(cancelled > 0, "no cancel has hit anything");
    })
    .await;
}

#[tokio::test]
async fn who_is_no_guest_is_turned_away() {
    shared(async |transaction| {
        let url = transaction.database_url().unwrap();
        let good: tokio_postgres::Config = url.parse().unwrap();
        let user = good.get_user().unwrap();
        let mut wrong_password = good.clone();
        wrong_password.password("guess");
        let mut wrong_database = good.clone();
        wrong_database.dbname("nowhere");
        for (config, code, text) in [
            (
                wrong_password,
                SqlState::INVALID_PASSWORD,
                format!("password authentication failed for user \"{user}\""),
            ),
            (
                wrong_database,
                SqlState::INVALID_CATALOG_NAME,
                "database \"nowhere\" does not exist".to_owned(),
            ),
        ] {
            let Err(error) = config.connect(NoTls).await else {
                panic!("it was let in");
            };
            let error = error.as_db_error().unwrap();
            assert_eq!(
                (error.severity(), error.code(), error.message()),
                ("FATAL", &code, &text[..])
            );
        }
        let mut stranger = good.clone();
        stranger.user("somebody else");
        let client = connect(&stranger).await;
        let row = client
            .query_one("SELECT session_user::text", &[])
            .await
            .unwrap();
        assert_eq!(
            row.get::<_, &str>(0),
            user,
            "everybody is the user of the one connection"
        );

        let mut sjis = psql(&url);
        sjis.env("PGCLIENTENCODING", "SJIS")
            .args(["-c", "SELECT 1"]);
        let refused = run(sjis).await;
        assert_eq!(refused.status.code(), Some(2));
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert!(
            errors.contains("the client encoding SJIS can't be used in a shared transaction"),
            "{errors}"
        );
    })
    .await;
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    shared(async |transaction| {
        let url = transaction.database_url().unwrap();
        let config: tokio_postgres::Config = url.parse().unwrap();
        let address = ("127.0.0.1", config.get_ports()[0]);
        let worker = outsider(transaction).await;
        worker
            .batch_execute("BEGIN; INSERT INTO t (v) VALUES ('undisturbed')")
            .await
            .unwrap();

        for garbage in [
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            &[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3],
            &[255; 10_000],
            &[0; 10_000],
            b"\0\0",
            b"\0\0\0\x20\0\x03\0\0user\0",
            // Protocols 2.0, 4.0 and an absurd one, and lengths that can't be.
            b"\0\0\0\x08\0\x02\0\0",
            b"\0\0\0\x08\0\x04\0\0",
            b"\0\0\0\x08\x7f\xff\x7f\xff",
            b"\0\0\0\x07\0\x03\0",
            b"\x80\0\0\x08\0\x03\0\0",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            stream.shutdown().await.unwrap();
            end_of(&mut stream).await;
        }

        let oversized = [&b"Q"[..], &u32::MAX.to_be_bytes(), b"SELECT 1\0"].concat();
        let half = b"Q\0\0\0\x40DELETE FROM t".to_vec();
        for (sent, told) in [
            (oversized, "invalid message length"),
            (vec![b'Q', 0, 0, 0, 3], "invalid message length"),
            (vec![b'Q', 0x80, 0, 0, 0], "invalid message length"),
            // What is sent for it is a little longer, and the server takes no more than that.
            (vec![b'B', 0x3f, 0xff, 0xff, 0xfe], "invalid message length"),
            (vec![b'S', 0, 1, 0, 0], "invalid message length"),
            (vec![b'p', 0, 0, 0, 4], "invalid frontend message type"),
            (vec![0; 100], "invalid frontend message type"),
            (half, ""),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            log_in(&mut stream, &config).await;
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
            let last = end_of(&mut stream).await;
            assert!(last.contains(told), "{last}");
        }

        worker.batch_execute("COMMIT").await.unwrap();
        assert_eq!(count(&worker, "SELECT count(*) FROM t").await, 1);
    })
    .await;
}

/// Reads up to ReadyForQuery, having told the password.
async fn log_in(stream: &mut TcpStream, config: &tokio_postgres::Config) {
    let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for text in [
        "user",
        "alice",
        "database",
        config.get_dbname().unwrap(),
        "",
    ] {
        startup.extend(text.as_bytes());
        startup.push(0);
    }
    startup[3] = u8::try_from(startup.len()).unwrap();
    stream.write_all(&startup).await.unwrap();
    let password = config.get_password().unwrap();
    let mut answer = vec![b'p', 0, 0, 0, u8::try_from(password.len() + 5).unwrap()];
    answer.extend(password);
    answer.push(0);
    stream.write_all(&answer).await.unwrap();
    while read_message(stream).await != b'Z' {}
}

async fn read_message(stream: &mut TcpStream) -> u8 {
    let tag = stream.read_u8().await.unwrap();
    let length = stream.read_u32().await.unwrap() as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await.unwrap();
    tag
}

/// What the server says before it closes the connection.
async fn end_of(stream: &mut TcpStream) -> String {
    let mut last = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut last)).await;
    let read = read.expect("the connection is closed");
    read.expect("it is closed in order");
    String::from_utf8_lossy(&last).into_owned()
}

#[tokio::test]
async fn at_the_end_clients_are_told_and_the_socket_closes() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let config: tokio_postgres::Config = transaction.database_url().unwrap().parse().unwrap();
        let address = ("127.0.0.1", config.get_ports()[0]);
        let mut stream = TcpStream::connect(address).await.unwrap();
        log_in(&mut stream, &config).await;
        stream
            .write_all(&wire::query("BEGIN; INSERT INTO t (v) VALUES ('left open')").frame)
            .await
            .unwrap();
        while read_message(&mut stream).await != b'Z' {}

        transaction.rollback().await.unwrap();
        let last = end_of(&mut stream).await;
        assert!(last.contains("57P01\0Mthe test has ended"), "{last}");
        TcpStream::connect(address)
            .await
            .expect_err("nobody listens any more");
        assert_eq!(count(&database.observer, "SELECT count(*) FROM t").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_is_dropped_closes_its_socket_at_once() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let config: tokio_postgres::Config = transaction.database_url().unwrap().parse().unwrap();
        let client = connect(&config).await;
        client
            .execute("INSERT INTO t (v) VALUES ('dropped')", &[])
            .await
            .unwrap();
        drop(transaction);
        let address = ("127.0.0.1", config.get_ports()[0]);
        TcpStream::connect(address)
            .await
            .expect_err("nobody listens any more");
        client
            .execute("SELECT 1", &[])
            .await
            .expect_err("the session is over");
        assert_eq!(count(&database.observer, "SELECT count(*) FROM t").await, 0);
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_thousand_transactions_leave_no_thread_behind() {
    Database::with(SCHEMA, async |database| {
        for _ in 0..1000 {
            let transaction = database.open().await;
            let client = outsider(&transaction).await;
            client
                .execute("INSERT INTO t (v) VALUES ('x')", &[])
                .await
                .unwrap();
            transaction.rollback().await.unwrap();
        }
        // The other tests of this process have a few at the same time.
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let sockets = threads.filter(|thread| {
            let name = thread.as_ref().unwrap().path().join("comm");
            std::fs::read_to_string(name).is_ok_and(|name| name.trim() == "shareddb socket")
        });
        assert!(sockets.count() < 100);
        let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(files < 900, "{files} files are open");
    })
    .await;
}

#[tokio::test]
async fn a_listener_of_the_callers_outlives_the_transaction() {
    Database::with(SCHEMA, async |database| {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        for _ in 0..2 {
            let transaction = database.open().await;
            let url = transaction
                .listen(listener.try_clone().unwrap(), None)
                .unwrap();
            assert!(url.ends_with(&format!(
                "@{}/{}",
                listener.local_addr().unwrap(),
                database.config.get_dbname().unwrap()
            )));
            assert_eq!(url, transaction.database_url().unwrap());
            let again = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let error = transaction.listen(again, None).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "this transaction listens already, at {}",
                    listener.local_addr().unwrap()
                )
            );

            let client = connect(&url.parse().unwrap()).await;
            client
                .execute("INSERT INTO t (v) VALUES ('x')", &[])
                .await
                .unwrap();
            drop(client);
            timeout(PATIENCE, transaction.last_client_gone())
                .await
                .expect("it has gone");
            transaction.rollback().await.unwrap();
        }
    })
    .await;
}

/// An application that counts its rows.
#[derive(Default)]
struct Counting;

impl LiveServerTestCase for Counting {
    async fn serve(
        &self,
        listener: std::net::TcpListener,
        pool: Pool,
    ) -> Result<actix_web::dev::Server> {
        use actix_web::{App, HttpServer, web};
        let server = HttpServer::new(move || {
            let count = async |pool: web::Data<Pool>| {
                let client = pool.get().await.unwrap();
                let row = client
                    .query_one("SELECT count(*) FROM seeded", &[])
                    .await
                    .unwrap();
                row.get::<_, i64>(0).to_string()
            };
            App::new()
                .app_data(web::Data::new(pool.clone()))
                .route("/", web::get().to(count))
        });
        Ok(server.workers(1).listen(listener)?.run())
    }
}

actix_shareddb::live_server! {
    impl Counting {
        async fn a_script_seeds_what_the_application_serves(&mut self, live: &LiveServer) -> Result<()> {
            let mut command = psql(&live.database_url()?);
            command.args(["-c", "CREATE TABLE seeded AS SELECT generate_series(1, 3)"]);
            output(command).await;
            assert_eq!(live.get("/").send().await?.body().await?, "3");
            Ok(())
        }
    }
}
