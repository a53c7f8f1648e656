//! SQL's PREPARE, EXECUTE and DEALLOCATE, whose names are those of the protocol.

use crate::stage::{A, B, same};
use crate::wire::{bind, close_statement, describe_statement, execute, once, parse, sync};

#[tokio::test]
async fn two_sessions_may_prepare_one_name() {
    same(async |s| {
        s.query(A, "PREPARE x AS SELECT 'of A'").await;
        s.query(B, "PREPARE x(text) AS SELECT 'of B', $1").await;
        s.query(A, "EXECUTE x").await;
        s.query(B, "EXECUTE x('one')").await;
        s.query(A, "PREPARE x AS SELECT 1").await;
        s.query(B, "DEALLOCATE x").await;
        s.query(B, "EXECUTE x('two')").await;
        s.query(B, "DEALLOCATE x").await;
        s.query(A, "EXECUTE x").await;
        s.query(A, "DEALLOCATE PREPARE x").await;
        s.query(A, "DEALLOCATE PREPARE x").await;
    })
    .await;
}

#[tokio::test]
async fn protocol_and_sql_share_their_names() {
    same(async |s| {
        s.run(A, &[parse("s0", "SELECT $1::int"), sync()]).await;
        s.query(A, "EXECUTE s0(7)").await;
        s.query(A, "PREPARE s0 AS SELECT 1").await;
        s.query(A, "DEALLOCATE s0").await;
        s.run(A, &[bind("", "s0", &["1"]), sync()]).await;
        s.query(A, "EXECUTE s0(7)").await;
        s.query(A, "PREPARE s0(int) AS SELECT $1 + 1").await;
        s.run(
            A,
            &[
                describe_statement("s0"),
                bind("", "s0", &["1"]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.run(A, &[parse("s0", "SELECT 2"), sync()]).await;
        s.run(A, &[close_statement("s0"), sync()]).await;
        s.query(A, "EXECUTE s0(7)").await;
        s.run(A, &[parse("s0", "SELECT 2"), sync()]).await;
        s.query(A, "EXECUTE s0").await;
        s.query(A, "DEALLOCATE s0; EXECUTE s0; PREPARE s0 AS SELECT 3")
            .await;
        s.query(A, "EXECUTE s0").await;
    })
    .await;
}

#[tokio::test]
async fn what_is_prepared_in_a_pipeline_is_bound_behind_it() {
    same(async |s| {
        s.run(
            A,
            &[
                parse("p", "PREPARE x AS SELECT 'x'"),
                bind("", "p", &[]),
                execute("", 0),
                bind("", "x", &[]),
                execute("", 0),
                parse("e", "EXECUTE x"),
                bind("", "e", &[]),
                execute("", 0),
                parse("d", "DEALLOCATE x"),
                bind("", "d", &[]),
                execute("", 0),
                bind("", "x", &[]),
                sync(),
            ],
        )
        .await;
        s.run(A, &[bind("", "x", &[]), sync()]).await;
        s.run(A, &once("PREPARE x AS SELECT 1")).await;
        s.run(A, &once("PREPARE x AS SELECT 2")).await;
        s.run(A, &once("EXECUTE x")).await;
        s.run(A, &[bind("", "e", &[]), execute("", 0), sync()])
            .await;
        s.run(A, &once("DEALLOCATE none")).await;
        s.run(A, &once("DEALLOCATE x")).await;
        s.run(A, &[bind("", "x", &[]), execute("", 0), sync()])
            .await;
    })
    .await;
}

#[tokio::test]
async fn prepared_statements_are_no_matter_of_transactions() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "PREPARE x AS SELECT 'stays'").await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "EXECUTE x").await;
        s.query(A, "PREPARE y AS SELECT 'stays, too'; SELECT 1/0")
            .await;
        s.query(A, "EXECUTE y").await;
        s.query(A, "BEGIN; DEALLOCATE x; ROLLBACK").await;
        s.query(A, "EXECUTE x").await;
        s.query(A, "BEGIN").await;
        s.query(A, "SELECT 1/0").await;
        s.query(A, "DEALLOCATE y").await;
        s.query(A, "ROLLBACK").await;
        s.run(A, &[bind("", "y", &[]), execute("", 0), sync()])
            .await;
        s.query(A, "DEALLOCATE ALL").await;
        s.query(A, "EXECUTE y").await;
        s.run(A, &[bind("", "y", &[]), execute("", 0), sync()])
            .await;
        s.query(A, "PREPARE y AS SELECT 'anew'; EXECUTE y").await;
    })
    .await;
}

