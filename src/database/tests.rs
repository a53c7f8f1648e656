mod failures;
mod footprint;
mod lane;
mod look;
mod private;
mod ready;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use tempfile::TempDir;
use tokio_postgres::Client;

use super::*;
use crate::error::Error;
use crate::schema::Step;
use private::{Private, connect};

fn server(config: &Config) -> Server {
    let url = server::url(config).expect("no error").expect("a URL");
    Server::at(&url, &Permission::of(config), config).expect("a server")
}

fn steps(schema: &Schema) -> Vec<Step> {
    schema.steps().expect("no error").expect("steps")
}

fn name(config: &tokio_postgres::Config) -> String {
    config.get_dbname().expect("a name").to_owned()
}

/// Without the list of what this process knows, as in a process of its own.
async fn prepared(server: &Server, steps: &[Step]) -> tokio_postgres::Config {
    let prepared = prepare::prepare(server, steps).await;
    prepared.expect("a database").config
}

async fn count(config: &tokio_postgres::Config, table: &str) -> i64 {
    connect(config)
        .await
        .query_one(&format!("SELECT count(*) FROM {table}"), &[])
        .await
        .expect("the count")
        .get(0)
}

/// A schema that counts on the server's disk how often it ran.
fn counting(private: &Private, name: &str) -> Schema {
    Schema::sql(format!(
        "CREATE TABLE {name} (); COPY (SELECT 1) TO PROGRAM 'cat >> {}/{name}'",
        private.dir().display()
    ))
}

fn runs(private: &Private, name: &str) -> usize {
    fs::read_to_string(private.dir().join(name))
        .expect("the schema ran")
        .lines()
        .count()
}

/// Runs `work` on eight threads at once, each with a runtime of its own.
fn eight_at_once<T: Send>(work: impl AsyncFn() -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .expect("a runtime");
                    barrier.wait();
                    runtime.block_on(work())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    })
}

#[test]
fn the_tests_of_a_process_prepare_once() {
    let private = Private::join();
    let (schema, config) = (
        counting(&private, "one_process"),
        private.config("postgres", "postgres"),
    );
    let names = eight_at_once(async || name(&resolve(&schema, &config).await.expect("a database")));
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
    assert_eq!(runs(&private, "one_process"), 1);
}

#[test]
fn several_processes_prepare_once() {
    let private = Private::join();
    let steps = steps(&counting(&private, "processes"));
    let server = server(&private.config("postgres", "postgres"));
    // Without the list of what this process knows, each is as a process of its own.
    let names = eight_at_once(async || name(&prepared(&server, &steps).await));
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
    assert_eq!(runs(&private, "processes"), 1);
}

#[test]
fn those_who_connect_through_different_databases_get_the_same_one() {
    let private = Private::join();
    let steps = steps(&Schema::sql("CREATE TABLE elsewhere ()"));
    tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(async {
            let client = private.client("postgres").await;
            client
                .batch_execute("CREATE DATABASE other")
                .await
                .expect("a database");
        });
    let servers = ["postgres", "other"].map(|name| server(&private.config("postgres", name)));
    let turn = AtomicUsize::new(0);
    let names = eight_at_once(async || {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        name(&prepared(&servers[turn % 2], &steps).await)
    });
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
}

#[tokio::test]
async fn what_was_prepared_is_there_for_good() {
    let private = Private::join();
    let schema =
        Schema::sql("CREATE TABLE users (name text); INSERT INTO users VALUES ('alice'), ('bob')");
    let config = private.config("postgres", "postgres");
    let database = resolve(&schema, &config).await.expect("a database");
    assert_eq!(count(&database, "users").await, 2);
    assert!(name(&database).starts_with("shareddb_"));
}

