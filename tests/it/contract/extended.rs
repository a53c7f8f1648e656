//! The extended query protocol: the names of statements and portals.

use crate::stage::{A, B, same};
use crate::wire::{
    bind, close_portal, close_statement, describe_portal, describe_statement, execute, flush, once,
    parse, sync,
};

#[tokio::test]
async fn statements_of_two_sessions_may_have_one_name() {
    same(async |s| {
        s.run(
            A,
            &[
                parse("s", "SELECT 'of A', $1::int"),
                describe_statement("s"),
                sync(),
            ],
        )
        .await;
        s.run(
            B,
            &[parse("s", "SELECT 'of B'"), describe_statement("s"), sync()],
        )
        .await;
        s.run(
            A,
            &[
                bind("p", "s", &["7"]),
                describe_portal("p"),
                execute("p", 0),
                sync(),
            ],
        )
        .await;
        s.run(B, &[bind("p", "s", &[]), execute("p", 0), sync()])
            .await;
        s.run(B, &[close_statement("s"), sync()]).await;
        s.run(B, &[bind("", "s", &[]), sync()]).await;
        s.run(A, &[bind("", "s", &["8"]), execute("", 0), sync()])
            .await;
        s.run(A, &[parse("s", "SELECT 1"), sync()]).await;
        s.query(A, "DEALLOCATE ALL").await;
        s.run(A, &[bind("", "s", &["9"]), execute("", 0), sync()])
            .await;
    })
    .await;
}

