//! What a statement is, as far as several sessions in one transaction must know.

mod cursor;
mod definition;
mod grammar;
mod mention;
mod table;

use std::ops::Range;

use self::cursor::Cursor;
pub(crate) use self::mention::Mention;
use super::redirect::Trial;
use super::value::Name;

/// A statement, told by its first few tokens.
///
/// Those that control transactions are recognised exactly: what PostgreSQL's grammar rejects (`COMMIT foo`, `BEGIN
/// garbage`, `ROLLBACK TO`) is [`Other`](Self::Other), so that the server reports the error itself. Of the others, the
/// part that is looked at is exact and the rest of the statement is the server's to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// `BEGIN` or, which shows in the command tag only, `START TRANSACTION`.
    Begin {
        start: bool,
        modes: Characteristics,
    },
    /// `COMMIT` or `END`.
    Commit {
        chain: bool,
    },
    /// `ROLLBACK` or `ABORT`.
    Rollback {
        chain: bool,
    },
    Savepoint(Name),
    Release(Name),
    RollbackTo(Name),
    PrepareTransaction,
    CommitPrepared,
    RollbackPrepared,

    /// `SET [LOCAL | SESSION] TRANSACTION`, about the transaction block that is open.
    SetTransaction(Characteristics),
    /// `SET [LOCAL | SESSION]` of one of its modes by its name as a setting, such as `transaction_isolation`.
    SetMode {
        local: bool,
        modes: Characteristics,
    },
    /// `SET [LOCAL] TRANSACTION SNAPSHOT`.
    SetTransactionSnapshot,
    /// `SET SESSION CHARACTERISTICS AS TRANSACTION`, about those to come, or a SET of `default_transaction_isolation`.
    SetSessionCharacteristics(Characteristics),
    SetConstraints {
        all: bool,
        deferred: bool,
    },
    /// Any other `SET`, with the name of the setting behind it: `timezone` for `SET TIME ZONE`.
    Set {
        local: bool,
        setting: String,
    },
    /// `SET` of the client's encoding to one that can't be lexed, by its name.
    SetUnsafeEncoding(String),
    /// `SET` of a setting that is redirected, to a single value.
    SetRedirected(Trial),
    Reset {
        setting: String,
    },
    ResetAll,
    Discard(Discard),

    Prepare(Name),
    Execute(Name),
    /// `EXPLAIN` of an EXECUTE, or `CREATE TABLE AS` one: reads a prepared statement, of a kind that returns rows.
    ReadPrepared(Name),
    Deallocate(Name),
    DeallocateAll,
    /// `SELECT pg_advisory_unlock_all()`.
    UnlockAll,
    /// `CREATE TABLE` of a temporary table that goes, or is emptied, at each commit.
    CreateTable {
        name: Name,
        on_commit: OnCommit,
    },
    DeclareCursor {
        name: Name,
        hold: bool,
    },
    CloseCursor(Name),
    CloseAll,

    CopyFromStdin,
    CopyToStdout,

    Listen(Name),
    Unlisten(Name),
    UnlistenAll,
    Notify {
        channel: Name,
        payload: Vec<u8>,
    },
    /// `SELECT pg_notify(...)` and nothing else.
    PgNotify {
        channel: Argument,
        payload: Argument,
    },

    /// `LOCK TABLE`, which works in a transaction block only.
    Lock,
    /// A command that PostgreSQL refuses in a transaction block, by the name that it gives it in the refusal.
    Unrunnable(&'static str),
    /// `CREATE` or `ALTER` of something with a constraint or a constraint trigger that is deferrable.
    CreateDeferrable,
    Call,
    Do,
    /// Anything else, and what is no SQL at all.
    Other,
}

/// What a text argument is given by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    /// A literal, with this content.
    Text(Vec<u8>),
    /// The parameter of this number, counted from 1.
    Parameter(usize),
}

