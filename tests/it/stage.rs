//! Where a scenario is played: on plain sessions of a real server, and on sessions of one shared transaction.
//!
//! A scenario is a function of a [`Stage`]. It is played on both, and what its clients got is compared line by line:
//! PostgreSQL itself says what is right.

use std::any::Any;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_shareddb::{__private, Config, Isolation, Schema, SharedTransaction, TestDatabase};
use futures_util::FutureExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres::config::Host;

use crate::wire::{self, Backend, Client, Frontend, Io};

pub(crate) const SCHEMA: &str = "
    CREATE TABLE t (id serial PRIMARY KEY, v text UNIQUE);
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int PRIMARY KEY, pid int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE p2 (id int PRIMARY KEY);
    CREATE TABLE c2 (pid int REFERENCES p2 DEFERRABLE INITIALLY IMMEDIATE);
    CREATE TABLE audit (msg text);
    CREATE FUNCTION audit_t() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO audit VALUES ('new: ' || NEW.v); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER dt AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION audit_t();
";

/// Nothing here takes this long; a reply that does is one that never comes.
const PATIENCE: Duration = Duration::from_secs(5);

/// A database of a test's own.
pub(crate) struct Database {
    pub(crate) config: tokio_postgres::Config,
    name: String,
    /// A real connection, which sees what is committed and nothing else.
    pub(crate) observer: tokio_postgres::Client,
    /// As of a schema that was prepared, it's known that nothing in it writes when it's read.
    is_trusted: bool,
}

/// Connects for real.
pub(crate) async fn connect(config: &tokio_postgres::Config) -> tokio_postgres::Client {
    let (client, connection) = config
        .connect(NoTls)
        .await
        .expect("the server can be reached");
    tokio::spawn(async move { drop(connection.await) });
    client
}

impl Database {
    /// Runs a test in a database of its own, which is dropped whatever becomes of the test.
    pub(crate) async fn with(schema: &str, test: impl AsyncFnOnce(&Self)) {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let server = __private::resolve(&Schema::existing(), &Config::new())
            .await
            .expect("there is a server");
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("shareddb_it_{}_{number}", std::process::id());
        let admin = connect(&server).await;
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .expect("the user may create databases");
        let mut config = server.clone();
        config.dbname(&name);
        config.application_name("it");
        let observer = connect(&config).await;
        observer
            .batch_execute(schema)
            .await
            .expect("the schema is good");
        let database = Self {
            config,
            name,
            observer,
            is_trusted: schema == SCHEMA,
        };
        let outcome = AssertUnwindSafe(test(&database)).catch_unwind().await;
        let Self { name, observer, .. } = database;
        drop(observer);
        let dropped = admin
            .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        dropped.expect("the database can be dropped");
    }

    /// This database as a connection string, which PostgreSQL's own programs read, too.
    pub(crate) fn settings(&self) -> String {
        let mut settings = String::new();
        let mut set = |key: &str, value: &str| {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            write!(settings, "{key}='{value}' ").unwrap();
        };
        match &self.config.get_hosts()[0] {
            Host::Tcp(name) => set("host", name),
            Host::Unix(path) => set("host", path.to_str().unwrap()),
        }
        set("port", &self.port().to_string());
        if let Some(user) = self.config.get_user() {
            set("user", user);
        }
        if let Some(password) = self.config.get_password() {
            set("password", &String::from_utf8_lossy(password));
        }
        set("dbname", &self.name);
        settings
    }

    /// The configuration with which a shared transaction is opened here.
    pub(crate) fn shared_config(&self) -> Config {
        Config::new()
            .database_url(self.settings())
            .idle_in_transaction_timeout(PATIENCE * 2)
    }

    pub(crate) async fn open(&self) -> SharedTransaction {
        self.open_with(&self.shared_config()).await
    }

    pub(crate) async fn open_with(&self, config: &Config) -> SharedTransaction {
        let opened = match self.is_trusted {
            true => __private::open_trusted(config).await,
            false => SharedTransaction::open(&Schema::existing(), config).await,
        };
        opened.expect("the shared transaction opens")
    }

    fn port(&self) -> u16 {
        self.config.get_ports().first().copied().unwrap_or(5432)
    }

