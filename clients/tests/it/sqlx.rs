//! sqlx, which has a driver, a pool and a listener of its own.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use sqlx::postgres::{PgListener, PgPoolCopyExt as _, PgPoolOptions};
use sqlx::{Acquire as _, Connection as _, Executor as _, PgConnection, PgPool};
use tokio::time::timeout;

use crate::ground::same;

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn pool(url: &str) -> PgPool {
    let options = PgPoolOptions::new().max_connections(3);
    options.connect(url).await.unwrap()
}

/// Plays a scenario with a pool, within its time.
async fn with_pool(scenario: impl AsyncFn(&PgPool, &mut String)) -> String {
    same(async |url| {
        let pool = pool(&url).await;
        let mut said = String::new();
        timeout(PATIENCE, scenario(&pool, &mut said))
            .await
            .expect("it comes to an end");
        pool.close().await;
        said
    })
    .await
}

fn say(said: &mut String, line: impl Display) {
    writeln!(said, "{line}").unwrap();
}

/// PostgreSQL's own words for an error.
fn words<T>(outcome: Result<T, sqlx::Error>) -> String {
    match outcome {
        Ok(_) => "done".to_owned(),
        Err(sqlx::Error::Database(error)) => format!("{:?} {error}", error.code()),
        Err(error) => panic!("{error}"),
    }
}

async fn insert(executor: impl sqlx::PgExecutor<'_>, value: &str) -> String {
    let insert = sqlx::query("INSERT INTO t (v) VALUES ($1)").bind(value);
    words(insert.execute(executor).await)
}

