//! The results as tables and charts in `benches/README.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use actix_web::rt::System;

use crate::measure::Cell;
use crate::{TABLES, THREADS, chart, ground};

/// Where the part stands that this program writes.
const BEGIN: &str = "<!-- begin: written by scripts/compare -->\n";
const BEGIN_STATEMENTS: &str = "<!-- begin: statements, written by scripts/compare -->\n";
const END: &str = "<!-- end -->";

/// Writes everything below `benches/`.
pub(crate) fn write(cells: &[Cell], statements: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    chart::by_tables(cells, &folder.join("tables.svg"));
    chart::by_threads(cells, &folder.join("threads.svg"));
    let json = serde_json::to_string_pretty(cells).unwrap();
    fs::write(folder.join("results.json"), json + "\n").unwrap();

    let mut text = format!("{}\n\n", circumstances());
    for tables in TABLES {
        writeln!(text, "### {tables} tables\n\n{}", table(cells, tables)).unwrap();
    }
    let path = folder.join("README.md");
    let page = fs::read_to_string(&path).unwrap();
    let page = with_part(&page, BEGIN, &text);
    let page = with_part(&page, BEGIN_STATEMENTS, statements);
    fs::write(&path, page).unwrap();
    println!("{text}\n{statements}");
}

/// The page with another text between this line and the next end.
fn with_part(page: &str, begin: &str, text: &str) -> String {
    let (head, rest) = page.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    format!("{head}{begin}{text}{END}{tail}")
}

/// A row for each way: the median, its spread, and how many times ours that is.
pub(crate) fn table(cells: &[Cell], tables: usize) -> String {
    let mut rows: BTreeMap<usize, String> = BTreeMap::new();
    let mut head = "| ms per test |".to_owned();
    let mut rule = "|---|".to_owned();
    for threads in THREADS {
        write!(head, " {threads} at a time | × ours |").unwrap();
        rule.push_str("---:|---:|");
        let column = cells
            .iter()
            .filter(|cell| cell.tables == tables && cell.threads == threads);
        let mut ours = f64::NAN;
        for (index, cell) in column.enumerate() {
            if index == 0 {
                ours = cell.median();
            }
            let (least, most) = cell.spread();
            let row = rows.entry(index).or_insert(format!("| {} |", cell.way));
            write!(
                row,
                " {:.2} ({least:.2}-{most:.2}) | {:.1} |",
                cell.median(),
                cell.median() / ours
            )
            .unwrap();
        }
    }
    let rows: Vec<_> = rows.into_values().collect();
    format!("{head}\n{rule}\n{}\n", rows.join("\n"))
}

/// Where, when and with what it was measured.
fn circumstances() -> String {
    let line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let output = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        output.unwrap_or_else(|_| format!("no {program}"))
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    let postgres: String = System::new().block_on(async {
        let client = ground::connect(&ground::server()).await;
        let row = client.query_one("SHOW server_version", &[]).await.unwrap();
        row.get(0)
    });
    let lock = include_str!("../Cargo.lock");
    let version = |name: &str| {
        let (_, rest) = lock
            .split_once(&format!("name = \"{name}\"\nversion = \""))
            .unwrap();
        let (version, _) = rest.split_once('"').unwrap();
        format!("{name} {version}")
    };
    let crates = ["actix-web", "deadpool-postgres", "sqlx", "pgtemp"].map(version);
    let django = include_str!("../requirements.txt")
        .lines()
        .find(|line| line.starts_with("Django"))
        .unwrap();
    format!(
        "Measured on {}, on {processors} processors ({model}), {},\nPostgreSQL {postgres} without fsync, {},\n{}, {}.\n\
         Medians of three rounds, in which all took turns; in brackets the least and the greatest.",
        line("date", &["+%Y-%m-%d"]),
        line("uname", &["-sr"]),
        line("rustc", &["--version"]).split(" (").next().unwrap(),
        crates.join(", "),
        django.replace("==", " "),
    )
}