    async fn plain_stream(&self) -> Box<dyn Io> {
        match &self.config.get_hosts()[0] {
            Host::Tcp(name) => Box::new(
                TcpStream::connect((name.as_str(), self.port()))
                    .await
                    .unwrap(),
            ),
            #[cfg(unix)]
            Host::Unix(folder) => {
                let path = folder.join(format!(".s.PGSQL.{}", self.port()));
                Box::new(tokio::net::UnixStream::connect(path).await.unwrap())
            }
            #[cfg(not(unix))]
            Host::Unix(_) => unreachable!("there are no Unix sockets here"),
        }
    }

    /// How many rows each table holds, as committed.
    pub(crate) async fn counts(&self) -> String {
        let tables = "SELECT coalesce(string_agg(format('SELECT %L AS t, count(*) FROM %1$I', relname), ' UNION ALL ' \
             ORDER BY relname), 'SELECT NULL WHERE false') FROM pg_class \
             WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
        let sql: String = self.observer.query_one(tables, &[]).await.unwrap().get(0);
        let mut counts = String::new();
        for message in self.observer.simple_query(&sql).await.unwrap() {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                write!(counts, "{}: {}, ", row.get(0).unwrap(), row.get(1).unwrap()).unwrap();
            }
        }
        counts
    }

    /// The server's major release.
    pub(crate) async fn release(&self) -> i32 {
        let number = "SELECT current_setting('server_version_num')::int / 10000";
        let row = self.observer.query_one(number, &[]).await.unwrap();
        row.get(0)
    }

    /// Waits until a query of the observer's gives true.
    pub(crate) async fn until(&self, sql: &str) {
        let wait = async {
            while !self
                .observer
                .query_one(sql, &[])
                .await
                .unwrap()
                .get::<_, bool>(0)
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("never came true: {sql}"));
    }

    /// Sequences aren't rolled back; two runs start with the same numbers all the same.
    pub(crate) async fn restart_sequences(&self) {
        let sql = "SELECT setval(oid, 1, false) FROM pg_class WHERE relkind = 'S'";
        self.observer.simple_query(sql).await.unwrap();
    }
}

/// The sessions of a scenario, by number.
pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;
pub(crate) const C: usize = 2;

/// Where a scenario is played, and what its clients have got so far.
pub(crate) struct Stage<'a> {
    database: &'a Database,
    transaction: Option<&'a SharedTransaction>,
    clients: [Option<(Client, i32)>; 3],
    /// What is committed must stay so, which the shared side is asked after every answer.
    committed: Option<String>,
    pub(crate) transcript: Vec<String>,
}

impl<'a> Stage<'a> {
    pub(crate) fn plain(database: &'a Database) -> Self {
        Self {
            database,
            transaction: None,
            clients: [const { None }; 3],
            committed: None,
            transcript: Vec::new(),
        }
    }

    pub(crate) fn shared(database: &'a Database, transaction: &'a SharedTransaction) -> Self {
        Self {
            transaction: Some(transaction),
            ..Self::plain(database)
        }
    }

    async fn client(&mut self, id: usize) -> &mut Client {
        if self.clients[id].is_none() {
            let stream: Box<dyn Io> = match self.transaction {
                Some(transaction) => Box::new(__private::session(transaction)),
                None => self.database.plain_stream().await,
            };
            let mut client = Client::start(stream, &self.database.config).await;
            let mut process = 0;
            if self.transaction.is_none() {
                client
                    .send(&[wire::query("SELECT pg_backend_pid()")])
                    .await
                    .unwrap();
                while let Some(message) = client.next().await.unwrap() {
                    let line = message.line();
                    if let Some(row) = line.strip_prefix("DataRow ") {
                        process = row.trim_matches('"').parse().unwrap();
                    }
                    if message.tag == b'Z' {
                        break;
                    }
                }
            }
            self.clients[id] = Some((client, process));
        }
        &mut self.clients[id].as_mut().unwrap().0
    }

    fn note(&mut self, id: usize, way: &str, line: &str) {
        let name = ["A", "B", "C"][id];
        self.transcript.push(format!("{name} {way} {line}"));
        // PostgreSQL tells of several settings in no order in particular, and each version in another.
        let told = format!("{name} < ParameterStatus ");
        let lines = self.transcript.iter().rev();
        let run = lines.take_while(|line| line.starts_with(&told)).count();
        let from = self.transcript.len() - run;
        self.transcript[from..].sort_unstable();
    }

