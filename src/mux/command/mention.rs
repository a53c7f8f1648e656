//! Where in a statement a prepared statement or a cursor is named.

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

/// The cursors that a statement names, in the order in which they stand there.
pub(super) fn cursors(cursor: &mut Cursor<'_>) -> Vec<Mention> {
    let Some(keyword) = cursor.next() else {
        return Vec::new();
    };
    if keyword.is_word("DECLARE") || keyword.is_word("CLOSE") {
        return Vec::from_iter(name(cursor));
    }
    if keyword.is_word("FETCH") || keyword.is_word("MOVE") {
        return Vec::from_iter(last_name(cursor));
    }
    let mut mentions = Vec::new();
    while let Some(token) = cursor.next() {
        if token.is_word("CURRENT") && cursor.accept("OF") {
            mentions.extend(name(cursor));
        }
    }
    mentions
}

/// Where a statement names this setting first.
pub(super) fn setting(cursor: &mut Cursor<'_>, setting: &str) -> Option<Range<usize>> {
    loop {
        let mut ahead = cursor.clone();
        match name(&mut ahead) {
            Some(mention) if mention.name.to_string().eq_ignore_ascii_case(setting) => {
                return Some(mention.range);
            }
            _ => cursor.next()?,
        };
    }
}

/// The setting that a SHOW tells, and where it is named.
pub(super) fn shown(cursor: &mut Cursor<'_>) -> Option<(String, Range<usize>)> {
    cursor.keyword("SHOW")?;
    let start = cursor.peek()?.start;
    let mut words = cursor.clone();
    let in_words = ["TRANSACTION", "ISOLATION", "LEVEL"];
    let setting = match in_words.iter().all(|word| words.accept(word)) {
        true => {
            *cursor = words;
            "transaction_isolation".to_owned()
        }
        false => cursor.setting()?,
    };
    let range = start..cursor.at();
    cursor.is_at_end().then_some((setting, range))
}

/// The name with which a statement ends.
fn last_name(cursor: &mut Cursor<'_>) -> Option<Mention> {
    loop {
        let mut last = cursor.clone();
        match name(&mut last) {
            Some(mention) if last.is_at_end() => return Some(mention),
            _ => cursor.next()?,
        };
    }
}

pub(super) fn name(cursor: &mut Cursor<'_>) -> Option<Mention> {
    let start = cursor.peek()?.start;
    let name = cursor.name()?;
    Some(Mention {
        name,
        range: start..cursor.at(),
    })
}
