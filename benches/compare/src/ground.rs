//! The server and the schema that all ways share.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use actix_web::rt::System;
use tokio_postgres::{Client, Config, NoTls};

/// The server at `DATABASE_URL`.
pub(crate) fn server() -> Config {
    let url = env::var("DATABASE_URL").expect("main sets it");
    url.parse().unwrap()
}

/// A number that no test before had.
pub(crate) fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The migrations of an application with so many tables: ten tables to a file, each with a primary key, an index and a
/// reference to the one before.
pub(crate) fn migrations(tables: usize) -> PathBuf {
    let folder = migrations_folder(tables);
    fs::create_dir_all(&folder).unwrap();
    for first in (1..=tables).step_by(10) {
        let mut sql = String::new();
        for table in first..(first + 10).min(tables + 1) {
            let reference = match table {
                1 => String::new(),
                _ => format!(", previous bigint REFERENCES t{}", table - 1),
            };
            writeln!(
                sql,
                "CREATE TABLE t{table} (id bigserial PRIMARY KEY, note text NOT NULL{reference});\n\
                 CREATE INDEX ON t{table} (note);"
            )
            .unwrap();
        }
        let path = folder.join(format!("{first:04}_tables.sql"));
        if fs::read_to_string(&path).is_ok_and(|known| known == sql) {
            continue;
        }
        fs::write(path, sql).unwrap();
    }
    folder
}

/// Where they are.
pub(crate) fn migrations_folder(tables: usize) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/migrations")
        .join(tables.to_string())
}

/// All migrations as one text.
pub(crate) fn migrations_text(tables: usize) -> String {
    let mut files: Vec<_> = fs::read_dir(migrations(tables))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let texts = files.iter().map(|path| fs::read_to_string(path).unwrap());
    texts.collect::<Vec<_>>().join("\n")
}

/// Connects within the current runtime.
pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// Runs SQL on the server, from outside of any runtime.
pub(crate) fn run(config: &Config, statements: &[String]) {
    System::new().block_on(async {
        let client = connect(config).await;
        for statement in statements {
            client.batch_execute(statement).await.unwrap();
        }
    });
}

/// Drops the databases whose names begin so.
pub(crate) fn drop_databases(prefix: &str) {
    System::new().block_on(async {
        let client = connect(&server()).await;
        let sql = "SELECT datname FROM pg_database WHERE starts_with(datname, $1)";
        for row in client.query(sql, &[&prefix]).await.unwrap() {
            let name: &str = row.get(0);
            let sql = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
            client.batch_execute(&sql).await.unwrap();
        }
    });
}

/// The address of a server as a URL.
pub(crate) fn url(server: &Config) -> String {
    use tokio_postgres::config::Host;
    let host = match server.get_hosts() {
        [Host::Tcp(host), ..] => host.clone(),
        [Host::Unix(folder), ..] => folder.to_str().unwrap().replace('/', "%2F"),
        [] => panic!("a server has an address"),
    };
    let port = server.get_ports().first().copied().unwrap_or(5432);
    let user = server.get_user().unwrap();
    let database = server.get_dbname().unwrap();
    format!("postgres://{user}@{host}:{port}/{database}")
}
