//! What a statement costs: its time, with one client and with many at a time, what the client's thread allocates for it, and how
//! often that thread and the backend wait for each other, which is what a round trip is made of.

use std::fmt::Write as _;
use std::fs;
use std::ops::Deref;
use std::time::Instant;

use actix_shareddb::{Config, Schema, SharedTransaction};
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Statement};

use crate::ground;

/// How many clients work at a time, on one thread.
const CLIENTS: [usize; 3] = [1, 8, 32];
/// How many statements all of them run together in a round.
const STATEMENTS: usize = 6400;

const DATABASE: &str = "compare_statements";
const SCHEMA: &str = "CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL); \
     INSERT INTO item (name) SELECT 'item ' || n FROM generate_series(1, 1000) n";

const WORKS: [(&str, &str); 2] = [
    (
        "SELECT of one row by its key",
        "SELECT name FROM item WHERE id = 7",
    ),
    (
        "INSERT of one row",
        "INSERT INTO item (name) VALUES ('new')",
    ),
];

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Shared,
    Autocommit,
    InTransaction,
    /// What one would write to protect a transaction against a statement that fails.
    Savepoints,
}

const WAYS: [(Way, &str); 4] = [
    (
        Way::Shared,
        "actix-shareddb: all clients in one transaction",
    ),
    (Way::Autocommit, "a connection each, without a transaction"),
    (
        Way::InTransaction,
        "a connection each, within a transaction",
    ),
    (
        Way::Savepoints,
        "the same, each statement within a savepoint",
    ),
];

/// A client, in whatever holds it.
type Held = Box<dyn Deref<Target = Client>>;

struct Pooled(deadpool_postgres::Client);

impl Deref for Pooled {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

/// Some clients that do the same thing.
struct Crew {
    way: Way,
    clients: Vec<(Held, Statement)>,
    backends: Vec<i32>,
    /// Holds what they live in.
    transaction: Option<SharedTransaction>,
}

/// The figures of one way, for one statement.
#[derive(Default)]
struct Figures {
    /// Microseconds, each round's, for each number of clients.
    times: [Vec<f64>; CLIENTS.len()],
    allocations: f64,
    client_waits: Option<f64>,
    backend_waits: Option<f64>,
}

/// What all clients work in, as a test has it: the same tables, in a database of our own.
fn prepared() -> Schema {
    Schema::sql(format!("{SCHEMA}; ANALYZE"))
}

/// Measures, and says what came of it as tables.
pub(crate) fn tables(rounds: usize) -> String {
    let server = ground::server();
    let drop_it = format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)");
    ground::run(
        &server,
        &[drop_it.clone(), format!("CREATE DATABASE {DATABASE}")],
    );
    let mut target = server.clone();
    target.dbname(DATABASE);
    ground::run(&target, &[SCHEMA.to_owned(), "VACUUM ANALYZE".to_owned()]);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut text = String::new();
    for (name, sql) in WORKS {
        eprintln!("{name}");
        let figures = measure(&runtime, &target, sql, rounds);
        writeln!(text, "### {name}\n\n{}", table(&figures)).unwrap();
    }
    drop(runtime);
    ground::run(&server, &[drop_it]);
    text
}

fn measure(
    runtime: &Runtime,
    target: &tokio_postgres::Config,
    sql: &str,
    rounds: usize,
) -> Vec<Figures> {
    let mut figures: Vec<Figures> = WAYS.iter().map(|_| Figures::default()).collect();
    for (column, clients) in CLIENTS.into_iter().enumerate() {
        let crews: Vec<Crew> = WAYS
            .iter()
            .map(|&(way, _)| runtime.block_on(Crew::gather(way, clients, target, sql)))
            .collect();
        for _ in 0..rounds {
            for (figures, crew) in figures.iter_mut().zip(&crews) {
                let start = Instant::now();
                runtime.block_on(crew.work(STATEMENTS));
                let each = start.elapsed().as_secs_f64() * 1e6 / STATEMENTS as f64;
                figures.times[column].push(each);
            }
        }
        if clients == 1 {
            for (figures, crew) in figures.iter_mut().zip(&crews) {
                crew.count(runtime, figures);
            }
        }
        for crew in crews {
            runtime.block_on(crew.disband());
        }
    }
    figures
}

