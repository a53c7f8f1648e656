//! Transactions of one session and of several.

use std::time::Duration;

use crate::stage::{A, B, C, Stage, same, shared_only};
use crate::wire::{bind, execute, parse, query, sync, terminate};

#[tokio::test]
async fn a_failing_statement_outside_a_block_costs_only_itself() {
    same(async |s| {
        s.query(A, "INSERT INTO t(v) VALUES ('x')").await;
        s.query(A, "INSERT INTO t(v) VALUES ('x')").await;
        s.query(B, "SELECT count(*) FROM t").await;
        s.query(B, "SELECT nothing FROM t").await;
        s.query(A, "SELECT v FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn a_block_that_is_rolled_back_undoes_only_itself() {
    same(async |s| {
        s.query(A, "INSERT INTO t(v) VALUES ('fixture')").await;
        for sql in [
            "BEGIN",
            "INSERT INTO t(v) VALUES ('a')",
            "SELECT 1/0",
            "SELECT 1",
            "ROLLBACK",
        ] {
            s.query(A, sql).await;
        }
        s.query(B, "SELECT v FROM t").await;
        s.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        s.query(B, "SELECT v FROM t ORDER BY v").await;
    })
    .await;
}

#[tokio::test]
async fn commit_of_a_failed_block_answers_rollback() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "INSERT INTO t(v) VALUES ('a')",
            "SELECT 1/0",
            "COMMIT",
        ] {
            s.query(A, sql).await;
        }
        s.query(A, "SELECT count(*) FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn a_block_that_fails_at_its_first_statement_is_ended_by_what_begins_with_rollback() {
    same(async |s| {
        for sql in [
            "ROLLBACK; SELECT 1",
            "COMMIT; SELECT 1",
            "ROLLBACK AND CHAIN; SELECT 1",
            "SELECT 1; ROLLBACK",
            "SELECT 1",
        ] {
            s.query(A, "BEGIN").await;
            s.query(A, "DISCARD ALL").await;
            s.query(A, sql).await;
            s.query(A, "ROLLBACK").await;
        }
        let run = |sql| [parse("", sql), bind("", "", &[]), execute("", 0)];
        for batch in [["ROLLBACK", "SELECT 1"], ["SELECT 1", "ROLLBACK"]] {
            s.query(A, "BEGIN").await;
            s.query(A, "DISCARD ALL").await;
            let messages = batch.into_iter().flat_map(run).chain([sync()]);
            s.run(A, &messages.collect::<Vec<_>>()).await;
            s.query(A, "ROLLBACK").await;
        }
    })
    .await;
}

#[tokio::test]
async fn blocks_of_two_sessions_never_interleave() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        s.send(
            B,
            &[
                query("BEGIN"),
                query("INSERT INTO t(v) VALUES ('b')"),
                query("COMMIT"),
            ],
        )
        .await;
        s.query(A, "SELECT 'A is not disturbed'").await;
        s.query(A, "ROLLBACK").await;
        for _ in 0..3 {
            s.ready(B).await;
        }
        s.query(A, "SELECT v FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn savepoints_of_two_sessions_may_have_one_name() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "INSERT INTO t(v) VALUES ('a')",
            "SAVEPOINT sp_1",
            "INSERT INTO t(v) VALUES ('lost')",
            "ROLLBACK TO sp_1",
            "SAVEPOINT sp_1",
            "SELECT 1/0",
            "ROLLBACK TO sp_1",
        ] {
            s.query(A, sql).await;
        }
        s.query(B, "BEGIN").await;
        s.send(B, &[query("SAVEPOINT sp_1"), query("ROLLBACK TO sp_1")])
            .await;
        s.waits(B).await;
        s.query(A, "COMMIT").await;
        s.ready(B).await;
        s.ready(B).await;
        s.query(B, "ROLLBACK TO sp_1").await;
        s.query(B, "RELEASE sp_1").await;
        s.query(B, "RELEASE sp_1").await;
        s.query(B, "COMMIT").await;
        s.query(A, "SELECT v FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn waiting_sessions_are_served_first_come_first_served() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE")
            .await;
        let insert = |value: &str| {
            query(&format!(
                "LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE; INSERT INTO audit VALUES ('{value}')"
            ))
        };
        s.send(B, &[insert("first")]).await;
        lock_is_awaited_by(s, 1).await;
        s.send(C, &[insert("second")]).await;
        lock_is_awaited_by(s, 2).await;
        s.waits(B).await;
        s.waits(C).await;
        s.query(A, "COMMIT").await;
        s.ready(C).await;
        s.ready(B).await;
        s.query(A, "SELECT msg FROM audit ORDER BY ctid").await;
    })
    .await;
}

/// On a plain server the order of those who wait is that in which they have reached the lock.
async fn lock_is_awaited_by(s: &Stage<'_>, count: u32) {
    if !s.is_shared() {
        let sql = format!(
            "SELECT count(*) = {count} FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event_type = 'Lock'"
        );
        s.database().until(&sql).await;
    }
}

#[tokio::test]
async fn a_session_that_vanishes_rolls_its_block_back_and_passes_the_lease_on() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        s.send(B, &[query("INSERT INTO t(v) VALUES ('a')")]).await;
        s.waits(B).await;
        s.drop_connection(A).await;
        s.ready(B).await;
        s.query(B, "SELECT v FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_says_goodbye_in_its_block_rolls_it_back() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        s.send(A, &[terminate()]).await;
        assert!(s.next(A).await.is_none());
        s.query(B, "INSERT INTO t(v) VALUES ('a')").await;
    })
    .await;
}