#[tokio::test]
async fn an_execute_stands_in_other_statements() {
    same(async |s| {
        s.query(A, "PREPARE x(int) AS SELECT $1 AS n").await;
        s.query(B, "PREPARE x(int) AS SELECT -$1 AS n").await;
        s.query(A, "EXPLAIN EXECUTE x(1)").await;
        s.query(A, "EXPLAIN (COSTS off, FORMAT json) EXECUTE x(2)").await;
        s.query(A, "EXPLAIN ANALYZE VERBOSE CREATE TABLE none AS EXECUTE nope")
            .await;
        s.query(A, "CREATE TABLE made AS EXECUTE x(3)").await;
        s.query(A, "CREATE TABLE IF NOT EXISTS public.made2 (m) WITH (fillfactor = 50) AS EXECUTE x(4) WITH NO DATA")
            .await;
        s.query(A, "CREATE TEMP TABLE made3 ON COMMIT PRESERVE ROWS AS EXECUTE x(5)")
            .await;
        s.query(A, "SELECT * FROM made; SELECT * FROM made2; SELECT * FROM made3")
            .await;
        s.query(A, "DROP TABLE made, made2, made3").await;
    })
    .await;
}

#[tokio::test]
async fn names_may_be_written_in_many_ways() {
    same(async |s| {
        let long = "x".repeat(60);
        for (name, other) in [
            ("\"X y\"", "\"X y\""),
            ("\"a\"\"b\"", "U&\"a\\0022b\""),
            ("Mixed", "mIXED"),
            ("U&\"!00e9\" UESCAPE '!'", "\"\u{e9}\""),
            ("/* c */ c -- d\n", "c"),
            (&long, &long),
        ] {
            s.query(A, &format!("PREPARE {name} AS SELECT 1")).await;
            s.query(B, &format!("PREPARE {name} AS SELECT 2")).await;
            s.query(A, &format!("EXECUTE {other}")).await;
            s.query(A, &format!("DEALLOCATE {other}")).await;
            s.query(B, &format!("DEALLOCATE {other}")).await;
        }
        s.query(A, "PREPARE \"\" AS SELECT 1").await;
        s.query(A, "PREPARE select AS SELECT 1").await;
        s.query(A, "EXECUTE").await;
        s.query(A, "DEALLOCATE").await;
    })
    .await;
}

#[tokio::test]
async fn errors_point_into_the_text_that_the_client_wrote() {
    same(async |s| {
        s.query(A, "PREPARE x AS SELECT nope FROM t").await;
        s.query(
            A,
            "SELECT 1; PREPARE \u{e9}\u{e9} AS SELECT '\u{fc}', nope FROM t",
        )
        .await;
        s.query(A, "PREPARE x AS SELECT 1 FROM").await;
        s.query(A, "PREPARE y AS SELECT 1; EXECUTE y; EXECUTE y (nope)")
            .await;
        s.query(A, "EXECUTE none (1").await;
        s.query(A, "BEGIN; PREPARE z(int) AS SELECT $1; EXECUTE z(1, nope)")
            .await;
        s.query(A, "ROLLBACK").await;
        s.run(A, &once("PREPARE x AS SELECT 1 +")).await;
        s.run(A, &once("PREPARE x AS SELECT nope")).await;
        s.run(A, &once("EXECUTE z (nope)")).await;
    })
    .await;
}

#[tokio::test]
async fn an_execute_of_a_drivers_statement_is_that_statement() {
    same(async |s| {
        s.run(
            A,
            &[
                parse("b", "BEGIN"),
                parse("c", "COMMIT"),
                parse("r", "ROLLBACK"),
                sync(),
            ],
        )
        .await;
        s.query(A, "EXECUTE b").await;
        s.query(A, "INSERT INTO audit VALUES ('x')").await;
        s.query(A, "EXECUTE r").await;
        s.query(A, "SELECT count(*) FROM audit").await;
    })
    .await;
}