impl Crew {
    async fn gather(way: Way, count: usize, target: &tokio_postgres::Config, sql: &str) -> Self {
        let mut transaction = None;
        let mut held: Vec<Held> = Vec::new();
        if way == Way::Shared {
            let config = Config::new()
                .database_url(ground::url(&ground::server()))
                .pool_max_size(count);
            let opened = SharedTransaction::open(&prepared(), &config).await.unwrap();
            let pool = opened.pool().unwrap();
            for _ in 0..count {
                held.push(Box::new(Pooled(pool.get().await.unwrap())));
            }
            transaction = Some(opened);
        } else {
            for _ in 0..count {
                let client = ground::connect(target).await;
                if way != Way::Autocommit {
                    client.batch_execute("BEGIN").await.unwrap();
                }
                held.push(Box::new(Box::new(client)));
            }
        }
        let mut clients = Vec::new();
        let mut backends = Vec::new();
        for client in held {
            let statement = client.prepare(sql).await.unwrap();
            let row = client
                .query_one("SELECT pg_backend_pid()", &[])
                .await
                .unwrap();
            backends.push(row.get(0));
            clients.push((client, statement));
        }
        backends.dedup();
        let crew = Self {
            way,
            clients,
            backends,
            transaction,
        };
        crew.work(STATEMENTS / 4).await;
        crew
    }

    /// Runs so many statements, shared out to the clients.
    async fn work(&self, statements: usize) {
        let each = statements / self.clients.len();
        let works = self.clients.iter().map(async |(client, statement)| {
            for _ in 0..each {
                let protects = self.way == Way::Savepoints;
                if protects {
                    client.batch_execute("SAVEPOINT s").await.unwrap();
                }
                client.execute(statement, &[]).await.unwrap();
                if protects {
                    client.batch_execute("RELEASE s").await.unwrap();
                }
            }
        });
        join_all(works).await;
    }

    /// Counts what one client's statements need besides time.
    fn count(&self, runtime: &Runtime, figures: &mut Figures) {
        let per_statement = |count: u64| count as f64 / STATEMENTS as f64;
        let waits = || (waits("thread-self"), waits(&self.backends[0].to_string()));
        let before = waits();
        let allocated = allocation_counter::measure(|| runtime.block_on(self.work(STATEMENTS)));
        let after = waits();
        let between =
            |before: Option<u64>, after: Option<u64>| Some(per_statement(after? - before?));
        figures.allocations = per_statement(allocated.count_total);
        figures.client_waits = between(before.0, after.0);
        figures.backend_waits = between(before.1, after.1);
    }

    async fn disband(self) {
        drop(self.clients);
        if let Some(transaction) = self.transaction {
            transaction.rollback().await.unwrap();
        }
    }
}

/// How often a process of this machine has gone to sleep of itself.
fn waits(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let (_, rest) = status.split_once("\nvoluntary_ctxt_switches:")?;
    rest.lines().next()?.trim().parse().ok()
}

fn table(figures: &[Figures]) -> String {
    let mut text = "| µs per statement |".to_owned();
    let mut rule = "|---|".to_owned();
    for clients in CLIENTS {
        let plural = if clients == 1 { "" } else { "s" };
        write!(text, " {clients} client{plural} | × ours |").unwrap();
        rule.push_str("---:|---:|");
    }
    text.push_str(" allocations | waits of the client | waits of the server |\n");
    writeln!(text, "{rule}---:|---:|---:|").unwrap();
    let median = |times: &[f64]| {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let ours = figures[0].times.each_ref().map(|times| median(times));
    for ((_, name), figures) in WAYS.iter().zip(figures) {
        write!(text, "| {name} |").unwrap();
        for (times, ours) in figures.times.iter().zip(ours) {
            let median = median(times);
            write!(text, " {median:.1} | {:.2} |", median / ours).unwrap();
        }
        let waits =
            |waits: Option<f64>| waits.map_or("?".to_owned(), |waits| format!("{waits:.2}"));
        writeln!(
            text,
            " {:.1} | {} | {} |",
            figures.allocations,
            waits(figures.client_waits),
            waits(figures.backend_waits)
        )
        .unwrap();
    }
    text
}
