//! Faults, as a test orders them.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::backend::Stream;
use crate::mux::driver::Driver;
use crate::mux::fault::{self, Action, Candidate};
use crate::mux::record::Origin;
use crate::{Error, LiveServer, SharedTransaction};

/// Orders a fault: which statement is meant, and what happens to it. [`LiveServer::faults`] begins.
///
/// A statement is meant if all conditions hold. One that controls a transaction, such as `BEGIN`, is meant only if
/// [`on`](Self::on), [`on_commit`](Self::on_commit) or [`when`](Self::when) is among them: to say which table or which
/// session is not to mean its `COMMIT`.
///
/// ```no_run
/// # use actix_shareddb::LiveServer;
/// # use tokio_postgres::error::SqlState;
/// # fn example(live: &LiveServer) {
/// // The second UPDATE of users fails.
/// live.faults().on("UPDATE users").nth(2).fail(SqlState::T_R_DEADLOCK_DETECTED);
/// # }
/// ```
#[must_use = "a fault is ordered by what shall happen: `fail`, `violate`, `delay` or `disconnect`"]
pub struct Faults {
    driver: Driver<Stream>,
    conditions: Vec<Box<Condition>>,
    /// The same in words, as they stand behind "statements".
    words: Vec<String>,
    /// One of them says that the statement may be one that controls a transaction.
    is_explicit: bool,
    skips: usize,
    times: usize,
    is_optional: bool,
}

