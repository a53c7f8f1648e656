//! Cursors WITH HOLD, which outlive their transaction, and therefore other sessions' transactions, too.
//!
//! On the backend such a cursor stands behind its session's number, as a prepared statement does. Any other name of a
//! cursor is left alone: it may be that of a function's cursor, and its transaction has the backend for itself.

use super::command::Command;
use super::journal::Journal;

/// The cursors WITH HOLD of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    names: Vec<Vec<u8>>,
    /// Those that the transaction under way has declared.
    declared: Journal<Vec<u8>>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.declared.deeds().next().is_none()
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.names
            .iter()
            .chain(self.declared.deeds())
            .any(|known| known == name)
    }

    pub(super) fn declare(&mut self, name: &[u8]) {
        self.declared.deed(name.to_vec());
    }

    /// A cursor was closed, which no ROLLBACK takes back.
    pub(super) fn close(&mut self, name: &[u8]) {
        self.names.retain(|known| known != name);
        self.declared.retain(|known| known != name);
    }

    /// A statement has succeeded, which may have taken back what was declared since a savepoint.
    pub(super) fn note(&mut self, command: &Command) {
        self.declared.note(command);
    }

    pub(super) fn end_transaction(&mut self, kept: bool) {
        if !self.declared.is_empty() {
            self.names.extend(self.declared.take().filter(|_| kept));
        }
    }

    /// Only those are left that there were then.
    pub(super) fn keep(&mut self, then: &Self) {
        self.end_transaction(false);
        self.names.retain(|name| then.names.contains(name));
    }

    /// All of them, because the session ends.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        self.end_transaction(true);
        std::mem::take(&mut self.names)
    }
}
