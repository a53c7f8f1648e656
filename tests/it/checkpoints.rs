//! A test sets a checkpoint, and goes back to it.

use std::time::Duration;

use actix_shareddb::{__private, Config, Result, Schema, SharedTransaction};
use tokio_postgres::{Client, NoTls};

async fn open() -> SharedTransaction {
    open_with(&Config::new()).await
}

async fn open_with(config: &Config) -> SharedTransaction {
    let schema = Schema::sql(
        "CREATE TABLE c (id serial, v text UNIQUE); \
         CREATE TABLE one (id int PRIMARY KEY); \
         CREATE TABLE other (id int REFERENCES one DEFERRABLE INITIALLY DEFERRED);",
    );
    SharedTransaction::open(&schema, config)
        .await
        .expect("the transaction opens")
}

async fn rows(client: &Client) -> Vec<String> {
    let rows = client.query("SELECT v FROM c ORDER BY v", &[]).await;
    let rows = rows.expect("the table is there");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn add(client: &Client, row: &str) {
    let insert = "INSERT INTO c (v) VALUES ($1)";
    client.execute(insert, &[&row]).await.expect("it is new");
}

#[tokio::test]
async fn rows_are_as_they_were_each_time_that_a_test_goes_back() -> Result<()> {
    let transaction = open().await;
    let pool = transaction.pool()?;
    let (a, b) = (pool.get().await?, pool.get().await?);
    add(&a, "fixture").await;
    let checkpoint = transaction.checkpoint().await?;
    for case in 0..3 {
        add(&a, "of the case").await;
        let script = "BEGIN; INSERT INTO c (v) VALUES ('of a block'); COMMIT";
        b.batch_execute(script).await?;
        if case == 1 {
            // What fails last, or is rolled back, is no matter.
            assert!(
                b.batch_execute("INSERT INTO c (v) VALUES ('fixture')")
                    .await
                    .is_err()
            );
        }
        if case == 2 {
            a.batch_execute("DROP TABLE other; BEGIN; DELETE FROM c; ROLLBACK")
                .await?;
        }
        assert_eq!(rows(&b).await, ["fixture", "of a block", "of the case"]);
        transaction.restore(&checkpoint).await?;
        assert_eq!(rows(&a).await, ["fixture"]);
        a.batch_execute("SELECT FROM other").await?;
    }
    drop((a, b));
    transaction.rollback().await
}

#[tokio::test]
async fn a_checkpoint_can_be_the_first_thing_and_follow_a_failure() -> Result<()> {
    let transaction = open().await;
    let empty = transaction.checkpoint().await?;
    let client = transaction.pool()?.get().await?;
    add(&client, "a").await;
    assert!(
        client
            .batch_execute("INSERT INTO c (v) VALUES ('a')")
            .await
            .is_err()
    );
    let one = transaction.checkpoint().await?;
    // Nothing has happened in between.
    let same = transaction.checkpoint().await?;
    client
        .batch_execute("BEGIN; INSERT INTO c (v) VALUES ('b'); ROLLBACK")
        .await?;
    transaction.restore(&same).await?;
    assert_eq!(rows(&client).await, ["a"]);
    transaction.restore(&one).await?;
    transaction.restore(&one).await?;
    assert_eq!(rows(&client).await, ["a"]);
    transaction.restore(&empty).await?;
    assert!(rows(&client).await.is_empty());
    add(&client, "c").await;
    assert_eq!(rows(&client).await, ["c"]);
    drop(client);
    transaction.rollback().await
}

#[tokio::test]
async fn going_back_ends_the_checkpoints_behind() -> Result<()> {
    let transaction = open().await;
    let first = transaction.checkpoint().await?;
    let second = transaction.checkpoint().await?;
    transaction.restore(&first).await?;
    let error = transaction.restore(&second).await.unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "the checkpoint could not be restored\n  \
         caused by: the checkpoint no longer exists\n  \
         help: Going back to a checkpoint ends those that were set after it. One of another transaction never existed here."
    );
    transaction.restore(&first).await?;
    let other = open().await;
    assert!(other.restore(&first).await.is_err());
    other.rollback().await?;
    transaction.rollback().await
}