type Condition = dyn Fn(&Candidate<'_>) -> bool + Send;

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

impl Faults {
    fn new(driver: &Driver<Stream>, condition: impl Fn(Origin) -> bool + Send + 'static) -> Self {
        Self {
            driver: driver.clone(),
            conditions: vec![Box::new(move |candidate| condition(candidate.origin))],
            words: Vec::new(),
            is_explicit: false,
            skips: 0,
            times: 1,
            is_optional: false,
        }
    }

    /// Statements that hold this text, in whatever case and with whatever white space.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// live.faults().on("UPDATE users").fail(SqlState::T_R_SERIALIZATION_FAILURE);
    /// # }
    /// ```
    pub fn on(mut self, text: &str) -> Self {
        let words = format!("that hold '{text}'");
        let text = normal(text.as_bytes());
        self.is_explicit = true;
        self.and(words, move |candidate| {
            normal(candidate.sql).contains(&text)
        })
    }

    /// Statements that name this table, or anything else of that name, but for those that control a transaction.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// live.faults().on_table("users").fail(SqlState::INSUFFICIENT_PRIVILEGE);
    /// # }
    /// ```
    pub fn on_table(self, name: &str) -> Self {
        let name = name.to_owned();
        self.and(format!("that name {name}"), move |candidate| {
            fault::names(candidate.sql, &name)
        })
    }

    /// A `COMMIT` of a transaction block.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// live.faults().on_commit().fail(SqlState::T_R_SERIALIZATION_FAILURE);
    /// # }
    /// ```
    pub fn on_commit(mut self) -> Self {
        self.is_explicit = true;
        self.and("that commit", |candidate| candidate.commits)
    }

    /// Statements of which this is true, such as that a regular expression matches them. It is asked about all, `BEGIN` and
    /// `COMMIT` among them.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// live.faults().when(|sql| sql.ends_with("FOR UPDATE")).fail(SqlState::T_R_DEADLOCK_DETECTED);
    /// # }
    /// ```
    pub fn when(mut self, is_meant: impl Fn(&str) -> bool + Send + 'static) -> Self {
        self.is_explicit = true;
        self.and("that a closure chooses", move |candidate| {
            is_meant(&String::from_utf8_lossy(candidate.sql))
        })
    }

    /// Statements of this session, as [`Query::session`](crate::Query::session) counts them, but for those that control a
    /// transaction.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// let second = live.queries()[1].session();
    /// live.faults().of_session(second).fail(SqlState::QUERY_CANCELED);
    /// # }
    /// ```
    pub fn of_session(self, number: u32) -> Self {
        self.and(format!("of session {number}"), move |candidate| {
            candidate.session.0 == number
        })
    }

    /// Begins with the nth of them, counted from 1.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// live.faults().on("INSERT INTO mails").nth(3).fail(SqlState::DISK_FULL);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the number is 0.
    pub fn nth(mut self, number: usize) -> Self {
        assert!(number > 0, "statements are counted from 1");
        self.skips = number - 1;
        self
    }

    /// Meets so many of them, one after the other; the default is one.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// // The application gives up after three attempts.
    /// live.faults().on_commit().times(3).fail(SqlState::T_R_SERIALIZATION_FAILURE);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the number is 0.
    pub fn times(mut self, times: usize) -> Self {
        assert!(times > 0, "a fault that is met 0 times is none");
        self.times = times;
        self
    }

    /// It need not be met. By default a test fails that has ordered a fault which no statement has met, for it shows nothing
    /// of what the application does then.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// // It must not be tried again.
    /// let again = live.faults().on_commit().nth(2).optional().fail(SqlState::DISK_FULL);
    /// // ...
    /// assert_eq!(again.hits(), 0);
    /// # }
    /// ```
    pub fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// It fails with this SQLSTATE, and with the message that PostgreSQL has for it.
    ///
    /// What follows is as in production: a statement that fails aborts its transaction, and a `COMMIT` that fails has ended
    /// it, with nothing kept.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// live.faults().on("SELECT").fail(SqlState::TOO_MANY_CONNECTIONS);
    /// # }
    /// ```
    #[track_caller]
    pub fn fail(self, code: SqlState) -> Fault {
        let error = fault::error(code.code(), message(&code), None);
        self.order(Action::Fail(error))
    }

    /// It fails with this SQLSTATE and the name of a constraint, which some errors have and an application may look at.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(live: &LiveServer) {
    /// live.faults()
    ///     .on("INSERT INTO users")
    ///     .violate(SqlState::UNIQUE_VIOLATION, "users_name_key");
    /// # }
    /// ```
    #[track_caller]
    pub fn violate(self, code: SqlState, constraint: &str) -> Fault {
        let message = format!("{} \"{constraint}\"", message(&code));
        let error = fault::error(code.code(), &message, Some(constraint));
        self.order(Action::Fail(error))
    }

    /// It is delayed by this time, in which the server is busy, so that it can be cancelled as any slow statement can.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// use std::time::Duration;
    ///
    /// live.faults().on_table("todos").delay(Duration::from_secs(1));
    /// # }
    /// ```
    #[track_caller]
    pub fn delay(self, time: Duration) -> Fault {
        self.order(Action::Delay(time))
    }

    /// The connection of its session is lost before it is run, and what that has not committed is rolled back. The client
    /// is told by SQLSTATE 57P01, as when an administrator ends it.
    ///
    /// ```no_run
    /// # use actix_shareddb::LiveServer;
    /// # fn example(live: &LiveServer) {
    /// live.faults().on("UPDATE users").disconnect();
    /// # }
    /// ```
    #[track_caller]
    pub fn disconnect(self) -> Fault {
        self.order(Action::Disconnect)
    }

    fn and(
        mut self,
        words: impl Into<String>,
        condition: impl Fn(&Candidate<'_>) -> bool + Send + 'static,
    ) -> Self {
        self.words.push(words.into());
        self.conditions.push(Box::new(condition));
        self
    }

    #[track_caller]
    fn order(self, action: Action) -> Fault {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let Self {
            driver,
            conditions,
            words,
            is_explicit,
            skips,
            times,
            is_optional,
        } = self;
        let which = match &words[..] {
            [] => "any statement".to_owned(),
            words => format!("statements {}", words.join(" and ")),
        };
        let from = match skips {
            0 => String::new(),
            skips => format!(", from number {} on", skips + 1),
        };
        let words = format!("for {which}{from}, ordered at {}", Location::caller());
        let matches = move |candidate: &Candidate<'_>| {
            (is_explicit || !candidate.controls)
                && conditions.iter().all(|condition| condition(candidate))
        };
        driver.change(|mux| {
            mux.faults_mut().order(fault::Fault {
                number,
                matches: Box::new(matches),
                action,
                skips,
                times,
                is_optional,
                words,
            });
        });
        Fault { driver, number }
    }
}

/// A fault that was ordered. Unless it is [optional](Faults::optional), a test fails at its end if no statement has met it.
///
/// ```no_run
/// # use actix_shareddb::LiveServer;
/// # use tokio_postgres::error::SqlState;
/// # fn example(live: &LiveServer) {
/// let fault = live.faults().on_commit().fail(SqlState::DISK_FULL);
/// assert_eq!(fault.hits(), 0);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    driver: Driver<Stream>,
    number: u64,
}