    /// Sends messages in one write.
    pub(crate) async fn send(&mut self, id: usize, messages: &[Frontend]) {
        for message in messages {
            let line: String = message.line.chars().take(200).collect();
            self.note(id, ">", &line);
        }
        if let Err(error) = self.client(id).await.send(messages).await {
            self.note(id, "<", &format!("(write failed: {:?})", error.kind()));
        }
    }

    /// Awaits the next message, and notes it; `None` at the end of the stream.
    pub(crate) async fn next(&mut self, id: usize) -> Option<Backend> {
        let Ok(next) = timeout(PATIENCE, self.client(id).await.next()).await else {
            panic!("no reply to session {id}");
        };
        self.note_next(id, next)
    }

    /// Awaits the next message, and notes it or that there was none in time.
    pub(crate) async fn next_within(&mut self, id: usize, patience: Duration) -> Option<Backend> {
        let Ok(next) = timeout(patience, self.client(id).await.next()).await else {
            self.note(id, "<", "(nothing)");
            return None;
        };
        self.note_next(id, next)
    }

    fn note_next(&mut self, id: usize, next: std::io::Result<Option<Backend>>) -> Option<Backend> {
        let next = next.unwrap_or(None);
        let line = next
            .as_ref()
            .map_or_else(|| "(end)".to_owned(), Backend::line);
        self.note(id, "<", &line);
        next
    }

    /// Awaits the messages up to one of this type, or up to the end.
    pub(crate) async fn until(&mut self, id: usize, tag: u8) {
        while let Some(message) = self.next(id).await {
            if message.tag == tag {
                break;
            }
        }
        if let Some(committed) = &self.committed {
            assert_eq!(
                *committed,
                self.database.counts().await,
                "something was committed"
            );
        }
    }

    /// Awaits the messages up to `ReadyForQuery`.
    pub(crate) async fn ready(&mut self, id: usize) {
        self.until(id, b'Z').await;
    }

    pub(crate) async fn run(&mut self, id: usize, messages: &[Frontend]) {
        self.send(id, messages).await;
        self.ready(id).await;
    }

    pub(crate) async fn query(&mut self, id: usize, sql: &str) {
        self.run(id, &[wire::query(sql)]).await;
    }

    /// Nothing has come for this session, which in a shared transaction waits for another's block to end. On a plain
    /// server it would not have to, so this says nothing there.
    pub(crate) async fn waits(&mut self, id: usize) {
        if self.transaction.is_some() {
            let next = self.client(id).await.next().now_or_never();
            assert!(next.is_none(), "it didn't wait: {next:?}");
        }
    }

    /// Drops the connection without a Terminate, and waits for a real server to notice.
    pub(crate) async fn drop_connection(&mut self, id: usize) {
        self.note(id, ">", "(connection dropped)");
        let (client, process) = self.clients[id].take().expect("the session is open");
        drop(client);
        if self.transaction.is_none() {
            let gone = format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {process}");
            self.database.until(&gone).await;
        }
    }

    /// Ends the plain sessions and waits until the server has noticed.
    pub(crate) async fn close(mut self) -> Vec<String> {
        for id in [A, B, C] {
            if self.clients[id].is_some() {
                let noted = self.transcript.len();
                self.drop_connection(id).await;
                self.transcript.truncate(noted);
            }
        }
        self.transcript
    }

    pub(crate) fn database(&self) -> &Database {
        self.database
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.transaction.is_some()
    }
}

