//! Messages that no driver sends: with contents that don't add up, out of place, or too long.

use crate::stage::{A, B, Stage, same};
use crate::wire::{
    Frontend, bind, copy_data, copy_done, copy_fail, describe_portal, execute, flush, garbage,
    header, once, parse, query, raw, sync,
};

/// One of each type with a byte too few, too many, or a wrong one in it.
fn malformed() -> Vec<Frontend> {
    [
        (b'Q', &b"SELECT 1"[..]),
        (b'Q', b""),
        (b'Q', b"SELECT 1\0SELECT 2\0"),
        (b'Q', b"BEGIN\0\0"),
        (b'P', b""),
        (b'P', b"s\0SELECT 1"),
        (b'P', b"s\0SELECT 1\0"),
        (b'P', b"s\0SELECT 1\0\0"),
        (b'P', b"s\0SELECT 1\0\0\x01\0\0"),
        (b'P', b"s\0SELECT 1\0\0\0\0"),
        (b'P', b"\0BEGIN\0\0\0\0"),
        (b'P', b"\0COMMIT\0"),
        (b'B', b""),
        (b'B', b"\0s"),
        (b'B', b"\0known\0"),
        (b'B', b"\0known\0\0\0\0\0\0"),
        (b'B', b"\0known\0\0\0\0\0\0\0\0"),
        (b'B', b"\0known\0\0\0\xff\xff\0\0"),
        (b'B', b"\0known\0\0\x02\0\0\0\x01\0\0\0\0"),
        (b'B', b"\0known\0\0\0\0\x01\0\0\0\x09too short"),
        (b'D', b""),
        (b'D', b"S"),
        (b'D', b"Sknown"),
        (b'D', b"Sknown\0\0"),
        (b'D', b"Xknown\0"),
        (b'C', b""),
        (b'C', b"S"),
        (b'C', b"Sknown"),
        (b'C', b"Sknown\0more"),
        (b'C', b"Xknown\0"),
        (b'E', b""),
        (b'E', b"\0"),
        (b'E', b"\0\0\0\0"),
        (b'E', b"\0\0\0\0\0\0"),
        (b'F', b""),
        (b'F', b"\0\0"),
        (b'F', b"\0\0\x04\xd2\0\x01"),
        (b'H', b"?"),
        (b'S', b"?"),
    ]
    .into_iter()
    .map(|(tag, body)| raw(tag, body))
    .collect()
}

/// Sends these and a Sync, and awaits all answers.
async fn batch(s: &mut Stage<'_>, messages: &[Frontend]) {
    let ends = |message: &&Frontend| b"QFS".contains(&message.frame[0]);
    let answers = messages.iter().filter(ends).count();
    s.send(A, &[messages, &[sync()]].concat()).await;
    for _ in 0..=answers {
        s.ready(A).await;
    }
}

/// Has each malformed message come after others in its batch, and the session's state looked at.
async fn each_after(s: &mut Stage<'_>, prologue: &[Frontend], before: &[Frontend]) {
    for message in malformed() {
        batch(s, prologue).await;
        s.run(A, &[parse("known", "SELECT 7"), sync()]).await;
        batch(s, &[before, std::slice::from_ref(&message)].concat()).await;
        s.run(A, &[bind("", "known", &[]), execute("", 0), sync()])
            .await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "DEALLOCATE ALL").await;
        s.query(B, "SELECT count(*) FROM t").await;
    }
}

#[tokio::test]
async fn a_malformed_message_is_an_error_of_its_batch() {
    same(async |s| each_after(s, &[], &[]).await).await;
}

#[tokio::test]
async fn a_malformed_message_in_a_pipeline_undoes_what_precedes_it() {
    same(async |s| {
        let insert = "INSERT INTO t(v) VALUES ('x')";
        each_after(s, &[], &once(insert)[..4]).await;
    })
    .await;
}

#[tokio::test]
async fn a_malformed_message_fails_the_block() {
    same(async |s| {
        let insert = "INSERT INTO t(v) VALUES ('x')";
        each_after(s, &[query("BEGIN"), query(insert)], &[]).await;
    })
    .await;
}

#[tokio::test]
async fn a_malformed_message_in_a_block_that_has_only_begun() {
    same(async |s| each_after(s, &[query("BEGIN")], &[]).await).await;
}

#[tokio::test]
async fn a_malformed_message_in_a_block_that_has_failed() {
    same(async |s| each_after(s, &[query("BEGIN"), query("SELECT 1/0")], &[]).await).await;
}

#[tokio::test]
async fn a_malformed_message_behind_an_error_is_skipped() {
    same(async |s| {
        for message in malformed() {
            let is_sync = message.frame[0] == b'S';
            s.run(A, &[bind("", "none", &[]), message, sync()]).await;
            if is_sync {
                s.ready(A).await;
            }
            s.query(A, "SELECT 1").await;
        }
    })
    .await;
}

#[tokio::test]
async fn copy_messages_without_a_copy_are_ignored() {
    same(async |s| {
        let stray = [copy_data("1\tx\n"), copy_done(), copy_fail("none")];
        s.send(A, &stray).await;
        s.query(A, "SELECT 1").await;
        s.query(A, "BEGIN").await;
        s.send(A, &stray).await;
        s.query(A, "INSERT INTO t(v) VALUES ('x')").await;
        s.send(A, &stray).await;
        s.query(A, "SELECT v FROM t").await;
        s.query(A, "SELECT 1/0").await;
        s.send(A, &stray).await;
        s.query(A, "COMMIT").await;
        for message in stray {
            let pipeline = [parse("", "SELECT 2"), bind("", "", &[]), message.clone()];
            s.run(A, &[&pipeline[..], &[execute("", 0), sync()]].concat())
                .await;
            s.run(A, &[bind("", "none", &[]), message.clone(), sync()])
                .await;
            s.send(A, &[message, flush(), describe_portal("p"), sync()])
                .await;
            s.ready(A).await;
        }
        s.query(B, "SELECT count(*) FROM t").await;
    })
    .await;
}

