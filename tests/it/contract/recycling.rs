//! What a session gives up of its own: `DISCARD`, `RESET ALL`, `CLOSE ALL`, and a pool's recycling.

use crate::stage::{A, B, same};
use crate::wire::{bind, execute, once, parse, query, sync};

/// What `deadpool_postgres` sends for `RecyclingMethod::Clean`.
const CLEAN: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
                     SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES;";

const TENANT: &str = "SELECT coalesce(nullif(current_setting('app.tenant', true), ''), 'none'), \
                      current_setting('search_path')";

#[tokio::test]
async fn recycling_is_a_sessions_own_affair() {
    same(async |s| {
        for id in [A, B] {
            s.query(id, "SET app.tenant = '7'; SET search_path = 'x', public")
                .await;
        }
        s.query(A, "BEGIN").await;
        s.query(
            A,
            "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 3)",
        )
        .await;
        s.query(A, "COMMIT").await;
        s.query(B, CLEAN).await;
        s.query(A, "FETCH c").await;
        s.query(A, TENANT).await;
        s.query(B, TENANT).await;
        s.query(A, CLEAN).await;
        s.query(A, "FETCH c").await;
        s.query(A, TENANT).await;
        s.query(A, CLEAN).await;
        s.query(B, TENANT).await;
    })
    .await;
}

#[tokio::test]
async fn reset_all_is_part_of_its_transaction() {
    same(async |s| {
        s.query(A, "SET app.tenant = '7'").await;
        s.query(A, "SET ROLE NONE").await;
        s.query(B, "SET app.tenant = '8'").await;
        s.query(A, "BEGIN").await;
        s.query(A, "SET LOCAL search_path = 'x'").await;
        s.query(A, "RESET ALL").await;
        s.query(A, TENANT).await;
        s.query(A, "ROLLBACK").await;
        s.query(A, TENANT).await;
        s.query(A, "BEGIN").await;
        s.query(A, "SET LOCAL search_path = 'x'").await;
        s.query(A, "SELECT 1; RESET ALL; SELECT 2").await;
        s.query(A, "COMMIT").await;
        s.query(B, TENANT).await;
        s.query(A, TENANT).await;
        s.query(A, "BEGIN").await;
        s.query(A, "SELECT 1/0").await;
        for sql in ["RESET ALL", "CLOSE ALL", "DISCARD ALL", "DISCARD TEMP"] {
            s.query(A, sql).await;
        }
        s.run(A, &once("RESET ALL")).await;
        s.query(A, "ROLLBACK").await;
        s.query(B, "RESET ALL; SELECT 1/0").await;
        s.query(B, TENANT).await;
        s.run(B, &once("RESET ALL")).await;
        s.query(B, TENANT).await;
    })
    .await;
}

#[tokio::test]
async fn discard_all_works_outside_of_a_block_only() {
    same(async |s| {
        s.query(A, "SET app.tenant = '7'; SET TIME ZONE 'Asia/Tokyo'")
            .await;
        s.query(B, "SET app.tenant = '8'; SET TIME ZONE 'Asia/Tokyo'")
            .await;
        for sql in [
            "BEGIN",
            "DISCARD ALL",
            "ROLLBACK",
            "SELECT 1; DISCARD ALL",
            "DISCARD ALL; SELECT 1",
            "DISCARD ALL garbage",
            TENANT,
        ] {
            s.query(A, sql).await;
        }
        s.run(A, &[parse("p", "SELECT 'prepared'"), sync()]).await;
        s.query(A, "PREPARE q AS SELECT 'prepared'").await;
        s.run(B, &[parse("p", "SELECT 'prepared'"), sync()]).await;
        s.query(A, "DISCARD ALL").await;
        s.query(A, TENANT).await;
        s.run(A, &[bind("", "p", &[]), execute("", 0), sync()])
            .await;
        s.query(A, "EXECUTE q").await;
        s.query(B, TENANT).await;
        s.run(B, &[bind("", "p", &[]), execute("", 0), sync()])
            .await;
        s.run(B, &once("DISCARD ALL")).await;
        s.run(B, &[bind("", "p", &[]), execute("", 0), sync()])
            .await;
        s.query(B, TENANT).await;
    })
    .await;
}