/// Plays a scenario on both sides, and compares what the clients got.
///
/// With `ACTIX_SHAREDDB_ISOLATION=database`, a database of a test's own takes the place of the shared transaction.
pub(crate) async fn same(scenario: impl AsyncFn(&mut Stage<'_>)) {
    Database::with(SCHEMA, async |database| {
        let variable = std::env::var("ACTIX_SHAREDDB_ISOLATION");
        let shared = if variable.is_ok_and(|value| value == "database") {
            in_a_clone(&scenario).await
        } else {
            in_a_transaction(&scenario, database).await
        };
        let mut stage = Stage::plain(database);
        play(&scenario, &mut stage).await;
        let plain = stage.close().await;
        if let Some(difference) = difference(&plain, &shared) {
            panic!("{difference}");
        }
    })
    .await;
}

async fn in_a_transaction(
    scenario: &impl AsyncFn(&mut Stage<'_>),
    database: &Database,
) -> Vec<String> {
    let committed = database.counts().await;
    let transaction = database.open().await;
    let mut stage = Stage::shared(database, &transaction);
    stage.committed = Some(committed.clone());
    play(scenario, &mut stage).await;
    let shared = stage.close().await;
    transaction
        .rollback()
        .await
        .expect("the transaction was ours to the end");
    assert_eq!(committed, database.counts().await, "something was left");
    database.restart_sequences().await;
    shared
}

async fn in_a_clone(scenario: &impl AsyncFn(&mut Stage<'_>)) -> Vec<String> {
    let config = Config::new().isolation(Isolation::Database);
    let own = TestDatabase::open(&Schema::sql(SCHEMA), &config)
        .await
        .expect("the database is cloned");
    let mut config: tokio_postgres::Config =
        own.database_url().unwrap().parse().expect("it is a URL");
    config.application_name("it");
    let database = Database {
        name: config.get_dbname().unwrap().to_owned(),
        observer: connect(&config).await,
        config,
        is_trusted: false,
    };
    let mut stage = Stage::plain(&database);
    play(scenario, &mut stage).await;
    let transcript = stage.close().await;
    own.end().await.expect("the database is dropped");
    transcript
}

/// Plays a scenario whose outcome PostgreSQL itself can't have on the shared side alone, and gives its transcript.
pub(crate) async fn shared_only(
    configure: impl FnOnce(Config) -> Config,
    scenario: impl AsyncFn(&mut Stage<'_>),
) -> Vec<String> {
    let mut transcript = Vec::new();
    Database::with(SCHEMA, async |database| {
        let config = configure(database.shared_config());
        let transaction = database.open_with(&config).await;
        let mut stage = Stage::shared(database, &transaction);
        stage.committed = Some(database.counts().await);
        play(&scenario, &mut stage).await;
        transcript = stage.close().await;
        transaction
            .rollback()
            .await
            .expect("the transaction was ours to the end");
    })
    .await;
    transcript
}

/// Plays a scenario; one that panics says how far it got.
pub(crate) async fn play(scenario: &impl AsyncFn(&mut Stage<'_>), stage: &mut Stage<'_>) {
    let outcome = AssertUnwindSafe(scenario(stage)).catch_unwind().await;
    if let Err(panic) = outcome {
        let side = if stage.is_shared() { "shared" } else { "plain" };
        panic!(
            "{}\non the {side} side, after:\n{}",
            words(&*panic),
            stage.transcript.join("\n")
        );
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(words) => words,
        None => panic.downcast_ref::<&str>().copied().unwrap_or("a panic"),
    }
}

/// Both transcripts side by side, if they differ.
pub(crate) fn difference(plain: &[String], shared: &[String]) -> Option<String> {
    if plain == shared {
        return None;
    }
    let mut text = String::from("a shared session differs (- plain, + shared):\n");
    let (mut left, mut right) = (0, 0);
    for (i, j) in common(plain, shared)
        .into_iter()
        .chain([(plain.len(), shared.len())])
    {
        for line in &plain[left..i] {
            writeln!(text, "- {line}").unwrap();
        }
        for line in &shared[right..j] {
            writeln!(text, "+ {line}").unwrap();
        }
        if let Some(line) = plain.get(i) {
            writeln!(text, "  {line}").unwrap();
        }
        (left, right) = (i + 1, j + 1);
    }
    Some(text)
}

/// The lines that both have, as pairs of indices: a longest common subsequence. Of long transcripts only where they begin
/// to differ is compared, which would take for ever otherwise.
fn common(plain: &[String], shared: &[String]) -> Vec<(usize, usize)> {
    let same = plain
        .iter()
        .zip(shared)
        .take_while(|(left, right)| left == right);
    let start = same.count();
    let rest = |lines: &[String]| lines.len().min(start + 1000);
    let rest = (&plain[start..rest(plain)], &shared[start..rest(shared)]);
    let pairs = common_rest(rest.0, rest.1)
        .into_iter()
        .map(|(i, j)| (start + i, start + j));
    (0..start).map(|at| (at, at)).chain(pairs).collect()
}

fn common_rest(plain: &[String], shared: &[String]) -> Vec<(usize, usize)> {
    let mut lengths = vec![vec![0_u32; shared.len() + 1]; plain.len() + 1];
    for i in (0..plain.len()).rev() {
        for j in (0..shared.len()).rev() {
            lengths[i][j] = if plain[i] == shared[j] {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < plain.len() && j < shared.len() {
        if plain[i] == shared[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[i + 1][j] >= lengths[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}
