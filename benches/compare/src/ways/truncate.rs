//! One database for all tests, whose tables are emptied after each. So there can be one test at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::rt::System;
use deadpool_postgres::{Manager, Pool};
use tokio_postgres::{Config, NoTls};

use super::{Way, in_threads};
use crate::life::serve_and_test;
use crate::{application, ground};

pub(crate) struct Truncate {
    database: String,
    target: Config,
    truncate: String,
    turn: Mutex<()>,
}

impl Truncate {
    pub(crate) fn new(tables: usize) -> Self {
        let database = format!("compare_truncate_{tables}");
        ground::run(&ground::server(), &[format!("CREATE DATABASE {database}")]);
        let mut target = ground::server();
        target.dbname(&database);
        ground::run(&target, &[ground::migrations_text(tables)]);
        let names: Vec<_> = (1..=tables).map(|table| format!("t{table}")).collect();
        Self {
            database,
            target,
            truncate: format!("TRUNCATE {} RESTART IDENTITY CASCADE", names.join(", ")),
            turn: Mutex::new(()),
        }
    }
}

impl Way for Truncate {
    fn name(&self) -> &'static str {
        "TRUNCATE of all tables"
    }

    fn run(&self, tests: usize, threads: usize) -> Duration {
        in_threads(tests, threads, || {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let manager = Manager::new(self.target.clone(), NoTls);
            let pool = Pool::builder(manager).build().unwrap();
            serve_and_test(|listener| application::with_deadpool(listener, pool));
            System::new().block_on(async {
                let client = ground::connect(&self.target).await;
                client.batch_execute(&self.truncate).await.unwrap();
            });
        })
    }
}

impl Drop for Truncate {
    fn drop(&mut self) {
        ground::drop_databases(&self.database);
    }
}