impl Fault {
    /// How many statements it has hit so far.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// use tokio_postgres::error::SqlState;
    ///
    /// let conflict = live.faults().on_commit().fail(SqlState::T_R_SERIALIZATION_FAILURE);
    /// assert_eq!(live.post("/transfers").send().await?.status(), 201);
    /// assert_eq!(conflict.hits(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hits(&self) -> usize {
        self.driver.look(|mux| mux.faults().hits(self.number))
    }
}

/// In lower case, and with one space where there is any white space.
fn normal(sql: &[u8]) -> String {
    let words = String::from_utf8_lossy(sql).to_lowercase();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// PostgreSQL's words for an error that an application is likely to do something about.
fn message(code: &SqlState) -> &'static str {
    match code.code() {
        "23502" => "null value violates not-null constraint",
        "23503" => "violates foreign key constraint",
        "23505" => "duplicate key value violates unique constraint",
        "23514" => "violates check constraint",
        "23P01" => "conflicting key value violates exclusion constraint",
        "40001" => "could not serialize access due to concurrent update",
        "40P01" => "deadlock detected",
        "53100" => "could not extend file: No space left on device",
        "53300" => "sorry, too many clients already",
        "55P03" => "could not obtain lock on row",
        "57014" => "canceling statement due to user request",
        _ => "the test has ordered an error",
    }
}

/// What is wrong with faults that no statement has met.
pub(crate) fn unmet(driver: &Driver<Stream>) -> Option<Error> {
    let unmet: Vec<_> = driver.look(|mux| mux.faults().unmet().map(str::to_owned).collect());
    let event = match &unmet[..] {
        [] => return None,
        [one] => format!("a fault was never met: {one}"),
        several => format!("faults were never met: {}", several.join("; ")),
    };
    Some(Error::new(event).help(
        "no such statement has been run; where that may be, call `optional()` when the fault is ordered",
    ))
}

impl LiveServer {
    /// Makes a statement of the application fail, come late, or lose its connection: what happens in production, and what
    /// its code for retries, timeouts and lost connections is for.
    ///
    /// ```no_run
    /// # use actix_shareddb::{LiveServer, Result};
    /// # use tokio_postgres::error::SqlState;
    /// # async fn example(live: &LiveServer) -> Result<()> {
    /// let conflict = live.faults().on_commit().fail(SqlState::T_R_SERIALIZATION_FAILURE);
    /// // The application tries again.
    /// assert_eq!(live.post("/transfers").send_body("4").await?.status(), 201);
    /// assert_eq!(conflict.hits(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The next statement that is meant meets the fault, or the [nth](Faults::nth). Each statement meets one at the most, that
    /// which was ordered first, and a fault that none meets fails the test unless it is [optional](Faults::optional). A
    /// `ROLLBACK` never does, nor does what fails anyway in a transaction that has failed. The test's own statements, by
    /// [`pool`](Self::pool), aren't meant, nor are those in [other databases](crate::Databases) than the case's own.
    ///
    /// # Panics
    ///
    /// If the test has a database of its own ([`Isolation::Database`](crate::Isolation::Database)), where the application
    /// has plain connections.
    #[track_caller]
    pub fn faults(&self) -> Faults {
        Faults::new(self.driver(), |origin| origin == Origin::Server)
    }
}

impl SharedTransaction {
    /// Makes a statement of any client fail, come late, or lose its connection. See [`LiveServer::faults`].
    ///
    /// ```no_run
    /// # use actix_shareddb::SharedTransaction;
    /// # use tokio_postgres::error::SqlState;
    /// # fn example(transaction: &SharedTransaction) {
    /// transaction.faults().on("INSERT").fail(SqlState::DISK_FULL);
    /// # }
    /// ```
    pub fn faults(&self) -> Faults {
        Faults::new(self.driver(), |origin| origin != Origin::Own)
    }
}
