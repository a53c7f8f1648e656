//! What a client that has gone has left on the connection, and who comes next.

use crate::stage::{A, B, C, same};

/// A temporary table is made without a word that ends the trust in what looks like a read.
const MAKE: &str = "SELECT 1 AS secret INTO TEMP x";

#[tokio::test]
async fn a_temporary_table_stays_given_up_when_a_block_is_rolled_back() {
    same(async |s| {
        s.query(A, "CREATE TEMP TABLE x AS SELECT 1 AS secret")
            .await;
        s.drop_connection(A).await;
        s.query(C, "BEGIN").await;
        s.query(C, "CREATE TEMP TABLE x (n int)").await;
        s.query(C, "ROLLBACK").await;
        s.query(C, "SELECT * FROM x").await;
        s.query(C, "CREATE TEMP TABLE x (n int)").await;
    })
    .await;
}

#[tokio::test]
async fn a_temporary_table_that_a_read_has_given_up_stays_so() {
    same(async |s| {
        s.query(A, MAKE).await;
        s.drop_connection(A).await;
        s.query(B, "SELECT 1").await;
        s.query(C, "BEGIN").await;
        s.query(C, "SELECT 2 AS n INTO TEMP x").await;
        s.query(C, "ROLLBACK").await;
        s.query(C, "SELECT * FROM x").await;
        s.query(C, "SELECT 2 AS n INTO TEMP x").await;
    })
    .await;
}

#[tokio::test]
async fn what_is_given_up_one_after_the_other_stays_so() {
    same(async |s| {
        s.query(A, MAKE).await;
        s.drop_connection(A).await;
        s.query(B, "SELECT 1").await;
        s.query(C, "SELECT pg_advisory_lock(1)").await;
        s.drop_connection(C).await;
        s.query(B, "SELECT 1").await;
        s.query(B, "SELECT 1/0").await;
        s.query(B, "SELECT * FROM x").await;
        s.query(B, "SELECT 2 AS n INTO TEMP x").await;
    })
    .await;
}

#[tokio::test]
async fn what_is_given_up_behind_a_failure_stays_so() {
    same(async |s| {
        s.query(A, MAKE).await;
        s.query(B, "SELECT 1/0").await;
        s.drop_connection(A).await;
        s.query(B, "SELECT 1/0").await;
        s.query(B, "SELECT * FROM x").await;
        s.query(B, MAKE).await;
        s.query(B, "SELECT 1/0").await;
        s.query(B, "SELECT * FROM x").await;
    })
    .await;
}