async fn values(pool: &PgPool) -> String {
    let values = "SELECT coalesce(string_agg(v, ',' ORDER BY v), 'none') FROM t";
    sqlx::query_scalar(values).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn queries_prepared_and_not() {
    with_pool(async |pool, said| {
        for persistent in [true, false, true] {
            for number in 0..3 {
                let row: (i32, String) = sqlx::query_as("SELECT $1 + 1, $2 || '!'")
                    .bind(number)
                    .bind("text")
                    .persistent(persistent)
                    .fetch_one(pool)
                    .await
                    .unwrap();
                say(said, format_args!("{row:?}"));
            }
        }
        let several =
            "INSERT INTO t (v) VALUES ('raw'); SELECT 1; INSERT INTO t (v) VALUES ('raw')";
        say(said, words(sqlx::raw_sql(several).execute(pool).await));
        say(
            said,
            words(pool.execute("INSERT INTO t (v) VALUES ('plain')").await),
        );
        say(said, insert(pool, "plain").await);
        let streamed: Vec<i32> = sqlx::query_scalar::<_, i32>("SELECT generate_series(1, $1)")
            .bind(1000)
            .fetch(pool)
            .try_collect()
            .await
            .unwrap();
        say(said, streamed.len());
        let first = sqlx::query_scalar::<_, i32>("SELECT generate_series(1, 5)");
        say(said, first.fetch_one(pool).await.unwrap());
        say(said, words(sqlx::query("SELEC 1").execute(pool).await));
        let described = pool.describe("SELECT id, v FROM t WHERE v = $1").await;
        say(said, format_args!("{:?}", described.unwrap().columns()));
        let mut connection = pool.acquire().await.unwrap();
        connection.ping().await.unwrap();
        connection.clear_cached_statements().await.unwrap();
        say(said, insert(&mut *connection, "after").await);
        drop(connection);
        say(said, values(pool).await);
    })
    .await;
}

#[tokio::test]
async fn transactions_nested_ones_and_errors_in_them() {
    let said = with_pool(async |pool, said| {
        let mut outer = pool.begin().await.unwrap();
        say(said, insert(&mut *outer, "outer").await);
        let mut inner = outer.begin().await.unwrap();
        say(said, insert(&mut *inner, "undone").await);
        inner.rollback().await.unwrap();
        let mut inner = outer.begin().await.unwrap();
        say(said, insert(&mut *inner, "inner").await);
        let mut innermost = inner.begin().await.unwrap();
        say(said, insert(&mut *innermost, "inner").await);
        say(said, insert(&mut *innermost, "ignored").await);
        // Dropped, it is rolled back before whatever comes next.
        drop(innermost);
        inner.commit().await.unwrap();
        outer.commit().await.unwrap();
        say(said, values(pool).await);

        let mut failed = pool.begin().await.unwrap();
        say(said, insert(&mut *failed, "lost").await);
        say(said, insert(&mut *failed, "outer").await);
        say(said, insert(&mut *failed, "ignored").await);
        // PostgreSQL answers ROLLBACK to it, and says so in its tag alone.
        say(said, words(failed.commit().await));
        let mut dropped = pool.begin().await.unwrap();
        say(said, insert(&mut *dropped, "dropped").await);
        drop(dropped);
        say(said, values(pool).await);
    })
    .await;
    assert!(said.ends_with("inner,outer\n"), "{said}");
}

#[tokio::test]
async fn copies_in_and_out() {
    let said = with_pool(async |pool, said| {
        let mut copy = pool.copy_in_raw("COPY t (v) FROM STDIN").await.unwrap();
        for number in 0..500 {
            let row = format!("{number:04}\n");
            copy.send(row.as_bytes()).await.unwrap();
        }
        say(said, copy.finish().await.unwrap());
        let mut copy = pool.copy_in_raw("COPY t (v) FROM STDIN").await.unwrap();
        copy.send(&b"aborted\n"[..]).await.unwrap();
        copy.abort("given up").await.unwrap();
        let mut copy = pool.copy_in_raw("COPY t (v) FROM STDIN").await.unwrap();
        copy.send(&b"0001\n"[..]).await.unwrap();
        say(said, words(copy.finish().await));
        let out = "COPY (SELECT v FROM t ORDER BY v) TO STDOUT";
        let out: Vec<_> = pool
            .copy_out_raw(out)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        say(said, String::from_utf8(out.concat()).unwrap());
        say(said, values(pool).await);
    })
    .await;
    assert!(said.starts_with("500\n"), "{said}");
}

#[tokio::test]
async fn several_connections_of_its_pool_at_once() {
    let said = with_pool(async |pool, said| {
        let many = (0..20).map(async |number: i32| {
            let mut transaction = pool.begin().await.unwrap();
            let done = insert(&mut *transaction, &number.to_string()).await;
            let again = insert(&mut *transaction, &number.to_string()).await;
            if number % 2 == 0 {
                transaction.rollback().await.unwrap();
                insert(pool, &format!("even {number}")).await;
            } else {
                transaction.commit().await.unwrap();
                insert(pool, &format!("odd {number}")).await;
            }
            format!("{number} {done} {again}")
        });
        for line in join_all(many).await {
            say(said, line);
        }
        say(said, values(pool).await);
    })
    .await;
    assert_eq!(
        said.lines().last().unwrap().split(',').count(),
        20,
        "{said}"
    );
}

#[tokio::test]
async fn a_listener_hears_what_is_committed() {
    let said = with_pool(async |pool, said| {
        let mut listener = PgListener::connect_with(pool).await.unwrap();
        listener.listen_all(["news", "other"]).await.unwrap();
        let notify = "SELECT pg_notify('news', $1)";
        let mut transaction = pool.begin().await.unwrap();
        let undone = sqlx::query(notify).bind("undone");
        undone.execute(&mut *transaction).await.unwrap();
        transaction.rollback().await.unwrap();
        let mut transaction = pool.begin().await.unwrap();
        let first = sqlx::query(notify).bind("first");
        first.execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        listener.unlisten("other").await.unwrap();
        pool.execute("NOTIFY other, 'unheard'").await.unwrap();
        pool.execute("NOTIFY news, 'second'").await.unwrap();
        for _ in 0..2 {
            let heard = listener.recv().await.unwrap();
            say(
                said,
                format_args!("{} {}", heard.channel(), heard.payload()),
            );
        }
    })
    .await;
    assert_eq!(said, "news first\nnews second\n");
}

#[tokio::test]
async fn a_connection_by_itself() {
    same(async |url| {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let mut said = insert(&mut connection, "alone").await;
        let outcome = connection
            .transaction(|transaction| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO t (v) VALUES ('alone')")
                        .execute(&mut **transaction)
                        .await
                })
            })
            .await;
        say(&mut said, words(outcome));
        say(&mut said, insert(&mut connection, "still").await);
        connection.close().await.unwrap();
        said
    })
    .await;
}
