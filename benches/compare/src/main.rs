//! What the same HTTP test costs with actix-shareddb and with what one would use instead, all in one run.
//!
//! `scripts/compare` runs it, and writes `benches/README.md` and its charts. All ways use the same server (the embedded
//! PostgreSQL, or that at `DATABASE_URL`), and take turns in each round. What was measured before it was interrupted is kept:
//! `--resume` goes on with it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints, and stops where something fails"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs, process};

use actix_shareddb::{__private::resolve, Config, Schema};
use actix_web::rt::System;

use crate::measure::Cell;
use crate::ways::Way;

mod application;
mod chart;
mod ground;
mod life;
mod measure;
mod report;
mod statements;
mod ways;

/// How many tables the application has.
const TABLES: [usize; 4] = [10, 40, 200, 1000];
/// How many tests run at a time.
const THREADS: [usize; 3] = [1, 2, 8];

fn main() {
    if env::var_os("DATABASE_URL").is_none() {
        process::exit(on_embedded_server());
    }
    let quick = env::args().any(|argument| argument == "--quick");
    let (rounds, slice) = match quick {
        true => (1, Duration::from_millis(50)),
        false => (3, Duration::from_millis(400)),
    };
    let resumes = env::args().any(|argument| argument == "--resume");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cells.json");
    let mut cells: Vec<Cell> = match fs::read_to_string(&kept) {
        Ok(text) if resumes => serde_json::from_str(&text).unwrap(),
        _ => Vec::new(),
    };
    for tables in TABLES
        .into_iter()
        .take(if quick { 1 } else { TABLES.len() })
    {
        let ways = ways::all(tables);
        for threads in THREADS {
            if cells
                .iter()
                .any(|cell| (cell.tables, cell.threads) == (tables, threads))
            {
                continue;
            }
            let ways: Vec<&dyn Way> = ways.iter().map(|way| &**way).collect();
            cells.extend(measure::take_turns(&ways, tables, threads, rounds, slice));
            fs::write(&kept, serde_json::to_string(&cells).unwrap()).unwrap();
        }
    }
    let statements = statements::tables(rounds);
    if quick {
        return println!("{}\n{statements}", report::table(&cells, TABLES[0]));
    }
    report::write(&cells, &statements);
}

/// Runs this program again, with the address of the embedded server, which lives as long as this process.
fn on_embedded_server() -> i32 {
    let server = System::new()
        .block_on(resolve(&Schema::existing(), &Config::new()))
        .unwrap_or_else(|error| panic!("{error:?}"));
    let url = ground::url(&server);
    let program = env::current_exe().unwrap();
    let status = Command::new(program)
        .args(env::args_os().skip(1))
        .env("DATABASE_URL", url)
        .status();
    status.unwrap().code().unwrap_or(1)
}
