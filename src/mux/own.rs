//! The multiplexer's own statements, and the savepoint that they move.
//!
//! They are prepared, so that they ride in a client's pipeline, and are run by their names, in which no client's
//! statement can get in the way: those stand behind their session's number, and no session is number 0.

use super::block::Move;
use super::command::Command;
use super::message::{Message, to_backend};

/// The lowest of the standing savepoints, and those on top of it, which share a name.
pub(super) const SAVEPOINT: &str = "actix_shareddb";
const NESTED: &str = "actix_shareddb_nested";

/// Stands before the names of the multiplexer's statements.
pub(super) const STATEMENTS: &str = "~0~";
const BEGIN: &[u8] = b"~0~begin";
const RELEASE: &[u8] = b"~0~release";
const SET: &[u8] = b"~0~savepoint";
const NEST: &[u8] = b"~0~nest";
const ROLLBACK_TO: &[u8] = b"~0~rollback";
const ROLLBACK_TO_NESTED: &[u8] = b"~0~rollback_nested";
/// Stands before each statement of a prologue, so that `pg_stat_activity` tells whether the backend is past them. It is a
/// prefix, because only so much of a long text is shown there.
pub(crate) const MARK: &str = "/* actix-shareddb */ ";
/// Fails, and has no other effect.
pub(super) const REFUSE: &[u8] = b"~0~refuse";
/// Checks the deferred constraints.
pub(super) const CHECK: &[u8] = b"~0~check";
/// The portal of what isn't prepared. It isn't the unnamed one, which may be the client's.
pub(super) const PORTAL: &[u8] = b"~0~portal";
/// A portal that never exists.
pub(super) const NO_PORTAL: &[u8] = b"~0~";

/// Begins the outer transaction, whatever the defaults of the database are. All that sessions enforce on it they must be
/// able to.
const OUTER: &str = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE";

/// What a backend is told before the multiplexer takes over: the statements above. It answers with one ReadyForQuery.
pub(crate) fn preparation() -> Vec<Message> {
    let prepare = |name: &[u8], sql: &str| to_backend::parse(name, sql.as_bytes());
    let guard = |name: &[u8], sql: &str| prepare(name, &format!("{MARK}{sql}"));
    vec![
        guard(BEGIN, OUTER),
        guard(RELEASE, &format!("RELEASE SAVEPOINT {SAVEPOINT}")),
        guard(SET, &format!("SAVEPOINT {SAVEPOINT}")),
        guard(NEST, &format!("SAVEPOINT {NESTED}")),
        guard(ROLLBACK_TO, &rollback_to(false)),
        guard(ROLLBACK_TO_NESTED, &rollback_to(true)),
        prepare(REFUSE, &format!("RELEASE SAVEPOINT {SAVEPOINT}_refused")),
        prepare(CHECK, "SET CONSTRAINTS ALL IMMEDIATE"),
        to_backend::sync(),
    ]
}

/// The prepared statement that moves the standing savepoint, if that is what moves.
pub(super) fn statement(step: Move) -> Option<&'static [u8]> {
    Some(match step {
        Move::Begin => BEGIN,
        Move::Release => RELEASE,
        Move::Set => SET,
        Move::Nest => NEST,
        Move::RollBack => ROLLBACK_TO,
        Move::RollBackNested => ROLLBACK_TO_NESTED,
        Move::HandOver => return None,
    })
}

/// Rolls back to the lowest of the standing savepoints, or to the one on top. It fails where that, and so the outer
/// transaction, isn't ours any more.
pub(crate) fn rollback_to(nested: bool) -> String {
    let name = if nested { NESTED } else { SAVEPOINT };
    format!("ROLLBACK TO SAVEPOINT {name}")
}

/// Makes a transaction of a session's read-only, or not.
pub(super) fn set_transaction(read_only: bool) -> &'static str {
    match read_only {
        true => "SET TRANSACTION READ ONLY",
        false => "SET TRANSACTION READ WRITE",
    }
}

/// The reason of a CopyFail for a client that sends something else amid its COPY.
pub(super) const INTRUDER: &str = "actix-shareddb: something else was sent";

/// Stands while a script is parsed to see whether it can be.
pub(super) const SET_PROOF: &str = "SAVEPOINT actix_shareddb_proof";
/// Leaves everything as it was before [`SET_PROOF`].
pub(super) const END_PROOF: [&str; 2] = [
    "ROLLBACK TO SAVEPOINT actix_shareddb_proof",
    "RELEASE SAVEPOINT actix_shareddb_proof",
];

/// What `SELECT pg_advisory_unlock_all()` is sent as when it would unlock what is another session's.
pub(super) const UNLOCK_NOTHING: &str = "SELECT ''::pg_catalog.void AS pg_advisory_unlock_all";

/// What `RESET x` and `SET x TO DEFAULT` are sent as where the backend doesn't know what to set it back to.
pub(super) const RESET_NOTHING: &str = "RESET actix_shareddb.nothing";
pub(super) const SET_NOTHING_TO_DEFAULT: &str = "SET actix_shareddb.nothing TO DEFAULT";

/// What a control statement of a client's is parsed as. The stand-in is never run, but the backend accepts and refuses
/// it where it would accept and refuse the original: in a failed block, only what ends it.
pub(super) fn stand_in(command: &Command) -> Option<String> {
    match command {
        Command::Begin { .. } => Some(format!("SAVEPOINT {SAVEPOINT}")),
        Command::Commit { .. } | Command::Rollback { .. } => Some(rollback_to(false)),
        Command::DeallocateAll => Some("DEALLOCATE none".to_owned()),
        _ => None,
    }
}
