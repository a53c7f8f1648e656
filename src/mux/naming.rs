//! The names of prepared statements, which SQL's PREPARE and the protocol's Parse share in each session.
//!
//! On the backend they stand behind their session's number, as those do that were given by a Parse. So statements that
//! name one are sent with the backend's name, and what PREPARE and DEALLOCATE do is kept in mind as if it had been done by
//! Parse and Close. It doesn't end with a transaction, be that rolled back or not.

use std::ops::Range;

use bytes::Bytes;

use super::command::Command;
use super::flight::Effect;
use super::garbage::Garbage;
use super::redirect;
use super::rewrite::{Replacement, Rewritten, Shifts, quoted};
use super::session::{Prepared, Session, is_marked};
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
                let mut prepared = Prepared::new(Command::Other, sql, true);
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
    /// What has to be replaced in a statement, which is this range of a text. `declares` are the cursors that
    /// stand before it in the same text, each with whether it is to be held.
    pub(super) fn replacements(
        &self,
        text: &[u8],
        range: Range<usize>,
        command: &Command,
        scs: bool,
        declares: &[(Vec<u8>, bool)],
    ) -> Vec<Replacement> {
        let statement = &text[range.clone()];
        let mut mentions = Vec::from_iter(command.mention(statement, scs));
        let may_name_held = !self.held.is_empty() || !declares.is_empty();
        if may_name_held || matches!(command, Command::DeclareCursor { hold: true, .. }) {
            let declared = self.declares_held(command, declares);
            mentions.extend(
                Command::cursors(statement, scs)
                    .into_iter()
                    .filter(|mention| {
                        let name = mention.name.as_bytes();
                        self.held.contains(name)
                            || declares.contains(&(name.to_vec(), true))
                            || declared.as_deref() == Some(name)
                    }),
            );
        }
        let names = mentions.into_iter().map(|mention| {
            (
                mention.range,
                quoted(&self.statement_name(mention.name.as_bytes())),
            )
        });
        let mut replacements: Vec<_> = names
            .map(|(range, text)| Replacement { range, text })
            .chain(redirect::replacements(
                command,
                statement,
                scs,
                self.release(),
            ))
            .collect();
        replacements.sort_by_key(|replacement| replacement.range.start);
        for Replacement { range: place, .. } in &mut replacements {
            *place = range.start + place.start..range.start + place.end;
        }
        replacements
    }

    /// The text of a Parse as it is to be sent, if that isn't as it was written.
    pub(super) fn rewrite(&self, sql: &[u8], command: &Command, scs: bool) -> Option<Rewritten> {
        let declares = matches!(command, Command::DeclareCursor { hold: true, .. });
        let is_redirected = redirect::may_concern(command, sql, scs);
        if !command.names_prepared() && !declares && !is_redirected && self.held.is_empty() {
            return None;
        }
        let range = split::statements(sql, scs).into_iter().next()?;
        let replacements = self.replacements(sql, range, command, scs, &[]);
        (!replacements.is_empty()).then(|| Rewritten::of(sql, 0..sql.len(), &replacements))
    }

    /// The cursor WITH HOLD that a statement declares. It fails if there is another cursor of that name.
    pub(super) fn declares_held(
        &self,
        command: &Command,
        declares: &[(Vec<u8>, bool)],
    ) -> Option<Vec<u8>> {
        match command {
            Command::DeclareCursor { name, hold: true }
                if !self.portals.contains_key(name.as_bytes())
                    && !declares.contains(&(name.as_bytes().to_vec(), false)) =>
            {
                Some(name.as_bytes().to_vec())
            }
            _ => None,
        }
    }

    pub(super) fn effect_on_cursors(
        &self,
        command: &Command,
        declares: &[(Vec<u8>, bool)],
    ) -> Option<Effect> {
        match command {
            Command::CloseCursor(name) => Some(Effect::Closes(name.as_bytes().to_vec())),
            _ => self.declares_held(command, declares).map(Effect::Holds),
        }
    }

    /// The name of a portal on the backend, which for a cursor WITH HOLD isn't the client's, nor for one whose name could
    /// be another session's.
    pub(super) fn portal_name(&self, name: &Bytes) -> Bytes {
        match self.held.contains(name) || is_marked(name) {
            true => self.statement_name(name),
            false => name.clone(),
        }
    }

    /// The session's cursors WITH HOLD end with it.
    pub(super) fn close_held(&mut self, garbage: &mut Garbage) {
        for name in self.held.take() {
            garbage.close_portal(&self.statement_name(&name));
        }
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
