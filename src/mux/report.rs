//! The errors that a session gets from the multiplexer itself: what happened, who holds what, what to do.

use std::time::Instant;

use super::belongings::mentions;
use super::command::IsolationLevel;
use super::message::Message;
use super::message::to_session::Report;
use super::own;
use super::session::Session;
use super::value::Name;

/// How much of a statement is quoted in an error, in characters.
const QUOTED: usize = 300;

const LOCK_NOT_AVAILABLE: &str = "55P03";
const ADMIN_SHUTDOWN: &str = "57P01";
const CONNECTION_FAILURE: &str = "08006";
const INVALID_TRANSACTION_STATE: &str = "25000";
const FEATURE_NOT_SUPPORTED: &str = "0A000";
const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
const QUERY_CANCELED: &str = "57014";
const PROTOCOL_VIOLATION: &str = "08P01";
const INVALID_SAVEPOINT_SPECIFICATION: &str = "3B001";
const RESERVED_NAME: &str = "42939";
const INVALID_SQL_STATEMENT_NAME: &str = "26000";
const INTERNAL_ERROR: &str = "XX000";
const WARNING: &str = "01000";

/// A hint that a test needs a database of its own, and how it gets one.
macro_rules! needs_database {
    ($hint:literal) => {
        concat!(
            $hint,
            " `#[isolation(Database)]` above the test gives it one, Config::isolation(Isolation::Database) all tests of a \
             case."
        )
    };
}
pub(super) use needs_database;

/// A hint of what a holder of the lease should do, which may also need more time for it.
macro_rules! or_wait {
    ($hint:literal) => {
        concat!(
            $hint,
            " If the holder is merely slow, raise Config::idle_in_transaction_timeout."
        )
    };
}

/// A statement as it is quoted in an error: on one line, and not too long.
pub(super) fn sql(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(QUOTED) {
        words.truncate(end);
        words.push_str(" ...");
    }
    words
}

/// What the holder of the lease sits idle in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    Block,
    /// It was asked for data.
    Copy,
    /// It has sent no Sync.
    Pipeline,
}

/// A session waited for a holder that sat idle.
pub(super) fn lease_timeout(
    waiter: Option<&Session>,
    holder: Option<&Session>,
    (idle, in_block): (Idle, bool),
    idle_since: Option<Instant>,
    now: Instant,
) -> Report {
    let seconds = |since| now.saturating_duration_since(since).as_secs_f64();
    let idle_for = idle_since.map_or(0.0, seconds);
    let waits = waiter.map_or_else(String::new, |session| {
        let text = session
            .batch()
            .find_map(|message| first_sql(session, message));
        format!(
            "{} waits with: {}",
            describe(session),
            sql(&text.unwrap_or_default())
        )
    });
    let holds = holder.map_or_else(String::new, |session| {
        let (name, last) = (describe(session), sql(&session.last_sql));
        let (begun, begin) = (
            session.begun.map_or(idle_for, seconds),
            sql(&session.begin_sql),
        );
        match (idle, in_block) {
            (Idle::Block, _) => format!(
                "{name} has held it for {begun:.1} s, since: {begin}; its last statement was: {last}; idle for {idle_for:.1} s",
            ),
            (_, true) => format!(
                "{name} is at: {last}; idle for {idle_for:.1} s, in a block begun {begun:.1} s ago with: {begin}"
            ),
            (_, false) => format!("{name} is at: {last}; idle for {idle_for:.1} s"),
        }
    });
    let (text, hint) = match idle {
        Idle::Block => (
            "another session sits idle in its transaction block, for which this one waits in vain",
            or_wait!(
                "In a shared transaction, blocks of several sessions exclude each other. Commit or roll back the block \
                 before a second client is used, or run the statement on the client that holds the block."
            ),
        ),
        Idle::Copy => (
            "another session sits idle in its COPY FROM STDIN, for which this one waits in vain",
            or_wait!(
                "All sessions share one connection, which takes nothing but the COPY's data until that ends. Finish the \
                 COPY, or give it up, before a second client is used."
            ),
        ),
        Idle::Pipeline => (
            "another session sits idle in its pipeline, for which this one waits in vain",
            or_wait!(
                "All sessions share one connection, on which it has begun a transaction with messages that no Sync ends. \
                 Send the Sync before a second client is used."
            ),
        ),
    };
    Report::error(LOCK_NOT_AVAILABLE, text)
        .detail(format!("{waits}\n{holds}"))
        .hint(hint)
}

