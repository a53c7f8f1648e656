//! LISTEN and NOTIFY, which a shared transaction delivers by itself.

use deadpool_postgres::RecyclingMethod;

use crate::stage::{A, B, C, Stage, same};
use crate::wire::{Frontend, bind, execute, once, parse, sync};

/// What is said of triggers is all in which a LISTEN differs, so it is taken out of the transcript.
fn forget_warning(stage: &mut Stage<'_>) {
    let is_warning = |line: &String| line.contains("NoticeResponse WARNING 01000 \"what triggers");
    let noted = stage.transcript.len();
    stage.transcript.retain(|line| !is_warning(line));
    assert_eq!(noted > stage.transcript.len(), stage.is_shared());
}

async fn listen(stage: &mut Stage<'_>, id: usize, channel: &str) {
    stage.query(id, &format!("LISTEN {channel}")).await;
    forget_warning(stage);
}

/// Awaits a notification, which comes by itself.
async fn hears(stage: &mut Stage<'_>, id: usize) {
    stage.until(id, b'A').await;
}

#[tokio::test]
async fn a_notification_reaches_all_who_listen_its_sender_included() {
    same(async |s| {
        listen(s, A, "news").await;
        listen(s, B, "\"news\"").await;
        listen(s, B, "other").await;
        s.query(C, "NOTIFY News, 'one'").await;
        hears(s, A).await;
        hears(s, B).await;
        s.query(A, "NOTIFY news").await;
        hears(s, B).await;
        s.query(C, "NOTIFY nobody, 'lost'; NOTIFY other, 'kept'")
            .await;
        hears(s, B).await;
        s.query(A, "SELECT 'nothing more'").await;
    })
    .await;
}

#[tokio::test]
async fn it_is_delivered_when_the_senders_transaction_is_committed() {
    same(async |s| {
        listen(s, A, "c").await;
        listen(s, B, "c").await;
        for sql in [
            "BEGIN",
            "NOTIFY c, 'kept'",
            "SELECT 1",
            "NOTIFY c, 'twice'",
            "NOTIFY c, 'kept'",
            "SELECT pg_notify('c', 'twice')",
            "NOTIFY c, 'last'",
            "COMMIT",
        ] {
            s.query(A, sql).await;
        }
        for _ in 0..3 {
            hears(s, B).await;
        }
        for sql in [
            "BEGIN",
            "NOTIFY c, 'rolled back'",
            "ROLLBACK",
            "BEGIN; NOTIFY c, 'of a failed block'; SELECT 1/0",
            "COMMIT",
            "NOTIFY c, 'of a failed string'; SELECT 1/0",
            "BEGIN; NOTIFY c, 'before a chain'; COMMIT AND CHAIN; NOTIFY c, 'in it'",
            "ROLLBACK",
            "NOTIFY c, 'committed'; COMMIT; NOTIFY c, 'not committed'; SELECT 1/0",
            "NOTIFY c, 'rolled back'; ROLLBACK; NOTIFY c, 'of a second transaction'",
            "SELECT 1; NOTIFY c, 'before BEGIN'; BEGIN; NOTIFY c, 'after BEGIN'",
            "ROLLBACK",
        ] {
            s.query(A, sql).await;
        }
        for _ in 0..3 {
            hears(s, B).await;
        }
        s.query(B, "SELECT 'nothing more'").await;
    })
    .await;
}

