//! The statements of a test, as a test looks at them.
//!
//! [`record`](crate::mux::record) has them as bytes, with times; `crate::exchange` has the HTTP exchanges, with times.
//! What belongs together is found out here, when somebody asks.

mod assemble;
mod decode;
mod hints;
mod print;
mod story;

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;

pub(crate) use self::assemble::Recording;
use self::decode::Parameter;
pub use self::hints::Hint;
pub(crate) use self::print::Colours;
pub use crate::exchange::Exchange;
use crate::mux::record::Origin;
use crate::{LiveServer, SharedTransaction};

/// A statement that a client of a shared transaction has run, as the client sent it.
///
/// `Display` writes it on one line, with its parameters and with what came of it.
///
/// ```no_run
/// # use actix_shareddb::LiveServer;
/// # fn example(live: &LiveServer) {
/// for query in &live.queries() {
///     println!("{query}"); // UPDATE todos SET done = true WHERE id = $1  [7]  => UPDATE 1, 0.3 ms
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Query {
    pub(super) sql: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) answer: Answer,
    pub(super) sent: Instant,
    pub(super) duration: Duration,
    pub(super) session: u32,
    pub(super) origin: Origin,
    pub(super) block: Option<u32>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) kind: Kind,
    /// It was the only statement of its text.
    pub(super) is_alone: bool,
    /// Its transaction block ended with it.
    pub(super) ends_block: bool,
    /// By its time it would belong to another exchange than its transaction block does.
    pub(super) is_of_next: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    None,
    Complete(String),
    Failed { code: SqlState, message: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the application is about.
    Statement,
    /// Begins, ends or divides a transaction.
    Control,
    /// A driver looks up what a type is, once for each of its connections.
    Lookup,
}