#[tokio::test]
async fn an_open_block_is_in_the_way() -> Result<()> {
    let config = Config::new().idle_in_transaction_timeout(Duration::from_millis(50));
    let transaction = open_with(&config).await;
    let client = transaction.pool()?.get().await?;
    let checkpoint = transaction.checkpoint().await?;
    client.batch_execute("BEGIN").await?;
    add(&client, "a").await;
    let held = "session 1 (actix-shareddb) has held it for _ s, since: BEGIN; its last statement was: \
         INSERT INTO c (v) VALUES ($1); idle for _ s\n  \
         help: commit it or roll it back first; its rows are neither there nor gone";
    for (refused, event) in [
        (
            transaction.checkpoint().await.unwrap_err(),
            "no checkpoint could be set",
        ),
        (
            transaction.restore(&checkpoint).await.unwrap_err(),
            "the checkpoint could not be restored",
        ),
    ] {
        let words = format!("{refused:?}");
        let words: Vec<_> = words
            .split(' ')
            .map(|word| match word.parse::<f64>() {
                Ok(_) if word.contains('.') => "_",
                _ => word,
            })
            .collect();
        assert_eq!(
            words.join(" "),
            format!("{event}\n  caused by: a transaction block is open: {held}")
        );
    }
    client.batch_execute("COMMIT").await?;
    assert_eq!(rows(&client).await, ["a"]);
    transaction.restore(&checkpoint).await?;
    assert!(rows(&client).await.is_empty());
    drop(client);
    transaction.rollback().await
}

/// The value of a setting, for a client.
async fn shown(client: &Client, setting: &str) -> String {
    let select = format!("SELECT coalesce(current_setting('{setting}', true), '')");
    let row = client.query_one(&select, &[]).await;
    row.expect("a setting can be shown").get(0)
}

#[tokio::test]
async fn settings_go_back_with_the_rows() -> Result<()> {
    let transaction = open().await;
    let pool = transaction.pool()?;
    let (a, b) = (pool.get().await?, pool.get().await?);
    let plain = shown(&b, "TimeZone").await;
    a.batch_execute("SET TIME ZONE 'Asia/Tokyo'; SET app.tenant = '7'")
        .await?;
    b.batch_execute("SELECT 1").await?;
    let checkpoint = transaction.checkpoint().await?;
    for _ in 0..2 {
        a.batch_execute("SET TIME ZONE 'Europe/Paris'; RESET app.tenant")
            .await?;
        b.batch_execute("SET TIME ZONE 'UTC'; SET app.tenant = '8'")
            .await?;
        let c = pool.get().await?;
        c.batch_execute("BEGIN; SET LOCAL app.tenant = '9'; SELECT 1; COMMIT")
            .await?;
        drop(c);
        assert_eq!(shown(&a, "TimeZone").await, "Europe/Paris");
        assert_eq!(shown(&b, "app.tenant").await, "8");
        transaction.restore(&checkpoint).await?;
        assert_eq!(shown(&b, "TimeZone").await, plain);
        assert_eq!(shown(&b, "app.tenant").await, "");
        assert_eq!(shown(&a, "TimeZone").await, "Asia/Tokyo");
        assert_eq!(shown(&a, "app.tenant").await, "7");
    }
    drop((a, b));
    transaction.rollback().await
}

