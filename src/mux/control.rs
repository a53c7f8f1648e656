//! Which statements the multiplexer answers itself, and which it refuses because the backend, which is always in a
//! transaction block, would accept them.

use super::block::{self, Standing};
use super::command::{Command, Discard, IsolationLevel};
use super::deferral::Deferral;
use super::lexer::Tokens;
use super::message::to_session::Report;
use super::value::Name;
use super::{encoding, modes, notify, own, report, split};

/// Statements that end or begin a transaction, or would touch what belongs to the multiplexer: answered here.
pub(super) fn is_control(command: &Command) -> bool {
    matches!(
        command,
        Command::Begin { .. }
            | Command::Commit { .. }
            | Command::Rollback { .. }
            | Command::SetTransaction(_)
            | Command::SetMode { .. }
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
        || reserved(command).is_some()
        || matches!(
            command,
            Command::PrepareTransaction
                | Command::SetUnsafeEncoding(_)
                | Command::CreateDeferrable
                | Command::CreateTable { .. }
                | Command::PgNotify { .. }
                | Command::UnlockAll
                | Command::Set { local: true, .. }
        )
        || default_level(command).is_some()
}

/// Statements of which something may have to be said before they run, if nothing else stands in their simple query.
pub(super) fn is_looked_at_alone(command: &Command) -> bool {
    wants_block(command).is_some()
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

/// A name that a statement gives, or goes back to, which would get in the way of the multiplexer's own.
fn reserved(command: &Command) -> Option<(&'static str, &Name)> {
    let (what, name, prefix) = match command {
        Command::Savepoint(name) | Command::Release(name) | Command::RollbackTo(name) => {
            ("savepoint", name, own::SAVEPOINT.as_bytes())
        }
        Command::DeclareCursor { name, .. } => ("cursor", name, &b"~"[..]),
        _ => return None,
    };
    name.as_bytes().starts_with(prefix).then_some((what, name))
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
pub(super) fn refused(
    command: &Command,
    standing: &Standing,
    several: bool,
    denies_levels: bool,
) -> Option<Report> {
    if *command == Command::PrepareTransaction {
        return Some(report::prepare_transaction());
    }
    if let Command::SetUnsafeEncoding(name) = command {
        return Some(Report::error(encoding::REFUSED, encoding::refusal(name)));
    }
    if let Some((what, name)) = reserved(command) {
        return Some(report::reserved_name(what, name));
    }
    if denies_levels && let Some(level) = unexercised(command, standing, several) {
        return Some(report::denied_level(level));
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

/// The same for a statement behind others in a pipeline outside of a block.
pub(super) fn refused_in_pipeline(command: &Command, in_pipeline: bool) -> Option<Report> {
    let is_refused = in_pipeline && *command == Command::Discard(Discard::All);
    is_refused.then(|| {
        Report::error(
            block::ACTIVE_SQL_TRANSACTION,
            "DISCARD ALL cannot be executed within a pipeline",
        )
    })
}

/// Whether what follows a statement in its pipeline isn't the first of a transaction.
pub(super) fn opens_pipeline(command: &Command, sql: &[u8], was_open: bool) -> bool {
    match command {
        Command::Begin { .. } => was_open,
        Command::Commit { .. } | Command::Rollback { .. } | Command::Discard(Discard::All) => false,
        // An empty text runs nothing.
        _ => was_open || Tokens::new(sql, true).any(|token| !token.is_symbol(";")),
    }
}

/// What a client is warned of before a statement runs: that it has no effect outside of a transaction block, which the
/// backend is always in, or not all of its effect here. `release` is the server's.
pub(super) fn warnings(
    command: &Command,
    standing: &Standing,
    several: bool,
    release: impl FnOnce() -> Option<u32>,
) -> Vec<Report> {
    let mut warnings = Vec::new();
    if matches!(command, Command::Begin { .. }) && standing.is_open() && !standing.is_failed() {
        warnings.push(Report::warning(
            block::ACTIVE_SQL_TRANSACTION,
            "there is already a transaction in progress",
        ));
    }
    // Since release 16 PostgreSQL leaves a RESET at the error that it gets.
    let is_told = || !matches!(command, Command::Reset { .. }) || release() < Some(16);
    if let Some(name) = wants_block(command)
        && !several
        && !standing.is_open()
        && is_told()
    {
        warnings.push(Report::warning(
            block::NO_ACTIVE_SQL_TRANSACTION,
            format!("{name} can only be used in transaction blocks"),
        ));
    }
    warnings.extend(unexercised(command, standing, several).map(report::unexercised_level));
    warnings
}

/// The name of a command that has no effect outside of a transaction block, as PostgreSQL prints it.
fn wants_block(command: &Command) -> Option<&'static str> {
    match command {
        Command::Set { local: true, .. } | Command::SetMode { local: true, .. } => {
            Some("SET LOCAL")
        }
        Command::SetRedirected(trial) if trial.local => Some("SET LOCAL"),
        Command::SetTransaction(_) => Some("SET TRANSACTION"),
        Command::SetConstraints { .. } => Some("SET CONSTRAINTS"),
        Command::Reset { setting } if setting == "transaction_isolation" => {
            Some("RESET TRANSACTION")
        }
        _ => None,
    }
}

/// The isolation level that a statement asks for, if it has an effect anywhere but here.
fn unexercised(command: &Command, standing: &Standing, several: bool) -> Option<IsolationLevel> {
    let (Command::Begin { modes, .. }
    | Command::SetTransaction(modes)
    | Command::SetMode { modes, .. }) = command
    else {
        return default_level(command).filter(|_| !standing.is_failed());
    };
    let has_effect = matches!(command, Command::Begin { .. }) || standing.is_open() || several;
    let level = modes.isolation.filter(|level| {
        has_effect && level.is_above_read_committed() && standing.isolation() != Some(*level)
    })?;
    apply(&mut standing.clone(), command)
        .is_ok()
        .then_some(level)
}

/// The same of a statement about the transactions to come.
fn default_level(command: &Command) -> Option<IsolationLevel> {
    let Command::SetSessionCharacteristics(modes) = command else {
        return None;
    };
    modes
        .isolation
        .filter(|level| level.is_above_read_committed())
}

/// Applies a control statement.
pub(super) fn apply(standing: &mut Standing, command: &Command) -> Result<block::Done, Report> {
    let tag = command.tag().unwrap_or_default();
    match command {
        Command::Begin { modes, .. } => standing.begin(tag, *modes),
        Command::Commit { chain } => standing.commit(*chain),
        Command::Rollback { chain } => standing.rollback(*chain),
        Command::SetTransaction(modes) | Command::SetMode { modes, .. } => {
            standing.set_modes(tag, *modes)
        }
        _ if standing.is_failed() => Err(block::aborted()),
        Command::Discard(Discard::All) if standing.is_open() => Err(discards_in_block()),
        _ => {
            if modes::takes_snapshot(command, b"", true) {
                standing.query();
            }
            notify::answer(command)
        }
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
    denies_levels: bool,
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
    let fails = apply(&mut standing.clone(), &command).is_err()
        || refused(&command, standing, false, denies_levels).is_some();
    (is_control(&command) && !needs_check && !fails).then_some(Some(command))
}
