//! Deferred constraints and triggers: they fire when the application commits.

use crate::stage::{A, B, same};
use crate::wire::{bind, execute, parse, query, sync};

#[tokio::test]
async fn a_violated_constraint_fails_the_commit() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "INSERT INTO child VALUES (1, 999)",
            "SELECT 'not yet'",
            "COMMIT",
            "SELECT count(*) FROM child",
            "BEGIN",
            "INSERT INTO child VALUES (1, 999)",
            "INSERT INTO parent VALUES (999)",
            "COMMIT",
            "SELECT count(*) FROM child",
        ] {
            s.query(A, sql).await;
        }
        s.query(B, "SELECT count(*) FROM parent").await;
    })
    .await;
}

#[tokio::test]
async fn a_role_that_may_not_name_the_constraints_defers_them_all_the_same() {
    same(async |s| {
        for sql in [
            "CREATE ROLE shareddb_it_deferring",
            "GRANT shareddb_it_deferring TO CURRENT_USER",
            "CREATE SCHEMA hidden",
            "CREATE TABLE hidden.parent (id int PRIMARY KEY)",
            "CREATE TABLE hidden.child (id int REFERENCES hidden.parent DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TABLE shown (n int)",
            "GRANT ALL ON shown TO shareddb_it_deferring",
            "SET ROLE shareddb_it_deferring",
            "INSERT INTO shown VALUES (1)",
            "BEGIN; INSERT INTO shown VALUES (2); COMMIT",
            "SELECT current_user, count(*) FROM shown",
            "SELECT count(*) FROM hidden.child",
            "RESET ROLE",
            "SELECT current_user = session_user",
            "INSERT INTO child VALUES (1, 999)",
            "DROP OWNED BY shareddb_it_deferring",
            "DROP ROLE shareddb_it_deferring",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_violated_constraint_fails_a_statement_of_its_own() {
    same(async |s| {
        for sql in [
            "INSERT INTO child VALUES (1, 999)",
            "INSERT INTO c2 VALUES (999)",
            "INSERT INTO t(v) VALUES ('a'); INSERT INTO child VALUES (1, 999)",
            "SELECT count(*) FROM child",
            "SELECT count(*) FROM t",
            "INSERT INTO child VALUES (1, 999); INSERT INTO parent VALUES (999)",
            "SELECT count(*) FROM child",
            "INSERT INTO child VALUES (2, 998) RETURNING id",
            "WITH new AS (INSERT INTO child VALUES (2, 998) RETURNING id) SELECT id FROM new",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_violated_constraint_fails_where_a_string_commits() {
    same(async |s| {
        for sql in [
            "INSERT INTO child VALUES (1, 999); COMMIT; INSERT INTO t(v) VALUES ('never')",
            "BEGIN; INSERT INTO child VALUES (1, 999); COMMIT; INSERT INTO t(v) VALUES ('never')",
            "INSERT INTO child VALUES (1, 999); ROLLBACK; INSERT INTO t(v) VALUES ('a')",
            "INSERT INTO t(v) VALUES ('b'); COMMIT; INSERT INTO child VALUES (1, 999)",
            "BEGIN; INSERT INTO child VALUES (1, 999)",
            "COMMIT AND CHAIN",
            "SELECT 1",
            "ROLLBACK",
            "BEGIN; INSERT INTO child VALUES (1, 999)",
            "COMMIT; SELECT 1",
            "INSERT INTO child VALUES (1, 999); COMMIT AND CHAIN",
            "INSERT INTO child VALUES (1, 999); BEGIN READ ONLY",
            "COMMIT",
            "SELECT v FROM t ORDER BY v",
            "SELECT count(*) FROM child",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_mode_of_a_constraint_lasts_for_the_block() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "SET CONSTRAINTS ALL DEFERRED",
            "INSERT INTO c2 VALUES (999)",
            "COMMIT",
            "BEGIN",
            "INSERT INTO c2 VALUES (999)",
            "ROLLBACK",
            "BEGIN",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "INSERT INTO child VALUES (1, 999)",
            "ROLLBACK",
            "BEGIN",
            "INSERT INTO child VALUES (1, 999)",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "ROLLBACK",
            "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; COMMIT",
            "BEGIN; INSERT INTO child VALUES (1, 999)",
            "INSERT INTO parent VALUES (999)",
            "COMMIT",
            "BEGIN; SET CONSTRAINTS ALL DEFERRED; COMMIT",
            "INSERT INTO c2 VALUES (999)",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_deferred_trigger_fires_at_the_commit_once() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "INSERT INTO t(v) VALUES ('y')",
            "SELECT count(*) FROM audit",
            "COMMIT",
            "SELECT msg FROM audit",
            "INSERT INTO t(v) VALUES ('z')",
            "SELECT msg FROM audit ORDER BY msg",
            "INSERT INTO t(v) VALUES ('u'); SELECT count(*) FROM audit",
            "SELECT count(*) FROM audit",
            "BEGIN; INSERT INTO t(v) VALUES ('w')",
            "ROLLBACK",
            "SELECT count(*) FROM audit",
            "BEGIN; SAVEPOINT a; INSERT INTO t(v) VALUES ('x'); ROLLBACK TO a; COMMIT",
            "SELECT count(*) FROM audit",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_violated_constraint_fails_a_pipeline_at_its_sync() {
    same(async |s| {
        let insert = [
            parse("", "INSERT INTO child VALUES (1, 999)"),
            bind("", "", &[]),
            execute("", 0),
        ];
        s.run(A, &[&insert[..], &[sync()]].concat()).await;
        s.query(A, "SELECT count(*) FROM child").await;
        s.run(
            A,
            &[
                &insert[..],
                &[
                    parse("", "SELECT 1"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                ],
            ]
            .concat(),
        )
        .await;
        s.query(A, "BEGIN").await;
        s.run(A, &[&insert[..], &[sync()]].concat()).await;
        s.run(
            A,
            &[
                parse("c", "COMMIT"),
                bind("", "c", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.query(A, "SELECT count(*) FROM child").await;
        s.query(A, "BEGIN").await;
        s.run(A, &[bind("", "c", &[]), execute("", 0), sync()])
            .await;
        s.query(A, "BEGIN").await;
        s.run(
            A,
            &[
                &insert[..],
                &[
                    bind("", "c", &[]),
                    execute("", 0),
                    parse("", "SELECT 1"),
                    sync(),
                ],
            ]
            .concat(),
        )
        .await;
        s.query(A, "BEGIN").await;
        s.send(
            A,
            &[
                &insert[..],
                &[sync(), query("COMMIT"), query("SELECT 'next'")],
            ]
            .concat(),
        )
        .await;
        for _ in 0..3 {
            s.ready(A).await;
        }
    })
    .await;
}