#[tokio::test]
async fn a_savepoint_takes_back_what_was_said_since() {
    same(async |s| {
        listen(s, A, "c").await;
        for sql in [
            "BEGIN",
            "NOTIFY c, 'a'",
            "SAVEPOINT s",
            "NOTIFY c, 'lost'",
            "LISTEN lost",
        ] {
            s.query(A, sql).await;
        }
        forget_warning(s);
        for sql in [
            "SELECT 1/0",
            "NOTIFY c, 'refused'",
            "ROLLBACK TO s",
            "NOTIFY c, 'b'",
            "RELEASE s",
            "SAVEPOINT s; NOTIFY c, 'c'; SAVEPOINT t; NOTIFY c, 'd'; RELEASE t; ROLLBACK TO SAVEPOINT s",
            "ROLLBACK TO t",
            "ROLLBACK TO s",
            "SELECT pg_notify('c', 'e')",
            "COMMIT",
            "NOTIFY lost",
            "SELECT 'nothing more'",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn listening_begins_and_ends_with_a_commit() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "NOTIFY a, 'before it listens'").await;
        listen(s, A, "a").await;
        s.query(A, "COMMIT").await;
        s.query(A, "BEGIN; LISTEN b; ROLLBACK").await;
        forget_warning(s);
        s.query(A, "NOTIFY b").await;
        s.query(A, "BEGIN; NOTIFY a, 'no longer heard'; UNLISTEN a; COMMIT")
            .await;
        listen(s, A, "a").await;
        s.query(A, "BEGIN; UNLISTEN *; ROLLBACK; NOTIFY a, 'still heard'")
            .await;
        s.query(
            A,
            "LISTEN b; UNLISTEN a; LISTEN c; UNLISTEN b; UNLISTEN none",
        )
        .await;
        forget_warning(s);
        s.query(A, "NOTIFY a; NOTIFY b; NOTIFY c").await;
        s.query(A, "UNLISTEN *").await;
        s.query(A, "NOTIFY c").await;
        s.query(A, "SELECT 'nothing more'").await;
    })
    .await;
}

#[tokio::test]
async fn a_session_in_a_block_hears_when_its_block_has_ended() {
    same(async |s| {
        listen(s, A, "c").await;
        s.query(A, "BEGIN").await;
        s.query(B, "NOTIFY c, '1'; NOTIFY c, '2'").await;
        s.query(A, "SELECT 'nothing yet'").await;
        s.query(A, "SELECT 1/0").await;
        s.query(B, "NOTIFY c, '3'").await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "BEGIN").await;
        s.query(B, "NOTIFY c, '4'").await;
        s.query(A, "UNLISTEN c; COMMIT").await;
        s.query(A, "SELECT 'nothing more'").await;
    })
    .await;
}

#[tokio::test]
async fn by_the_extended_protocol() {
    let pipeline = |statements: &[&str]| -> Vec<Frontend> {
        let mut messages = Vec::new();
        for sql in statements {
            messages.extend([parse("", sql), bind("", "", &[]), execute("", 0)]);
        }
        messages.push(sync());
        messages
    };
    same(async |s| {
        s.run(A, &once("LISTEN c")).await;
        forget_warning(s);
        s.run(A, &once("NOTIFY c, 'once'")).await;
        s.run(A, &[parse("n", "NOTIFY c, 'prepared'"), sync()])
            .await;
        for _ in 0..2 {
            s.run(A, &[bind("", "n", &[]), execute("", 0), sync()])
                .await;
        }
        s.run(A, &pipeline(&["NOTIFY c, 'kept'", "SELECT 1"])).await;
        s.run(A, &pipeline(&["NOTIFY c, 'lost'", "SELECT 1/0"]))
            .await;
        s.run(A, &pipeline(&["NOTIFY c, 'kept'", "COMMIT", "SELECT 1/0"]))
            .await;
        s.run(A, &pipeline(&["NOTIFY c, 'lost'", "ROLLBACK", "SELECT 1"]))
            .await;
        s.run(
            A,
            &pipeline(&[
                "BEGIN",
                "SAVEPOINT s",
                "NOTIFY c, 'lost'",
                "ROLLBACK TO s",
                "NOTIFY c, 'kept'",
            ]),
        )
        .await;
        s.run(A, &pipeline(&["COMMIT", "UNLISTEN *", "NOTIFY c"]))
            .await;
        s.query(A, "SELECT 'nothing more'").await;
    })
    .await;
}

