//! What a driver and a pool do, on a plain pool and on a shared one.

use std::pin::pin;

use actix_shareddb::Pool;
use bytes::Bytes;
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use futures_util::{FutureExt, SinkExt, TryStreamExt, future};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::stage::{Database, SCHEMA};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Runs a test with a shared pool, then with a plain one. What it asserts must hold on both.
async fn both(test: impl AsyncFn(&Pool) -> Result) {
    Database::with(SCHEMA, async |database| {
        let committed = database.counts().await;
        let transaction = database.open().await;
        test(&transaction.pool().unwrap())
            .await
            .expect("on a shared pool");
        assert_eq!(
            committed,
            database.counts().await,
            "something was committed"
        );
        transaction
            .rollback()
            .await
            .expect("the transaction was ours to the end");
        assert_eq!(committed, database.counts().await, "something was left");
        let config = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(database.config.clone(), NoTls, config);
        let pool = Pool::builder(manager).max_size(16).build().unwrap();
        test(&pool).await.expect("on a plain pool");
    })
    .await;
}

async fn count(pool: &Pool, table: &str) -> Result<i64> {
    let row = pool
        .get()
        .await?
        .query_one(&format!("SELECT count(*) FROM {table}"), &[])
        .await?;
    Ok(row.get(0))
}

