//! Statements that fail, come late or lose their connection because a test has ordered it.

use std::thread;
use std::time::Duration;

use actix_shareddb::__private::run_in;
use actix_shareddb::{Config, Isolation, LiveServer, Result, Schema, SharedTransaction};
use tokio_postgres::Client;
use tokio_postgres::error::{DbError, SqlState};

use crate::queries::Lists;

async fn open() -> SharedTransaction {
    let schema = Schema::sql("CREATE TABLE f (v text)");
    SharedTransaction::open(&schema, &Config::new())
        .await
        .expect("the transaction opens")
}

async fn count(client: &Client) -> i64 {
    let row = client.query_one("SELECT count(*) FROM f", &[]).await;
    row.expect("the table is there").get(0)
}

fn database_error<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>) -> DbError {
    let error = result.unwrap_err();
    error.as_db_error().expect("the server says so").clone()
}

/// By the simple protocol, and by the extended one.
async fn run(client: &Client, sql: &str, simple: bool) -> Result<(), tokio_postgres::Error> {
    match simple {
        true => client.batch_execute(sql).await,
        false => client.execute(sql, &[]).await.map(drop),
    }
}

const INSERT: &str = "INSERT INTO f VALUES ('a')";

#[tokio::test]
async fn a_statement_that_fails_aborts_its_block() -> Result<()> {
    for simple in [true, false] {
        let transaction = open().await;
        let client = transaction.pool()?.get().await?;
        let fault = transaction
            .faults()
            .on("insert  INTO f")
            .nth(2)
            .fail(SqlState::T_R_SERIALIZATION_FAILURE);
        run(&client, "BEGIN", simple).await?;
        run(&client, INSERT, simple).await?;
        let error = database_error(run(&client, INSERT, simple).await);
        assert_eq!(error.code().code(), "40001");
        let words = "could not serialize access due to concurrent update";
        assert_eq!(error.message(), words);
        let hint = "The test has ordered this error, through `faults()`.";
        assert_eq!(error.hint(), Some(hint));
        let aborted = database_error(run(&client, "SELECT 1", simple).await);
        assert_eq!(aborted.code(), &SqlState::IN_FAILED_SQL_TRANSACTION);
        run(&client, "COMMIT", simple).await?;
        assert_eq!(
            transaction.queries().last().unwrap().tag(),
            Some("ROLLBACK")
        );
        assert_eq!((count(&client).await, fault.hits()), (0, 1));
        // It has had its time.
        run(&client, INSERT, simple).await?;
        assert_eq!((count(&client).await, fault.hits()), (1, 1));
        drop(client);
        transaction.rollback().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_savepoint_saves_what_was_before_it() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    client.batch_execute("BEGIN").await?;
    client.batch_execute(INSERT).await?;
    client.batch_execute("SAVEPOINT s").await?;
    transaction
        .faults()
        .on_table("F")
        .fail(SqlState::T_R_DEADLOCK_DETECTED);
    assert!(client.execute(INSERT, &[]).await.is_err());
    client.batch_execute("ROLLBACK TO s; COMMIT").await?;
    assert_eq!(count(&client).await, 1);
    drop(client);
    transaction.rollback().await
}

#[tokio::test]
async fn a_commit_that_fails_keeps_nothing_and_ends_its_block() -> Result<()> {
    for simple in [true, false] {
        for script in ["BEGIN; INSERT INTO f VALUES ('a')", "BEGIN"] {
            let transaction = open().await;
            let client = transaction.pool()?.get().await?;
            let fault = transaction
                .faults()
                .on_commit()
                .fail(SqlState::T_R_SERIALIZATION_FAILURE);
            client.batch_execute(script).await?;
            let error = database_error(run(&client, "COMMIT", simple).await);
            assert_eq!(error.code(), &SqlState::T_R_SERIALIZATION_FAILURE);
            assert_eq!((count(&client).await, fault.hits()), (0, 1));
            // There is no block any more, and the next commit is kept.
            run(&client, "BEGIN", simple).await?;
            run(&client, INSERT, simple).await?;
            run(&client, "COMMIT", simple).await?;
            assert_eq!(count(&client).await, 1);
            drop(client);
            transaction.rollback().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_closure_is_asked_about_what_controls_a_transaction_and_a_session_is_not_its_commit()
-> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    let of_session = transaction
        .faults()
        .of_session(1)
        .nth(2)
        .fail(SqlState::DISK_FULL);
    let commit = transaction
        .faults()
        .when(|sql| sql == "COMMIT")
        .fail(SqlState::T_R_SERIALIZATION_FAILURE);
    client.batch_execute("BEGIN").await?;
    client.batch_execute(INSERT).await?;
    let error = database_error(client.batch_execute("COMMIT").await);
    assert_eq!(error.code(), &SqlState::T_R_SERIALIZATION_FAILURE);
    assert_eq!((commit.hits(), of_session.hits()), (1, 0));
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert_eq!(of_session.hits(), 1);
    drop(client);
    transaction.rollback().await
}

#[tokio::test]
async fn a_commit_outside_of_a_block_and_a_rollback_meet_no_fault() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    let commit = transaction
        .faults()
        .on_commit()
        .optional()
        .fail(SqlState::T_R_SERIALIZATION_FAILURE);
    let any = transaction
        .faults()
        .fail(SqlState::T_R_SERIALIZATION_FAILURE);
    let rollback = transaction
        .faults()
        .on("ROLLBACK")
        .optional()
        .fail(SqlState::T_R_SERIALIZATION_FAILURE);
    client.batch_execute("COMMIT; BEGIN; ROLLBACK").await?;
    assert_eq!((commit.hits(), any.hits(), rollback.hits()), (0, 0, 0));
    assert!(client.batch_execute("BEGIN; SELECT 1").await.is_err());
    assert_eq!(any.hits(), 1);
    // A block that has failed is rolled back by its COMMIT, which succeeds.
    client.batch_execute("COMMIT").await?;
    assert_eq!((commit.hits(), rollback.hits()), (0, 0));
    drop(client);
    transaction.rollback().await
}

#[tokio::test]
async fn of_a_script_the_statement_is_hit_that_is_meant() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    for (text, left) in [
        ("SELECT 1; INSERT INTO f VALUES ('a'); SELECT 2", 0),
        (
            "BEGIN; INSERT INTO f VALUES ('b'); COMMIT; INSERT INTO f VALUES ('a')",
            1,
        ),
    ] {
        let fault = transaction
            .faults()
            .on("VALUES ('a')")
            .fail(SqlState::DISK_FULL);
        let before = transaction.queries().len();
        let error = database_error(client.batch_execute(text).await);
        assert_eq!(error.code(), &SqlState::DISK_FULL);
        let queries = transaction.queries();
        let failed = queries[before..]
            .iter()
            .find(|query| query.code().is_some());
        assert_eq!(failed.unwrap().sql(), INSERT);
        assert_eq!((count(&client).await, fault.hits()), (left, 1), "{text}");
    }
    drop(client);
    transaction.rollback().await
}

#[tokio::test]
async fn a_violation_has_the_name_of_its_constraint() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    transaction
        .faults()
        .on_table("f")
        .violate(SqlState::UNIQUE_VIOLATION, "f_v_key");
    let error = database_error(client.execute(INSERT, &[]).await);
    assert_eq!(error.constraint(), Some("f_v_key"));
    let words = "duplicate key value violates unique constraint \"f_v_key\"";
    assert_eq!(error.message(), words);
    drop(client);
    transaction.rollback().await
}