#[tokio::test]
async fn the_unnamed_statement_survives_what_others_run() {
    same(async |s| {
        s.run(A, &[parse("", "SELECT 'of A'"), sync()]).await;
        s.run(B, &once("SELECT 'of B'")).await;
        s.query(B, "INSERT INTO audit VALUES ('x')").await;
        s.query(B, "SELECT 1/0").await;
        s.run(A, &[bind("", "", &[]), execute("", 0), sync()]).await;
        s.run(A, &[parse("", "SELECT broken FROM nowhere"), sync()])
            .await;
        s.run(A, &[bind("", "", &[]), execute("", 0), sync()]).await;
        s.run(A, &[parse("", "SELECT 1"), sync()]).await;
        s.query(A, "SELECT 'a simple query destroys it'").await;
        s.run(A, &[bind("", "", &[]), execute("", 0), sync()]).await;
        s.run(A, &[parse("", "SELECT 2"), sync()]).await;
        s.run(
            A,
            &[
                parse("", "SELECT $1::int + 1"),
                bind("", "", &["2"]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.run(A, &[bind("", "", &["4"]), execute("", 0), sync()])
            .await;
    })
    .await;
}

#[tokio::test]
async fn wrong_names_are_reported_as_ever() {
    same(async |s| {
        s.run(A, &[bind("", "", &[]), sync()]).await;
        s.run(A, &[bind("", "none", &[]), sync()]).await;
        s.run(A, &[execute("", 0), sync()]).await;
        s.run(A, &[execute("none", 0), sync()]).await;
        s.run(A, &[describe_statement("none"), sync()]).await;
        s.run(A, &[describe_statement(""), sync()]).await;
        s.run(A, &[describe_portal("none"), sync()]).await;
        s.run(A, &[describe_portal(""), sync()]).await;
        s.run(
            A,
            &[
                close_statement("none"),
                close_portal("none"),
                close_portal(""),
                close_statement(""),
                sync(),
            ],
        )
        .await;
        s.run(A, &[parse("s", "SELECT 1"), parse("s", "SELECT 2"), sync()])
            .await;
        s.run(A, &[parse("s", "SELECT 1"), sync()]).await;
        s.run(A, &[parse("s", "SELECT 2"), sync()]).await;
        s.run(A, &[bind("p", "s", &[]), bind("p", "s", &[]), sync()])
            .await;
        s.run(A, &[bind("", "s", &["too", "many"]), sync()]).await;
        s.run(A, &[parse("two", "SELECT 1; SELECT 2"), sync()])
            .await;
        s.run(
            A,
            &[
                parse("", ""),
                bind("", "", &[]),
                describe_portal(""),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        let long = "n".repeat(100);
        s.run(
            A,
            &[
                parse(&long, "SELECT 'long'"),
                bind(&long, &long, &[]),
                execute(&long, 0),
                sync(),
            ],
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_statement_closed_and_parsed_again_in_one_block() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.run(
            A,
            &[
                parse("s", "SELECT 'first'"),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.run(A, &[close_statement("s"), sync()]).await;
        s.run(
            A,
            &[
                parse("s", "SELECT 'second'"),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.run(A, &[close_statement("s"), sync()]).await;
        s.run(A, &[bind("", "s", &[]), execute("", 0), sync()])
            .await;
        s.run(A, &[close_statement("s"), close_statement(""), sync()])
            .await;
        s.query(A, "ROLLBACK").await;
        s.run(
            A,
            &[
                parse("s", "SELECT 'third'"),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.run(
            A,
            &[
                close_statement("s"),
                parse("s", "SELECT 'fourth'"),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_portal_is_suspended_across_syncs_in_a_block() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.run(
            A,
            &[
                parse("s", "SELECT generate_series(1, 5)"),
                bind("p", "s", &[]),
                execute("p", 2),
                sync(),
            ],
        )
        .await;
        s.run(A, &[execute("p", 2), sync()]).await;
        s.query(A, "SELECT 'in between'").await;
        s.run(A, &[execute("p", 2), execute("p", 2), sync()]).await;
        s.run(A, &[close_portal("p"), execute("p", 2), sync()])
            .await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "BEGIN").await;
        s.run(A, &[bind("", "s", &[]), execute("", 3), sync()])
            .await;
        s.run(A, &[execute("", 1), sync()]).await;
        s.run(A, &[parse("", "SELECT 1"), execute("", 3), sync()])
            .await;
        s.query(A, "SELECT 'a simple query destroys it'").await;
        s.run(A, &[execute("", 3), sync()]).await;
        s.query(A, "COMMIT").await;
    })
    .await;
}

#[tokio::test]
async fn a_portal_ends_with_its_transaction() {
    same(async |s| {
        s.run(
            A,
            &[
                parse("s", "SELECT generate_series(1, 5)"),
                bind("p", "s", &[]),
                execute("p", 2),
                execute("p", 2),
                sync(),
            ],
        )
        .await;
        s.run(A, &[execute("p", 2), sync()]).await;
        s.run(A, &[bind("", "s", &[]), execute("", 2), sync()])
            .await;
        s.run(A, &[execute("", 2), sync()]).await;
        s.query(A, "BEGIN").await;
        s.run(A, &[bind("p", "s", &[]), execute("p", 2), sync()])
            .await;
        s.query(A, "COMMIT").await;
        s.query(A, "BEGIN").await;
        s.run(A, &[execute("p", 2), sync()]).await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "BEGIN").await;
        s.run(A, &[bind("p", "s", &[]), execute("p", 2), sync()])
            .await;
        s.run(A, &once("COMMIT")).await;
        s.run(A, &[execute("p", 2), sync()]).await;
    })
    .await;
}

#[tokio::test]
async fn a_portal_name_is_free_again_behind_a_commit() {
    same(async |s| {
        s.run(
            A,
            &[
                parse("c", "COMMIT"),
                parse("r", "ROLLBACK"),
                parse("s", "SELECT generate_series(1, 3)"),
                sync(),
            ],
        )
        .await;
        for end in ["c", "r"] {
            s.query(A, "BEGIN").await;
            let messages = [
                bind("p", "s", &[]),
                execute("p", 1),
                bind("q", end, &[]),
                execute("q", 0),
                bind("p", "s", &[]),
                execute("p", 2),
                execute("p", 2),
                sync(),
            ];
            s.run(A, &messages).await;
            s.query(A, "BEGIN").await;
            s.send(A, &[bind("", end, &[]), execute("", 0), flush()])
                .await;
            s.until(A, b'C').await;
            s.run(
                A,
                &[bind("", "s", &[]), execute("", 1), execute("", 0), sync()],
            )
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_failed_block_ended_through_a_named_portal() {
    same(async |s| {
        s.query(A, "BEGIN").await;
        s.query(A, "SELECT 1/0").await;
        s.run(
            A,
            &[
                parse("", "ROLLBACK"),
                bind("p", "", &[]),
                execute("p", 0),
                close_portal("q"),
                sync(),
            ],
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_portal_of_a_control_statement_runs_once() {
    same(async |s| {
        s.run(
            A,
            &[
                parse("b", "BEGIN"),
                bind("p", "b", &[]),
                execute("p", 0),
                execute("p", 0),
                sync(),
            ],
        )
        .await;
        s.run(
            A,
            &[
                parse("", "ROLLBACK"),
                bind("p", "", &[]),
                execute("p", 0),
                execute("p", 0),
                sync(),
            ],
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_is_skipped_changes_no_names() {
    same(async |s| {
        s.run(
            A,
            &[
                parse("a", "SELECT 'a'"),
                parse("d", "DEALLOCATE ALL"),
                sync(),
            ],
        )
        .await;
        let skipped = [
            close_statement("a"),
            parse("a", "SELECT 'another'"),
            parse("b", "SELECT 'b'"),
            bind("", "d", &[]),
            execute("", 0),
        ];
        s.run(
            A,
            &[&[describe_statement("none")], &skipped[..], &[sync()]].concat(),
        )
        .await;
        s.run(A, &[bind("", "a", &[]), execute("", 0), sync()])
            .await;
        s.run(A, &[bind("", "b", &[]), sync()]).await;
        s.run(
            A,
            &[
                bind("", "d", &[]),
                execute("", 0),
                parse("a", "SELECT 'new'"),
                sync(),
            ],
        )
        .await;
        s.run(A, &[bind("", "a", &[]), execute("", 0), sync()])
            .await;
        s.run(A, &[bind("", "d", &[]), sync()]).await;
        s.run(
            A,
            &[
                parse("", "DEALLOCATE ALL"),
                bind("", "", &[]),
                execute("", 0),
                bind("", "", &[]),
                sync(),
            ],
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_portal_bound_before_begin_read_only_is_run_behind_it() {
    same(async |s| {
        let messages = [
            parse("", "SELECT count(*) FROM t"),
            bind("", "", &[]),
            parse("b", "BEGIN READ ONLY"),
            bind("q", "b", &[]),
            execute("q", 0),
            execute("", 0),
            parse("", "INSERT INTO t(v) VALUES ('a')"),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ];
        s.run(A, &messages).await;
        s.query(A, "ROLLBACK").await;
    })
    .await;
}

/// A Query runs its statements in the unnamed portal, which is as it was if none is run.
#[tokio::test]
async fn the_unnamed_portal_survives_a_query_that_runs_nothing() {
    same(async |s| {
        let run = |sql: &str| [parse("c", sql), bind("c", "c", &[]), execute("c", 0)];
        let close = || [close_statement("c"), close_portal("c"), sync()];
        let bound = "SELECT 'bound' FROM generate_series(1, 3)";
        for failing in [
            "SELEC 1",
            "SELECT FROM nowhere",
            "SELECT 1/v FROM (VALUES (0)) AS x(v)",
            "INSERT INTO audit SELECT 1/v FROM (VALUES (0)) AS x(v)",
            "SELEC 1; COMMIT",
            "SELECT 1; ROLLBACK TO nowhere; COMMIT",
            "LOCK nowhere; SELECT 1",
            "DISCARD ALL",
            "SAVEPOINT 1",
            "SELECT 1",
            "",
        ] {
            s.query(A, "BEGIN").await;
            s.run(
                A,
                &[parse("", bound), bind("", "", &[]), execute("", 1), sync()],
            )
            .await;
            s.run(A, &[&run("SAVEPOINT x")[..], &close()].concat())
                .await;
            s.query(A, failing).await;
            s.run(A, &[execute("", 1), sync()]).await;
            s.query(A, "SELECT 'refused'; SELECT 1").await;
            s.run(A, &[execute("", 1), sync()]).await;
            s.run(A, &[&run("ROLLBACK TO x")[..], &close()].concat())
                .await;
            s.run(A, &[execute("", 1), sync()]).await;
            s.query(A, "ROLLBACK").await;
            s.run(A, &[execute("", 1), sync()]).await;
        }
    })
    .await;
}
