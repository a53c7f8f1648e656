//! `CREATE TABLE`, as far as it matters where its rows come from and how long they stay.

use super::cursor::Cursor;
use super::mention::{self, Mention};
use super::{Command, OnCommit};
use crate::mux::value::Name;

/// A table that is created.
pub(super) struct Table {
    name: Name,
    on_commit: Option<OnCommit>,
    /// The prepared statement behind `AS EXECUTE`.
    pub(super) executes: Option<Mention>,
}

impl Table {
    pub(super) fn command(self) -> Option<Command> {
        let executes = self.executes.map(|mention| mention.name);
        match (self.on_commit, executes) {
            (Some(on_commit), _) => Some(Command::CreateTable {
                name: self.name,
                on_commit,
            }),
            (None, executes) => executes.map(Command::ReadPrepared),
        }
    }
}

/// Takes what follows CREATE.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Option<Table> {
    let _ = cursor.accept("LOCAL") || cursor.accept("GLOBAL");
    let _ = ["TEMP", "TEMPORARY", "UNLOGGED"]
        .iter()
        .any(|word| cursor.accept(word));
    cursor.keyword("TABLE")?;
    if cursor.accept("IF") {
        cursor.keyword("NOT")?;
        cursor.keyword("EXISTS")?;
    }
    let mut name = cursor.name()?;
    while cursor.accept_symbol(".") {
        name = cursor.name()?;
    }
    let mut table = Table {
        name,
        on_commit: None,
        executes: None,
    };
    options(cursor, &mut table);
    Some(table)
}

/// What stands between a table's name and its AS. All that could be mistaken for it stands in parentheses.
fn options(cursor: &mut Cursor<'_>, table: &mut Table) -> Option<()> {
    loop {
        cursor.skip_parentheses();
        let token = cursor.next()?;
        if token.is_word("AS") {
            cursor.keyword("EXECUTE")?;
            table.executes = mention::name(cursor);
            return None;
        }
        if token.is_word("ON") && cursor.accept("COMMIT") {
            table.on_commit = match cursor.next()? {
                word if word.is_word("DROP") => Some(OnCommit::Drop),
                word if word.is_word("DELETE") => Some(OnCommit::DeleteRows),
                _ => None,
            };
        }
    }
}
