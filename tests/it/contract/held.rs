//! Cursors, with HOLD and without.

use crate::stage::{A, B, same};
use crate::wire::{bind, close_portal, describe_portal, execute, once, parse, query, sync};

#[tokio::test]
async fn a_cursor_ends_with_its_transaction_unless_it_is_held() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "DECLARE c CURSOR FOR SELECT generate_series(1, 9)")
            .await;
        s.query(
            A,
            "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(11, 19)",
        )
        .await;
        s.query(A, "FETCH c; FETCH 2 FROM h").await;
        s.query(A, "COMMIT").await;
        s.query(A, "FETCH c").await;
        s.query(A, "FETCH NEXT FROM h").await;
        s.query(A, "MOVE FORWARD 2 IN h").await;
        s.query(A, "BEGIN; FETCH h; SELECT 1/0").await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "FETCH h").await;
        s.query(A, "CLOSE h").await;
        s.query(A, "FETCH h").await;
        s.query(A, "CLOSE h").await;
    })
    .await;
}

#[tokio::test]
async fn a_cursor_that_a_function_opens_ends_with_its_transaction() {
    same(async |s| {
        let function = "CREATE FUNCTION opened(c refcursor) RETURNS refcursor LANGUAGE plpgsql AS \
                        $$ BEGIN OPEN c FOR SELECT generate_series(1, 3); RETURN c; END $$";
        s.query(A, function).await;
        for _ in 0..2 {
            for sql in [
                "BEGIN",
                "SELECT opened('c')",
                "FETCH ALL IN c",
                "COMMIT",
                "FETCH c",
            ] {
                s.query(A, sql).await;
            }
        }
        s.query(A, "SELECT opened('d')").await;
        s.query(B, "SELECT opened('d')").await;
        s.query(A, "FETCH d").await;
        s.query(A, "SELECT opened('d'); FETCH 2 FROM d").await;
        s.run(A, &[parse("p", "SELECT opened('d')"), sync()]).await;
        for _ in 0..2 {
            s.run(A, &[bind("", "p", &[]), execute("", 0), sync()])
                .await;
        }
        s.query(
            A,
            "BEGIN; DECLARE own CURSOR FOR SELECT 1; SELECT opened('d')",
        )
        .await;
        s.query(A, "SELECT opened('e')").await;
        s.query(A, "FETCH own; FETCH d; FETCH e; COMMIT").await;
        s.query(A, "FETCH own").await;
    })
    .await;
}

#[tokio::test]
async fn two_sessions_may_hold_one_name() {
    same(async |s| {
        s.query(A, "DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT 'of A'")
            .await;
        s.query(B, "DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT 'of B'")
            .await;
        s.query(A, "FETCH FIRST FROM h").await;
        s.query(B, "FETCH FIRST FROM h").await;
        s.query(A, "DECLARE h CURSOR WITH HOLD FOR SELECT 1").await;
        s.query(A, "BEGIN; DECLARE h CURSOR FOR SELECT 1").await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "CLOSE h").await;
        s.query(A, "FETCH FIRST FROM h").await;
        s.query(B, "FETCH FIRST FROM \"h\"").await;
        s.query(A, "BEGIN; DECLARE h CURSOR FOR SELECT 'not held'; FETCH h; DECLARE h CURSOR WITH HOLD FOR SELECT 1")
            .await;
        s.query(A, "ROLLBACK").await;
        s.query(B, "FETCH FIRST FROM h").await;
    })
    .await;
}

#[tokio::test]
async fn a_held_cursor_of_a_transaction_that_is_undone_never_was() {
    same(async |s| {
        s.query(
            A,
            "BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT 1; ROLLBACK",
        )
        .await;
        s.query(A, "FETCH h").await;
        s.query(A, "BEGIN").await;
        s.query(A, "SAVEPOINT s").await;
        s.query(A, "DECLARE h CURSOR WITH HOLD FOR SELECT 2").await;
        s.query(A, "ROLLBACK TO s").await;
        s.query(A, "FETCH h").await;
        s.query(A, "ROLLBACK TO s").await;
        s.query(A, "DECLARE h CURSOR FOR SELECT 3").await;
        s.query(A, "FETCH h").await;
        s.query(A, "COMMIT").await;
        s.query(A, "FETCH h").await;
        s.query(A, "DECLARE h CURSOR WITH HOLD FOR SELECT 4").await;
        s.query(A, "BEGIN; CLOSE h; ROLLBACK").await;
        s.query(A, "FETCH h").await;
        s.query(A, "DECLARE h CURSOR WITH HOLD FOR SELECT 5").await;
        s.query(A, "BEGIN").await;
        s.query(A, "SELECT 1/0").await;
        s.query(A, "CLOSE h").await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "FETCH h").await;
    })
    .await;
}

