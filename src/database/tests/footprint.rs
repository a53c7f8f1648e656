//! What the crate leaves behind outside of its own databases: nothing.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::private::Private;
use crate::schema::Schema;
use crate::transaction::SharedTransaction;

/// Every table of a database, its catalogs among them, with a digest of its rows; and what the catalogs that all databases
/// share say of this one. The rest of those is of other databases, which other tests make at the same time.
async fn rows(client: &Client) -> BTreeMap<String, String> {
    let own = client
        .query(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'm') AND NOT relisshared",
            &[],
        )
        .await
        .expect("the tables");
    let own = own.iter().map(|row| row.get::<_, String>(0));
    let shared = [
        ("pg_database", "t.oid"),
        ("pg_shdescription", "objoid"),
        ("pg_shdepend", "dbid"),
        ("pg_db_role_setting", "setdatabase"),
    ]
    .map(|(table, database)| {
        format!(
            "{table} JOIN pg_database d ON d.datname = current_database() AND {database} = d.oid"
        )
    });
    let mut rows = BTreeMap::new();
    for table in own.chain(shared) {
        let (name, join) = table.split_once(' ').unwrap_or((&table, ""));
        let digest = client
            .query_one(
                &format!(
                    "SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {name} t {join}"
                ),
                &[],
            )
            .await;
        let digest: Option<String> = digest
            .unwrap_or_else(|error| panic!("{name}: {error:?}"))
            .get(0);
        rows.insert(table, digest.unwrap_or_default());
    }
    rows
}

#[tokio::test]
async fn nothing_is_written_outside_of_our_own_databases() {
    let private = Private::join();
    private
        .client("postgres")
        .await
        .batch_execute("CREATE DATABASE footprint")
        .await
        .expect("a database");
    let client = private.client("footprint").await;
    client
        .batch_execute("CREATE TABLE kept (a int UNIQUE); INSERT INTO kept VALUES (1)")
        .await
        .expect("a table");
    let before = rows(&client).await;

    let config = private.config("postgres", "footprint");
    let schema = Schema::sql("CREATE TABLE footprint (a int)");
    for schema in [schema, Schema::existing()] {
        for _ in 0..2 {
            let transaction = SharedTransaction::open(&schema, &config)
                .await
                .expect("a transaction");
            let pool = transaction.pool().expect("a pool");
            let session = pool.get().await.expect("a session");
            session
                .batch_execute(
                    "CREATE TABLE written AS SELECT 1 AS a; BEGIN; INSERT INTO written VALUES (2); COMMIT;
                    CREATE FUNCTION two() RETURNS int LANGUAGE sql AS 'SELECT 2'; CREATE TEMP TABLE scratch ()",
                )
                .await
                .expect("what an application may do");
            drop(session);
            transaction.rollback().await.expect("it is rolled back");
        }
    }

    let after = rows(&client).await;
    for (table, rows) in &after {
        assert_eq!(before.get(table), Some(rows), "{table}");
    }
    assert_eq!(before.len(), after.len());
}
