//! Rounds in which all ways take turns.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ground;
use crate::ways::Way;

/// What a test cost one way, in milliseconds: each round's time by the number of its tests.
#[derive(Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) way: String,
    pub(crate) tables: usize,
    pub(crate) threads: usize,
    pub(crate) rounds: Vec<f64>,
}

impl Cell {
    /// The median of the rounds.
    pub(crate) fn median(&self) -> f64 {
        self.sorted()[self.rounds.len() / 2]
    }

    /// The least and the greatest.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted[0], sorted[sorted.len() - 1])
    }

    fn sorted(&self) -> Vec<f64> {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds
    }
}

/// Measures all ways, side by side. Each way runs about as many tests in a round as fit into a slice of time, and at least
/// one for each thread.
pub(crate) fn take_turns(
    ways: &[&dyn Way],
    tables: usize,
    threads: usize,
    rounds: usize,
    slice: Duration,
) -> Vec<Cell> {
    let tests: Vec<usize> = ways
        .iter()
        .map(|way| {
            // The first one pays for what is done once; it isn't counted.
            way.run(1, 1);
            let start = Instant::now();
            let one = way.run(1, 1).min(start.elapsed());
            let fit = slice.as_secs_f64() / one.as_secs_f64();
            let fit = (fit as usize).clamp(1, way.most());
            fit.next_multiple_of(threads)
        })
        .collect();
    let mut cells: Vec<Cell> = ways
        .iter()
        .map(|way| Cell {
            way: way.name().to_owned(),
            tables,
            threads,
            rounds: Vec::new(),
        })
        .collect();
    for round in 1..=rounds {
        eprintln!("{tables} tables, {threads} at a time: round {round} of {rounds}");
        for (index, way) in ways.iter().enumerate() {
            // What the one before has left to be written and deleted would be done in this one's time.
            ground::run(&ground::server(), &["CHECKPOINT".to_owned()]);
            let took = way.run(tests[index], threads);
            let each = took.as_secs_f64() * 1e3 / tests[index] as f64;
            cells[index].rounds.push(each);
        }
    }
    cells
}