#[tokio::test]
async fn names_of_the_multiplexer_s_own_are_as_unknown_as_any() {
    same(async |s| {
        s.query(A, "SELECT 1").await;
        for name in [
            "~0~begin",
            "~0~release",
            "~0~savepoint",
            "~0~rollback",
            "~2~s",
            "~1~s",
        ] {
            s.run(B, &[parse("s", "SELECT 'of B'"), sync()]).await;
            s.run(A, &[bind("", name, &[]), execute("", 0), sync()])
                .await;
            for (tag, kind) in [(b'D', b'S'), (b'D', b'P'), (b'C', b'S'), (b'C', b'P')] {
                let body = [&[kind], name.as_bytes(), b"\0"].concat();
                s.run(A, &[raw(tag, &body), sync()]).await;
                s.run(A, &[flush(), raw(tag, &body), execute(name, 0), sync()])
                    .await;
            }
            s.run(B, &[bind("", "s", &[]), execute("", 0), sync()])
                .await;
        }
        s.query(A, "BEGIN").await;
        s.query(A, "INSERT INTO t(v) VALUES ('x')").await;
        s.query(A, "ROLLBACK").await;
        s.query(B, "SELECT count(*) FROM t").await;
    })
    .await;
}

/// Of lengths that can't be PostgreSQL says nothing to the client; amid a COPY it takes them for the end of the stream.
fn unsaid(line: &str) -> bool {
    [
        "invalid message length",
        "unexpected EOF on client connection",
        "protocol synchronization was lost",
        // Every type is valid to it there, but not expected.
        "unexpected message type 0x",
        "invalid frontend message type",
    ]
    .iter()
    .any(|text| line.contains(text))
}

/// Awaits the end of the session, and opens it anew.
async fn end(s: &mut Stage<'_>) {
    while s.next(A).await.is_some() {}
    s.transcript.retain(|line| !unsaid(line));
    s.drop_connection(A).await;
}

#[tokio::test]
async fn a_message_that_is_none_ends_its_session_alone() {
    let long = [&[b'x'; 20_000][..], b"\0"].concat();
    let bad = [
        raw(b'p', b"secret\0"),
        raw(b'!', b""),
        header(b'\0', 4),
        header(b'Q', 3),
        header(b'Q', 0),
        header(b'Q', u32::MAX),
        header(b'Q', 0x4000_0000),
        header(b'S', 20_000),
        header(b'X', 20_000),
        raw(b'f', &long),
        raw(b'C', &[b"S", &long[..]].concat()),
        garbage(),
    ];
    let insert = "INSERT INTO t(v) VALUES ('x')";
    same(async |s| {
        s.query(B, "INSERT INTO audit VALUES ('of B')").await;
        for message in &bad {
            for before in [&[][..], &["BEGIN"], &["BEGIN", insert]] {
                for sql in before {
                    s.query(A, sql).await;
                }
                s.send(A, std::slice::from_ref(message)).await;
                end(s).await;
                s.query(B, "SELECT count(*) FROM t").await;
                s.query(B, "SELECT msg FROM audit").await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_precedes_a_message_that_is_none_is_done_and_answered() {
    let insert = "INSERT INTO audit VALUES ('x')";
    let several = ["BEGIN", insert, "COMMIT", "SELECT 2"];
    let pipelines = [
        vec![query(insert)],
        vec![query("SELECT 1/0")],
        once(insert),
        several.map(query).to_vec(),
        several[..2].iter().copied().map(query).collect(),
        vec![query("SELECT 1"), flush()],
        [&once(insert)[..], &[flush()]].concat(),
        [&once(insert)[..4], &[flush()]].concat(),
        vec![query("BEGIN"), parse("", insert), flush()],
        vec![query("COPY audit FROM STDIN")],
        vec![
            query("COPY audit FROM STDIN"),
            copy_data("x\n"),
            copy_done(),
        ],
    ];
    same(async |s| {
        for before in &pipelines {
            for busy in [false, true] {
                s.query(B, "SELECT count(*) FROM audit").await;
                if busy {
                    s.query(B, "BEGIN").await;
                    s.query(B, "SELECT 'of B'").await;
                }
                s.send(A, &[&before[..], &[garbage()]].concat()).await;
                if busy {
                    s.query(B, "COMMIT").await;
                }
                end(s).await;
                s.query(B, "SELECT count(*) FROM audit").await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_that_is_none_amid_a_copy_ends_its_session_alone() {
    let long = [&[b'x'; 20_000][..], b"\0"].concat();
    let messages = [
        raw(b'f', &long),
        header(b'd', 3),
        header(b'c', 20_000),
        raw(b'!', b""),
        raw(b'Q', b"SELECT 1"),
        raw(b'f', b"no end"),
    ];
    same(async |s| {
        s.query(B, "INSERT INTO audit VALUES ('of B')").await;
        for message in &messages {
            s.send(A, &[query("COPY audit FROM STDIN")]).await;
            s.until(A, b'G').await;
            s.send(A, &[copy_data("of A\n"), message.clone()]).await;
            s.ready(A).await;
            s.transcript.retain(|line| !unsaid(line));
            s.drop_connection(A).await;
            s.query(B, "SELECT msg FROM audit").await;
        }
    })
    .await;
}
