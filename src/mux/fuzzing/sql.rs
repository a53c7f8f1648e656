//! What holds for any text, whether it is SQL or not.

use std::ops::Range;

use bytes::Bytes;

use crate::mux::command::Command;
use crate::mux::control;
use crate::mux::lexer::{Kind, Token, Tokens};
use crate::mux::rewrite::{Replacement, Rewritten, characters, quoted};
use crate::mux::session::restore_names;
use crate::mux::settings;
use crate::mux::split;

/// The first byte says what a backslash means in strings, the rest is a text.
pub(crate) fn sql(data: &[u8]) {
    let Some((first, text)) = data.split_first() else {
        return;
    };
    let scs = first & 1 == 1;
    check_tokens(text, scs);
    let statements = check_statements(text, scs);
    for range in statements {
        check_command(&text[range], scs);
    }
    let whole = Bytes::copy_from_slice(text);
    assert!(restore_names(&whole).len() <= whole.len());
}

/// The tokens stand in the text in order, with nothing but blanks between them, and each is one by itself.
fn check_tokens(text: &[u8], scs: bool) {
    let mut end = 0;
    for token in Tokens::new(text, scs) {
        assert!(token.start >= end && !token.text.is_empty(), "{token:?}");
        check_blank(&text[end..token.start], scs);
        end = token.start + token.text.len();
        assert_eq!(&text[token.start..end], token.text);
        let by_itself: Vec<_> = Tokens::new(token.text, scs).collect();
        let same = Token { start: 0, ..token };
        assert_eq!(
            by_itself,
            [same],
            "what a token is depends on what follows it"
        );
    }
    check_blank(&text[end..], scs);
}

fn check_blank(gap: &[u8], scs: bool) {
    assert_eq!(Tokens::new(gap, scs).next(), None, "a token was overlooked");
}

/// The statements stand in the text in order, with nothing but blanks and semicolons between them, and each is one by
/// itself, whatever stands around it.
fn check_statements(text: &[u8], scs: bool) -> Vec<Range<usize>> {
    let ranges = split::statements(text, scs);
    let mut end = 0;
    let mut rejoined = Vec::new();
    for range in &ranges {
        assert!(range.start >= end && !range.is_empty(), "{range:?}");
        check_semicolons(&text[end..range.start], scs);
        end = range.end;
        let statement = &text[range.clone()];
        let by_itself = split::statements(statement, scs);
        let whole = 0..statement.len();
        assert!(by_itself.iter().eq([&whole]), "{by_itself:?} of {whole:?}");
        rejoined.extend_from_slice(statement);
        rejoined.extend_from_slice(b"\n;\n");
    }
    check_semicolons(&text[end..], scs);
    if ranges.len() > 1 {
        let again = split::statements(&rejoined, scs);
        let again: Vec<_> = again.into_iter().map(|range| &rejoined[range]).collect();
        let before: Vec<_> = ranges.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!(again, before);
    }
    ranges
}

fn check_semicolons(gap: &[u8], scs: bool) {
    for token in Tokens::new(gap, scs) {
        assert!(token.is_symbol(";"), "{token:?} belongs to no statement");
    }
}

/// What a statement is doesn't depend on the blanks around it, nor on what backslashes mean if there are none; and a
/// name in it can be replaced.
fn check_command(statement: &[u8], scs: bool) {
    let command = Command::of(statement, scs);
    // What has no end would find one in what is put behind it.
    let has_end = Tokens::new(statement, scs).all(|token| token.kind != Kind::Unterminated);
    if has_end {
        let commented = [b"/* ; */ -- '\n", statement, b"\n-- \""].concat();
        assert_eq!(Command::of(&commented, scs), command);
    }
    // With Unicode escapes, what is a string depends on it without a backslash, too.
    if !statement.iter().any(|byte| b"\\&".contains(byte)) {
        assert_eq!(Command::of(statement, !scs), command);
    }
    if control::is_control(&command) {
        assert!(command.tag().is_some(), "{command:?} is answered here");
    }
    settings::changes(&command, statement, scs);
    let mut mentions = Vec::from_iter(command.mention(statement, scs));
    mentions.extend(Command::cursors(statement, scs));
    mentions.sort_by_key(|mention| mention.range.start);
    mentions.dedup_by_key(|mention| mention.range.start);
    let replacements: Vec<_> = mentions
        .iter()
        .map(|mention| Replacement {
            range: mention.range.clone(),
            text: quoted(&[b"~1~", mention.name.as_bytes()].concat()),
        })
        .collect();
    check_rewritten(statement, &replacements, scs);
    if let Some(mention) = command.mention(statement, scs) {
        let names = [&replacements[replacements
            .iter()
            .position(|replacement| replacement.range == mention.range)
            .expect("it is one of them")]]
        .map(Clone::clone);
        let rewritten = Rewritten::of(statement, 0..statement.len(), &names);
        let again = Command::of(&rewritten.text, scs);
        assert_eq!(
            std::mem::discriminant(&again),
            std::mem::discriminant(&command)
        );
        let name = again.mention(&rewritten.text, scs).expect("it has a name");
        let expected = [b"~1~", mention.name.as_bytes()].concat();
        // Names are cut to what PostgreSQL keeps.
        assert!(expected.starts_with(name.name.as_bytes()));
    }
}

/// All other tokens are where they were, and positions lead back to them.
fn check_rewritten(text: &[u8], replacements: &[Replacement], scs: bool) {
    let rewritten = Rewritten::of(text, 0..text.len(), replacements);
    let is_replaced = |token: &Token<'_>| {
        let mut ranges = replacements.iter().map(|replacement| &replacement.range);
        ranges.any(|range| range.contains(&token.start))
    };
    let before: Vec<_> = Tokens::new(text, scs)
        .filter(|token| !is_replaced(token))
        .collect();
    let mut names = replacements.iter().map(|replacement| &replacement.text);
    let mut name = names.next();
    let after: Vec<_> = Tokens::new(&rewritten.text, scs)
        .filter(|token| {
            let is_name =
                token.kind == Kind::QuotedIdentifier && name.is_some_and(|name| token.text == name);
            if is_name {
                name = names.next();
            }
            !is_name
        })
        .collect();
    assert_eq!(
        after.iter().map(|token| token.text).collect::<Vec<_>>(),
        before.iter().map(|token| token.text).collect::<Vec<_>>(),
    );
    for (after, before) in after.iter().zip(&before) {
        let sent = characters(&rewritten.text[..after.start]) + 1;
        let written = characters(&text[..before.start]) + 1;
        assert_eq!(rewritten.shifts.written(sent), written, "{after:?}");
    }
}