#[tokio::test]
async fn files_run_in_order_and_each_as_in_a_new_session() {
    let private = Private::join();
    let dir = TempDir::new().expect("a directory");
    for (name, text) in [
        (
            "1.sql",
            "CREATE TABLE ordered (); SET search_path = ''; SET ROLE pg_monitor;",
        ),
        ("2.sql", "ALTER TABLE ordered ADD COLUMN a int;"),
        (
            "3.sql",
            "BEGIN; INSERT INTO ordered VALUES (1); COMMIT; -- as some migrations do",
        ),
        ("4.sql", "-- nothing"),
        ("5.sql", "CREATE INDEX CONCURRENTLY ON ordered (a)"),
    ] {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    let database = resolve(
        &Schema::dir(dir.path()),
        &private.config("postgres", "postgres"),
    )
    .await
    .expect("a database");
    assert_eq!(count(&database, "ordered").await, 1);
}

#[tokio::test]
async fn a_changed_file_gives_another_database() {
    let private = Private::join();
    let server = server(&private.config("postgres", "postgres"));
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("1.sql");
    let schema = Schema::dir(dir.path());
    let resolve_with = async |text: &str| {
        fs::write(&file, text).expect("a file");
        prepared(&server, &steps(&schema)).await
    };
    let first = resolve_with("CREATE TABLE changed_a ()").await;
    let second = resolve_with("CREATE TABLE changed_b ()").await;
    let third = resolve_with("CREATE TABLE changed_a ()").await;
    assert_ne!(name(&first), name(&second));
    assert_eq!(name(&first), name(&third));
    assert_eq!(count(&second, "changed_b").await, 0);
}

#[tokio::test]
async fn the_existing_database_is_left_alone() {
    let private = Private::join();
    private
        .client("postgres")
        .await
        .batch_execute("CREATE DATABASE left_alone")
        .await
        .expect("a database");
    let database = resolve(
        &Schema::existing(),
        &private.config("postgres", "left_alone"),
    )
    .await
    .expect("the database");
    assert_eq!(name(&database), "left_alone");
    assert_eq!(
        count(
            &database,
            "pg_class WHERE relnamespace = 'public'::regnamespace"
        )
        .await,
        0
    );
    assert_eq!(private.databases_like("left_alone").await, ["left_alone"]);
}

/// Code that counts on the disk how often it ran.
fn counting_code(private: &Private, name: &str) -> Schema {
    let (log, table) = (private.dir().join(name), name.to_owned());
    Schema::run(format!("{name} 1"), async move |client| {
        let mut log = OpenOptions::new().create(true).append(true).open(&log)?;
        writeln!(log, "ran")?;
        // A tool that works in transactions of its own, and one that blocks.
        let transaction = client.transaction().await?;
        transaction
            .batch_execute(&format!("CREATE TABLE {table} (a int)"))
            .await?;
        transaction.commit().await?;
        thread::yield_now();
        Ok(())
    })
    .then(Schema::sql(format!("INSERT INTO {name} VALUES (1), (2)")))
}

#[test]
fn code_runs_once_however_many_processes_start() {
    let private = Private::join();
    let steps = steps(&counting_code(&private, "coded"));
    let server = server(&private.config("postgres", "postgres"));
    let databases = eight_at_once(async || {
        let database = prepared(&server, &steps).await;
        (name(&database), count(&database, "coded").await)
    });
    assert!(
        databases.iter().all(|one| *one == databases[0]),
        "{databases:?}"
    );
    assert_eq!(databases[0].1, 2);
    assert_eq!(runs(&private, "coded"), 1);
}

#[tokio::test]
async fn code_runs_again_when_its_fingerprint_or_a_file_changes_and_not_else() {
    let private = Private::join();
    let server = server(&private.config("postgres", "postgres"));
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("V1__a.sql");
    let text = file.clone();
    let code = async move |client: &mut Client| {
        let text = fs::read_to_string(&text)?;
        Ok(client.batch_execute(&text).await?)
    };
    let with = |fingerprint: &str| Schema::run(fingerprint, code.clone()).depends_on(dir.path());
    let resolve_with = async |fingerprint: &str, text: &str| {
        fs::write(&file, text).expect("a file");
        prepared(&server, &steps(&with(fingerprint))).await
    };
    let first = resolve_with("1", "CREATE TABLE noticed_a ()").await;
    let second = resolve_with("1", "CREATE TABLE noticed_b ()").await;
    let third = resolve_with("2", "CREATE TABLE noticed_b ()").await;
    let again = resolve_with("1", "CREATE TABLE noticed_a ()").await;
    assert_ne!(name(&first), name(&second));
    assert_ne!(name(&second), name(&third));
    assert_eq!(name(&first), name(&again));
    assert_eq!(count(&second, "noticed_b").await, 0);
}

#[tokio::test]
async fn a_process_reads_the_files_of_a_schema_once() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("1.sql");
    fs::write(&file, "CREATE TABEL read_once ()").expect("a file");
    let failed = resolve(&Schema::dir(dir.path()), &config).await;
    assert!(failed.is_err());
    fs::write(&file, "CREATE TABLE read_once ()").expect("a file");
    let first = resolve(&Schema::dir(dir.path()), &config).await;
    fs::write(&file, "CREATE TABLE read_twice ()").expect("a file");
    let second = resolve(&Schema::dir(dir.path()), &config).await;
    let name = |found: &Result<_>| name(found.as_ref().expect("a database"));
    assert_eq!(name(&first), name(&second));
    let server = server(&config);
    let of_another_process = prepared(&server, &steps(&Schema::dir(dir.path()))).await;
    assert_ne!(Some(&*name(&first)), of_another_process.get_dbname());
}

/// As a tool in a process of its own does it, which connects by a URL.
#[tokio::test]
async fn code_that_takes_a_url_connects_by_itself() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    let migrate = async |url: &str| {
        let sql = "CREATE TABLE by_url (a int); INSERT INTO by_url VALUES (1), (2)";
        let psql = Command::new("psql").args([url, "-c", sql]).output()?;
        match psql.status.success() {
            true => Ok(()),
            false => Err(Error::other(format!("{psql:?}"))),
        }
    };
    let schema =
        Schema::run_at("by URL 1", migrate).then(Schema::sql("INSERT INTO by_url VALUES (3)"));
    let database = resolve(&schema, &config).await.expect("a database");
    assert_eq!(count(&database, "by_url").await, 3);
    assert_eq!(
        private.databases_like(&name(&database)).await,
        [name(&database), format!("{}_template", name(&database))]
    );
}

