//! Temporary tables that are dropped or emptied where a transaction commits.

use crate::stage::{A, B, same};
use crate::wire::{bind, execute, once, parse, query, sync};

#[tokio::test]
async fn a_table_is_dropped_where_its_block_commits() {
    same(async |s| {
        for create in [
            "CREATE TEMP TABLE x (a int) ON COMMIT DROP",
            "CREATE TEMPORARY TABLE x (a int PRIMARY KEY, b text DEFAULT ')') WITH (fillfactor = 50) ON COMMIT DROP",
            "CREATE LOCAL TEMP TABLE IF NOT EXISTS x ON COMMIT DROP AS SELECT 1 AS a",
            "CREATE GLOBAL TEMP TABLE pg_temp.x (a) ON COMMIT DROP AS VALUES (1) WITH NO DATA",
            "CREATE TABLE pg_temp.x (a int) ON COMMIT DROP",
            "CREATE TEMP TABLE \"X\" (a int) ON COMMIT DROP; CREATE TEMP TABLE x (a int) ON COMMIT DROP",
        ] {
            s.query(A, "BEGIN").await;
            s.query(A, create).await;
            s.query(A, "INSERT INTO x (a) VALUES (2)").await;
            s.query(A, "SELECT a FROM x").await;
            s.query(A, "COMMIT").await;
            s.query(A, "SELECT a FROM x").await;
            s.query(A, "SELECT a FROM \"X\"").await;
        }
    })
    .await;
}

#[tokio::test]
async fn two_sessions_may_use_one_name_in_turn() {
    same(async |s| {
        for id in [A, B, A] {
            s.query(id, "BEGIN").await;
            s.query(id, "CREATE TEMP TABLE x (a int) ON COMMIT DROP")
                .await;
            s.query(id, "INSERT INTO x VALUES (1)").await;
            s.query(id, "COMMIT").await;
        }
        s.query(B, "SELECT 1/0").await;
        s.query(A, "SELECT * FROM x").await;
    })
    .await;
}

#[tokio::test]
async fn the_implicit_transaction_commits_too() {
    same(async |s| {
        s.query(A, "CREATE TEMP TABLE x (a int) ON COMMIT DROP")
            .await;
        s.query(A, "SELECT * FROM x").await;
        s.run(A, &once("CREATE TEMP TABLE x (a int) ON COMMIT DROP"))
            .await;
        s.run(A, &once("SELECT * FROM x")).await;
        s.query(
            A,
            "SELECT 1; CREATE TEMP TABLE x (a) ON COMMIT DROP AS SELECT 7; SELECT * FROM x",
        )
        .await;
        s.query(A, "SELECT * FROM x").await;
        s.query(
            A,
            "BEGIN; CREATE TEMP TABLE x (a int) ON COMMIT DROP; COMMIT; SELECT * FROM x",
        )
        .await;
        s.query(A, "SELECT 1/0; CREATE TEMP TABLE x (a int) ON COMMIT DROP")
            .await;
    })
    .await;
}

#[tokio::test]
async fn what_is_rolled_back_was_never_there() {
    same(async |s| {
        s.query(
            A,
            "BEGIN; CREATE TEMP TABLE x (a int) ON COMMIT DROP; ROLLBACK",
        )
        .await;
        s.query(A, "CREATE TEMP TABLE x (a int)").await;
        s.query(A, "INSERT INTO x VALUES (1)").await;
        s.query(A, "SELECT * FROM x").await;
        s.query(A, "BEGIN; SAVEPOINT s").await;
        s.query(A, "CREATE TEMP TABLE x (a int) ON COMMIT DROP")
            .await;
        s.query(A, "ROLLBACK TO s").await;
        s.query(
            A,
            "CREATE TEMP TABLE IF NOT EXISTS x (a int) ON COMMIT DROP",
        )
        .await;
        s.query(A, "CREATE TEMP TABLE y (a int) ON COMMIT DROP")
            .await;
        s.query(A, "ROLLBACK TO s; COMMIT").await;
        s.query(A, "SELECT * FROM x").await;
        s.run(
            A,
            &once("CREATE TEMP TABLE IF NOT EXISTS x (a int) ON COMMIT DROP"),
        )
        .await;
        s.query(A, "SELECT * FROM x").await;
    })
    .await;
}

#[tokio::test]
async fn what_depends_on_a_table_goes_with_it() {
    same(async |s| {
        s.query(A, "BEGIN; CREATE TEMP TABLE x (a int) ON COMMIT DROP").await;
        s.query(A, "CREATE TEMP VIEW v AS SELECT * FROM x").await;
        s.query(A, "DECLARE c CURSOR FOR SELECT * FROM x").await;
        s.query(A, "COMMIT").await;
        s.query(A, "SELECT * FROM v").await;
        s.query(A, "BEGIN; CREATE TEMP TABLE x (a int) ON COMMIT DROP; DROP TABLE x; CREATE TEMP VIEW x AS SELECT 1")
            .await;
        s.query(A, "COMMIT").await;
        s.query(A, "SELECT * FROM x").await;
    })
    .await;
}

