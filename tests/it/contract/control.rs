//! Transaction control where an application may write it: unmatched, nested, chained, in strings of several statements.

use crate::stage::{A, B, same};
use crate::wire::{bind, close_statement, execute, flush, parse, query, sync};

#[tokio::test]
async fn unmatched_control_warns_or_fails_as_ever() {
    same(async |s| {
        for sql in [
            "COMMIT",
            "ROLLBACK",
            "END",
            "ABORT",
            "COMMIT AND CHAIN",
            "ROLLBACK AND CHAIN",
            "COMMIT AND NO CHAIN",
            "SAVEPOINT a",
            "RELEASE a",
            "ROLLBACK TO a",
            "LOCK TABLE t",
            "DECLARE c CURSOR FOR SELECT 1",
            "/* a comment */ COMMIT -- and another",
            "COMMIT;",
            ";COMMIT;;",
            "SELECT count(*) FROM t",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn nested_control_is_one_level_deep() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "BEGIN",
            "INSERT INTO t(v) VALUES ('a')",
            "START TRANSACTION",
            "COMMIT",
            "COMMIT",
            "BEGIN; BEGIN; INSERT INTO t(v) VALUES ('b'); COMMIT; COMMIT",
            "SELECT v FROM t ORDER BY v",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_failed_block_takes_nothing_but_its_end() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "SAVEPOINT a",
            "nonsense",
            "SELECT 1",
            "BEGIN",
            "SAVEPOINT b",
            "RELEASE a",
            "",
            "-- nothing",
            "DEALLOCATE ALL",
            "ROLLBACK TO nowhere",
            "ROLLBACK TO a",
            "SELECT 'alive'",
            "ROLLBACK TO SAVEPOINT a; SELECT 'twice'",
            "SELECT 1/0",
            "ROLLBACK TO a; SELECT 'in a string'",
            "SELECT 1/0",
            "COMMIT AND CHAIN",
            "SELECT 'chained'",
            "SELECT 1/0",
            "ROLLBACK AND CHAIN",
            "SELECT 'chained again'",
            "ROLLBACK",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_block_that_fails_before_anything_ran_in_it() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "COMMIT AND CHAIN",
            "SELECT FROM WHERE",
            "SELECT 1",
            "COMMIT",
            "BEGIN",
            "ROLLBACK TO a",
            "INSERT INTO t(v) VALUES ('never')",
            "ROLLBACK",
            "SELECT count(*) FROM t",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

/// Between the failure and the end of such a block nothing is sent that the server would have to see.
#[tokio::test]
async fn a_block_that_failed_before_anything_ran_in_it_stays_failed() {
    same(async |s| {
        let insert = || [parse("", INSERT), bind("", "", &[]), execute("", 0)];
        let roll_back = || [parse("r", "ROLLBACK"), bind("", "r", &[]), execute("", 0)];
        for messages in [
            vec![parse("p", "ROLLBACK"), sync()],
            [&insert()[..], &roll_back(), &[sync()]].concat(),
            [&roll_back()[..], &insert(), &[sync()]].concat(),
            vec![
                parse("c", "COMMIT"),
                flush(),
                bind("", "c", &[]),
                execute("", 0),
                sync(),
            ],
            vec![query(
                "ROLLBACK; INSERT INTO t(v) VALUES ('after'); SELECT v FROM t",
            )],
            vec![query("COMMIT; SELECT v FROM t")],
            vec![query("ROLLBACK TO nowhere")],
            vec![query("ROLLBACK AND CHAIN; SELECT v FROM t")],
            vec![query("INSERT INTO t(v) VALUES ('never'); ROLLBACK")],
            vec![
                query("ROLLBACK; BEGIN; SELECT 1; SELECT 1/0"),
                query("ROLLBACK; SELECT 2"),
            ],
        ] {
            s.query(A, "BEGIN").await;
            s.query(A, "DISCARD ALL").await;
            for message in messages {
                let is_answered = matches!(message.frame[0], b'Q' | b'S');
                s.send(A, &[message]).await;
                if is_answered {
                    s.ready(A).await;
                }
            }
            s.query(A, INSERT).await;
            s.query(A, "COMMIT").await;
            s.run(
                A,
                &[
                    close_statement("r"),
                    close_statement("c"),
                    close_statement("p"),
                    sync(),
                ],
            )
            .await;
            s.query(B, "SELECT v FROM t; DELETE FROM t").await;
        }
    })
    .await;
}

const INSERT: &str = "INSERT INTO t(v) VALUES ('never')";

#[tokio::test]
async fn a_commit_in_a_string_ends_the_implicit_transaction() {
    same(async |s| {
        for sql in [
            "INSERT INTO t(v) VALUES ('a'); COMMIT; INSERT INTO t(v) VALUES ('b')",
            "INSERT INTO t(v) VALUES ('c'); COMMIT; SELECT 1/0; INSERT INTO t(v) VALUES ('d')",
            "INSERT INTO t(v) VALUES ('e'); ROLLBACK; INSERT INTO t(v) VALUES ('f')",
            "INSERT INTO t(v) VALUES ('g'); SELECT 1/0",
            "INSERT INTO t(v) VALUES ('h'); SELECT 1; SELECT v FROM t ORDER BY v",
            "SELECT v FROM t ORDER BY v",
        ] {
            s.query(A, sql).await;
            s.query(B, "SELECT count(*) FROM t").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_begin_in_a_string_takes_the_implicit_transaction_over() {
    same(async |s| {
        for sql in [
            "INSERT INTO t(v) VALUES ('a'); BEGIN; INSERT INTO t(v) VALUES ('b')",
            "SELECT 'in the block'; ROLLBACK; INSERT INTO t(v) VALUES ('c')",
            "SELECT v FROM t ORDER BY v",
            "BEGIN; INSERT INTO t(v) VALUES ('d'); COMMIT; BEGIN; INSERT INTO t(v) VALUES ('e'); ROLLBACK",
            "BEGIN; INSERT INTO t(v) VALUES ('f'); SELECT 1/0; COMMIT",
            "COMMIT",
            "BEGIN; SAVEPOINT a; SELECT 1/0; ROLLBACK TO a",
            "ROLLBACK TO a; COMMIT",
            "SAVEPOINT a; SELECT 1",
            "SELECT 1; RELEASE a",
            "SELECT 1; LOCK TABLE audit IN SHARE MODE; DECLARE c CURSOR FOR SELECT 7; FETCH c",
            "BEGIN READ ONLY; SELECT 1; COMMIT; INSERT INTO t(v) VALUES ('g')",
            "BEGIN; INSERT INTO t(v) VALUES ('h'); COMMIT AND CHAIN; INSERT INTO t(v) VALUES ('i'); ROLLBACK AND CHAIN; COMMIT",
            "INSERT INTO t(v) VALUES ('j'); COMMIT AND CHAIN; INSERT INTO t(v) VALUES ('k')",
            "SELECT v FROM t ORDER BY v",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_string_that_does_not_end_runs_none_of_its_statements() {
    same(async |s| {
        for sql in [
            "INSERT INTO t(v) VALUES ('a'); SELEKT 1",
            "INSERT INTO t(v) VALUES ('a'); COMMIT; SELECT 1; SELECT 'open",
            "COMMIT; SELECT (1",
            "SELECT v FROM t",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_error_in_a_string_points_into_the_whole_of_it() {
    same(async |s| {
        for sql in [
            "SELECT nothing FROM t",
            "SELECT 'ä'; SELECT nothing FROM t",
            "BEGIN; SELECT 'ä€😀'; SELECT nothing FROM t; COMMIT",
            "ROLLBACK",
            "COMMIT; /* é */ SELECT 1 FROM nowhere",
            "  SELECT 1;\n\n COMMIT;\n  SELECT a.b FROM t",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_empty_query_is_answered_as_such() {
    same(async |s| {
        for sql in [
            "",
            ";",
            " ;; ",
            "-- comment",
            "BEGIN;;",
            "",
            "SELECT 1;;",
            "/* */",
            "COMMIT",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn queries_that_are_sent_together_are_answered_one_by_one() {
    same(async |s| {
        let texts = [
            "INSERT INTO t(v) VALUES ('a')",
            "BEGIN",
            "INSERT INTO t(v) VALUES ('a')",
            "SELECT 1",
            "ROLLBACK",
            "SELECT count(*) FROM t",
            "COMMIT",
            "",
        ];
        s.send(A, &texts.map(query)).await;
        for _ in texts {
            s.ready(A).await;
        }
    })
    .await;
}

#[tokio::test]
async fn cursors_end_with_their_block() {
    same(async |s| {
        for sql in [
            "BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 5)",
            "FETCH 2 FROM c",
            "SAVEPOINT a",
            "FETCH 1 FROM c",
            "ROLLBACK TO a",
            "FETCH 1 FROM c",
            "COMMIT",
            "FETCH 1 FROM c",
            "BEGIN; DECLARE c CURSOR FOR SELECT 1",
            "ROLLBACK",
            "SELECT 1; DECLARE c CURSOR FOR SELECT 1; DEALLOCATE ALL; FETCH c",
            "FETCH c",
            "BEGIN",
            "FETCH 1 FROM c",
            "ROLLBACK",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}