impl Query {
    /// The text of the statement. Of a simple query with several, each is a `Query` of its own.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// assert!(!live.queries().iter().any(|query| query.sql().starts_with("DELETE")));
    /// # }
    /// ```
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Its parameters as PostgreSQL would write them; `None` is NULL. A value whose type isn't known here is written in
    /// hexadecimal.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// let insert = &live.queries()[0];
    /// assert!(insert.parameters().eq([Some("milk"), None]));
    /// # }
    /// ```
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.parameters
            .iter()
            .map(|parameter| parameter.text.as_deref())
    }

    /// How long the server took to answer. The time in which the statement waited for another client's transaction isn't
    /// in it.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// let queries = live.queries();
    /// let slowest = queries.iter().max_by_key(|query| query.duration());
    /// # }
    /// ```
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// How many rows it has returned, written or copied, if its command tag tells.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// let returned: u64 = live.queries().iter().filter_map(|query| query.rows()).sum();
    /// # }
    /// ```
    pub fn rows(&self) -> Option<u64> {
        self.tag()?.rsplit(' ').next()?.parse().ok()
    }

    /// The command tag that its client was told, if it succeeded: `INSERT 0 1`.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// assert_eq!(live.queries()[0].tag(), Some("INSERT 0 1"));
    /// # }
    /// ```
    pub fn tag(&self) -> Option<&str> {
        match &self.answer {
            Answer::Complete(tag) => Some(tag),
            _ => None,
        }
    }

    /// The SQLSTATE, if it failed.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// use tokio_postgres::error::SqlState;
    ///
    /// let queries = live.queries();
    /// let failed = queries.iter().find(|query| query.code() == Some(&SqlState::UNIQUE_VIOLATION));
    /// # }
    /// ```
    pub fn code(&self) -> Option<&SqlState> {
        match &self.answer {
            Answer::Failed { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The message of the error, if it failed.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// let queries = live.queries();
    /// let errors: Vec<&str> = queries.iter().filter_map(|query| query.error_message()).collect();
    /// # }
    /// ```
    pub fn error_message(&self) -> Option<&str> {
        match &self.answer {
            Answer::Failed { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Which session ran it, which is one client of a pool. They are counted from 1, in the order in which they connected.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// let queries = live.queries();
    /// // The handler has used one client for all of it.
    /// assert!(queries.iter().all(|query| query.session() == queries[0].session()));
    /// # }
    /// ```
    pub fn session(&self) -> u32 {
        self.session
    }

    /// In which transaction block it ran, if it did in any. Blocks are numbered from 1, across all sessions.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// // Every write was in a transaction.
    /// let queries = live.queries();
    /// let mut writes = queries.iter().filter(|query| query.sql().starts_with("UPDATE"));
    /// assert!(writes.all(|query| query.block().is_some()));
    /// # }
    /// ```
    pub fn block(&self) -> Option<u32> {
        self.block
    }

    /// The HTTP exchange during which the application ran it.
    ///
    /// It is `None` if there was none, as for what the test runs itself, and also if there were several at that time, so
    /// that it can't be told: [`exchanges`](Self::exchanges) has them.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// let queries = live.queries();
    /// assert_eq!(queries[0].exchange().unwrap().path(), "/todos");
    /// # }
    /// ```
    pub fn exchange(&self) -> Option<&Exchange> {
        match &self.exchanges[..] {
            [exchange] => Some(exchange),
            _ => None,
        }
    }

    /// The HTTP exchanges for one of which the application ran it: those that the test awaited at that time.
    ///
    /// The statements of one transaction block belong to one exchange, so what comes up in between doesn't count.
    /// Requests of other clients than the [`LiveServer`]'s own aren't known. After the head of a response has come, its
    /// exchange counts only as long as its body is read and nothing else is awaited.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// let queries = live.queries();
    /// let is_certain = queries.iter().all(|query| query.exchanges().len() == 1);
    /// # }
    /// ```
    pub fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// It begins, ends or divides a transaction: `BEGIN`, `COMMIT`, `SAVEPOINT` and the like.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// let queries = live.queries();
    /// let controls = queries.iter().filter(|query| query.is_transaction_control()).count();
    /// # }
    /// ```
    pub fn is_transaction_control(&self) -> bool {
        self.kind == Kind::Control
    }

    /// It counts: it neither controls a transaction, nor does a driver ask by it what a type is.
    pub(super) fn counts(&self) -> bool {
        self.kind == Kind::Statement
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print::line(self, Colours::None))
    }
}

/// Statements, in the order in which they were answered.
///
/// It is a slice of [`Query`]; `Display` writes all of them, under the HTTP exchanges that they belong to.
///
/// ```no_run
/// # use actix_shareddb::LiveServer;
/// # fn example(live: &LiveServer) {
/// let queries = live.queries();
/// println!("{queries}");
/// assert_eq!(queries[0].sql(), "SELECT id, title FROM todos");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Queries {
    pub(super) list: Vec<Query>,
    /// The exchanges of that time, also those without a statement.
    pub(super) exchanges: Vec<Exchange>,
    pub(super) dropped: u64,
}

impl Queries {
    /// How many there are as [`assert_num_queries!`](crate::assert_num_queries) counts them: but for those that control
    /// transactions, and those by which a driver asks what a type is, which it does once for each of its connections. `len`
    /// is the number of all.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// assert_eq!(live.queries().num_queries(), 2);
    /// # }
    /// ```
    pub fn num_queries(&self) -> usize {
        self.list.iter().filter(|query| query.counts()).count()
    }

    /// Leaves out those that control transactions: `BEGIN`, `COMMIT`, `SAVEPOINT` and the like.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// let queries = live.queries().without_transaction_control();
    /// assert_eq!(queries[0].sql(), "INSERT INTO todos (title) VALUES ($1)");
    /// # }
    /// ```
    pub fn without_transaction_control(self) -> Self {
        let mut queries = self;
        queries.list.retain(|query| query.kind != Kind::Control);
        queries
    }

    /// How many of the oldest were dropped for want of space. Of each shared transaction 4 MiB are kept, which is
    /// room for some ten thousand.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// assert_eq!(live.queries().dropped(), 0);
    /// # }
    /// ```
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Panics with the list if there are more or fewer than so many, as [`num_queries`](Self::num_queries) counts them.
    #[track_caller]
    pub(crate) fn assert_count(&self, expected: usize) {
        assert!(
            self.dropped == 0,
            "expected {}, but they can't be counted: the first {} that were run meanwhile were dropped for want of space, \
             and those left are:\n\n{self}",
            counted(expected),
            self.dropped,
        );
        let count = self.num_queries();
        assert!(
            count == expected,
            "expected {}, but there {}:\n\n{self}",
            counted(expected),
            match count {
                1 => "was 1".to_owned(),
                count => format!("were {count}"),
            },
        );
    }
}

fn counted(count: usize) -> String {
    match count {
        1 => "1 query".to_owned(),
        count => format!("{count} queries"),
    }
}

impl Deref for Queries {
    type Target = [Query];

    fn deref(&self) -> &[Query] {
        &self.list
    }
}

impl IntoIterator for Queries {
    type Item = Query;
    type IntoIter = std::vec::IntoIter<Query>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Queries {
    type Item = &'a Query;
    type IntoIter = std::slice::Iter<'a, Query>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl fmt::Display for Queries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print::groups(self, Colours::None))
    }
}

/// What was run from one moment on.
#[derive(Clone, Debug)]
pub struct Capture {
    recording: Recording,
    since: assemble::Mark,
}

impl Capture {
    fn begin(recording: &Recording) -> Self {
        Self {
            since: recording.mark(),
            recording: recording.clone(),
        }
    }

    fn end(&self) -> Queries {
        self.recording.since(self.since)
    }

    async fn around<F: Future>(self, future: F) -> (F::Output, Queries) {
        (future.await, self.end())
    }

    /// What [`assert_num_queries!`](crate::assert_num_queries) does in the end.
    #[doc(hidden)]
    #[track_caller]
    pub fn assert_count(&self, expected: usize) {
        self.end().assert_count(expected);
    }
}

impl LiveServer {
    /// The statements that were run in the test's transaction so far, by the application and by the test.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// live.post("/todos").send_body("milk").await?;
    /// let queries = live.queries();
    /// let insert = queries.last().unwrap();
    /// assert_eq!(insert.sql(), "INSERT INTO todos (title) VALUES ($1)");
    /// assert!(insert.parameters().eq([Some("milk")]));
    /// assert_eq!(insert.exchange().unwrap().path(), "/todos");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// What this crate sends to the server on its own account is not in it, nor is what runs in
    /// [other databases](crate::Databases) than the case's own.
    ///
    /// # Panics
    ///
    /// If the test has a database of its own ([`Isolation::Database`](crate::Isolation::Database)), where the application
    /// has plain connections.
    #[track_caller]
    pub fn queries(&self) -> Queries {
        self.recording().so_far()
    }

    /// Runs a future, and returns what it returns with the statements that were run meanwhile.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// let (response, queries) = live.capture_queries(live.get("/todos").send()).await;
    /// assert_eq!(response?.status(), 200);
    /// assert!(queries.iter().all(|query| query.rows() < Some(100)), "{queries}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the test has a database of its own ([`Isolation::Database`](crate::Isolation::Database)), where the application
    /// has plain connections.
    #[track_caller]
    pub fn capture_queries<F: Future>(
        &self,
        future: F,
    ) -> impl Future<Output = (F::Output, Queries)> {
        // Not only when it is polled: the panic is to tell the line of the call.
        let recording = self.recording();
        async move { Capture::begin(recording).around(future).await }
    }

    /// The statements that the application ran for a response in the case's own database, as far as that can be told: see
    /// [`Query::exchanges`].
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// let response = live.get("/todos").send().await?;
    /// assert_eq!(live.queries_of(&response).num_queries(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the response isn't one to a request of this server's own client, and if the test has a database of its own
    /// ([`Isolation::Database`](crate::Isolation::Database)), where the application has plain connections.
    #[track_caller]
    pub fn queries_of<S>(&self, response: &awc::ClientResponse<S>) -> Queries {
        let Some(number) = assemble::number(response) else {
            panic!("the response isn't one to a request that was made through this `LiveServer`");
        };
        self.recording().of(number)
    }

    /// From now on; what [`assert_num_queries!`](crate::assert_num_queries) does first.
    #[doc(hidden)]
    #[track_caller]
    pub fn capture(&self) -> Capture {
        Capture::begin(self.recording())
    }
}

impl SharedTransaction {
    /// The statements that the transaction's clients have run so far.
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, SharedTransaction};
    /// # async fn example(transaction: &SharedTransaction) -> Result<()> {
    /// transaction.pool()?.get().await?.execute("UPDATE todos SET done = true", &[]).await?;
    /// assert_eq!(transaction.queries().last().unwrap().tag(), Some("UPDATE 3"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn queries(&self) -> Queries {
        self.recording().so_far()
    }

    /// Runs a future, and returns what it returns with the statements that were run meanwhile. See
    /// [`LiveServer::capture_queries`].
    ///
    /// ```no_run
    /// # use actix_shareddb::{Result, SharedTransaction};
    /// # async fn example(transaction: &SharedTransaction) -> Result<()> {
    /// let client = transaction.pool()?.get().await?;
    /// let (rows, queries) = transaction.capture_queries(client.query("SELECT 1", &[])).await;
    /// assert_eq!((rows?.len(), queries.num_queries()), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn capture_queries<F: Future>(&self, future: F) -> (F::Output, Queries) {
        self.capture().around(future).await
    }

    /// From now on; what [`assert_num_queries!`](crate::assert_num_queries) does first.
    #[doc(hidden)]
    pub fn capture(&self) -> Capture {
        Capture::begin(self.recording())
    }
}

