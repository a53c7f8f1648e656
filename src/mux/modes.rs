//! The modes of a session's transaction: its isolation level, READ ONLY and DEFERRABLE.
//!
//! READ ONLY is the backend's business, which knows it of a subtransaction as well, such as each transaction of a session's
//! is. The other two it can't have: they are those of the outer transaction, and not to be changed any more. So a session
//! is told what it has asked for, and may ask where PostgreSQL lets it: before the first query, and not behind a savepoint.

use super::block::ACTIVE_SQL_TRANSACTION;
use super::command::{Characteristics, Command, IsolationLevel};
use super::lexer::Tokens;
use super::message::to_session::Report;
use super::value::Name;

/// What a transaction was asked to be, and what decides whether it may be asked for something else.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Modes {
    /// What the transaction before in the chain was.
    inherited: Characteristics,
    asked: Characteristics,
    /// A snapshot was taken.
    queried: bool,
    /// Those that are set, and whether the transaction was to be read-only before.
    savepoints: Vec<(Name, Option<bool>)>,
}

impl Modes {
    pub(super) fn asked(&self) -> Characteristics {
        self.asked
    }

    /// Those with which the next transaction of a chain begins. A failure undoes what was asked for in this one.
    pub(super) fn chained(&self, failed: bool) -> Self {
        let modes = match failed {
            true => self.inherited,
            false => self.asked,
        };
        Self {
            inherited: modes,
            asked: modes,
            ..Self::default()
        }
    }

    /// Some can't change any more.
    pub(super) fn is_fixed(&self) -> bool {
        self.queried || !self.savepoints.is_empty()
    }

    /// Asks for modes. Says whether any has changed that the backend isn't told of by others. With an error nothing has
    /// changed.
    pub(super) fn set(&mut self, modes: Characteristics) -> Result<bool, Report> {
        let (in_subtransaction, queried) = (!self.savepoints.is_empty(), self.queried);
        let is_other = modes
            .isolation
            .is_some_and(|level| level != self.isolation());
        if is_other && queried {
            return Err(refused("ISOLATION LEVEL must be called before any query"));
        }
        if is_other && in_subtransaction {
            return Err(refused(
                "ISOLATION LEVEL must not be called in a subtransaction",
            ));
        }
        if modes.deferrable.is_some() && in_subtransaction {
            return Err(refused(
                "[NOT] DEFERRABLE cannot be called within a subtransaction",
            ));
        }
        if modes.deferrable.is_some() && queried {
            return Err(refused("[NOT] DEFERRABLE must be called before any query"));
        }
        let writes = modes.read_only == Some(false) && self.asked.read_only == Some(true);
        if writes && queried && !in_subtransaction {
            return Err(Report::error(
                ACTIVE_SQL_TRANSACTION,
                "transaction read-write mode must be set before any query",
            ));
        }
        let is_new = modes.isolation != self.asked.isolation && !queried && !in_subtransaction;
        let isolation = modes.isolation.filter(|_| is_new);
        self.asked.isolation = isolation.or(self.asked.isolation);
        self.asked.deferrable = modes.deferrable.or(self.asked.deferrable);
        self.asked.read_only = modes.read_only.or(self.asked.read_only);
        Ok(isolation.is_some() || modes.deferrable.is_some())
    }

    /// Without a request it is that of the session, which most leave at this one.
    fn isolation(&self) -> IsolationLevel {
        let asked = self.asked.isolation;
        asked.unwrap_or(IsolationLevel::ReadCommitted)
    }

    /// A statement takes a snapshot. Says whether it is the first.
    pub(super) fn query(&mut self) -> bool {
        !std::mem::replace(&mut self.queried, true)
    }

    /// A statement has succeeded.
    pub(super) fn note(&mut self, command: &Command) {
        match command {
            Command::Savepoint(name) => {
                let savepoint = (name.clone(), self.asked.read_only);
                self.savepoints.push(savepoint);
            }
            Command::Release(name) | Command::RollbackTo(name) => {
                let mut savepoints = self.savepoints.iter();
                let Some(start) = savepoints.rposition(|(known, _)| known == name) else {
                    return;
                };
                // In either way READ ONLY ends with its subtransaction.
                self.asked.read_only = self.savepoints[start].1;
                let remains = usize::from(matches!(command, Command::RollbackTo(_)));
                self.savepoints.truncate(start + remains);
            }
            _ => {}
        }
    }
}

fn refused(what: &str) -> Report {
    Report::error(ACTIVE_SQL_TRANSACTION, format!("SET TRANSACTION {what}"))
}

/// Whether a statement takes a snapshot, behind which the modes of a transaction stay as they are.
pub(super) fn takes_snapshot(command: &Command, statement: &[u8], scs: bool) -> bool {
    match command {
        _ if command.controls_transaction() => false,
        Command::CommitPrepared
        | Command::RollbackPrepared
        | Command::SetTransaction(_)
        | Command::SetTransactionSnapshot
        | Command::SetMode { .. }
        | Command::SetSessionCharacteristics(_)
        | Command::SetConstraints { .. }
        | Command::Set { .. }
        | Command::SetRedirected(_)
        | Command::Reset { .. }
        | Command::ResetAll
        | Command::Listen(_)
        | Command::Unlisten(_)
        | Command::UnlistenAll
        | Command::Notify { .. }
        | Command::Lock => false,
        Command::Other => {
            let first = Tokens::new(statement, scs).next();
            let words = ["SHOW", "FETCH", "MOVE", "CHECKPOINT"];
            first.is_some_and(|first| !first.is_one_of(&words))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
