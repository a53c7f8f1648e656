//! Which semicolons separate statements, after as much of PostgreSQL's `gram.y` as decides it.

use std::ops::Range;

use super::lexer::{Kind, Token, Tokens};

/// Splits the text of a simple query into its statements, as PostgreSQL's raw parser does: each a range of the text,
/// without the semicolon and the white space around it. What holds no token is no statement.
///
/// PostgreSQL parses the whole text before it runs any of it. A text that can't be parsed whatever its words mean
/// (a literal or comment without an end, parentheses that don't match) is therefore left whole, as one statement.
pub(crate) fn statements(sql: &[u8], standard_conforming_strings: bool) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut outline = Outline::default();
    let mut start = 0;
    for token in Tokens::new(sql, standard_conforming_strings) {
        if outline.ends_at(&token) {
            if !outline.is_empty() {
                ranges.push(trim(sql, start..token.start));
            }
            start = token.start + token.text.len();
            outline = Outline::default();
        } else if !outline.add(&token) {
            return vec![trim(sql, 0..sql.len())];
        }
    }
    if outline.is_open() {
        return vec![trim(sql, 0..sql.len())];
    }
    if !outline.is_empty() {
        ranges.push(trim(sql, start..sql.len()));
    }
    ranges
}

/// What of a statement decides whether a semicolon ends it.
///
/// Semicolons stand within a statement in two places: between the commands in the parentheses of `CREATE RULE`, and in
/// the `BEGIN ATOMIC ... END` body of a routine. Brackets are not counted: the grammar has no semicolon between them.
#[derive(Debug, Default)]
struct Outline {
    head: Head,
    parentheses: usize,
    /// How many bodies are open. One routine's body may hold the definition of another.
    bodies: usize,
}

/// How much of `CREATE [OR REPLACE] FUNCTION|PROCEDURE ... BEGIN ATOMIC` the statement has shown so far.
///
/// `psql` counts every BEGIN, CASE and END of such a statement, and is wrong when one of them is a name or a label
/// (`CREATE FUNCTION begin()`, `SELECT 1 end`). The grammar allows better: a body starts with the two words together,
/// and the END that closes it stands where a statement would start, which is where no other END can.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Head {
    #[default]
    Empty,
    Create,
    CreateOr,
    CreateOrReplace,
    Routine,
    RoutineBegin,
    Other,
}

impl Outline {
    fn is_empty(&self) -> bool {
        self.head == Head::Empty && !self.is_open()
    }

    fn is_open(&self) -> bool {
        self.parentheses > 0 || self.bodies > 0
    }

    fn ends_at(&self, token: &Token<'_>) -> bool {
        token.is_symbol(";") && !self.is_open()
    }

    /// Takes note of a token, unless it shows that the text can't be parsed.
    fn add(&mut self, token: &Token<'_>) -> bool {
        if token.kind == Kind::Unterminated {
            return false;
        }
        if token.is_symbol(")") {
            let Some(outer) = self.parentheses.checked_sub(1) else {
                return false;
            };
            self.parentheses = outer;
        }
        if self.parentheses == 0 {
            self.head = self.head_after(token);
        }
        if token.is_symbol("(") {
            self.parentheses += 1;
        }
        true
    }

    fn head_after(&mut self, token: &Token<'_>) -> Head {
        let routine = token.is_word("FUNCTION") || token.is_word("PROCEDURE");
        match self.head {
            _ if token.is_symbol(";") => Head::Empty,
            Head::Empty if token.is_word("CREATE") => Head::Create,
            Head::Create if token.is_word("OR") => Head::CreateOr,
            Head::CreateOr if token.is_word("REPLACE") => Head::CreateOrReplace,
            Head::Create | Head::CreateOrReplace if routine => Head::Routine,
            Head::Routine | Head::RoutineBegin if token.is_word("BEGIN") => Head::RoutineBegin,
            Head::RoutineBegin if token.is_word("ATOMIC") => {
                self.bodies += 1;
                Head::Empty
            }
            Head::Routine | Head::RoutineBegin => Head::Routine,
            Head::Empty if self.bodies > 0 && token.is_word("END") => {
                self.bodies -= 1;
                Head::Other
            }
            _ => Head::Other,
        }
    }
}

fn trim(sql: &[u8], range: Range<usize>) -> Range<usize> {
    let text = &sql[range.clone()];
    let start = range.start + (text.len() - text.trim_ascii_start().len());
    start..start + text.trim_ascii().len()
}

#[cfg(test)]
pub(super) mod tests;
