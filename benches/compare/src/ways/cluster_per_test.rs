//! A PostgreSQL per test: initdb, start, migrations; the `pgtemp` crate.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use deadpool_postgres::{Manager, Pool};
use tokio_postgres::{Config, NoTls};

use super::{Way, in_threads};
use crate::life::serve_and_test;
use crate::{application, ground};

pub(crate) struct ClusterPerTest(String);

impl ClusterPerTest {
    pub(crate) fn new(tables: usize) -> Self {
        Self(ground::migrations_text(tables))
    }
}

impl Way for ClusterPerTest {
    fn name(&self) -> &'static str {
        "cluster per test (pgtemp)"
    }

    fn run(&self, tests: usize, threads: usize) -> Duration {
        in_threads(tests, threads, || {
            // With a database of its own it waits until the server answers.
            // It gives the same port to two that start together, if it is to find one.
            let mut builder = pgtemp::PgTempDB::builder()
                .with_dbname("notes")
                .with_port(free_port());
            // As its documentation has it where initdb isn't in the path.
            if let Some(folder) = debian() {
                builder = builder.with_bin_path(folder);
            }
            let cluster = builder.start();
            let target: Config = cluster.connection_uri().parse().unwrap();
            ground::run(&target, std::slice::from_ref(&self.0));
            let pool = Pool::builder(Manager::new(target, NoTls)).build().unwrap();
            serve_and_test(|listener| application::with_deadpool(listener, pool));
            drop(cluster);
        })
    }

    fn most(&self) -> usize {
        4
    }
}

/// A port below those that the kernel hands out, so that nothing else takes it in the meantime.
fn free_port() -> u16 {
    loop {
        let port = 20_000 + u16::try_from(ground::number() % 10_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The newest PostgreSQL below Debian's folder of them.
fn debian() -> Option<std::path::PathBuf> {
    let versions = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|folder| folder.join("initdb").exists())
        .max()
}