/// Asserts that a block runs so many statements, and returns what the block returns.
///
/// ```no_run
/// # use actix_shareddb::{LiveServer, Result, assert_num_queries};
/// # async fn example(live: &LiveServer) -> Result<()> {
/// let response = assert_num_queries!(live, 2, { live.get("/todos").send().await? });
/// assert_eq!(response.status(), 200);
/// # Ok(())
/// # }
/// ```
///
/// The first argument is a [`LiveServer`] or a [`SharedTransaction`]. All statements count that are run in its transaction
/// meanwhile, also those of the test itself, but not those that control transactions, and not those by which a driver asks what
/// a type is; see [`Queries::num_queries`]. The block is run where it stands, so `?` and `return` leave the test.
///
/// # Panics
///
/// If the test has a database of its own ([`Isolation::Database`](crate::Isolation::Database)), and if there are more or
/// fewer, with a list of them all:
///
/// ```text
/// expected 2 queries, but there were 3:
///
/// GET /todos => 200 OK, 1.3 ms
///      BEGIN
///   1  SELECT id, title FROM todos  => SELECT 2, 0.2 ms
///   2  SELECT name FROM tags WHERE todo = $1  [1]  => SELECT 1, 0.2 ms
///   3  SELECT name FROM tags WHERE todo = $1  [2]  => SELECT 0, 0.2 ms
///      COMMIT
/// ```
#[macro_export]
macro_rules! assert_num_queries {
    ($live:expr, $expected:expr, $block:expr $(,)?) => {{
        let capture = $live.capture();
        let output = $block;
        capture.assert_count($expected);
        output
    }};
}