#[tokio::test]
async fn what_a_vanished_session_has_sent_whole_is_finished() {
    same(async |s| {
        s.send(A, &[query("INSERT INTO t(v) VALUES ('a')")]).await;
        s.drop_connection(A).await;
        s.query(B, "SELECT v FROM t").await;
        let insert = [
            parse("", "INSERT INTO t(v) VALUES ('b')"),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ];
        s.send(A, &insert).await;
        s.drop_connection(A).await;
        s.query(B, "SELECT v FROM t ORDER BY v").await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_vanishes_in_a_failed_block_is_no_trouble() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        s.query(A, "SELECT 1/0").await;
        s.drop_connection(A).await;
        s.query(B, "SELECT count(*) FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_vanishes_while_it_waits_leaves_the_queue() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "INSERT INTO t(v) VALUES ('a')").await;
        s.send(B, &[query("BEGIN"), query("INSERT INTO t(v) VALUES ('b')")])
            .await;
        s.ready(B).await;
        s.waits(B).await;
        s.send(C, &[query("SELECT 'C is served'")]).await;
        s.waits(C).await;
        s.drop_connection(B).await;
        s.query(A, "COMMIT").await;
        s.ready(C).await;
        s.query(C, "SELECT v FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn read_only_is_enforced_and_ends_with_the_block() {
    same(async |s| {
        for sql in [
            "BEGIN READ ONLY",
            "SELECT count(*) FROM t",
            "INSERT INTO t(v) VALUES ('a')",
            "ROLLBACK",
            "INSERT INTO t(v) VALUES ('a')",
            "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
            "INSERT INTO t(v) VALUES ('b')",
            "COMMIT",
            "BEGIN; INSERT INTO t(v) VALUES ('c')",
            "COMMIT AND CHAIN",
            "INSERT INTO t(v) VALUES ('d')",
            "ROLLBACK AND CHAIN",
            "SELECT v FROM t ORDER BY v",
            "COMMIT",
            "BEGIN READ ONLY; COMMIT AND CHAIN; INSERT INTO t(v) VALUES ('e')",
            "ROLLBACK AND CHAIN",
            "INSERT INTO t(v) VALUES ('e')",
            "ROLLBACK",
            "SELECT v FROM t ORDER BY v",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_modes_of_a_nested_begin_are_obeyed() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "INSERT INTO t(v) VALUES ('a')",
            "BEGIN READ ONLY",
            "INSERT INTO t(v) VALUES ('b')",
            "ROLLBACK",
            "SELECT 1; BEGIN READ ONLY; INSERT INTO t(v) VALUES ('c')",
            "ROLLBACK",
            "BEGIN READ ONLY; BEGIN READ WRITE",
            "COMMIT",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_sits_idle_is_named_to_who_waits_for_it() {
    let transcript = shared_only(
        |config| config.idle_in_transaction_timeout(Duration::from_millis(100)),
        async |s| {
            s.query(A, "BEGIN").await;
            s.query(A, "INSERT INTO t(v) VALUES ('a')").await;
            s.query(B, "SELECT count(*)\n  FROM t").await;
            s.query(A, "COMMIT").await;
            s.query(B, "SELECT count(*) FROM t").await;
        },
    )
    .await;
    let error = transcript
        .iter()
        .find(|line| line.contains("55P03"))
        .expect("it is refused");
    assert_eq!(
        without_durations(error),
        "B < ErrorResponse ERROR 55P03 \"another session sits idle in its transaction block, for which this one waits in \
         vain\" detail \"session 2 (it) waits with: SELECT count(*) FROM t\\nsession 1 (it) has held it for _ s, since: BEGIN; \
         its last statement was: INSERT INTO t(v) VALUES ('a'); idle for _ s\" hint \"In a shared transaction, \
         blocks of several sessions exclude each other. Commit or roll back the block before a second client is used, or \
         run the statement on the client that holds the block. If the holder is merely slow, raise \
         Config::idle_in_transaction_timeout.\""
    );
    assert_eq!(transcript.last().expect("it ends"), "B < ReadyForQuery I");
    assert!(
        transcript.contains(&"B < DataRow \"1\"".to_owned()),
        "{transcript:#?}"
    );
}

fn without_durations(text: &str) -> String {
    let mut words: Vec<_> = text.split(' ').collect();
    for index in 1..words.len() {
        if words[index].trim_end_matches(['"', '\\', 'n', ',']) == "s"
            && words[index - 1].parse::<f64>().is_ok()
        {
            words[index - 1] = "_";
        }
    }
    words.join(" ")
}

#[tokio::test]
async fn a_slow_statement_is_no_idle_holder() {
    shared_only(
        |config| config.idle_in_transaction_timeout(Duration::from_millis(50)),
        async |s| {
            s.query(A, "BEGIN").await;
            s.send(A, &[query("SELECT pg_sleep(0.5)")]).await;
            s.send(B, &[query("SELECT 'served'")]).await;
            s.ready(A).await;
            s.query(A, "COMMIT").await;
            s.ready(B).await;
            assert!(
                s.transcript.contains(&"B < DataRow \"served\"".to_owned()),
                "{:#?}",
                s.transcript
            );
        },
    )
    .await;
}