#[tokio::test]
async fn close_all_closes_a_sessions_own_cursors() {
    same(async |s| {
        s.query(A, "DECLARE a CURSOR WITH HOLD FOR SELECT 1").await;
        s.query(B, "BEGIN").await;
        s.query(B, "DECLARE b CURSOR FOR SELECT generate_series(1, 3)")
            .await;
        s.query(
            B,
            "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 3)",
        )
        .await;
        s.query(
            B,
            "CLOSE ALL; DECLARE b CURSOR FOR SELECT generate_series(4, 6)",
        )
        .await;
        s.query(B, "FETCH b").await;
        s.run(
            B,
            &[
                parse("", "CLOSE ALL"),
                bind("", "", &[]),
                execute("", 0),
                parse("", "DECLARE b CURSOR FOR SELECT generate_series(7, 9)"),
                bind("", "", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.query(B, "FETCH b").await;
        s.query(B, "CLOSE ALL").await;
        s.query(B, "SAVEPOINT s").await;
        s.query(B, "FETCH b").await;
        s.query(B, "ROLLBACK TO s").await;
        s.query(B, "FETCH h").await;
        s.query(B, "ROLLBACK").await;
        s.query(A, "FETCH a").await;
        s.query(A, "CLOSE ALL").await;
        s.query(A, "FETCH a").await;
    })
    .await;
}

/// Those of the scenario's own database: other tests take some, too.
const ADVISORY_LOCKS: &str = "SELECT count(*) FROM pg_locks JOIN pg_database ON database = pg_database.oid \
     WHERE locktype = 'advisory' AND datname = current_database()";

#[tokio::test]
async fn temporary_tables_and_advisory_locks_are_given_up_by_their_only_owner() {
    same(async |s| {
        s.query(B, CLEAN).await;
        s.query(A, "CREATE TEMP TABLE mine (a int)").await;
        s.query(A, "SELECT pg_advisory_lock(7)").await;
        s.query(B, CLEAN).await;
        s.query(B, "DISCARD ALL").await;
        s.query(A, "SELECT count(*) FROM mine").await;
        s.query(A, ADVISORY_LOCKS).await;
        s.query(A, CLEAN).await;
        s.query(A, ADVISORY_LOCKS).await;
        s.query(A, "SELECT count(*) FROM mine").await;
        s.query(A, "CREATE TEMP TABLE mine (a int)").await;
        s.run(A, &once("SELECT pg_advisory_unlock_all()")).await;
        s.run(B, &once("SELECT pg_advisory_unlock_all()")).await;
        s.run(
            A,
            &[query("SELECT pg_advisory_lock(7)"), query("DISCARD ALL")],
        )
        .await;
        s.ready(A).await;
        s.query(A, ADVISORY_LOCKS).await;
        s.query(A, "SELECT count(*) FROM mine").await;
    })
    .await;
}

#[tokio::test]
async fn what_a_session_leaves_behind_goes_with_it() {
    same(async |s| {
        s.query(A, "CREATE TEMP TABLE x (a int); SELECT pg_advisory_lock(7)")
            .await;
        s.drop_connection(A).await;
        s.query(B, "SELECT 1/0").await;
        s.query(B, "CREATE TEMP TABLE x (b text)").await;
        s.query(B, "INSERT INTO x VALUES ('of B')").await;
        s.query(
            B,
            "SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock(7)",
        )
        .await;
        s.query(B, "SELECT pg_advisory_unlock(7)").await;
        s.query(B, "SELECT b FROM x").await;
    })
    .await;
}