#[tokio::test]
async fn pg_notify_takes_literals_and_parameters() {
    same(async |s| {
        listen(s, A, "\"C d\"").await;
        s.query(A, "SELECT pg_notify('C d', 'a literal')").await;
        s.query(
            A,
            "SELECT pg_catalog.pg_notify($$C d$$::text, E'\\'2\\''::text); SELECT 1",
        )
        .await;
        let notify = |channel: &str, payload: &str| {
            [bind("", "n", &[channel, payload]), execute("", 0), sync()]
        };
        s.run(A, &[parse("n", "SELECT pg_notify($1, $2::text)"), sync()])
            .await;
        s.run(A, &notify("C d", "a parameter")).await;
        s.run(A, &notify("c d", "another channel")).await;
        s.run(A, &notify("", "of no channel")).await;
        s.query(A, "BEGIN").await;
        s.run(A, &notify("C d", "in a block")).await;
        s.query(A, "SAVEPOINT s").await;
        s.run(A, &notify("C d", "taken back")).await;
        s.query(A, "ROLLBACK TO s").await;
        s.query(A, "COMMIT").await;
        // The row and its end come in two portions of one transaction.
        s.run(
            A,
            &[
                bind("", "n", &["C d", "in portions"]),
                execute("", 1),
                execute("", 1),
                sync(),
            ],
        )
        .await;
        s.run(
            A,
            &[
                parse("", "SELECT pg_notify('C d', $1)"),
                bind("", "", &["lost"]),
                execute("", 0),
                parse("", "SELECT 1/0"),
                bind("", "", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.query(A, "SELECT 'nothing more'").await;
    })
    .await;
}

#[tokio::test]
async fn errors_are_postgresqls_own() {
    same(async |s| {
        listen(s, A, "c").await;
        let long = "x".repeat(8000);
        let most = "y".repeat(7999);
        s.query(A, &format!("NOTIFY c, '{most}'")).await;
        s.query(A, &format!("NOTIFY c, '{long}'")).await;
        s.run(A, &once(&format!("NOTIFY c, '{long}'"))).await;
        s.query(A, &format!("SELECT pg_notify('c', '{long}')"))
            .await;
        s.query(A, &format!("SELECT pg_notify('{}', '')", "c".repeat(64)))
            .await;
        s.query(A, "SELECT pg_notify(NULL, 'x')").await;
        s.query(A, "NOTIFY c,").await;
        s.query(A, "LISTEN 'c'").await;
        s.query(A, "BEGIN; SELECT 1").await;
        s.query(A, &format!("NOTIFY c, '{long}'")).await;
        for sql in [
            "NOTIFY c",
            "LISTEN d",
            "UNLISTEN c",
            "UNLISTEN *",
            "SELECT 1",
        ] {
            s.query(A, sql).await;
            s.run(A, &once(sql)).await;
        }
        s.query(A, "COMMIT").await;
        s.query(A, &format!("BEGIN; NOTIFY c, '{long}'; SELECT 1"))
            .await;
        s.query(A, "NOTIFY c").await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "BEGIN").await;
        s.run(A, &once(&format!("NOTIFY c, '{long}'"))).await;
        s.run(A, &once("NOTIFY c")).await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "SELECT 'nothing more'").await;
    })
    .await;
}

#[tokio::test]
async fn recycling_cleans_its_own_session_only() {
    same(async |s| {
        let method = RecyclingMethod::Clean;
        let clean = method.query().expect("it is a query");
        listen(s, A, "c").await;
        listen(s, B, "c").await;
        s.query(A, clean).await;
        s.query(A, clean).await;
        s.query(C, "NOTIFY c, 'heard by one'").await;
        hears(s, B).await;
        s.query(A, "SELECT 'nothing'").await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_has_gone_hears_and_says_nothing() {
    same(async |s| {
        listen(s, A, "c").await;
        listen(s, B, "c").await;
        s.query(A, "BEGIN; NOTIFY c, 'never committed'").await;
        s.drop_connection(A).await;
        s.query(C, "NOTIFY c, 'said to who is there'").await;
        hears(s, B).await;
        s.query(B, "SELECT 'nothing more'").await;
    })
    .await;
}
