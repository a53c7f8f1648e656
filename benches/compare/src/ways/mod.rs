//! The ways in which a test can have a database, each as its documentation recommends it.

use std::time::Duration;

mod bare;
mod cluster_per_test;
mod database_per_test;
mod django;
mod shared;
mod sqlx_test;
mod template;
mod truncate;

/// A way, prepared for one schema.
pub(crate) trait Way: Sync {
    /// Its name in the tables.
    fn name(&self) -> &'static str;

    /// Runs so many tests, in so many threads at a time, and answers how long all of them took.
    fn run(&self, tests: usize, threads: usize) -> Duration;

    /// The most tests that are worth waiting for in one round.
    fn most(&self) -> usize {
        usize::MAX
    }
}

/// All of them, for an application of so many tables. The first is ours, the second the floor.
pub(crate) fn all(tables: usize) -> Vec<Box<dyn Way>> {
    vec![
        Box::new(shared::Transaction::new(tables)),
        Box::new(bare::Bare),
        Box::new(shared::Lane::new(tables)),
        Box::new(template::Template::new(tables)),
        Box::new(truncate::Truncate::new(tables)),
        Box::new(sqlx_test::SqlxTest::new(tables)),
        Box::new(database_per_test::DatabasePerTest::new(tables)),
        Box::new(cluster_per_test::ClusterPerTest::new(tables)),
        Box::new(django::Django::new(tables)),
    ]
}

/// Runs one test so many times, shared out to so many threads.
fn in_threads(tests: usize, threads: usize, test: impl Fn() + Sync) -> Duration {
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let test = &test;
            // The first threads take what doesn't divide.
            let share = (tests + threads - 1 - thread) / threads;
            scope.spawn(move || (0..share).for_each(|_| test()));
        }
    });
    start.elapsed()
}
