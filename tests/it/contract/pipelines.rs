//! The extended query protocol: pipelines, Flush and Sync, and transaction control amid them.

use crate::stage::{A, B, same};
use crate::wire::{
    bind, describe_portal, describe_statement, execute, flush, function_call, once, parse, query,
    sync,
};

#[tokio::test]
async fn an_error_skips_to_the_sync() {
    same(async |s| {
        let messages = [
            parse("a", "INSERT INTO t(v) VALUES ('a')"),
            bind("", "a", &[]),
            execute("", 0),
            parse("b", "SELECT 1/0"),
            bind("", "b", &[]),
            execute("", 0),
            parse("c", "SELECT 3"),
            bind("", "c", &[]),
            execute("", 0),
            sync(),
        ];
        s.run(A, &messages).await;
        s.query(A, "SELECT count(*) FROM t").await;
        s.run(A, &[bind("", "a", &[]), execute("", 0), sync()])
            .await;
        s.run(A, &[bind("", "c", &[]), execute("", 0), sync()])
            .await;
        s.run(A, &messages).await;
    })
    .await;
}

#[tokio::test]
async fn a_flush_is_answered_and_the_batch_goes_on() {
    same(async |s| {
        s.send(A, &[parse("", "INSERT INTO t(v) VALUES ('a')"), flush()])
            .await;
        s.until(A, b'1').await;
        s.send(A, &[bind("", "", &[]), execute("", 0), flush()])
            .await;
        s.until(A, b'C').await;
        s.run(A, &[sync()]).await;
        s.query(B, "SELECT v FROM t").await;
        s.send(
            A,
            &[
                parse("", "SELECT 1/0"),
                bind("", "", &[]),
                execute("", 0),
                flush(),
            ],
        )
        .await;
        s.until(A, b'E').await;
        s.send(A, &[parse("", "SELECT 1"), flush(), bind("", "", &[])])
            .await;
        s.run(A, &[sync()]).await;
        s.run(A, &[flush(), flush(), sync()]).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_vanishes_after_a_flush_loses_its_batch() {
    same(async |s| {
        s.send(
            A,
            &[
                parse("", "INSERT INTO t(v) VALUES ('a')"),
                bind("", "", &[]),
                execute("", 0),
                flush(),
            ],
        )
        .await;
        s.until(A, b'C').await;
        s.drop_connection(A).await;
        s.query(B, "SELECT count(*) FROM t").await;
        s.query(A, "BEGIN").await;
        s.send(
            A,
            &[
                parse("", "INSERT INTO t(v) VALUES ('a')"),
                bind("", "", &[]),
                execute("", 0),
                flush(),
            ],
        )
        .await;
        s.until(A, b'C').await;
        s.drop_connection(A).await;
        s.query(B, "INSERT INTO t(v) VALUES ('a')").await;
        s.send(
            A,
            &[
                parse("", "SELECT 1/0"),
                bind("", "", &[]),
                execute("", 0),
                flush(),
            ],
        )
        .await;
        s.until(A, b'E').await;
        s.drop_connection(A).await;
        s.query(B, "SELECT count(*) FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_vanishes_without_its_sync_loses_its_batch() {
    same(async |s| {
        s.send(
            A,
            &[
                parse("", "INSERT INTO t(v) VALUES ('a')"),
                bind("", "", &[]),
                execute("", 0),
            ],
        )
        .await;
        s.drop_connection(A).await;
        s.query(B, "SELECT count(*) FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn control_by_prepared_statements() {
    same(async |s| {
        s.run(
            A,
            &[
                parse("b", "BEGIN"),
                parse("c", "COMMIT"),
                parse("r", "ROLLBACK"),
                describe_statement("b"),
                sync(),
            ],
        )
        .await;
        let run = |name: &str| {
            vec![
                bind("", name, &[]),
                describe_portal(""),
                execute("", 0),
                sync(),
            ]
        };
        for name in ["b", "c", "c", "r", "b", "b", "r"] {
            s.run(A, &run(name)).await;
        }
        s.run(A, &run("b")).await;
        s.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        s.run(A, &run("c")).await;
        s.run(A, &run("b")).await;
        s.run(A, &once("INSERT INTO t(v) VALUES ('b')")).await;
        s.run(A, &once("SELECT 1/0")).await;
        s.run(A, &run("b")).await;
        s.run(A, &run("r")).await;
        s.run(A, &run("b")).await;
        s.run(A, &once("INSERT INTO t(v) VALUES ('a')")).await;
        s.run(A, &run("c")).await;
        s.query(B, "SELECT v FROM t").await;
        for sql in [
            "COMMIT AND CHAIN",
            "START TRANSACTION READ ONLY",
            "INSERT INTO t(v) VALUES ('c')",
            "ABORT",
        ] {
            s.run(A, &once(sql)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_failed_block_is_brought_back_and_committed_in_one_pipeline() {
    same(async |s| {
        for end in ["COMMIT", "BEGIN", "ROLLBACK"] {
            s.query(A, "BEGIN; INSERT INTO audit VALUES ('kept'); SAVEPOINT s1")
                .await;
            s.query(A, "SELECT 1/0").await;
            let mut messages = Vec::new();
            for sql in ["ROLLBACK TO s1", end] {
                messages.extend([parse("", sql), bind("", "", &[]), execute("", 0)]);
            }
            messages.push(sync());
            s.run(A, &messages).await;
            s.query(A, "SELECT count(*) FROM audit").await;
            s.query(A, "COMMIT").await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_empty_query_without_a_sync_before_it() {
    same(async |s| {
        s.run(A, &[parse("", "SELECT 1"), query(";")]).await;
        // It leaves the unnamed portal alone.
        s.query(A, "BEGIN").await;
        s.run(A, &[parse("", "SELECT 1"), bind("", "", &[]), query(";")])
            .await;
        s.run(A, &[execute("", 0), sync()]).await;
    })
    .await;
}

#[tokio::test]
async fn savepoints_by_extended_query() {
    same(async |s| {
        for sql in [
            "SAVEPOINT a",
            "BEGIN",
            "SAVEPOINT a",
            "INSERT INTO t(v) VALUES ('a')",
            "SELECT 1/0",
            "ROLLBACK TO a",
            "INSERT INTO t(v) VALUES ('b')",
            "RELEASE a",
            "RELEASE a",
            "SELECT 1",
            "ROLLBACK TO a",
            "COMMIT",
            "SELECT count(*) FROM t",
        ] {
            s.run(A, &once(sql)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn control_amid_a_pipeline() {
    same(async |s| {
        let run = |sql: &str| vec![parse("", sql), bind("", "", &[]), execute("", 0)];
        let batch = |texts: &[&str]| {
            let mut messages: Vec<_> = texts.iter().flat_map(|sql| run(sql)).collect();
            messages.push(sync());
            messages
        };
        for texts in [
            &[
                "BEGIN",
                "INSERT INTO t(v) VALUES ('a')",
                "COMMIT",
                "INSERT INTO t(v) VALUES ('b')",
            ][..],
            &[
                "BEGIN",
                "INSERT INTO t(v) VALUES ('c')",
                "ROLLBACK",
                "INSERT INTO t(v) VALUES ('d')",
            ],
            &[
                "BEGIN",
                "INSERT INTO t(v) VALUES ('e')",
                "COMMIT",
                "SELECT 1/0",
                "SELECT 2",
            ],
            &[
                "BEGIN",
                "INSERT INTO t(v) VALUES ('f')",
                "SELECT 1/0",
                "COMMIT",
            ],
            &["COMMIT"],
            &["COMMIT", "INSERT INTO t(v) VALUES ('g')", "COMMIT"],
            &["BEGIN", "BEGIN", "COMMIT", "COMMIT"],
            &[
                "BEGIN",
                "INSERT INTO t(v) VALUES ('h')",
                "COMMIT",
                "BEGIN",
                "INSERT INTO t(v) VALUES ('i')",
            ],
            &["ROLLBACK", "SELECT v FROM t ORDER BY v"],
        ] {
            s.run(A, &batch(texts)).await;
            s.query(A, "SELECT v FROM t ORDER BY v").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_begin_after_other_statements_of_a_pipeline() {
    same(async |s| {
        let run = |sql: &str| vec![parse("", sql), bind("", "", &[]), execute("", 0)];
        let insert = run("INSERT INTO t(v) VALUES ('a')");
        s.run(
            A,
            &[
                insert,
                run("BEGIN"),
                run("INSERT INTO t(v) VALUES ('b')"),
                vec![sync()],
            ]
            .concat(),
        )
        .await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "SELECT v FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn a_query_without_a_sync_before_it() {
    same(async |s| {
        let insert = [
            parse("", "INSERT INTO t(v) VALUES ('a')"),
            bind("", "", &[]),
            execute("", 0),
        ];
        // Since release 18 PostgreSQL takes the Query into the implicit transaction of what is before it, and leaves it open
        // until a Sync, which a shared transaction doesn't.
        let between = match s.database().release().await >= 18 {
            true => vec![sync()],
            false => Vec::new(),
        };
        s.run(
            A,
            &[&insert[..], &between, &[query("SELECT count(*) FROM t")]].concat(),
        )
        .await;
        s.query(A, "SELECT count(*) FROM t").await;
        // The Execute fails, so the Query is skipped like anything else before the Sync.
        let fail = [parse("", "SELECT 1/0"), bind("", "", &[]), execute("", 0)];
        s.run(
            A,
            &[&fail[..], &[query("SELECT 'skipped'"), sync()]].concat(),
        )
        .await;
        s.query(A, "SELECT 'heard'").await;
    })
    .await;
}

#[tokio::test]
async fn a_function_call() {
    same(async |s| {
        // int4pl, and int4div by zero.
        s.run(A, &[function_call(177, &["1", "2"])]).await;
        s.run(A, &[function_call(154, &["1", "0"])]).await;
        s.run(A, &[function_call(1, &[])]).await;
        s.query(A, "BEGIN").await;
        s.run(A, &[function_call(177, &["3", "4"])]).await;
        s.run(A, &[function_call(154, &["1", "0"])]).await;
        s.run(A, &[function_call(177, &["5", "6"])]).await;
        s.query(A, "ROLLBACK").await;
        s.run(A, &[function_call(177, &["7", "8"])]).await;
    })
    .await;
}

#[tokio::test]
async fn syncs_alone() {
    same(async |s| {
        s.send(
            A,
            &[
                sync(),
                sync(),
                query("BEGIN"),
                sync(),
                query("SELECT 1/0"),
                sync(),
            ],
        )
        .await;
        for _ in 0..6 {
            s.ready(A).await;
        }
    })
    .await;
}

#[tokio::test]
async fn large_values_and_many_columns() {
    same(async |s| {
        s.query(A, "SELECT repeat('x', 64 * 1024 * 1024)").await;
        let columns: Vec<_> = (0..1_000).map(|n| format!("{n} AS c{n}")).collect();
        s.query(A, &format!("SELECT {}", columns.join(", "))).await;
        let value = "y".repeat(8 * 1024 * 1024);
        s.run(
            A,
            &[
                parse("", "SELECT length($1)"),
                bind("", "", &[&value]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_needs_a_block_may_follow_in_a_pipeline() {
    same(async |s| {
        // In a mode in which it can still be counted.
        let lock = "LOCK TABLE audit IN SHARE MODE";
        for statements in [
            &["SELECT 1", lock][..],
            &[lock, "SELECT 1"],
            &["SELECT 1", "DECLARE c CURSOR FOR SELECT 1", "FETCH c"],
            &["SELECT 1", "DISCARD ALL"],
            &["DISCARD ALL", "DISCARD ALL", "SELECT 1"],
            &["SELECT 1", "SET LOCAL work_mem = '1MB'", "SHOW work_mem"],
            &["SELECT 1", "SET TRANSACTION READ ONLY"],
            &["SELECT 1", "SET CONSTRAINTS ALL DEFERRED"],
            &["SELECT 1", "SAVEPOINT a"],
            &["SELECT 1", "COMMIT", lock],
            &["SELECT 1", "COMMIT", "DISCARD ALL"],
            &["SELECT 1", "BEGIN", lock, "COMMIT", "DISCARD ALL"],
            &["SELECT 1", "BEGIN", "SELECT 1", "COMMIT", lock],
            &["SET LOCAL work_mem = '1MB'", lock],
            &["CLOSE ALL", lock],
            &["", lock],
        ] {
            let each = |sql: &&str| [parse("", sql), bind("", "", &[]), execute("", 0)];
            let mut messages: Vec<_> = statements.iter().flat_map(each).collect();
            messages.push(sync());
            s.run(A, &messages).await;
        }
    })
    .await;
}