pub(super) fn first_sql(session: &Session, message: &Message) -> Option<bytes::Bytes> {
    use super::message::frontend;
    let mut fields = message.fields();
    match message.tag() {
        frontend::QUERY => fields.string(),
        frontend::PARSE => {
            fields.string()?;
            fields.string()
        }
        frontend::BIND => {
            fields.string()?;
            Some(session.statements.get(&fields.string()?)?.sql.clone())
        }
        _ => None,
    }
}

pub(super) fn describe(session: &Session) -> String {
    match &session.application_name[..] {
        "" => session.id.to_string(),
        name => format!("{} ({name})", session.id),
    }
}

/// A client gave up waiting for its turn. In PostgreSQL's words, because its statement would have been running there.
pub(super) fn canceled() -> Report {
    Report::error(QUERY_CANCELED, "canceling statement due to user request")
}

/// A fault that a test has ordered. In PostgreSQL's words.
pub(super) fn terminated() -> Report {
    Report::fatal(
        ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    )
}

/// The test is over.
pub(super) fn gate_closed() -> Report {
    Report::fatal(
        ADMIN_SHUTDOWN,
        "the test has ended: its shared transaction is being rolled back",
    )
    .hint("Await what the test has started before it ends, such as HTTP requests and background tasks.")
}

/// The backend's connection broke.
pub(super) fn backend_gone(cause: &str) -> Report {
    Report::fatal(
        CONNECTION_FAILURE,
        "the shared transaction is lost: the connection to the server has ended",
    )
    .detail(cause)
}

/// The backend said why it goes.
pub(super) fn backend_died(code: &[u8], text: &[u8]) -> Report {
    let code = match code {
        b"57P01" => ADMIN_SHUTDOWN,
        b"57P02" => "57P02",
        b"57P03" => "57P03",
        b"57P05" => "57P05",
        b"25P03" => "25P03",
        _ => CONNECTION_FAILURE,
    };
    Report::fatal(
        code,
        "the shared transaction is lost: the server has ended its connection",
    )
    .detail(String::from_utf8_lossy(text))
}

/// The backend is outside of a transaction block.
pub(super) fn transaction_ended(statement: &str) -> Report {
    Report::fatal(
        INVALID_TRANSACTION_STATE,
        format!("the shared transaction is lost: it was ended by: {statement}"),
    )
    .detail("What was written before is committed, or gone; the test can't take it back.")
    .hint(needs_database!(
        "A statement that ends the transaction on its own needs a database of its own."
    ))
}

/// The standing savepoint could not be moved.
pub(super) fn guard_failed(text: &[u8], statement: &str) -> Report {
    Report::fatal(
        INVALID_TRANSACTION_STATE,
        "the shared transaction is lost: its savepoint could not be moved",
    )
    .detail(format!(
        "The server said: {}; it happened before: {statement}",
        String::from_utf8_lossy(text)
    ))
}

/// Whether the backend doesn't know one of the multiplexer's own statements any more.
pub(super) fn is_own_statement_gone(error: &Message) -> bool {
    let field = |code| error.error_field(code).unwrap_or_default();
    field(b'C') == INVALID_SQL_STATEMENT_NAME && mentions(&field(b'M'), own::STATEMENTS.as_bytes())
}

/// Nor any of the clients'.
pub(super) fn statements_gone(last: &[u8]) -> Report {
    Report::fatal(
        INVALID_TRANSACTION_STATE,
        "the shared transaction is lost: its connection's prepared statements are gone",
    )
    .detail(format!(
        "DEALLOCATE ALL within a function or a DO block drops those of all clients and of this crate itself. It was run \
         by this statement, or by an earlier one of the same block: {}",
        sql(last)
    ))
    .hint(needs_database!(
        "As a statement of its own DEALLOCATE ALL drops what its client has prepared, and nothing else. Within a function it \
         needs a database of its own."
    ))
}

/// A portal of a statement that returns no rows can be run once.
pub(super) fn spent_portal(name: &[u8]) -> Report {
    let name = String::from_utf8_lossy(name);
    Report::error(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("portal \"{name}\" cannot be run"),
    )
}

/// What PostgreSQL says when a client sends something else in the middle of a COPY FROM STDIN.
pub(super) fn not_copy(tag: u8) -> String {
    format!("unexpected message type 0x{tag:02X} during COPY from stdin")
}

/// What it says next.
pub(super) fn out_of_step() -> Report {
    Report::fatal(
        PROTOCOL_VIOLATION,
        "terminating connection because protocol synchronization was lost",
    )
}

/// The client went in the middle of a batch. Nobody reads this.
pub(super) fn client_gone() -> Report {
    Report::error(INTERNAL_ERROR, "the client has gone")
}

