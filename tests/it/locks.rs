//! What waits for a lock that another connection holds.

use std::time::Duration;

use crate::stage::{A, B, Database, SCHEMA, Stage};

#[tokio::test]
async fn a_lock_that_another_connection_holds_is_waited_for_in_vain_and_explained() {
    Database::with(SCHEMA, async |database| {
        let config = database
            .shared_config()
            .lock_timeout(Duration::from_secs(3));
        let holder = &database.observer;
        let process: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let name = "SET application_name = 'another test'; BEGIN; LOCK TABLE parent";
        holder.batch_execute(name).await.unwrap();
        let transaction = database.open_with(&config).await;
        let mut stage = Stage::shared(database, &transaction);
        stage.query(A, "SELECT current_setting('lock_timeout')").await;
        stage.query(A, "INSERT INTO parent VALUES (1)").await;
        stage.query(A, "LOCK TABLE parent NOWAIT; SELECT 1").await;
        stage.query(B, "SET lock_timeout = '4s'; RESET ALL; SELECT current_setting('lock_timeout')").await;
        holder.batch_execute("ROLLBACK").await.unwrap();
        stage.query(A, "INSERT INTO parent VALUES (1)").await;
        let transcript = stage.close().await;
        let told: Vec<_> = transcript
            .iter()
            .filter(|line| line.contains("DataRow") || line.contains("Error") || line.contains("INSERT 0"))
            .collect();
        assert_eq!(
            told,
            [
                "A < DataRow \"3s\"",
                &format!(
                    "A < ErrorResponse ERROR 55P03 \"canceling statement due to lock timeout\" position 13 detail \"The lock is \
                     held by \\\"another test\\\" (process {process}), idle in transaction, whose last statement was: \
                     {name}.\" hint \"The lock is held by a transaction on another connection, probably that of another test \
                     that runs at the same time, and stays with it until that test has ended. Let the two write different \
                     rows and keys, or run them one after the other. If the holder is merely slow, raise \
                     Config::lock_timeout.\""
                ),
                "A < ErrorResponse ERROR 55P03 \"could not obtain lock on relation \\\"parent\\\"\"",
                "B < DataRow \"3s\"",
                "A < CommandComplete \"INSERT 0 1\"",
            ]
        );
        let queries = transaction.queries();
        let mut messages = queries.iter().filter_map(|query| query.error_message());
        assert_eq!(
            messages.next().unwrap(),
            format!(
                "canceling statement due to lock timeout. The lock is held by \"another test\" (process {process}), idle in \
                 transaction, whose last statement was: {name}."
            )
        );
        transaction.rollback().await.unwrap();
    })
    .await;
}
