//! A connection is kept for the next test, which must find nothing of the one before.

use actix_shareddb::SharedTransaction;
use tokio_postgres::Client;

use crate::stage::{Database, SCHEMA, connect};

/// What a session can look at of the state that its connection has, beside the rows of the database.
const STATE: [&str; 8] = [
    "SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_settings WHERE source = 'session'",
    "SELECT coalesce(current_setting('app.tenant', true), '')",
    "SELECT current_user || ' as ' || session_user",
    "SELECT string_agg(name, ', ') FROM pg_prepared_statements WHERE name !~ '^~'",
    "SELECT string_agg(name, ', ') FROM pg_cursors WHERE name <> ''",
    "SELECT string_agg(objid::text, ', ') FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "SELECT string_agg(c, ', ') FROM pg_listening_channels() c",
    "SELECT string_agg(relname, ', ') FROM pg_class WHERE relpersistence = 't'",
];

const MISCHIEF: [&str; 9] = [
    "SET work_mem = '77MB'",
    "SET app.tenant = '7'",
    "CREATE ROLE shareddb_mischief",
    "PREPARE plan AS SELECT 1",
    "DO $$ BEGIN EXECUTE 'PREPARE hidden AS SELECT 2'; END $$",
    "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    "SELECT pg_advisory_lock(42)",
    "CREATE TEMP TABLE scratch (a int)",
    "INSERT INTO t (v) VALUES ('x')",
];

async fn session(transaction: &SharedTransaction) -> Client {
    connect(&transaction.database_url().unwrap().parse().unwrap()).await
}

async fn text(client: &Client, sql: &str) -> Option<String> {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_next_test_finds_nothing_of_the_one_before() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let client = session(&transaction).await;
        let process_id = text(&client, "SELECT pg_backend_pid()::text").await;
        let mut before = Vec::new();
        for sql in STATE {
            before.push(text(&client, sql).await);
        }
        for sql in MISCHIEF {
            client.batch_execute(sql).await.unwrap();
        }
        let lastval = text(&client, "SELECT lastval()::text").await;
        assert!(lastval.is_some());
        let role = "SET ROLE shareddb_mischief";
        client.batch_execute(role).await.unwrap();
        transaction.rollback().await.unwrap();

        let transaction = database.open().await;
        let client = session(&transaction).await;
        let process_again = text(&client, "SELECT pg_backend_pid()::text").await;
        assert_eq!(process_again, process_id, "the connection was not kept");
        for (sql, before) in STATE.into_iter().zip(before) {
            assert_eq!(text(&client, sql).await, before, "{sql}");
        }
        let error = client.query_one("SELECT lastval()", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "55000");
        client
            .batch_execute("PREPARE plan AS SELECT 1")
            .await
            .unwrap();
        let mischief = "DO $$ BEGIN EXECUTE 'PREPARE hidden AS SELECT 2'; END $$";
        client.batch_execute(mischief).await.unwrap();
        transaction.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_kept_connection_that_was_ended_is_replaced() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let client = session(&transaction).await;
        let process_id = text(&client, "SELECT pg_backend_pid()::text")
            .await
            .unwrap();
        transaction.rollback().await.unwrap();

        let end = format!("SELECT pg_terminate_backend({process_id}, 5000)");
        let ended: bool = database.observer.query_one(&end, &[]).await.unwrap().get(0);
        assert!(ended);

        let transaction = database.open().await;
        let client = session(&transaction).await;
        let process_again = text(&client, "SELECT pg_backend_pid()::text").await;
        assert_ne!(process_again, Some(process_id));
        transaction.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_transaction_in_which_nothing_was_done_is_rolled_back_and_its_connection_kept() {
    Database::with(SCHEMA, async |database| {
        for _ in 0..3 {
            database.open().await.rollback().await.unwrap();
        }
        let count = "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name <> 'it'";
        let others: i64 = database
            .observer
            .query_one(count, &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(others, 1);
    })
    .await;
}

#[tokio::test]
async fn connections_to_many_databases_do_not_pile_up() {
    Database::with("", async |first| {
        let mut urls = Vec::new();
        for number in 0..6 {
            let sql = format!("CREATE ROLE shareddb_kept_{number} SUPERUSER LOGIN PASSWORD 'kept'");
            first.observer.batch_execute(&sql).await.unwrap();
            urls.push(format!(
                "{} user='shareddb_kept_{number}' password='kept'",
                first.settings()
            ));
        }
        for url in &urls {
            let config = first.shared_config().database_url(url.clone());
            let transaction = first.open_with(&config).await;
            let client = transaction.pool().unwrap().get().await.unwrap();
            client.batch_execute("SELECT 1").await.unwrap();
            drop(client);
            transaction.rollback().await.unwrap();
        }
        let kept =
            "SELECT count(*) <= 4 FROM pg_stat_activity WHERE usename LIKE 'shareddb\\_kept\\_%'";
        first.until(kept).await;
        let drop_roles: String = (0..6)
            .map(|n| format!("DROP ROLE shareddb_kept_{n};"))
            .collect();
        first.observer.batch_execute(&drop_roles).await.unwrap();
    })
    .await;
}
