//! Behind a statement that has only read the standing savepoint stays where it is, unless the database may hold something that
//! writes when it's read.

use actix_shareddb::{__private, Config, Result, Schema, SharedTransaction};

use crate::stage::{A, Database, SCHEMA, connect, same};

/// Notes down what is read.
const NOTE: &str = "CREATE FUNCTION note(n int) RETURNS int LANGUAGE plpgsql AS \
     $$ BEGIN INSERT INTO audit VALUES (n); RETURN n; END $$";

/// Whether what was locked by a read stays locked when the next one fails: then there is a savepoint between the two.
async fn is_guarded(schema: &str) -> Result<bool> {
    let schema = Schema::sql(format!("{SCHEMA}; {schema}"));
    let transaction = SharedTransaction::open(&schema, &Config::new()).await?;
    let observer = connect(&__private::resolve(&schema, &Config::new()).await?).await;
    let client = transaction.pool()?.get().await.unwrap();
    let process_id = client.query_one("SELECT pg_backend_pid()", &[]).await;
    let process_id: i32 = process_id.unwrap().get(0);
    client.query("SELECT id FROM p2", &[]).await.unwrap();
    client
        .query("SELECT 1/0", &[])
        .await
        .expect_err("it divides by zero");
    let lock = "SELECT count(*) FROM pg_locks WHERE relation = 'p2'::regclass AND pid = $1";
    let locks: i64 = observer
        .query_one(lock, &[&process_id])
        .await
        .unwrap()
        .get(0);
    drop(client);
    transaction.rollback().await?;
    Ok(locks > 0)
}

#[tokio::test]
async fn what_only_reads_needs_no_savepoint_of_its_own() -> Result<()> {
    assert!(!is_guarded("").await?);
    assert!(is_guarded(NOTE).await?);
    Ok(())
}

#[tokio::test]
async fn what_a_read_has_written_is_kept_when_the_next_one_fails() {
    let ways: [(&[&str], &str); 5] = [
        (
            &[NOTE, "CREATE VIEW v AS SELECT note(id) FROM p2"],
            "SELECT * FROM v",
        ),
        (
            &[NOTE, "CREATE OPERATOR !! (FUNCTION = note, RIGHTARG = int)"],
            "SELECT !! id FROM p2",
        ),
        (
            &[NOTE, "CREATE DOMAIN noted AS int CHECK (note(VALUE) > 0)"],
            "SELECT id::noted FROM p2",
        ),
        (
            &[
                "DO $do$ BEGIN EXECUTE $sql$CREATE FUNCTION lower(n int) RETURNS int LANGUAGE plpgsql AS \
                 $$ BEGIN INSERT INTO audit VALUES (n); RETURN n; END $$ $sql$; END $do$",
            ],
            "SELECT lower(id) FROM p2",
        ),
        (
            &[
                NOTE,
                "CREATE ROLE shareddb_it_reader",
                "GRANT ALL ON p2, audit TO shareddb_it_reader",
                "ALTER TABLE p2 ENABLE ROW LEVEL SECURITY",
                "CREATE POLICY p ON p2 USING (note(id) > 0)",
                "SET ROLE shareddb_it_reader",
            ],
            "SELECT * FROM p2",
        ),
    ];
    for (definitions, read) in ways {
        Database::with(SCHEMA, async |database| {
            let transaction = database.open().await;
            let url = transaction.database_url().unwrap();
            let client = connect(&url.parse().unwrap()).await;
            let insert = "INSERT INTO p2 VALUES (1)";
            client.batch_execute(insert).await.unwrap();
            client.query("SELECT id FROM p2", &[]).await.unwrap();
            for sql in definitions {
                client.batch_execute(sql).await.unwrap();
            }
            client.query(read, &[]).await.unwrap();
            client
                .query("SELECT 1/0", &[])
                .await
                .expect_err("it divides by zero");
            let count = "SELECT count(*) FROM audit";
            let row = client.query_one(count, &[]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), 1, "{read}");
            transaction.rollback().await.unwrap();
        })
        .await;
    }
}

/// `(n).f` is `f(n)`.
#[tokio::test]
async fn a_function_may_be_called_as_an_attribute() {
    same(async |s| {
        for create in [
            "SELECT (987654).lo_create",
            "SELECT x.lo_create FROM generate_series(987654, 987654) AS x",
        ] {
            s.query(A, create).await;
            s.query(A, "SELECT 1/0").await;
            s.query(A, "SELECT lo_unlink(987654)").await;
        }
    })
    .await;
}
