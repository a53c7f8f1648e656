//! Which statements the multiplexer answers itself, and which it refuses because the backend, which is always in a
//! transaction block, would accept them.

use super::block::{self, Standing};
use super::command::{Command, Discard};
use super::deferral::Deferral;
use super::message::to_session::Report;
use super::{notify, report, split};

/// Statements that end or begin a transaction, or would touch what belongs to the multiplexer: answered here.
pub(super) fn is_control(command: &Command) -> bool {
    matches!(
        command,
        Command::Begin { .. }
            | Command::Commit { .. }
            | Command::Rollback { .. }
            | Command::DeallocateAll
            | Command::CloseAll
            | Command::SetRedirected(_)
            | Command::ResetAll
            | Command::Discard(_)
            | Command::Listen(_)
            | Command::Unlisten(_)
            | Command::UnlistenAll
            | Command::Notify { .. }
    )
}

/// Statements at which a simple query is cut.
pub(super) fn is_looked_at(command: &Command) -> bool {
    is_control(command)
        || needs_block(command).is_some()
        || matches!(
            command,
            Command::PrepareTransaction
                | Command::CreateDeferrable
                | Command::PgNotify { .. }
                | Command::UnlockAll
                | Command::Set { local: true, .. }
        )
}

/// Statements that the backend runs, and whose success their session remembers until its transaction ends.
pub(super) fn is_remembered(command: &Command) -> bool {
    matches!(
        command,
        Command::Savepoint(_)
            | Command::Release(_)
            | Command::RollbackTo(_)
            | Command::PgNotify { .. }
    )
}

/// The name of a command that PostgreSQL runs in a transaction block only, as it prints it.
fn needs_block(command: &Command) -> Option<&'static str> {
    match command {
        Command::Savepoint(_) => Some("SAVEPOINT"),
        Command::Release(_) => Some("RELEASE SAVEPOINT"),
        Command::RollbackTo(_) => Some("ROLLBACK TO SAVEPOINT"),
        Command::Lock => Some("LOCK TABLE"),
        Command::DeclareCursor { hold: false, .. } => Some("DECLARE CURSOR"),
        _ => None,
    }
}

/// Why a statement can't run here, if the backend, which is always in a block, wouldn't say so itself.
pub(super) fn refused_outside_block(
    command: &Command,
    standing: &Standing,
    several: bool,
) -> Option<Report> {
    if *command == Command::PrepareTransaction {
        return Some(report::prepare_transaction());
    }
    if several && *command == Command::Discard(Discard::All) && !standing.is_failed() {
        return Some(discards_in_block());
    }
    if standing.is_open() {
        return None;
    }
    let is_savepoint = matches!(
        command,
        Command::Savepoint(_) | Command::Release(_) | Command::RollbackTo(_)
    );
    // The statements of one simple query form an implicit block, which is enough for LOCK and DECLARE.
    let name = needs_block(command).filter(|_| is_savepoint || !several)?;
    Some(block::needs_block(name))
}

/// What is said of a statement that has no effect outside of a transaction block, which the backend is always in.
pub(super) fn warned_outside_block(
    command: &Command,
    standing: &Standing,
    several: bool,
) -> Option<Report> {
    let is_local = match command {
        Command::Set { local, .. } => *local,
        Command::SetRedirected(trial) => trial.local,
        _ => false,
    };
    (is_local && !several && !standing.is_open()).then(|| {
        Report::warning(
            block::NO_ACTIVE_SQL_TRANSACTION,
            "SET LOCAL can only be used in transaction blocks",
        )
    })
}

/// Applies a control statement.
pub(super) fn apply(standing: &mut Standing, command: &Command) -> Result<block::Done, Report> {
    let tag = command.tag().unwrap_or_default();
    match command {
        Command::Begin { modes, .. } => standing.begin(tag, *modes),
        Command::Commit { chain } => standing.commit(*chain),
        Command::Rollback { chain } => standing.rollback(*chain),
        _ if standing.is_failed() => Err(block::aborted()),
        Command::Discard(Discard::All) if standing.is_open() => Err(discards_in_block()),
        _ => notify::answer(command),
    }
}

fn discards_in_block() -> Report {
    Report::error(
        block::ACTIVE_SQL_TRANSACTION,
        "DISCARD ALL cannot run inside a transaction block",
    )
}

/// The one control statement of a simple query that can be answered without the backend: `Some(None)` is a query without
/// any statement.
pub(super) fn local_command(
    sql: &[u8],
    scs: bool,
    standing: &Standing,
    deferral: &Deferral,
) -> Option<Option<Command>> {
    let mut statements = split::statements(sql, scs).into_iter();
    let Some(range) = statements.next() else {
        return Some(None);
    };
    if statements.next().is_some() {
        return None;
    }
    let command = Command::of(&sql[range], scs);
    let needs_check = matches!(command, Command::Commit { .. })
        && *deferral != Deferral::None
        && standing.commits_work();
    let fails = apply(&mut standing.clone(), &command).is_err();
    (is_control(&command) && !needs_check && !fails).then_some(Some(command))
}