#[tokio::test]
async fn temporary_tables_and_held_cursors_go_back_too() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    let create = "CREATE TEMP TABLE kept (a int) ON COMMIT DELETE ROWS";
    client.batch_execute(create).await?;
    client
        .batch_execute("DECLARE before CURSOR WITH HOLD FOR SELECT 1")
        .await?;
    let checkpoint = transaction.checkpoint().await?;
    for _ in 0..2 {
        client
            .batch_execute("CREATE TEMP TABLE gone (a int) ON COMMIT DELETE ROWS")
            .await?;
        client.batch_execute("DROP TABLE kept").await?;
        client
            .batch_execute("DECLARE behind CURSOR WITH HOLD FOR SELECT 2")
            .await?;
        transaction.restore(&checkpoint).await?;
        client
            .batch_execute("BEGIN; INSERT INTO kept VALUES (1); COMMIT")
            .await?;
        let count = client.query_one("SELECT count(*) FROM kept", &[]).await?;
        assert_eq!(count.get::<_, i64>(0), 0);
        assert!(client.batch_execute("SELECT FROM gone").await.is_err());
        client.batch_execute("FETCH ALL FROM before").await?;
        assert!(client.batch_execute("FETCH behind").await.is_err());
        // Its name is free.
        client
            .batch_execute("DECLARE behind CURSOR WITH HOLD FOR SELECT 3; CLOSE behind")
            .await?;
    }
    drop(client);
    transaction.rollback().await
}

async fn added(client: &Client) -> i32 {
    let insert = "INSERT INTO c DEFAULT VALUES RETURNING id";
    let row = client.query_one(insert, &[]).await;
    row.expect("a row is added").get(0)
}

#[tokio::test]
async fn sequences_go_on_unless_they_are_asked_for() -> Result<()> {
    let transaction = open().await;
    let client = transaction.pool()?.get().await?;
    // Other tests take ids, too, so it must be one of this test's own.
    client
        .batch_execute("CREATE SEQUENCE own INCREMENT 10 START 5")
        .await?;
    client.batch_execute("CREATE SEQUENCE untouched").await?;
    client
        .batch_execute("ALTER TABLE c ALTER id SET DEFAULT nextval('own')")
        .await?;
    let fresh = transaction.checkpoint().await?;
    assert_eq!((added(&client).await, added(&client).await), (5, 15));
    let used = transaction.checkpoint().await?;
    assert_eq!(added(&client).await, 25);
    transaction.restore(&used).await?;
    assert_eq!(added(&client).await, 35);
    for _ in 0..2 {
        transaction.restore_with_sequences(&used).await?;
        let again = transaction.checkpoint().await?;
        assert_eq!(added(&client).await, 25);
        transaction.restore_with_sequences(&again).await?;
        assert_eq!(added(&client).await, 25);
    }
    transaction.restore_with_sequences(&fresh).await?;
    assert_eq!(added(&client).await, 5);
    drop(client);
    transaction.rollback().await
}

#[tokio::test]
async fn a_checkpoint_is_nobodys_statement() -> Result<()> {
    let transaction = open().await;
    let (checkpoint, queries) = transaction.capture_queries(transaction.checkpoint()).await;
    let checkpoint = checkpoint?;
    let (restored, more) = transaction
        .capture_queries(transaction.restore_with_sequences(&checkpoint))
        .await;
    restored?;
    assert_eq!((queries.len(), more.len()), (0, 0));
    transaction.rollback().await
}

/// A temporary table of a client that has gone comes back, and nobody else has to see it.
#[tokio::test]
async fn what_a_client_has_left_is_given_up_again() -> Result<()> {
    let transaction = open().await;
    let b = transaction.pool()?.get().await?;
    let (a, connection) = tokio_postgres::Config::new()
        .user("a")
        .connect_raw(__private::session(&transaction), NoTls)
        .await?;
    let connection = tokio::spawn(connection);
    a.batch_execute("CREATE TEMP TABLE x AS SELECT 1").await?;
    let checkpoint = transaction.checkpoint().await?;
    drop(a);
    connection.await.expect("no panic")?;
    assert!(b.batch_execute("SELECT FROM x").await.is_err());
    transaction.restore(&checkpoint).await?;
    assert!(b.batch_execute("SELECT FROM x").await.is_err());
    drop(b);
    transaction.rollback().await
}