#[tokio::test]
async fn a_table_is_emptied_at_each_commit_of_its_session() {
    same(async |s| {
        s.query(A, "CREATE TEMP TABLE x (a int) ON COMMIT DELETE ROWS")
            .await;
        s.query(A, "INSERT INTO x VALUES (1)").await;
        s.query(A, "SELECT count(*) FROM x").await;
        s.query(A, "BEGIN; INSERT INTO x VALUES (2)").await;
        s.query(A, "SELECT count(*) FROM x").await;
        s.query(A, "COMMIT").await;
        s.query(A, "SELECT count(*) FROM x").await;
        s.query(A, "BEGIN; INSERT INTO x VALUES (3); ROLLBACK")
            .await;
        s.query(A, "INSERT INTO x VALUES (4); SELECT count(*) FROM x")
            .await;
        s.run(A, &once("INSERT INTO x VALUES (5)")).await;
        s.run(A, &once("SELECT count(*) FROM x")).await;
        s.query(
            A,
            "INSERT INTO x VALUES (6); COMMIT; SELECT count(*) FROM x",
        )
        .await;
        s.query(A, "DROP TABLE x").await;
        s.query(A, "SELECT 1").await;
    })
    .await;
}

#[tokio::test]
async fn a_rolled_back_creation_empties_nothing() {
    same(async |s| {
        s.query(
            A,
            "BEGIN; CREATE TEMP TABLE x (a int) ON COMMIT DELETE ROWS",
        )
        .await;
        s.query(A, "ROLLBACK").await;
        s.query(A, "CREATE TEMP TABLE x (a int)").await;
        s.query(A, "INSERT INTO x VALUES (1)").await;
        s.query(A, "SELECT count(*) FROM x").await;
        s.send(A, &[query("SELECT 1"), query("SELECT count(*) FROM x")])
            .await;
        s.ready(A).await;
        s.ready(A).await;
    })
    .await;
}

#[tokio::test]
async fn a_table_that_is_created_again_is_emptied_again() {
    same(async |s| {
        let create = "CREATE TEMP TABLE x (a int) ON COMMIT DELETE ROWS";
        for sql in [
            "BEGIN",
            create,
            "ROLLBACK",
            create,
            "INSERT INTO x VALUES (1)",
            "SELECT count(*) FROM x",
        ] {
            s.query(A, sql).await;
        }
    })
    .await;
}

/// What a name was given to before is nothing to the table that has it now.
#[tokio::test]
async fn another_table_of_the_same_name_is_left_alone() {
    same(async |s| {
        let once = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 0)];
        let replace = ["DROP TABLE x", "CREATE TEMP TABLE x (a int)"];
        let replaced = "DO 'BEGIN DROP TABLE x; CREATE TEMP TABLE x (a int); END'";
        for on_commit in ["DROP", "DELETE ROWS"] {
            let create = format!("CREATE TEMP TABLE x (a int) ON COMMIT {on_commit}");
            let in_text = format!("{create}; {}", replace.join("; "));
            for statements in [
                &["BEGIN", &create, replace[0], replace[1], "COMMIT"][..],
                &["BEGIN", &in_text, "COMMIT"],
                &[&in_text],
                &["BEGIN", &create, replaced, "COMMIT"],
                &[
                    "BEGIN",
                    "SAVEPOINT s",
                    &create,
                    "ROLLBACK TO s",
                    replace[1],
                    "COMMIT",
                ],
                &["BEGIN", &create, "ROLLBACK", replace[1]],
                &[
                    "BEGIN",
                    &create,
                    "ALTER TABLE x RENAME TO y",
                    replace[1],
                    "COMMIT",
                ],
                &[
                    "BEGIN",
                    &create,
                    "SAVEPOINT s",
                    replaced,
                    "ROLLBACK TO s",
                    "COMMIT",
                ],
            ] {
                for sql in statements {
                    s.query(A, sql).await;
                }
                for sql in [
                    "INSERT INTO x VALUES (1)",
                    "SELECT * FROM x",
                    "SELECT * FROM y",
                    "DROP TABLE x",
                    "DROP TABLE y",
                ] {
                    s.query(A, sql).await;
                }
            }
            // In a pipeline.
            let mut pipeline = once(&create).to_vec();
            for sql in replace {
                pipeline.extend(once(sql));
            }
            for sql in ["BEGIN", ""] {
                s.query(A, sql).await;
                s.run(A, &[&pipeline[..], &[sync()]].concat()).await;
                s.query(A, "COMMIT").await;
                s.query(A, "INSERT INTO x VALUES (1)").await;
                s.query(A, "SELECT * FROM x").await;
                s.query(A, "DROP TABLE x").await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_table_is_emptied_again_when_its_end_is_rolled_back() {
    same(async |s| {
        s.query(A, "CREATE TEMP TABLE x (a int) ON COMMIT DELETE ROWS")
            .await;
        for end in ["DROP TABLE x", "ALTER TABLE x RENAME TO y"] {
            for (begin, back) in [
                ("BEGIN", "ROLLBACK"),
                ("BEGIN; SAVEPOINT s", "ROLLBACK TO s; COMMIT"),
            ] {
                for sql in [
                    begin,
                    end,
                    "CREATE TEMP TABLE x (a int)",
                    "INSERT INTO x VALUES (1)",
                    back,
                    "INSERT INTO x VALUES (2)",
                    "SELECT * FROM x",
                ] {
                    s.query(A, sql).await;
                }
            }
        }
        // It is the same under another name.
        s.query(A, "ALTER TABLE x RENAME TO z").await;
        s.query(A, "CREATE TEMP TABLE x (a int)").await;
        s.query(A, "INSERT INTO x VALUES (3); INSERT INTO z VALUES (3)")
            .await;
        s.query(A, "SELECT * FROM x UNION ALL SELECT * FROM z")
            .await;
    })
    .await;
}