/// The modes of a transaction, each `None` where the statement leaves it to the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Characteristics {
    pub(crate) isolation: Option<IsolationLevel>,
    pub(crate) read_only: Option<bool>,
    pub(crate) deferrable: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsolationLevel {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl IsolationLevel {
    /// As a setting has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read uncommitted",
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }

    /// Whether a transaction of this level differs from one of the lowest.
    pub(crate) fn is_above_read_committed(self) -> bool {
        matches!(self, Self::RepeatableRead | Self::Serializable)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnCommit {
    Drop,
    DeleteRows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discard {
    All,
    Plans,
    Sequences,
    Temp,
}

impl Command {
    /// What the statement is, which must be a single one and without its semicolon: one of those that
    /// [`split::statements`](super::split::statements) finds.
    pub(crate) fn of(statement: &[u8], standard_conforming_strings: bool) -> Self {
        let mut cursor = Cursor::new(statement, standard_conforming_strings);
        grammar::stmt(&mut cursor).unwrap_or(Self::Other)
    }

    /// Where a statement of this kind names a prepared statement.
    pub(crate) fn mention(&self, statement: &[u8], scs: bool) -> Option<Mention> {
        self.names_prepared()
            .then(|| mention::statement(&mut Cursor::new(statement, scs)))
            .flatten()
    }

    /// Where a statement names cursors.
    pub(crate) fn cursors(statement: &[u8], scs: bool) -> Vec<Mention> {
        mention::cursors(&mut Cursor::new(statement, scs))
    }

    /// Where a statement names a setting.
    pub(crate) fn setting(statement: &[u8], scs: bool, setting: &str) -> Option<Range<usize>> {
        mention::setting(&mut Cursor::new(statement, scs), setting)
    }

    /// The setting that a SHOW tells, and where it is named.
    pub(crate) fn shown(statement: &[u8], scs: bool) -> Option<(String, Range<usize>)> {
        mention::shown(&mut Cursor::new(statement, scs))
    }

    pub(crate) fn names_prepared(&self) -> bool {
        matches!(
            self,
            Self::Prepare(_)
                | Self::Execute(_)
                | Self::ReadPrepared(_)
                | Self::Deallocate(_)
                | Self::CreateTable { .. }
        )
    }

    /// Whether it begins, ends or divides a transaction.
    pub(crate) fn controls_transaction(&self) -> bool {
        matches!(
            self,
            Self::Begin { .. }
                | Self::Commit { .. }
                | Self::Rollback { .. }
                | Self::Savepoint(_)
                | Self::Release(_)
                | Self::RollbackTo(_)
                | Self::PrepareTransaction
        )
    }

    /// Whether it ends a transaction block.
    pub(crate) fn ends_block(&self) -> bool {
        matches!(self, Self::Commit { .. } | Self::Rollback { .. })
    }

    /// The command tag with which PostgreSQL reports that the command has succeeded, where it is always the same and
    /// the multiplexer may have to say so itself. A COMMIT that finds its block failed is answered as [`ROLLBACK`].
    pub(crate) fn tag(&self) -> Option<&'static str> {
        Some(match self {
            Self::Begin { start: false, .. } => "BEGIN",
            Self::Begin { start: true, .. } => "START TRANSACTION",
            Self::Commit { .. } => "COMMIT",
            Self::Rollback { .. } | Self::RollbackTo(_) => ROLLBACK,
            Self::Savepoint(_) => "SAVEPOINT",
            Self::Release(_) => "RELEASE",
            Self::PrepareTransaction => "PREPARE TRANSACTION",
            Self::CommitPrepared => "COMMIT PREPARED",
            Self::RollbackPrepared => "ROLLBACK PREPARED",
            Self::SetTransaction(_)
            | Self::SetMode { .. }
            | Self::SetTransactionSnapshot
            | Self::SetSessionCharacteristics(_)
            | Self::Set { .. }
            | Self::SetUnsafeEncoding(_)
            | Self::SetRedirected(_) => "SET",
            Self::SetConstraints { .. } => "SET CONSTRAINTS",
            Self::Reset { .. } | Self::ResetAll => "RESET",
            Self::Discard(Discard::All) => "DISCARD ALL",
            Self::Discard(Discard::Plans) => "DISCARD PLANS",
            Self::Discard(Discard::Sequences) => "DISCARD SEQUENCES",
            Self::Discard(Discard::Temp) => "DISCARD TEMP",
            Self::Prepare(_) => "PREPARE",
            Self::Deallocate(_) => "DEALLOCATE",
            Self::DeallocateAll => "DEALLOCATE ALL",
            Self::DeclareCursor { .. } => "DECLARE CURSOR",
            Self::CloseCursor(_) => "CLOSE CURSOR",
            Self::CloseAll => "CLOSE CURSOR ALL",
            Self::Listen(_) => "LISTEN",
            Self::Unlisten(_) | Self::UnlistenAll => "UNLISTEN",
            Self::Notify { .. } => "NOTIFY",
            Self::Lock => "LOCK TABLE",
            Self::Call => "CALL",
            Self::Do => "DO",
            Self::Execute(_)
            | Self::ReadPrepared(_)
            | Self::CreateTable { .. }
            | Self::CopyFromStdin
            | Self::CopyToStdout
            | Self::UnlockAll
            | Self::Unrunnable(_)
            | Self::CreateDeferrable
            | Self::PgNotify { .. }
            | Self::Other => return None,
        })
    }
}

/// The command tag of ROLLBACK, and of a COMMIT that could only roll back.
pub(crate) const ROLLBACK: &str = "ROLLBACK";

#[cfg(test)]
mod tests;
