//! The commands on the schema and on whole databases that matter to who shares a transaction.

use super::Command;
use super::cursor::Cursor;
use super::table;
use crate::mux::lexer::Token;

/// Takes what follows the statement's first keyword.
pub(super) fn stmt(keyword: &Token<'_>, cursor: &Cursor<'_>) -> Option<Command> {
    let defines = keyword.is_word("CREATE") || keyword.is_word("ALTER");
    match unrunnable(keyword, cursor.clone()) {
        Some(name) => Some(Command::Unrunnable(name)),
        None if defines => {
            create_deferrable(cursor.clone()).or_else(|| create_table(keyword, cursor))
        }
        None => None,
    }
}

/// The commands that call PostgreSQL's `PreventInTransactionBlock`, but for those where it takes a look at the catalog
/// to know: REINDEX and CLUSTER of a partitioned table, and subscriptions.
fn unrunnable(keyword: &Token<'_>, mut cursor: Cursor<'_>) -> Option<&'static str> {
    let is = |word| keyword.is_word(word);
    if is("VACUUM") {
        Some("VACUUM")
    } else if is("CREATE") {
        create(&mut cursor)
    } else if is("DROP") {
        drop(&mut cursor)
    } else if is("ALTER") {
        alter(&mut cursor)
    } else if is("REINDEX") {
        reindex(&mut cursor)
    } else if is("CLUSTER") {
        cluster(&mut cursor)
    } else {
        None
    }
}

fn create(cursor: &mut Cursor<'_>) -> Option<&'static str> {
    if cursor.accept("DATABASE") {
        return Some("CREATE DATABASE");
    }
    if cursor.accept("TABLESPACE") {
        return Some("CREATE TABLESPACE");
    }
    cursor.accept("UNIQUE");
    cursor.keyword("INDEX")?;
    cursor.keyword("CONCURRENTLY")?;
    Some("CREATE INDEX CONCURRENTLY")
}

fn drop(cursor: &mut Cursor<'_>) -> Option<&'static str> {
    if cursor.accept("DATABASE") {
        return Some("DROP DATABASE");
    }
    if cursor.accept("TABLESPACE") {
        return Some("DROP TABLESPACE");
    }
    cursor.keyword("INDEX")?;
    cursor.keyword("CONCURRENTLY")?;
    Some("DROP INDEX CONCURRENTLY")
}

fn alter(cursor: &mut Cursor<'_>) -> Option<&'static str> {
    if cursor.accept("SYSTEM") {
        return Some("ALTER SYSTEM");
    }
    if cursor.accept("DATABASE") {
        cursor.name()?;
        let _ = cursor.accept("SET") || cursor.accept("WITH");
        cursor.keyword("TABLESPACE")?;
        return Some("ALTER DATABASE SET TABLESPACE");
    }
    cursor.keyword("TABLE")?;
    while !cursor.accept("DETACH") {
        cursor.next()?;
    }
    cursor.keyword("PARTITION")?;
    cursor.qualified_name()?;
    cursor.keyword("CONCURRENTLY")?;
    Some("ALTER TABLE ... DETACH CONCURRENTLY")
}

fn reindex(cursor: &mut Cursor<'_>) -> Option<&'static str> {
    let concurrently = cursor.clone().any(|token| token.is_word("CONCURRENTLY"));
    cursor.skip_parentheses();
    match cursor.next()? {
        _ if concurrently => Some("REINDEX CONCURRENTLY"),
        target if target.is_word("DATABASE") => Some("REINDEX DATABASE"),
        target if target.is_word("SCHEMA") => Some("REINDEX SCHEMA"),
        target if target.is_word("SYSTEM") => Some("REINDEX SYSTEM"),
        _ => None,
    }
}

/// CLUSTER of all tables at once.
fn cluster(cursor: &mut Cursor<'_>) -> Option<&'static str> {
    cursor.skip_parentheses();
    cursor.accept("VERBOSE");
    cursor.is_at_end().then_some("CLUSTER")
}

fn create_table(keyword: &Token<'_>, cursor: &Cursor<'_>) -> Option<Command> {
    if !keyword.is_word("CREATE") {
        return None;
    }
    table::create(&mut cursor.clone())?.command()
}

/// `INITIALLY DEFERRED` says DEFERRABLE without the word. A routine's body may hold the words and mean nothing by them.
fn create_deferrable(mut cursor: Cursor<'_>) -> Option<Command> {
    let mut target = cursor.clone();
    if target.accept("OR") {
        target.keyword("REPLACE")?;
    }
    if target.accept("FUNCTION") || target.accept("PROCEDURE") {
        return None;
    }
    let mut previous = cursor.next()?;
    for token in cursor {
        if token.is_word("DEFERRABLE") && !previous.is_word("NOT")
            || token.is_word("DEFERRED") && previous.is_word("INITIALLY")
        {
            return Some(Command::CreateDeferrable);
        }
        previous = token;
    }
    None
}
