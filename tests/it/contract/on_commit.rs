//! Temporary tables that are dropped or emptied where a transaction commits.

use crate::stage::{A, B, same};
use crate::wire::{once, query};

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
