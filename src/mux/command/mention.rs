//! Where in a statement a prepared statement is named.

use std::ops::Range;

use super::cursor::Cursor;
use super::table;
use crate::mux::value::Name;

/// A name, and where it stands in the statement's text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) name: Name,
    pub(crate) range: Range<usize>,
}

/// The prepared statement that is named by PREPARE, EXECUTE or DEALLOCATE, by EXPLAIN of an EXECUTE or by CREATE TABLE AS
/// EXECUTE.
pub(super) fn statement(cursor: &mut Cursor<'_>) -> Option<Mention> {
    let keyword = cursor.next()?;
    if keyword.is_word("PREPARE") || keyword.is_word("EXECUTE") {
        name(cursor)
    } else if keyword.is_word("DEALLOCATE") {
        let mut after = cursor.clone();
        if after.accept("PREPARE") && !after.is_at_end() {
            *cursor = after;
        }
        name(cursor)
    } else if keyword.is_word("EXPLAIN") {
        explained(cursor)
    } else if keyword.is_word("CREATE") {
        table::create(cursor)?.executes
    } else {
        None
    }
}

/// What follows EXPLAIN, if that runs a prepared statement.
pub(super) fn explained(cursor: &mut Cursor<'_>) -> Option<Mention> {
    if cursor.is_at_symbol("(") {
        cursor.skip_parentheses();
    } else {
        let _ = cursor.accept("ANALYZE") || cursor.accept("ANALYSE");
        cursor.accept("VERBOSE");
    }
    if cursor.accept("EXECUTE") {
        return name(cursor);
    }
    cursor.keyword("CREATE")?;
    table::create(cursor)?.executes
}

pub(super) fn name(cursor: &mut Cursor<'_>) -> Option<Mention> {
    let start = cursor.peek()?.start;
    let name = cursor.name()?;
    Some(Mention {
        name,
        range: start..cursor.at(),
    })
}