#[tokio::test]
async fn killed_code_leaves_nothing_half_done() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    let (told, mut begun) = tokio::sync::mpsc::unbounded_channel();
    // Killed as a process is: its session ends in the middle.
    let doomed = Schema::run("doomed code", async move |client| {
        let process: i32 = client
            .query_one("SELECT pg_backend_pid()", &[])
            .await?
            .get(0);
        client.batch_execute("CREATE TABLE doomed ()").await?;
        told.send(process).expect("somebody listens");
        Ok(client.batch_execute("SELECT pg_sleep(3600)").await?)
    });
    let failed = tokio::spawn({
        let (schema, config) = (doomed.clone(), config.clone());
        async move { resolve(&schema, &config).await }
    });
    let process = begun.recv().await.expect("it began");
    let client = private.client("postgres").await;
    client
        .execute("SELECT pg_terminate_backend($1)", &[&process])
        .await
        .expect("it ends");
    failed.await.expect("no panic").expect_err("an error");

    let again = Schema::run("doomed code", async |client| {
        Ok(client.batch_execute("CREATE TABLE doomed (a int)").await?)
    });
    // As another process, which has other code by this name.
    let database = prepared(&server(&config), &steps(&again)).await;
    assert_eq!(count(&database, "doomed WHERE a IS NULL").await, 0);
    assert_eq!(
        private.databases_like(&name(&database)).await,
        [name(&database), format!("{}_template", name(&database))]
    );
}

#[tokio::test]
async fn a_killed_preparer_leaves_nothing_half_done() {
    let private = Private::join();
    let go = private.dir().join("go");
    // The first one never comes to the end of it; the second one finds the file and does.
    let schema = Schema::sql(format!(
        "CREATE TABLE killed (); SELECT pg_sleep(3600) WHERE pg_stat_file('{}', true) IS NULL",
        go.display()
    ));
    let config = private.config("postgres", "postgres");
    let doomed = tokio::runtime::Runtime::new().expect("a runtime");
    doomed.spawn({
        let (schema, config) = (schema.clone(), config.clone());
        async move { resolve(&schema, &config).await }
    });
    let client = private.client("postgres").await;
    let draft: String = loop {
        let sleeping = client
            .query_opt(
                "SELECT datname::text FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
                &[],
            )
            .await
            .expect("the activity");
        if let Some(row) = sleeping {
            break row.get(0);
        }
        tokio::task::yield_now().await;
    };
    // Its sockets close, as those of a killed process do. Its backend sleeps on.
    doomed.shutdown_background();
    fs::write(go, "").expect("a file");

    let database = resolve(&schema, &config).await.expect("a database");
    assert_eq!(count(&database, "killed").await, 0);
    assert!(draft.starts_with(&name(&database)));
    assert_eq!(
        private.databases_like(&name(&database)).await,
        [name(&database), format!("{}_template", name(&database))]
    );
}

#[tokio::test]
async fn databases_that_were_not_used_for_long_are_dropped() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    let client = private.client("postgres").await;
    let [unused, used, recent, foreign] =
        ["unused", "used", "recent", "foreign"].map(|name| format!("shareddb_test_{name}"));
    let mut user = None;
    for (name, package, days) in [
        (&unused, env!("CARGO_MANIFEST_DIR"), 8),
        (&used, env!("CARGO_MANIFEST_DIR"), 8),
        (&recent, env!("CARGO_MANIFEST_DIR"), 6),
        (&foreign, "/elsewhere", 8),
    ] {
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .expect("a database");
        // Before it is dated: the other tests' preparations look for unused databases, too.
        if *name == used {
            user = Some(private.client(name).await);
        }
        client
            .batch_execute(&format!(
                "DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE {name} IS %L',
                    'actix-shareddb: prepared for {package}, last used ' || to_char(current_date - {days}, 'YYYY-MM-DD'));
                END $$"
            ))
            .await
            .expect("a comment");
    }
    resolve(&Schema::sql("CREATE TABLE sweeping ()"), &config)
        .await
        .expect("a database");
    let mut expected = vec![used, recent, foreign];
    expected.sort();
    assert_eq!(private.databases_like("shareddb_test").await, expected);
    drop(user);
}

#[tokio::test]
async fn a_database_is_dated_when_it_is_used_again() {
    let private = Private::join();
    let server = server(&private.config("postgres", "postgres"));
    let steps = steps(&Schema::sql("CREATE TABLE dated ()"));
    let name = name(&prepared(&server, &steps).await);
    let client = private.client("postgres").await;
    let comment = async || -> Option<String> {
        client
            .query_one(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1",
                &[&name],
            )
            .await
            .expect("the comment")
            .get(0)
    };
    let dated = comment().await.expect("a comment");
    let (rest, _date) = dated.split_at(dated.len() - "2026-11-29".len());
    let long_ago = format!(
        "COMMENT ON DATABASE {name} IS '{}2000-01-01'",
        rest.replace('\'', "''")
    );
    client.batch_execute(&long_ago).await.expect("a comment");
    prepared(&server, &steps).await;
    assert_eq!(comment().await, Some(dated));
}
