//! What breaks: the backend, the patience at the end of a test.

use std::error::Error;
use std::time::{Duration, Instant};

use crate::stage::{A, B, C, Database, SCHEMA, Stage};
use crate::wire::query;

/// The process of the shared transaction's backend, as a real connection sees it.
const OTHERS: &str =
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// Ends the shared transaction's backend, and waits until it has gone.
async fn terminate_backend(database: &Database) {
    let terminate = format!("SELECT bool_and(pg_terminate_backend(pid)) {OTHERS}");
    let row = database.observer.query_one(&terminate, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    database
        .until(&format!("SELECT count(*) = 0 {OTHERS}"))
        .await;
}

fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

#[tokio::test]
async fn every_session_is_told_that_the_backend_has_died() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let mut stage = Stage::shared(database, &transaction);
        stage.query(A, "BEGIN").await;
        stage.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        stage.send(B, &[query("SELECT 'waits'")]).await;
        stage.waits(B).await;
        stage.query(C, "BEGIN").await;
        terminate_backend(database).await;

        let noted = stage.transcript.len();
        stage.send(A, &[query("SELECT 1")]).await;
        stage.ready(A).await;
        stage.ready(B).await;
        stage.send(C, &[query("SELECT 1")]).await;
        stage.ready(C).await;
        for session in ["A", "B", "C"] {
            let told = stage.transcript[noted..].iter().any(|line| {
                line.starts_with(&format!("{session} < ErrorResponse FATAL"))
                    && (line.contains(" 57P01 ") || line.contains(" 08006 "))
            });
            assert!(
                told,
                "{session} was not told:\n{}",
                stage.transcript.join("\n")
            );
        }
        let error = transaction
            .rollback()
            .await
            .expect_err("there is nothing left to roll back");
        assert!(
            chain(&error).starts_with("the shared transaction is lost"),
            "{error:?}"
        );
        assert_eq!(
            database
                .observer
                .query_one("SELECT count(*) FROM t", &[])
                .await
                .unwrap()
                .get::<_, i64>(0),
            0
        );
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_dies_unnoticed_fails_the_rollback() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let mut stage = Stage::shared(database, &transaction);
        stage.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        terminate_backend(database).await;
        transaction
            .rollback()
            .await
            .expect_err("there is nothing left to roll back");
        // The next one gets a backend of its own.
        database
            .open()
            .await
            .rollback()
            .await
            .expect("a new backend is as good as any");
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_dies_amid_a_statement_is_told_to_who_waits_for_it() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let mut stage = Stage::shared(database, &transaction);
        stage.send(A, &[query("SELECT pg_sleep(60)")]).await;
        stage.send(B, &[query("SELECT 1")]).await;
        database
            .until(&format!(
                "SELECT bool_or(wait_event = 'PgSleep') IS TRUE {OTHERS}"
            ))
            .await;
        database
            .observer
            .query_one(&format!("SELECT pg_terminate_backend(pid) {OTHERS}"), &[])
            .await
            .unwrap();
        stage.ready(B).await;
        stage.ready(A).await;
        for session in ["A", "B"] {
            let told =
                |line: &String| line.starts_with(&format!("{session} < ErrorResponse FATAL 57P01"));
            assert!(
                stage.transcript.iter().any(told),
                "{}",
                stage.transcript.join("\n")
            );
        }
        transaction
            .rollback()
            .await
            .expect_err("there is nothing left to roll back");
    })
    .await;
}

/// Those of all clients are gone then, and what moves the savepoints as well.
#[tokio::test]
async fn who_drops_the_prepared_statements_of_all_is_named_to_all() {
    for (drops, named) in [
        (&["DO 'BEGIN DEALLOCATE ALL; END'"][..], "DO 'BEGIN"),
        (&["SELECT deallocate()"], "SELECT deallocate()"),
        (
            &["BEGIN", "SELECT deallocate()", "SELECT 'more'", "COMMIT"],
            "SELECT 'more'",
        ),
        // What it violates is looked for at its end.
        (
            &["INSERT INTO child VALUES (1, 1); SELECT deallocate()"],
            "SELECT deallocate()",
        ),
    ] {
        Database::with(SCHEMA, async |database| {
            let function = "CREATE FUNCTION deallocate() RETURNS void LANGUAGE plpgsql AS 'BEGIN DEALLOCATE ALL; END'";
            database.observer.batch_execute(function).await.unwrap();
            let transaction = database.open().await;
            let mut stage = Stage::shared(database, &transaction);
            stage.query(B, "INSERT INTO t(v) VALUES ('b')").await;
            for sql in drops {
                stage.query(A, sql).await;
            }
            stage.query(A, "SELECT 'next'").await;
            stage.ready(B).await;
            for session in ["A", "B"] {
                let told = format!(
                    "{session} < ErrorResponse FATAL 25000 \"the shared transaction is lost: its connection's prepared \
                     statements are gone\""
                );
                let told = stage
                    .transcript
                    .iter()
                    .any(|line| line.starts_with(&told) && line.contains(named));
                assert!(told, "{session}:\n{}", stage.transcript.join("\n"));
            }
            let error = transaction
                .rollback()
                .await
                .expect_err("there is nothing left to roll back");
            assert!(chain(&error).contains("DEALLOCATE ALL"), "{error:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn what_still_runs_at_the_end_is_cancelled() {
    Database::with(SCHEMA, async |database| {
        let config = database
            .shared_config()
            .drain_timeout(Duration::from_millis(50));
        let transaction = database.open_with(&config).await;
        let mut stage = Stage::shared(database, &transaction);
        stage
            .send(
                A,
                &[query("INSERT INTO t(v) VALUES ('a'); SELECT pg_sleep(60)")],
            )
            .await;
        stage
            .send(B, &[query("INSERT INTO t(v) VALUES ('b')")])
            .await;
        database
            .until(&format!(
                "SELECT bool_or(wait_event = 'PgSleep') IS TRUE {OTHERS}"
            ))
            .await;
        let started = Instant::now();
        transaction
            .rollback()
            .await
            .expect("it is cancelled and rolled back");
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it was waited for"
        );
        assert_eq!(
            database
                .observer
                .query_one("SELECT count(*) FROM t", &[])
                .await
                .unwrap()
                .get::<_, i64>(0),
            0
        );
        database
            .open()
            .await
            .rollback()
            .await
            .expect("the next one is not disturbed");
    })
    .await;
}

#[tokio::test]
async fn a_session_that_breaks_the_protocol_ends_alone() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let mut stage = Stage::shared(database, &transaction);
        stage.query(A, "BEGIN").await;
        stage.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        stage.send(B, &[query("SELECT count(*) FROM t")]).await;
        stage.waits(B).await;
        stage.send(A, &[crate::wire::garbage()]).await;
        stage.ready(A).await;
        stage.ready(B).await;
        assert!(
            stage.transcript.contains(&"B < DataRow \"0\"".to_owned()),
            "{}",
            stage.transcript.join("\n")
        );

        stage.send(C, &[query("COPY audit FROM STDIN")]).await;
        stage.until(C, b'G').await;
        stage.send(C, &[crate::wire::garbage()]).await;
        stage.query(B, "SELECT 'after the COPY'").await;
        stage.ready(C).await;
        transaction
            .rollback()
            .await
            .expect("the others never notice");
    })
    .await;
}
