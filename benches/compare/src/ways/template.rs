//! A database per test, cloned from one that has been migrated: CREATE DATABASE ... TEMPLATE by hand.

use std::time::Duration;

use actix_web::rt::System;
use deadpool_postgres::{Manager, Pool};
use tokio_postgres::NoTls;

use super::{Way, in_threads};
use crate::life::serve_and_test;
use crate::{application, ground};

pub(crate) struct Template(usize);

impl Template {
    pub(crate) fn new(tables: usize) -> Self {
        let name = Self(tables).name_of_template();
        let create = format!("CREATE DATABASE {name}");
        ground::run(&ground::server(), &[create]);
        let mut template = ground::server();
        template.dbname(&name);
        ground::run(&template, &[ground::migrations_text(tables)]);
        Self(tables)
    }

    fn name_of_template(&self) -> String {
        format!("compare_template_{}", self.0)
    }
}

impl Way for Template {
    fn name(&self) -> &'static str {
        "CREATE DATABASE ... TEMPLATE"
    }

    fn run(&self, tests: usize, threads: usize) -> Duration {
        in_threads(tests, threads, || {
            let database = format!("compare_clone_{}", ground::number());
            let administer = |sql: String| {
                System::new().block_on(async {
                    let client = ground::connect(&ground::server()).await;
                    client.batch_execute(&sql).await.unwrap();
                });
            };
            let template = self.name_of_template();
            administer(format!("CREATE DATABASE {database} TEMPLATE {template}"));
            let mut target = ground::server();
            target.dbname(&database);
            let pool = Pool::builder(Manager::new(target, NoTls)).build().unwrap();
            serve_and_test(|listener| application::with_deadpool(listener, pool));
            administer(format!("DROP DATABASE {database} WITH (FORCE)"));
        })
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        ground::drop_databases(&self.name_of_template());
    }
}