#[tokio::test]
async fn each_condition_and_count_holds() -> Result<()> {
    let transaction = open().await;
    let pool = transaction.pool()?;
    let (a, b) = (pool.get().await?, pool.get().await?);
    let fault = transaction
        .faults()
        .of_session(2)
        .when(|sql| sql.ends_with("('a')"))
        .times(2)
        .fail(SqlState::DISK_FULL);
    let other = INSERT.replace('a', "b");
    b.batch_execute("SELECT 1").await?;
    a.execute(INSERT, &[]).await?;
    b.execute(&other, &[]).await?;
    for _ in 0..2 {
        assert!(b.execute(INSERT, &[]).await.is_err());
    }
    b.execute(INSERT, &[]).await?;
    assert_eq!((count(&a).await, fault.hits()), (3, 2));
    drop((a, b));
    transaction.rollback().await
}

#[tokio::test]
async fn a_statement_that_comes_late_can_be_cancelled() -> Result<()> {
    for simple in [true, false] {
        let transaction = open().await;
        let client = transaction.pool()?.get().await?;
        let time = Duration::from_millis(20);
        transaction.faults().on_table("f").delay(time);
        run(&client, INSERT, simple).await?;
        let queries = transaction.queries();
        let late = queries.last().unwrap();
        assert_eq!(late.tag(), Some("INSERT 0 1"));
        assert!(simple || late.duration() >= time);

        client.batch_execute("SET statement_timeout = 20").await?;
        let fault = transaction
            .faults()
            .on_table("f")
            .delay(Duration::from_secs(3600));
        let error = database_error(run(&client, INSERT, simple).await);
        assert_eq!(error.code(), &SqlState::QUERY_CANCELED);
        client.batch_execute("RESET statement_timeout").await?;
        assert_eq!((count(&client).await, fault.hits()), (1, 1));
        drop(client);
        transaction.rollback().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_lost_takes_its_block_with_it() -> Result<()> {
    for simple in [true, false] {
        for lost in [INSERT, "COMMIT"] {
            let transaction = open().await;
            let pool = transaction.pool()?;
            let (client, other) = (pool.get().await?, pool.get().await?);
            let faults = transaction.faults();
            let fault = faults
                .on(lost)
                .nth(if lost == INSERT { 2 } else { 1 })
                .disconnect();
            run(&client, "BEGIN", simple).await?;
            run(&client, INSERT, simple).await?;
            let error = database_error(run(&client, lost, simple).await);
            assert_eq!(error.code(), &SqlState::ADMIN_SHUTDOWN);
            let words = "terminating connection due to administrator command";
            assert_eq!(error.message(), words);
            assert_eq!((count(&other).await, fault.hits()), (0, 1));
            assert!(client.batch_execute("SELECT 1").await.is_err());
            let queries = transaction.queries();
            let failed = queries.iter().find(|query| query.code().is_some());
            assert_eq!(failed.unwrap().sql(), lost);
            drop((client, other));
            // The pool makes a new one.
            assert_eq!(count(&*pool.get().await?).await, 0);
            transaction.rollback().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_fault_that_nothing_has_met_is_told_at_the_end() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    let faults = || transaction.faults().on("insert INTO f").of_session(1);
    faults().times(2).fail(SqlState::DISK_FULL);
    faults().nth(9).optional().fail(SqlState::DISK_FULL);
    let line = line!() + 1;
    faults().nth(3).fail(SqlState::DISK_FULL);
    assert!(client.execute(INSERT, &[]).await.is_err());
    drop(client);
    let error = transaction.rollback().await.unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        format!(
            "a fault was never met: for statements that hold 'insert INTO f' and of session 1, from number 3 on, ordered at \
             tests/it/ordered_faults.rs:{line}:21\n  \
             help: no such statement has been run; where that may be, call `optional()` when the fault is ordered"
        )
    );
    Ok(())
}

#[test]
fn a_live_server_test_fails_for_a_fault_that_nothing_has_met() {
    for (outcome, expected) in [
        (
            Ok(()),
            "a fault was never met: for statements that commit, ",
        ),
        (
            Err("oh no"),
            "the test failed: \"oh no\"\na fault was never met: for statements that commit, ",
        ),
    ] {
        let test = async move |_: &mut Lists, live: &LiveServer| {
            live.faults().on_commit().fail(SqlState::DISK_FULL);
            outcome
        };
        let isolation = Some(Isolation::Transaction);
        let failed = thread::spawn(move || run_in(isolation, "it::unmet", test)).join();
        let words = failed.unwrap_err().downcast::<String>().unwrap();
        assert!(words.starts_with(expected), "{words}");
    }
}

#[tokio::test]
#[should_panic(expected = "a fault that is met 0 times is none")]
async fn a_fault_is_met_once_at_least() {
    let transaction = open().await;
    let _ = transaction.faults().times(0);
}

#[tokio::test]
#[should_panic(expected = "statements are counted from 1")]
async fn there_is_no_statement_number_0() {
    let transaction = open().await;
    let _ = transaction.faults().nth(0);
}
