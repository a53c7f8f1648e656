//! `CREATE TABLE`, as far as it matters where its rows come from.

use super::cursor::Cursor;
use super::mention::{self, Mention};

/// A table that is created.
pub(super) struct Table {
    /// The prepared statement behind `AS EXECUTE`.
    pub(super) executes: Option<Mention>,
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
    cursor.qualified_name()?;
    Some(Table {
        executes: executes(cursor),
    })
}

/// The options between a table's name and its AS hold no AS of their own, but for what stands in parentheses.
fn executes(cursor: &mut Cursor<'_>) -> Option<Mention> {
    loop {
        cursor.skip_parentheses();
        if cursor.next()?.is_word("AS") {
            break;
        }
    }
    cursor.keyword("EXECUTE")?;
    mention::name(cursor)
}
