//! What a transaction has done that counts only when it is kept, and the savepoints that may take some of it back.
//!
//! This file knows no protocol and no feature: a feature that has to undo something with a savepoint keeps a journal of
//! its own kind of deed.

use super::command::Command;
use super::value::Name;

/// The deeds of one transaction, in order, with its savepoints between them.
#[derive(Clone, Debug)]
pub(super) struct Journal<T> {
    lines: Vec<Line<T>>,
}

#[derive(Clone, Debug)]
enum Line<T> {
    Savepoint(Name),
    Deed(T),
}

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self { lines: Vec::new() }
    }
}

impl<T> Journal<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn deed(&mut self, deed: T) {
        self.lines.push(Line::Deed(deed));
    }

    /// The deeds that still count.
    pub(super) fn deeds(&self) -> impl Iterator<Item = &T> {
        self.lines.iter().filter_map(|line| match line {
            Line::Deed(deed) => Some(deed),
            Line::Savepoint(_) => None,
        })
    }

    /// A statement has succeeded, which may have set a savepoint, released one, or gone back to one.
    pub(super) fn note(&mut self, command: &Command) {
        match command {
            Command::Savepoint(name) => self.lines.push(Line::Savepoint(name.clone())),
            Command::Release(name) => {
                let Some(start) = self.position(name) else {
                    return;
                };
                // "destroys all savepoints that were established after the named savepoint", and keeps what they did.
                let released = self.lines.split_off(start).into_iter();
                self.lines
                    .extend(released.filter(|line| matches!(line, Line::Deed(_))));
            }
            Command::RollbackTo(name) => {
                let Some(start) = self.position(name) else {
                    return;
                };
                // The savepoint itself "remains valid and can be rolled back to again later".
                self.lines.truncate(start + 1);
            }
            _ => {}
        }
    }

    /// Forgets deeds that don't count any more.
    pub(super) fn retain(&mut self, mut counts: impl FnMut(&T) -> bool) {
        self.lines.retain(|line| match line {
            Line::Deed(deed) => counts(deed),
            Line::Savepoint(_) => true,
        });
    }

    /// The transaction is over: returns what it has done, and begins anew.
    pub(super) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.lines)
            .into_iter()
            .filter_map(|line| match line {
                Line::Deed(deed) => Some(deed),
                Line::Savepoint(_) => None,
            })
    }

    /// Of several savepoints of one name, the last counts.
    fn position(&self, name: &Name) -> Option<usize> {
        self.lines
            .iter()
            .rposition(|line| matches!(line, Line::Savepoint(known) if known == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a script in which each statement is either of a savepoint's or a deed.
    fn left_of(script: &str) -> String {
        let mut journal = Journal::default();
        for statement in script.split("; ") {
            match Command::of(statement.as_bytes(), true) {
                Command::Other => journal.deed(statement),
                command => journal.note(&command),
            }
        }
        let left: Vec<_> = journal.deeds().copied().collect();
        assert_eq!(journal.take().collect::<Vec<_>>(), left);
        assert!(journal.is_empty());
        left.join(" ")
    }

    #[test]
    fn rollback_to_takes_back_what_was_done_since() {
        for (script, left) in [
            ("a; SAVEPOINT s; b; ROLLBACK TO s; c", "a c"),
            ("SAVEPOINT s; a; RELEASE s; b", "a b"),
            ("SAVEPOINT s; a; ROLLBACK TO s; b; ROLLBACK TO s; c", "c"),
            ("SAVEPOINT s; a; SAVEPOINT s; b; ROLLBACK TO s; c", "a c"),
            (
                "SAVEPOINT s; a; SAVEPOINT s; b; RELEASE s; ROLLBACK TO s; c",
                "c",
            ),
            (
                "SAVEPOINT s; a; SAVEPOINT t; b; RELEASE s; ROLLBACK TO t; c",
                "a b c",
            ),
            (
                "a; SAVEPOINT S; b; SAVEPOINT \"S\"; c; ROLLBACK TO s; d",
                "a d",
            ),
        ] {
            assert_eq!(left_of(script), left, "{script}");
        }
    }
}