#[tokio::test]
async fn nested_transactions() {
    both(async |pool| {
        let mut client = pool.get().await?;
        let mut outer = client.transaction().await?;
        outer
            .execute("INSERT INTO t(v) VALUES ('kept')", &[])
            .await?;
        {
            let mut inner = outer.transaction().await?;
            inner
                .execute("INSERT INTO t(v) VALUES ('lost')", &[])
                .await?;
            let innermost = inner.savepoint("named").await?;
            let error = innermost
                .execute("INSERT INTO t(v) VALUES ('lost')", &[])
                .await
                .unwrap_err();
            assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
            innermost.rollback().await?;
            inner.query_one("SELECT 1", &[]).await?;
            // Dropped, which rolls back.
        }
        let inner = outer.transaction().await?;
        inner
            .execute("INSERT INTO t(v) VALUES ('kept too')", &[])
            .await?;
        inner.commit().await?;
        outer.commit().await?;
        let rows = client.query("SELECT v FROM t ORDER BY v", &[]).await?;
        let values: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(values, ["kept", "kept too"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn cached_statements_are_each_clients_own() {
    both(async |pool| {
        let (a, b) = (pool.get().await?, pool.get().await?);
        for round in 0..3_i32 {
            for client in [&a, &b] {
                let statement = client.prepare_cached("SELECT $1::int4 + 1").await?;
                let sum: i32 = client.query_one(&statement, &[&round]).await?.get(0);
                assert_eq!(sum, round + 1);
                let broken = client.prepare_cached("SELECT nothing").await;
                assert!(broken.is_err());
            }
        }
        a.statement_cache.clear();
        let statement = a.prepare_cached("SELECT $1::int4 + 1").await?;
        assert_eq!(
            a.query_one(&statement, &[&1_i32]).await?.get::<_, i32>(0),
            2
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn copies_both_ways() {
    both(async |pool| {
        let client = pool.get().await?;
        let mut sink = pin!(client.copy_in("COPY audit FROM STDIN").await?);
        for number in 0..1_000 {
            sink.send(Bytes::from(format!("row {number}\n"))).await?;
        }
        assert_eq!(sink.finish().await?, 1_000);

        let mut sink = pin!(client.copy_in::<_, Bytes>("COPY parent FROM STDIN").await?);
        sink.send(Bytes::from_static(b"no number\n")).await?;
        let error = sink.finish().await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));

        let copied: Vec<Bytes> = client
            .copy_out("COPY audit TO STDOUT")
            .await?
            .try_collect()
            .await?;
        assert_eq!(copied.len(), 1_000);
        assert_eq!(count(pool, "parent").await?, 0);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_copy_that_is_given_up() {
    both(async |pool| {
        {
            let client = pool.get().await?;
            let mut sink = Box::pin(client.copy_in("COPY audit FROM STDIN").await?);
            sink.send(Bytes::from_static(b"lost\n")).await?;
            drop(sink);
            client.query_one("SELECT 1", &[]).await?;
        }
        assert_eq!(count(pool, "audit").await?, 0);
        let client = pool.get().await?;
        let mut sink = Box::pin(client.copy_in("COPY audit FROM STDIN").await?);
        sink.send(Bytes::from_static(b"lost\n")).await?;
        drop(deadpool_postgres::Object::take(client));
        assert_eq!(count(pool, "audit").await?, 0);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn rows_of_a_portal_come_in_parts() {
    both(async |pool| {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        let portal = transaction
            .bind("SELECT generate_series(1, 5)", &[])
            .await?;
        for expected in [2, 2, 1, 0] {
            transaction
                .execute("INSERT INTO audit VALUES ('in between')", &[])
                .await?;
            assert_eq!(transaction.query_portal(&portal, 2).await?.len(), expected);
        }
        transaction.rollback().await?;
        assert_eq!(count(pool, "audit").await?, 0);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn requests_of_one_client_are_pipelined() {
    both(async |pool| {
        let client = pool.get().await?;
        let statement = client.prepare("INSERT INTO t(v) VALUES ($1)").await?;
        let insert = |value: &'static str| {
            let (client, statement) = (&client, &statement);
            async move { client.execute(statement, &[&value]).await }
        };
        let (a, b, c, d) = future::join4(insert("a"), insert("a"), insert("b"), insert("a")).await;
        assert_eq!((a?, c?), (1, 1));
        for failed in [b, d] {
            assert_eq!(
                failed.unwrap_err().code(),
                Some(&SqlState::UNIQUE_VIOLATION)
            );
        }
        assert_eq!(count(pool, "t").await?, 2);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_future_that_is_dropped_midway_leaves_nothing_open() {
    both(async |pool| {
        let mut client = pool.get().await?;
        assert!(client.transaction().now_or_never().is_none());
        client.execute("INSERT INTO t(v) VALUES ('a')", &[]).await?;
        {
            let transaction = client.transaction().await?;
            let insert = transaction.execute("INSERT INTO t(v) VALUES ('b')", &[]);
            assert!(insert.now_or_never().is_none());
        }
        assert!(
            client
                .query("SELECT generate_series(1, 100000)", &[])
                .now_or_never()
                .is_none()
        );
        assert_eq!(
            client
                .query_one("SELECT count(*) FROM t", &[])
                .await?
                .get::<_, i64>(0),
            1
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_dropped_in_its_block_rolls_it_back() {
    both(async |pool| {
        for _ in 0..3 {
            let client = pool.get().await?;
            client
                .batch_execute("BEGIN; INSERT INTO t(v) VALUES ('a')")
                .await?;
            drop(deadpool_postgres::Object::take(client));
            // The same key would have to wait if the block were still open.
            let client = pool.get().await?;
            client
                .batch_execute("BEGIN; INSERT INTO t(v) VALUES ('a'); ROLLBACK")
                .await?;
        }
        assert_eq!(count(pool, "t").await?, 0);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn large_values_go_both_ways() {
    both(async |pool| {
        let client = pool.get().await?;
        let large = vec![7_u8; 64 << 20];
        let row = client
            .query_one("SELECT $1::bytea, length($1::bytea)", &[&large])
            .await?;
        assert_eq!(row.get::<_, i32>(1), 64 << 20);
        assert!(row.get::<_, &[u8]>(0) == large, "it was changed on the way");
        let columns: Vec<_> = (0..1_000)
            .map(|number| format!("{number} AS c{number}"))
            .collect();
        let row = client
            .query_one(&format!("SELECT {}", columns.join(", ")), &[])
            .await?;
        assert_eq!(row.len(), 1_000);
        assert_eq!(row.get::<_, i32>("c999"), 999);
        Ok(())
    })
    .await;
}

/// What each of many clients does at the same time: work that is kept, work that fails, and work that is undone.
async fn work(pool: Pool, worker: i32) -> Result {
    for round in 0..10 {
        let mut client = pool.get().await?;
        let key = worker * 100 + round;
        client
            .execute("INSERT INTO parent VALUES ($1)", &[&key])
            .await?;
        let error = client
            .execute("INSERT INTO parent VALUES ($1)", &[&key])
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
        let transaction = client.transaction().await?;
        transaction
            .execute("INSERT INTO child VALUES ($1, $1)", &[&key])
            .await?;
        if round % 2 == 0 {
            transaction.commit().await?;
        } else {
            assert!(transaction.query_one("SELECT 1/0", &[]).await.is_err());
            drop(transaction);
        }
        let sql = "SELECT count(*) FROM parent WHERE id / 100 = $1";
        let own: i64 = client.query_one(sql, &[&worker]).await?.get(0);
        assert_eq!(own, i64::from(round) + 1);
        if round == 5 {
            drop(deadpool_postgres::Object::take(client));
        }
    }
    Ok(())
}

const WORKERS: i32 = 16;

async fn check(pool: &Pool) {
    assert_eq!(
        count(pool, "parent").await.unwrap(),
        i64::from(WORKERS) * 10
    );
    assert_eq!(count(pool, "child").await.unwrap(), i64::from(WORKERS) * 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_clients_on_a_multi_thread_runtime() {
    Database::with(SCHEMA, async |database| {
        let transaction = database
            .open_with(&database.shared_config().pool_max_size(16))
            .await;
        let pool = transaction.pool().unwrap();
        let workers = (0..WORKERS).map(|worker| tokio::spawn(work(pool.clone(), worker)));
        for outcome in future::join_all(workers).await {
            outcome.expect("no worker panics").expect("no worker fails");
        }
        check(&pool).await;
        transaction.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn many_clients_on_runtimes_of_their_own() {
    Database::with(SCHEMA, async |database| {
        let transaction = database
            .open_with(&database.shared_config().pool_max_size(16))
            .await;
        let mut threads = Vec::new();
        for thread in 0..4 {
            // Clients belong to the runtime that they were made on, so each thread has a pool.
            let pool = transaction.pool().unwrap();
            let (done, outcome) = tokio::sync::oneshot::channel();
            let handle = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let work = runtime.block_on(async {
                    let workers =
                        (0..4).map(|worker| tokio::spawn(work(pool.clone(), thread * 4 + worker)));
                    future::join_all(workers).await
                });
                drop(pool);
                drop(runtime);
                done.send(work).expect("the test waits");
            });
            threads.push((handle, outcome));
        }
        for (handle, outcome) in threads {
            for outcome in outcome.await.expect("the thread has not panicked") {
                outcome.expect("no worker panics").expect("no worker fails");
            }
            handle.join().expect("the thread has not panicked");
        }
        check(&transaction.pool().unwrap()).await;
        transaction.rollback().await.unwrap();
    })
    .await;
}
