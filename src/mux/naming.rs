//! The names of prepared statements, which SQL's PREPARE and the protocol's Parse share in each session.
//!
//! On the backend they stand behind their session's number, as those do that were given by a Parse. So statements that
//! name one are sent with the backend's name, and what PREPARE and DEALLOCATE do is kept in mind as if it had been done by
//! Parse and Close. It doesn't end with a transaction, be that rolled back or not.

use std::ops::Range;

use bytes::Bytes;

use super::command::Command;
use super::rewrite::{Replacement, Rewritten, Shifts, quoted};
use super::session::{Prepared, Session};
use super::split;

/// What a statement does to the name of a prepared statement.
#[derive(Debug)]
pub(super) enum Naming {
    Gives(Bytes, Box<Prepared>),
    Takes(Bytes),
}

impl Naming {
    /// What a statement does that is sent with these replacements.
    pub(super) fn of(command: &Command, sql: Bytes, shifts: Shifts) -> Option<Self> {
        match command {
            Command::Prepare(name) => {
                let mut prepared = Prepared::new(Command::Other, sql);
                prepared.shifts = shifts;
                Some(Self::Gives(bytes(name.as_bytes()), Box::new(prepared)))
            }
            Command::Deallocate(name) => Some(Self::Takes(bytes(name.as_bytes()))),
            _ => None,
        }
    }

    /// Returns the name, and what it stood for before.
    pub(super) fn apply(self, session: &mut Session) -> (Bytes, Option<Prepared>) {
        match self {
            Self::Gives(name, prepared) => {
                let previous = session.statements.insert(name.clone(), *prepared);
                (name, previous)
            }
            Self::Takes(name) => {
                let previous = session.statements.remove(&name);
                (name, previous)
            }
        }
    }
}

impl Session {
    /// What has to be replaced in a statement, which is this range of a text.
    pub(super) fn replacement(
        &self,
        text: &[u8],
        range: Range<usize>,
        command: &Command,
        scs: bool,
    ) -> Option<Replacement> {
        let mention = command.mention(&text[range.clone()], scs)?;
        let name = self.statement_name(mention.name.as_bytes());
        Some(Replacement {
            range: range.start + mention.range.start..range.start + mention.range.end,
            text: quoted(&name),
        })
    }

    /// The text of a Parse as it is to be sent, if that isn't as it was written.
    pub(super) fn rewrite(&self, sql: &[u8], command: &Command, scs: bool) -> Option<Rewritten> {
        if !command.names_prepared() {
            return None;
        }
        let range = split::statements(sql, scs).into_iter().next()?;
        let replacement = self.replacement(sql, range, command, scs)?;
        Some(Rewritten::of(sql, 0..sql.len(), &[replacement]))
    }

    /// What a statement does, which for an EXECUTE may be what a driver has prepared.
    pub(super) fn resolve(&self, command: Command) -> Command {
        let Command::Execute(name) = &command else {
            return command;
        };
        match self.statements.get(name.as_bytes()) {
            Some(prepared) if prepared.command != Command::Other => prepared.command.clone(),
            _ => command,
        }
    }
}

fn bytes(name: &[u8]) -> Bytes {
    Bytes::copy_from_slice(name)
}
