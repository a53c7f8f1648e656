//! Other clients, over the socket: real ones, bad ones, and ones that cancel.

use std::collections::VecDeque;
use std::env;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, SharedTransaction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::stage::{Database, connect};
use crate::wire;

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

const SCHEMA: &str = "CREATE TABLE t (id serial PRIMARY KEY, v text UNIQUE)";

/// Plays a test on a shared transaction, which is rolled back after it and must leave nothing.
async fn shared(test: impl AsyncFnOnce(&SharedTransaction)) {
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

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// A client of another driver's making, as far as the server can tell.
async fn outsider(transaction: &SharedTransaction) -> Client {
    connect(&transaction.database_url().unwrap().parse().unwrap()).await
}

/// A program that comes with PostgreSQL.
fn program(name: &str) -> Command {
    let mut folders: VecDeque<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.map(|version| version.unwrap().path().join("bin")));
    }
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    let Some(path) = found else {
        panic!("{name} is not installed; run ./scripts/setup, or: apt-get install postgresql");
    };
    let mut command = Command::new(path);
    // What the developer has set is not what is tested.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

fn psql(url: &str) -> Command {
    let mut command = program("psql");
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", url]);
    command
}

async fn run(mut command: Command) -> Output {
    let task = tokio::task::spawn_blocking(move || command.output().unwrap());
    timeout(PATIENCE, task)
        .await
        .expect("it comes to an end")
        .unwrap()
}

/// What a command prints that must succeed.
async fn output(command: Command) -> String {
    let output = run(command).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn psql_and_the_pool_see_what_the_other_wrote() {
    shared(async |transaction| {
        let url = transaction.database_url().unwrap();
        assert_eq!(
            url,
            transaction.database_url().unwrap(),
            "one socket is enough"
        );
        let client = transaction.pool().unwrap().get().await.unwrap();
        client
            .execute("INSERT INTO t (v) VALUES ('pool')", &[])
            .await
            .unwrap();

        let mut command = psql(&url);
        command.args([
            "-c",
            "INSERT INTO t (v) VALUES ('psql'); SELECT v FROM t ORDER BY id",
        ]);
        command.args(["-c", "BEGIN; INSERT INTO t (v) VALUES ('undone'); ROLLBACK"]);
        command.args([
            "-c",
            "SELECT count(*) FROM t",
            "-c",
            "SELECT current_setting('application_name')",
        ]);
        assert_eq!(output(command).await, "pool\npsql\n2\nactix-shareddb\n");
        assert_eq!(
            count(&client, "SELECT count(*) FROM t WHERE v = 'psql'").await,
            1
        );

        let mut failing = psql(&url);
        failing.args(["-c", "INSERT INTO t (v) VALUES ('kept')"]);
        failing.args(["-c", "INSERT INTO t (v) VALUES ('pool')"]);
        let failed = run(failing).await;
        assert_eq!(failed.status.code(), Some(1));
        let errors = String::from_utf8(failed.stderr).unwrap();
        assert!(
            errors.starts_with("ERROR:  duplicate key value violates unique constraint"),
            "{errors}"
        );
        assert_eq!(count(&client, "SELECT count(*) FROM t").await, 3);
    })
    .await;
}

#[tokio::test]
async fn psql_runs_a_script() {
    shared(async |transaction| {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("t.csv");
        let script = folder.path().join("seed.sql");
        let text = format!(
            "\\set name milk\n\
             INSERT INTO t (v) VALUES (:'name');\n\
             CREATE TABLE copied (id int, v text);\n\
             \\copy t to '{csv}' csv\n\
             \\copy copied from '{csv}' csv\n\
             COPY copied FROM STDIN;\n2\teggs\n\\.\n\
             \\set ON_ERROR_STOP off\n\
             \\set ON_ERROR_ROLLBACK on\n\
             BEGIN;\n\
             INSERT INTO t (v) VALUES ('bread');\n\
             INSERT INTO t (v) VALUES (:'name');\n\
             INSERT INTO t (v) VALUES ('salt');\n\
             COMMIT;\n\
             SELECT v FROM copied ORDER BY v;\n\
             SELECT v FROM t ORDER BY v;\n\
             SELECT v FROM t WHERE v > 'm' ORDER BY v \\gset last_\n\
             PREPARE one AS SELECT $1::int + 1;\n\
             EXECUTE one(41);\n",
            csv = csv.display()
        );
        std::fs::File::create(&script)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let mut command = psql(&transaction.database_url().unwrap());
        command.arg("-f").arg(&script);
        assert_eq!(output(command).await, "eggs\nmilk\nbread\nmilk\nsalt\n42\n");
    })
    .await;
}

#[tokio::test]
async fn pgbench_runs_as_many_clients() {
    shared(async |transaction| {
        let url = transaction.database_url().unwrap();
        let mut init = program("pgbench");
        init.args(["-i", "-I", "dtgp", "-s", "1", "-q", &url]);
        output(init).await;
        // One thread for each client: pgbench prepares without looking at its other clients, and one of those may hold the
        // block that this waits for.
        for mode in ["simple", "extended", "prepared"] {
            let mut bench = program("pgbench");
            bench.args(["-n", "-c", "4", "-j", "4", "-t", "25", "-M", mode, &url]);
            let report = output(bench).await;
            assert!(report.contains("number of transactions actually processed: 100/100"), "{report}");
        }
        let client = transaction.pool().unwrap().get().await.unwrap();
        assert_eq!(count(&client, "SELECT count(*) FROM pgbench_history").await, 300);
        let deltas = "SELECT (SELECT sum(delta) FROM pgbench_history) - (SELECT sum(bbalance) FROM pgbench_branches)";
        assert_eq!(count(&client, deltas).await, 0);
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
            for sql in [brief, longer].into_iter().cycle().take(400) {
                let (one, other) = tokio::join!(a.execute(sql, &[]), b.execute(brief, &[]));
                other.expect("nobody cancels this session");
                kept += 1;
                match one {
                    Ok(_) => kept += 1,
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
    fn serve(
        &self,
        listener: std::net::TcpListener,
        pool: Pool,
    ) -> std::io::Result<actix_web::dev::Server> {
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
