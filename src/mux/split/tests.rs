use super::*;
use crate::mux::command::Command;

#[path = "../../../tests/data/split.rs"]
pub(crate) mod cases;

#[test]
fn statements_are_those_that_postgresql_finds() {
    for (standard_conforming_strings, table) in
        [(true, cases::SPLIT), (false, cases::SPLIT_BACKSLASHES)]
    {
        for (sql, expected) in table {
            let found: Vec<&str> = statements(sql.as_bytes(), standard_conforming_strings)
                .into_iter()
                .map(|range| &sql[range])
                .collect();
            assert_eq!(found, *expected, "in {sql:?}");
        }
    }
}

#[test]
fn a_text_that_cannot_be_parsed_is_left_whole() {
    for sql in cases::REJECTED {
        assert_whole(
            sql.trim_ascii().as_bytes(),
            statements(sql.as_bytes(), true),
        );
    }
}

/// Nothing may be lost, invented or looked at twice, whatever the bytes are.
#[test]
fn any_text_is_covered_by_tokens_and_statements_in_order() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..50_000 {
        let sql = random.text();
        for standard_conforming_strings in [true, false] {
            check_tokens(&sql, standard_conforming_strings);
            check_statements(&sql, standard_conforming_strings);
        }
    }
}

fn check_tokens(sql: &[u8], standard_conforming_strings: bool) {
    let mut end = 0;
    for token in Tokens::new(sql, standard_conforming_strings) {
        assert_blank(&sql[end..token.start]);
        assert!(!token.text.is_empty(), "in {}", show(sql));
        end = token.start + token.text.len();
        assert_eq!(token.text, &sql[token.start..end], "in {}", show(sql));
    }
    assert_blank(&sql[end..]);
}

fn check_statements(sql: &[u8], standard_conforming_strings: bool) {
    let mut end = 0;
    for range in statements(sql, standard_conforming_strings) {
        check_separator(&sql[end..range.start], standard_conforming_strings);
        let statement = &sql[range.clone()];
        assert_whole(
            statement,
            statements(statement, standard_conforming_strings),
        );
        check_command(statement, standard_conforming_strings);
        end = range.end;
    }
    check_separator(&sql[end..], standard_conforming_strings);
}

fn assert_whole(sql: &[u8], found: Vec<Range<usize>>) {
    let whole = 0..sql.len();
    assert_eq!(found, std::slice::from_ref(&whole), "in {}", show(sql));
}

fn assert_blank(text: &[u8]) {
    assert_eq!(Tokens::new(text, true).next(), None, "in {}", show(text));
}

/// Comments around a statement are none of its business.
fn check_command(statement: &[u8], standard_conforming_strings: bool) {
    let commented = [b"/* a */ ", statement, b" -- b"].concat();
    assert_eq!(
        Command::of(statement, standard_conforming_strings),
        Command::of(&commented, standard_conforming_strings),
        "{}",
        show(statement)
    );
}

fn check_separator(text: &[u8], standard_conforming_strings: bool) {
    let mut tokens = Tokens::new(text, standard_conforming_strings);
    assert!(
        tokens.all(|token| token.is_symbol(";")),
        "{} holds a statement",
        show(text)
    );
}

fn show(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}

/// Xorshift, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits fit") % limit
    }

    /// Pieces that mean something to the lexer, with arbitrary bytes between them.
    fn text(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..self.below(24) {
            match self.below(8) {
                0 => text.push(self.below(256).to_le_bytes()[0]),
                _ => text.extend_from_slice(PIECES[self.below(PIECES.len())].as_bytes()),
            }
        }
        text
    }
}

#[rustfmt::skip]
const PIECES: &[&str] = &[
    "'", "''", "\"", "\\", "$", "$$", "$a$", ";", "(", ")", "/*", "*/", "--", "\n", "\r", " ", "E'", "U&\"", "U&'",
    "b'", "1.", "e+1", "..", "+-", "=", ",", "x ", "é", "\x0b", "_x$1", "CREATE ", "OR ", "REPLACE ", "FUNCTION ", "BEGIN ",
    "ATOMIC ", "END ", "COMMIT ", "SET ", "TO ", "SAVEPOINT ", "NOTIFY ", "COPY ", "REINDEX ", "CLUSTER ", "UESCAPE ",
];
