//! What `pgbench` gets done with one client over the socket, beside the server itself.
//!
//! `cargo bench --bench socket` uses `DATABASE_URL` or the embedded PostgreSQL. Both sides take turns, and the ratio is the
//! median of the rounds' ratios. The socket is one of TCP: to compare like with like, `DATABASE_URL` should name an address
//! of TCP, too, which the embedded server doesn't have.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops where something fails"
)]

use std::env;
use std::path::PathBuf;
use std::process::Command;

use actix_shareddb::__private::resolve;
use actix_shareddb::{Config, Schema, SharedTransaction};
use tokio_postgres::config::Host;

mod figures;

use figures::median;

/// What pgbench's select-only script reads.
const SCHEMA: &str = "
    CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int);
    INSERT INTO pgbench_branches VALUES (1, 0);
    CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
    INSERT INTO pgbench_accounts SELECT n, 1, 0, '' FROM generate_series(1, 100000) n;
";

const ROUNDS: usize = 9;
const STATEMENTS: &str = "20000";

#[tokio::main]
async fn main() {
    let (schema, config) = (Schema::sql(SCHEMA), Config::new());
    let target = resolve(&schema, &config).await.unwrap();
    let (kind, direct) = address(&target);
    let transaction = SharedTransaction::open(&schema, &config).await.unwrap();
    let socket = transaction.database_url().unwrap();
    println!(
        "statements a second of one client; medians of {ROUNDS} rounds; the server is reached over {kind}\n"
    );
    println!("{:<32} {:>9} {:>9}  ratio", "", "socket", "direct");
    for mode in ["simple", "extended", "prepared"] {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (shared, plain) = (pgbench(mode, &socket), pgbench(mode, &direct));
            ours.push(shared);
            theirs.push(plain);
            ratios.push(shared / plain);
        }
        println!(
            "{:<32} {:>9.0} {:>9.0}  {:>5.2}",
            format!("pgbench -S -M {mode}"),
            median(&ours),
            median(&theirs),
            median(&ratios)
        );
    }
    transaction.rollback().await.unwrap();
}

/// How the server is reached, and where it is, as pgbench takes it.
fn address(target: &tokio_postgres::Config) -> (&'static str, String) {
    let (kind, host) = match &target.get_hosts()[0] {
        Host::Tcp(name) => ("TCP", name.clone()),
        #[cfg(unix)]
        Host::Unix(folder) => ("a Unix socket", folder.to_str().unwrap().to_owned()),
    };
    let port = target.get_ports().first().copied().unwrap_or(5432);
    let mut address = format!("host='{host}' port={port}");
    let mut add = |key: &str, value: &str| {
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        address.push_str(&format!(" {key}='{value}'"));
    };
    if let Some(user) = target.get_user() {
        add("user", user);
    }
    if let Some(password) = target.get_password() {
        add("password", &String::from_utf8_lossy(password));
    }
    if let Some(database) = target.get_dbname() {
        add("dbname", database);
    }
    (kind, address)
}

/// Runs the select-only script, and answers how many statements a second.
fn pgbench(mode: &str, address: &str) -> f64 {
    let output = Command::new(program())
        .args(["-n", "-S", "-c", "1", "-t", STATEMENTS, "-M", mode, address])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let rate = report.lines().find_map(|line| {
        let rate = line.strip_prefix("tps = ")?;
        rate.split(' ').next()?.parse().ok()
    });
    rate.unwrap_or_else(|| panic!("{report}{}", String::from_utf8_lossy(&output.stderr)))
}

fn program() -> PathBuf {
    let mut folders: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.map(|version| version.unwrap().path().join("bin")));
    }
    let programs = folders.iter().map(|folder| folder.join("pgbench"));
    let found = programs.into_iter().find(|path| path.is_file());
    found.expect("pgbench is installed with PostgreSQL")
}
