//! COPY, good and failing, wherever it may stand.

use std::time::Duration;

use crate::stage::{A, B, C, same, shared_only};
use crate::wire::{
    Frontend, bind, copy_data, copy_done, copy_fail, execute, flush, parse, query, sync,
};

const IN: &str = "COPY audit FROM STDIN";

fn extended(sql: &str) -> Vec<Frontend> {
    vec![parse("", sql), bind("", "", &[]), execute("", 0)]
}

#[tokio::test]
async fn a_copy_in_by_simple_query() {
    same(async |s| {
        s.send(A, &[query(IN)]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("one\ntw"), copy_data("o\n"), copy_done()])
            .await;
        s.send(A, &[query(IN)]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("three\n"), copy_fail("changed my mind")])
            .await;
        s.send(A, &[query("COPY parent FROM STDIN")]).await;
        s.until(A, b'G').await;
        s.run(
            A,
            &[copy_data("no number\n"), copy_data("1\n"), copy_done()],
        )
        .await;
        s.query(A, "SELECT msg FROM audit ORDER BY 1").await;
        s.query(B, "SELECT count(*) FROM parent").await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_in_whose_data_come_unasked() {
    same(async |s| {
        s.run(A, &[query(IN), copy_data("one\n"), copy_done()])
            .await;
        s.run(
            A,
            &[
                query("COPY nowhere FROM STDIN"),
                copy_data("one\n"),
                copy_done(),
            ],
        )
        .await;
        s.query(A, "SELECT msg FROM audit").await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_in_of_a_block() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.send(A, &[query(IN)]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("one\n"), copy_done()]).await;
        s.query(A, "SAVEPOINT a").await;
        s.send(A, &[query(IN)]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("two\ttoo many\n"), copy_done()]).await;
        s.query(A, "SELECT 1").await;
        s.query(A, "ROLLBACK TO a").await;
        s.query(A, "COMMIT").await;
        s.query(B, "SELECT msg FROM audit").await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_in_by_extended_query() {
    same(async |s| {
        // As tokio_postgres does it: the first Sync is ignored, the one behind the data counts.
        s.send(A, &[extended(IN), vec![sync()]].concat()).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("one\n"), copy_done(), sync()]).await;
        s.send(A, &[extended(IN), vec![sync()]].concat()).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("two\n"), copy_fail("no"), sync()])
            .await;
        // As libpq does it: no Sync before the data.
        s.send(A, &[extended(IN), vec![flush()]].concat()).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("three\n"), copy_done(), sync()]).await;
        s.send(A, &[extended(IN), vec![flush()]].concat()).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("four\t\n"), copy_done(), sync()])
            .await;
        s.query(A, "SELECT msg FROM audit ORDER BY 1").await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_copy_in_by_extended_query_answers_both_syncs() {
    same(async |s| {
        s.run(
            A,
            &[extended("COPY nowhere FROM STDIN"), vec![sync()]].concat(),
        )
        .await;
        s.run(A, &[copy_fail("late"), sync()]).await;
        s.query(A, "SELECT 1").await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_in_amid_a_pipeline() {
    same(async |s| {
        let messages = [
            extended("INSERT INTO audit VALUES ('before')"),
            extended(IN),
            vec![flush()],
        ];
        s.send(A, &messages.concat()).await;
        s.until(A, b'G').await;
        let rest = [
            vec![copy_data("copied\n"), copy_done()],
            extended("INSERT INTO audit VALUES ('after')"),
            vec![sync()],
        ];
        s.run(A, &rest.concat()).await;
        s.query(A, "SELECT msg FROM audit ORDER BY 1").await;
        s.send(A, &messages.concat()).await;
        s.until(A, b'G').await;
        let rest = [
            vec![copy_data("bad\tdata\n"), copy_done()],
            extended("INSERT INTO audit VALUES ('after')"),
            vec![sync()],
        ];
        s.run(A, &rest.concat()).await;
        s.query(A, "SELECT msg FROM audit ORDER BY 1").await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_in_sent_in_one_write_with_its_data() {
    same(async |s| {
        let messages = [
            extended(IN),
            vec![copy_data("one\n"), copy_done()],
            extended("INSERT INTO audit VALUES ('after')"),
            vec![sync(), query("SELECT msg FROM audit ORDER BY 1")],
        ];
        s.send(A, &messages.concat()).await;
        s.ready(A).await;
        s.ready(A).await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_in_among_the_statements_of_a_string() {
    same(async |s| {
        s.send(A, &[query("INSERT INTO audit VALUES ('before'); COPY audit FROM STDIN; SELECT msg FROM audit ORDER BY 1")])
            .await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("copied\n"), copy_done()]).await;
        s.send(A, &[query("COPY audit FROM STDIN; COPY parent FROM STDIN; SELECT 1")]).await;
        s.until(A, b'G').await;
        s.send(A, &[copy_data("copied too\n"), copy_done()]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("no number\n"), copy_done()]).await;
        s.send(A, &[query("COPY audit FROM STDIN; COMMIT; COPY parent FROM STDIN; SELECT 1/0")]).await;
        s.until(A, b'G').await;
        s.send(A, &[copy_data("kept\n"), copy_done()]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("1\n"), copy_done()]).await;
        s.send(A, &[query("BEGIN; COPY audit FROM STDIN; COMMIT")]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("in a block\n"), copy_done()]).await;
        s.query(A, "SELECT msg FROM audit ORDER BY 1").await;
        s.query(A, "SELECT count(*) FROM parent").await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_in_fires_deferred_triggers_and_constraints() {
    same(async |s| {
        s.send(A, &[query("COPY child FROM STDIN")]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("1\t999\n"), copy_done()]).await;
        s.send(A, &[query("COPY t(v) FROM STDIN")]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("x\ny\n"), copy_done()]).await;
        s.query(A, "SELECT msg FROM audit ORDER BY 1").await;
        s.send(
            A,
            &[extended("COPY child FROM STDIN"), vec![sync()]].concat(),
        )
        .await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("1\t999\n"), copy_done(), sync()])
            .await;
        s.query(A, "SELECT count(*) FROM child").await;
        s.send(A, &[query("SELECT 1; COPY child FROM STDIN")]).await;
        s.until(A, b'G').await;
        s.run(A, &[copy_data("1\t999\n"), copy_done()]).await;
        s.query(A, "SELECT count(*) FROM child").await;
    })
    .await;
}

#[tokio::test]
async fn constraints_are_checked_behind_a_copy_in_a_pipeline() {
    same(async |s| {
        let messages = [
            extended(IN),
            vec![copy_done()],
            extended("INSERT INTO child VALUES (1, 999)"),
            vec![sync()],
        ];
        s.run(A, &messages.concat()).await;
        s.query(A, "SELECT count(*) FROM child").await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_out() {
    same(async |s| {
        s.query(A, "INSERT INTO audit VALUES ('one'), ('two')")
            .await;
        s.query(A, "COPY audit TO STDOUT").await;
        s.run(
            A,
            &[extended("COPY audit TO STDOUT"), vec![sync()]].concat(),
        )
        .await;
        s.query(
            A,
            "COPY (SELECT 1/(2 - i) FROM generate_series(1, 3) i) TO STDOUT",
        )
        .await;
        s.query(
            A,
            "SELECT 1; COPY audit TO STDOUT; COMMIT; COPY audit TO STDOUT",
        )
        .await;
        s.query(A, "BEGIN").await;
        s.query(A, "COPY audit TO STDOUT").await;
        s.query(A, "COPY (SELECT 1/0) TO STDOUT").await;
        s.query(A, "COMMIT").await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_vanishes_amid_its_copy() {
    same(async |s| {
        s.send(A, &[query(IN)]).await;
        s.until(A, b'G').await;
        s.send(A, &[copy_data("one\n")]).await;
        s.drop_connection(A).await;
        s.query(B, "SELECT count(*) FROM audit").await;

        s.send(A, &[extended(IN), vec![sync()]].concat()).await;
        s.until(A, b'G').await;
        s.send(A, &[copy_data("two\n")]).await;
        s.drop_connection(A).await;
        s.query(B, "SELECT count(*) FROM audit").await;

        s.query(A, "BEGIN").await;
        s.query(A, "INSERT INTO audit VALUES ('three')").await;
        s.send(A, &[extended(IN), vec![flush()]].concat()).await;
        s.until(A, b'G').await;
        s.drop_connection(A).await;
        s.query(B, "SELECT count(*) FROM audit").await;

        s.send(
            A,
            &[query(
                "INSERT INTO audit VALUES ('four'); COPY audit FROM STDIN; SELECT 1",
            )],
        )
        .await;
        s.until(A, b'G').await;
        s.drop_connection(A).await;
        s.query(B, "SELECT count(*) FROM audit").await;
    })
    .await;
}

#[tokio::test]
async fn stray_copy_messages_are_ignored() {
    same(async |s| {
        s.run(
            A,
            &[
                copy_data("stray"),
                copy_done(),
                copy_fail("stray"),
                query("SELECT 1"),
            ],
        )
        .await;
        s.run(A, &[copy_done(), sync()]).await;
        s.query(A, "BEGIN").await;
        s.run(A, &[copy_data("stray"), query("SELECT 1")]).await;
        s.run(
            A,
            &[
                parse("", "SELECT 1"),
                copy_fail("stray"),
                bind("", "", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
    })
    .await;
}

/// Not compared, because a plain client may find its connection reset before it has read why.
#[tokio::test]
async fn a_wrong_message_amid_a_copy_ends_the_session() {
    let transcript = shared_only(
        |config| config,
        async |s| {
            s.send(A, &[query(IN)]).await;
            s.until(A, b'G').await;
            s.run(A, &[copy_data("one\n"), query("SELECT 'in between'")])
                .await;
            s.send(
                B,
                &[
                    extended(IN),
                    vec![copy_data("one\n"), parse("", "SELECT 1"), sync()],
                ]
                .concat(),
            )
            .await;
            s.ready(B).await;
            s.query(C, "SELECT count(*) FROM audit").await;
            s.run(
                C,
                &[extended(IN), extended("SELECT 'pipelined'"), vec![sync()]].concat(),
            )
            .await;
        },
    )
    .await;
    let answers: Vec<_> = transcript
        .iter()
        .filter(|line| line.contains(" < "))
        .collect();
    let expected = [
        "A < CopyInResponse [0, 0, 1, 0, 0]",
        "A < ErrorResponse ERROR 08P01 \"unexpected message type 0x51 during COPY from stdin\" context \"COPY audit, line 2\"",
        "A < ErrorResponse FATAL 08P01 \"terminating connection because protocol synchronization was lost\"",
        "A < (end)",
        "B < ParseComplete",
        "B < BindComplete",
        "B < CopyInResponse [0, 0, 1, 0, 0]",
        "B < ErrorResponse ERROR 08P01 \"unexpected message type 0x50 during COPY from stdin\" context \"COPY audit, line 2\"",
        "B < ErrorResponse FATAL 08P01 \"terminating connection because protocol synchronization was lost\"",
        "B < (end)",
        "C < RowDescription \"count\" int8 text",
        "C < DataRow \"0\"",
        "C < CommandComplete \"SELECT 1\"",
        "C < ReadyForQuery I",
        "C < ParseComplete",
        "C < BindComplete",
        "C < CopyInResponse [0, 0, 1, 0, 0]",
        "C < ErrorResponse ERROR 08P01 \"unexpected message type 0x50 during COPY from stdin\" context \"COPY audit, line 1\"",
        "C < ErrorResponse FATAL 08P01 \"terminating connection because protocol synchronization was lost\"",
        "C < (end)",
    ];
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn a_message_behind_the_bad_data_of_a_copy_is_answered() {
    same(async |s| {
        let messages = [
            query("COPY parent FROM STDIN"),
            copy_data("bad\n"),
            query("SELECT 'heard'"),
        ];
        s.run(A, &messages).await;
        s.ready(A).await;
    })
    .await;
}

#[tokio::test]
async fn who_waits_for_an_idle_copy_is_told_that_it_is_one() {
    let transcript = shared_only(
        |config| config.idle_in_transaction_timeout(Duration::from_millis(100)),
        async |s| {
            s.send(A, &[query(IN)]).await;
            s.until(A, b'G').await;
            s.query(B, "SELECT count(*) FROM audit").await;
            s.run(A, &[copy_data("one\n"), copy_done()]).await;
            s.query(B, "SELECT count(*) FROM audit").await;
        },
    )
    .await;
    let told = "B < ErrorResponse ERROR 55P03 \"another session sits idle in its COPY FROM STDIN, for which this one waits in \
                vain\" detail \"session 2 (it) waits with: SELECT count(*) FROM audit\\nsession 1 (it) is at: COPY audit FROM \
                STDIN; idle for ";
    assert!(
        transcript.iter().any(|line| line.starts_with(told)),
        "{transcript:#?}"
    );
    assert!(
        transcript.contains(&"B < DataRow \"1\"".to_owned()),
        "{transcript:#?}"
    );
}