/// The hint for an error that PostgreSQL reports only because the shared transaction is one: a command runs by itself, or
/// commits. It knows of nothing better to say, and the one who sees the error didn't begin a block.
pub(super) fn needs_commit(error: &Message) -> Option<&'static str> {
    if error.error_field(b'H').is_some() {
        return None;
    }
    // The name of the function isn't translated, as the message is.
    let routine = error.error_field(b'R').unwrap_or_default();
    match &error.error_field(b'C')?[..] {
        b"25001" if routine == "PreventInTransactionBlock" => Some(needs_database!(
            "In a shared transaction every statement runs in a transaction block. This one needs a database of its own, \
             with real commits."
        )),
        b"2D000" => Some(needs_database!(
            "A shared transaction is never committed, nor can a procedure end it. This needs a database of its own, with \
             real commits."
        )),
        _ => None,
    }
}

/// Whether a statement waited too long for a lock. Within a shared transaction nobody waits for one.
pub(super) fn is_lock_timeout(error: &Message) -> bool {
    error
        .error_field(b'C')
        .is_some_and(|code| code == LOCK_NOT_AVAILABLE)
        && error
            .error_field(b'R')
            .is_some_and(|routine| routine == "ProcessInterrupts")
        && error.error_field(b'H').is_none()
}

/// The hint for it.
pub(super) const LOCK_TIMEOUT: &str = "The lock is held by a transaction on another connection, probably that of another test \
     that runs at the same time, and stays with it until that test has ended. Let the two write different rows and keys, or \
     run them one after the other. If the holder is merely slow, raise Config::lock_timeout.";

/// Whether a table can't be altered because something in this session has it open.
pub(super) fn is_in_use(error: &Message) -> bool {
    let field = |code| error.error_field(code).unwrap_or_default();
    field(b'C') == "55006" && field(b'R') == "CheckTableNotInUse" && field(b'H').is_empty()
}

/// The hint for it, where a client has a cursor WITH HOLD.
pub(super) const HELD_CURSOR: &str = "A cursor WITH HOLD is open. PostgreSQL copies its rows when its transaction is committed, \
     which a shared transaction never is, so that its tables stay in use. Close the cursor first, or use a database of the \
     test's own.";

/// The detail of it, where the holders were seen.
pub(super) fn lock_holders(holders: &str) -> String {
    format!("The lock is held by {holders}.")
}

/// A test goes back to a checkpoint that isn't there.
pub(super) fn no_checkpoint() -> Report {
    Report::error(
        INVALID_SAVEPOINT_SPECIFICATION,
        "the checkpoint no longer exists",
    )
    .hint("Going back to a checkpoint ends those that were set after it. One of another transaction never existed here.")
}

/// A client calls something as the multiplexer calls its own.
pub(super) fn reserved_name(what: &str, name: &Name) -> Report {
    Report::error(
        RESERVED_NAME,
        format!("{what} name \"{name}\" is reserved in a shared transaction"),
    )
    .hint("Choose another name.")
}

/// PREPARE TRANSACTION would hand the outer transaction to somebody else.
pub(super) fn prepare_transaction() -> Report {
    Report::error(
        FEATURE_NOT_SUPPORTED,
        "PREPARE TRANSACTION can't run in a shared transaction",
    )
    .hint(needs_database!(
        "Two-phase commit needs a transaction, and so a database, of its own."
    ))
}

/// A session has asked for an isolation level that it is told that it has.
pub(super) fn unexercised_level(level: IsolationLevel) -> Report {
    let level = level.name().to_uppercase();
    Report::warning(
        WARNING,
        format!("isolation level {level} is not exercised in a shared transaction"),
    )
    .detail(format!("{ONE_TRANSACTION} SHOW tells the level that was asked for."))
    .hint(concat!(
        needs_database!(
            "What depends on the level, such as a retry after a conflict, needs a database of its own, with real commits."
        ),
        " Config::deny_isolation_levels makes an error of this."
    ))
}

/// The same where that is an error.
pub(super) fn denied_level(level: IsolationLevel) -> Report {
    let level = level.name().to_uppercase();
    Report::error(
        FEATURE_NOT_SUPPORTED,
        format!("isolation level {level} can't be had in a shared transaction"),
    )
    .detail(ONE_TRANSACTION)
    .hint(concat!(
        needs_database!("It needs a database of its own, with real commits."),
        " It is an error because Config::deny_isolation_levels was called; otherwise the level is accepted, and not \
         exercised."
    ))
}

const ONE_TRANSACTION: &str = "All sessions live in one transaction, whose level is READ COMMITTED and which nothing in it \
     can conflict with.";