#[tokio::test]
async fn a_held_cursor_is_a_portal() {
    same(async |s| {
        s.query(
            A,
            "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
        )
        .await;
        s.query(
            B,
            "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(11, 19)",
        )
        .await;
        s.run(A, &[describe_portal("h"), execute("h", 2), sync()])
            .await;
        s.run(A, &once("FETCH h")).await;
        s.run(A, &[parse("", "SELECT 1"), bind("h", "", &[]), sync()])
            .await;
        s.run(A, &[close_portal("h"), sync()]).await;
        s.query(A, "FETCH h").await;
        s.query(B, "FETCH h").await;
        s.run(
            A,
            &[
                parse(
                    "d",
                    "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(21, 29)",
                ),
                bind("", "d", &[]),
                execute("", 0),
                parse("f", "FETCH 3 FROM h"),
                bind("", "f", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.run(A, &[bind("", "f", &[]), execute("", 0), sync()])
            .await;
        s.run(A, &[bind("", "d", &[]), execute("", 0), sync()])
            .await;
        s.run(A, &once("CLOSE h")).await;
        s.run(A, &[bind("", "f", &[]), execute("", 0), sync()])
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_row_is_changed_where_a_held_cursor_stands() {
    same(async |s| {
        s.query(A, "INSERT INTO audit VALUES ('one'), ('two')")
            .await;
        s.query(B, "DECLARE h CURSOR WITH HOLD FOR SELECT 'of B'")
            .await;
        s.query(
            A,
            "BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT * FROM audit",
        )
        .await;
        s.query(A, "FETCH h").await;
        s.query(
            A,
            "UPDATE audit SET msg = 'changed' WHERE CURRENT OF h RETURNING *",
        )
        .await;
        s.query(A, "PREPARE p AS DELETE FROM audit WHERE CURRENT OF h")
            .await;
        s.query(A, "FETCH h; EXECUTE p").await;
        s.query(A, "UPDATE audit SET msg = nope WHERE CURRENT OF h")
            .await;
        s.query(A, "COMMIT").await;
    })
    .await;
}

#[tokio::test]
async fn a_close_that_is_skipped_closes_nothing() {
    same(async |s| {
        for all in ["CLOSE ALL", "DISCARD ALL"] {
            s.query(
                A,
                "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
            )
            .await;
            let messages = [
                parse("", "SELECT 1/0"),
                bind("", "", &[]),
                execute("", 0),
                parse("all", all),
                bind("", "all", &[]),
                execute("", 0),
                sync(),
            ];
            s.run(A, &messages).await;
            s.query(A, "FETCH h").await;
            s.query(A, "BEGIN; DECLARE i CURSOR WITH HOLD FOR SELECT 'i'")
                .await;
            s.query(A, "SAVEPOINT a").await;
            s.run(A, &messages).await;
            s.query(A, "ROLLBACK TO a; FETCH i; COMMIT").await;
            s.query(A, "FETCH h; FETCH ALL i; CLOSE ALL; FETCH h").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_functions_cursor_keeps_its_name() {
    same(async |s| {
        s.query(
            A,
            "CREATE FUNCTION f(c refcursor) RETURNS refcursor LANGUAGE plpgsql AS \
             $$ BEGIN OPEN c FOR SELECT 'of f'; RETURN c; END $$",
        )
        .await;
        s.query(A, "DECLARE h CURSOR WITH HOLD FOR SELECT 'held'")
            .await;
        s.query(A, "BEGIN").await;
        s.query(A, "SELECT f('c'); FETCH c").await;
        s.query(A, "FETCH h").await;
        s.query(A, "COMMIT").await;
        s.query(A, "CLOSE h").await;
        s.query(A, "BEGIN").await;
        s.query(A, "SELECT f('h'); FETCH h").await;
        s.query(A, "COMMIT").await;
    })
    .await;
}

#[tokio::test]
async fn errors_point_behind_a_renamed_cursor() {
    same(async |s| {
        s.query(A, "DECLARE h CURSOR WITH HOLD FOR SELECT nope")
            .await;
        s.query(
            A,
            "SELECT 1; DECLARE h CURSOR WITH HOLD FOR SELECT 1; FETCH h; FETCH h, FETCH h",
        )
        .await;
        s.send(
            A,
            &[
                query("DECLARE h CURSOR WITH HOLD FOR SELECT 1"),
                query("FETCH h"),
            ],
        )
        .await;
        s.ready(A).await;
        s.ready(A).await;
    })
    .await;
}
