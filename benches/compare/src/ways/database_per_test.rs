//! A database per test, created and migrated by it, as in the book "Zero To Production In Rust". As there, it isn't dropped
//! when the test ends, which the figures leave out.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{Connection as _, Executor as _, PgConnection, migrate::Migrator};

use super::{Way, in_threads};
use crate::life::spawn_and_test;
use crate::{application, ground};

const PREFIX: &str = "compare_own_";

pub(crate) struct DatabasePerTest(Migrator);

impl DatabasePerTest {
    pub(crate) fn new(tables: usize) -> Self {
        Self(migrator(tables))
    }
}

/// The migrations, read as `sqlx::migrate!` reads them when it compiles.
pub(super) fn migrator(tables: usize) -> Migrator {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime
        .block_on(Migrator::new(ground::migrations(tables)))
        .unwrap()
}

impl Way for DatabasePerTest {
    fn name(&self) -> &'static str {
        "database per test, migrated"
    }

    fn run(&self, tests: usize, threads: usize) -> Duration {
        let took = in_threads(tests, threads, || {
            // What `#[tokio::test]` makes of it.
            let runtime = { tokio::runtime::Builder::new_current_thread() };
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let server: PgConnectOptions =
                    std::env::var("DATABASE_URL").unwrap().parse().unwrap();
                let database = format!("{PREFIX}{}", ground::number());
                let mut connection = PgConnection::connect_with(&server).await.unwrap();
                let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"));
                connection.execute(sqlx::raw_sql(create)).await.unwrap();
                let pool = PgPool::connect_with(server.database(&database))
                    .await
                    .unwrap();
                self.0.run(&pool).await.unwrap();
                spawn_and_test(|listener| application::with_sqlx(listener, pool)).await;
            });
        });
        ground::drop_databases(PREFIX);
        took
    }

    fn most(&self) -> usize {
        40
    }
}
