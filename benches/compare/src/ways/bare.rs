//! The floor: the same life without a database.

use std::time::Duration;

use super::{Way, in_threads};
use crate::application;
use crate::life::serve_and_test;

pub(crate) struct Bare;

impl Way for Bare {
    fn name(&self) -> &'static str {
        "no database (the floor)"
    }

    fn run(&self, tests: usize, threads: usize) -> Duration {
        in_threads(tests, threads, || serve_and_test(application::with_nothing))
    }
}
