//! `#[sqlx::test]` with migrations: what the macro makes of a test function.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::testing::{TestArgs, TestFn};

use super::database_per_test::migrator;
use super::{Way, in_threads};
use crate::life::spawn_and_test;
use crate::{application, ground};

pub(crate) struct SqlxTest(&'static Migrator);

impl SqlxTest {
    pub(crate) fn new(tables: usize) -> Self {
        // The macro has it in a static.
        Self(Box::leak(Box::new(migrator(tables))))
    }
}

impl Way for SqlxTest {
    fn name(&self) -> &'static str {
        "#[sqlx::test]"
    }

    fn run(&self, tests: usize, threads: usize) -> Duration {
        async fn test(pool: PgPool) {
            spawn_and_test(|listener| application::with_sqlx(listener, pool)).await;
        }
        in_threads(tests, threads, || {
            // The test's path, from which the name of its database is made.
            let path = format!("compare::test_{}", ground::number());
            let mut arguments = TestArgs::new(Box::leak(path.into_boxed_str()));
            arguments.migrator(self.0);
            let test: fn(PgPool) -> _ = test;
            TestFn::run_test(test, arguments);
        })
    }

    fn most(&self) -> usize {
        40
    }
}
