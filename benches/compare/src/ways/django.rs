//! Django's LiveServerTestCase, which flushes all tables after each test. It runs in processes of its own, which time
//! each test from its set-up to its tear-down; those of the class, that is the server's, and of the database are left out.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Way;
use crate::ground;

pub(crate) struct Django(usize);

impl Django {
    pub(crate) fn new(tables: usize) -> Self {
        Self(tables)
    }
}

impl Way for Django {
    fn name(&self) -> &'static str {
        "Django's LiveServerTestCase"
    }

    fn run(&self, tests: usize, threads: usize) -> Duration {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Django's own --parallel has a process and a database for each, too.
        let processes: Vec<_> = (0..threads)
            .map(|thread| {
                let share = (tests + threads - 1 - thread) / threads;
                Command::new(folder.join("target/python/bin/python"))
                    .arg(folder.join("notes.py"))
                    .args([self.0, share].map(|number| number.to_string()))
                    .arg(format!("compare_django_{}", ground::number()))
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("the environment was made by scripts/compare")
            })
            .collect();
        let took = processes.into_iter().map(|process| {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "Django's tests failed");
            let seconds = String::from_utf8(output.stdout).unwrap();
            Duration::from_secs_f64(seconds.trim().parse().unwrap())
        });
        took.max().unwrap_or_default()
    }

    fn most(&self) -> usize {
        40
    }
}
