//! A schema made by a migration tool of its own kind: refinery.

use std::fs;

use actix_shareddb::{Config, Error, Schema, SharedTransaction};
use tempfile::TempDir;

/// As the documentation of `Schema::run` has it.
fn refinery_schema(folder: &TempDir) -> Schema {
    let path = folder.path().to_owned();
    Schema::run("refinery", async move |client| {
        let migrations = refinery::load_sql_migrations(&path).map_err(Error::other)?;
        let runner = refinery::Runner::new(&migrations);
        runner.run_async(client).await.map_err(Error::other)?;
        Ok(())
    })
    .depends_on(folder.path())
}

async fn names(schema: &Schema) -> Vec<String> {
    let transaction = SharedTransaction::open(schema, &Config::new())
        .await
        .unwrap();
    let client = transaction.pool().unwrap().get().await.unwrap();
    let sql =
        "SELECT name FROM users UNION ALL SELECT name FROM refinery_schema_history ORDER BY 1";
    let rows = client.query(sql, &[]).await.unwrap();
    drop(client);
    transaction.rollback().await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn refinery_migrates_and_a_migration_that_comes_later_is_noticed() {
    let first = TempDir::new().unwrap();
    let write = |folder: &TempDir, name: &str, sql: &str| {
        fs::write(folder.path().join(name), sql).unwrap();
    };
    // A process reads the files once, so that the next one's are elsewhere.
    let next = TempDir::new().unwrap();
    for folder in [&first, &next] {
        write(folder, "V1__users.sql", "CREATE TABLE users (name text)");
        // As numbers they come in this order, as texts they don't.
        write(folder, "V9__nine.sql", "CREATE TABLE nine ()");
        let admin = "DROP TABLE nine; INSERT INTO users VALUES ('zoe')";
        write(folder, "V10__admin.sql", admin);
    }
    let schema = refinery_schema(&first);
    assert_eq!(names(&schema).await, ["admin", "nine", "users", "zoe"]);

    write(&next, "V11__bob.sql", "INSERT INTO users VALUES ('yan')");
    assert_eq!(
        names(&refinery_schema(&next)).await,
        ["admin", "bob", "nine", "users", "yan", "zoe"]
    );
}

#[tokio::test]
async fn a_migration_of_refinery_that_fails_is_told_in_the_words_of_both() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("V1__users.sql"), "CREATE TABEL users ()").unwrap();
    let error = SharedTransaction::open(&refinery_schema(&folder), &Config::new())
        .await
        .unwrap_err();
    let words = format!("{error:?}");
    assert!(
        words.starts_with(
            "the schema's code failed\n  caused by: `error applying migration V1__users`"
        ),
        "{words}"
    );
    assert!(
        words.contains("syntax error at or near \"TABEL\""),
        "{words}"
    );
}
