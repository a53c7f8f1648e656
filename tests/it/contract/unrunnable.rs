//! Commands that can't run in a transaction block, and so not in a shared transaction.

use crate::stage::{A, B, Stage, same, shared_only};
use crate::wire::once;

const ALONE: &str = "In a shared transaction every statement runs in a transaction block. This one needs a database of its own, \
     with real commits. `#[isolation(Database)]` above the test gives it one";
const COMMITS: &str = "A shared transaction is never committed, nor can a procedure end it. This needs a database of its own, with \
     real commits. `#[isolation(Database)]` above the test gives it one";

/// The last error that a session got.
fn error<'a>(s: &'a Stage<'_>) -> &'a str {
    let errors = s.transcript.iter().rev();
    errors
        .map(String::as_str)
        .find(|line| line.contains("ErrorResponse"))
        .expect("there was an error")
}

#[tokio::test]
async fn what_runs_alone_is_refused_in_postgresqls_words_with_a_hint() {
    shared_only(
        |config| config,
        async |s| {
            for (sql, name) in [
                ("VACUUM", "VACUUM"),
                ("CREATE DATABASE none", "CREATE DATABASE"),
                ("DROP DATABASE none", "DROP DATABASE"),
                ("ALTER SYSTEM SET work_mem = '1MB'", "ALTER SYSTEM"),
                (
                    "CREATE INDEX CONCURRENTLY ON t (v)",
                    "CREATE INDEX CONCURRENTLY",
                ),
                ("REINDEX SCHEMA public", "REINDEX SCHEMA"),
            ] {
                for extended in [false, true] {
                    match extended {
                        false => s.query(A, sql).await,
                        true => s.run(A, &once(sql)).await,
                    }
                    let error = error(s);
                    assert!(error.contains("25001"), "{error}");
                    let message = format!("{name} cannot run inside a transaction block");
                    assert!(error.contains(&message), "{error}");
                    assert!(error.contains(ALONE), "{error}");
                    s.query(B, "SELECT 'the others never notice'").await;
                }
            }
        },
    )
    .await;
}

const PROCEDURE: &str = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES ('p'); COMMIT; END $$";

#[tokio::test]
async fn a_procedure_that_commits_is_refused_with_a_hint() {
    shared_only(
        |config| config,
        async |s| {
            s.query(A, PROCEDURE).await;
            for sql in ["CALL p()", "DO $$ BEGIN ROLLBACK; END $$"] {
                for extended in [false, true] {
                    match extended {
                        false => s.query(A, sql).await,
                        true => s.run(A, &once(sql)).await,
                    }
                    let error = error(s);
                    assert!(error.contains("2D000"), "{error}");
                    assert!(error.contains("invalid transaction termination"), "{error}");
                    assert!(error.contains(COMMITS), "{error}");
                }
            }
            s.query(B, "SELECT count(*) FROM audit").await;
            assert!(s.transcript.iter().any(|line| line == "B < DataRow \"0\""));
        },
    )
    .await;
}

#[tokio::test]
async fn where_postgresql_refuses_it_too_nothing_is_added() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "VACUUM").await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "SELECT 1; VACUUM").await;
        s.query(A, PROCEDURE).await;
        s.query(A, "BEGIN").await;
        s.query(A, "CALL p()").await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "SELECT 1; CALL p()").await;
        s.query(
            A,
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN COMMIT; RETURN 1; END $$",
        )
        .await;
        s.query(A, "SELECT f()").await;
    })
    .await;
}
