//! Where SQL's tokens begin and end, after PostgreSQL's `scan.l`.
//!
//! It works on bytes and never fails: what PostgreSQL would reject becomes tokens too, and reaches a server that reports
//! the error in its own words. Any client encoding will do that never uses an ASCII byte as part of another character,
//! which is all of them but SJIS, SHIFT_JIS_2004, BIG5, GBK, UHC, GB18030 and JOHAB.

/// The significant tokens of a text: all but white space and comments.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    rest: &'a [u8],
    at: usize,
    standard_conforming_strings: bool,
}

/// One token, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a [u8],
    /// Where in the text it starts.
    pub(crate) start: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword, or an identifier without quotes.
    Word,
    /// `"..."` or `U&"..."`.
    QuotedIdentifier,
    /// `'...'`, `E'...'`, `U&'...'` or `$tag$...$tag$`, with all that continues it on further lines.
    String,
    /// `B'...'` or `X'...'`.
    BitString,
    Number,
    /// `$1`.
    Parameter,
    /// An operator or a punctuation mark. What is neither, and an error to PostgreSQL, comes as one byte of this kind.
    Symbol,
    /// A literal, a quoted identifier or a comment without its end.
    Unterminated,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(sql: &'a [u8], standard_conforming_strings: bool) -> Self {
        Self {
            rest: sql,
            at: 0,
            standard_conforming_strings,
        }
    }

    /// How much of the text has been taken.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.at += length;
        taken
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.take(blank(self.rest));
        let start = self.at;
        let (kind, length) = scan(self.rest, self.standard_conforming_strings)?;
        Some(Token {
            kind,
            text: self.take(length),
            start,
        })
    }
}

impl Token<'_> {
    /// Whether it is this keyword. PostgreSQL, too, compares keywords without regard to case in ASCII only.
    pub(crate) fn is_word(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// The same of several.
    pub(crate) fn is_one_of(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is_word(keyword))
    }

    pub(crate) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol.as_bytes()
    }
}

/// The kind and the length of the token that a text starts with.
fn scan(text: &[u8], standard_conforming_strings: bool) -> Option<(Kind, usize)> {
    let (kind, length) = match text {
        [] => return None,
        // Only a comment without an end has not been skipped as blank.
        [b'/', b'*', ..] => (Kind::Unterminated, Some(text.len())),
        [b'\'', ..] => (Kind::String, string(text, 1, !standard_conforming_strings)),
        [b'e' | b'E', b'\'', ..] => (Kind::String, string(text, 2, true)),
        [b'b' | b'B' | b'x' | b'X', b'\'', ..] => (Kind::BitString, string(text, 2, false)),
        [b'u' | b'U', b'&', b'\'', ..] => (Kind::String, string(text, 3, false)),
        [b'u' | b'U', b'&', b'"', ..] => (Kind::QuotedIdentifier, quoted_identifier(text, 3)),
        [b'"', ..] => (Kind::QuotedIdentifier, quoted_identifier(text, 1)),
        [b'$', b'0'..=b'9', ..] => (Kind::Parameter, Some(1 + digits(&text[1..]))),
        [b'$', ..] => match dollar_delimiter(text) {
            Some(delimiter) => (Kind::String, dollar_quoted(text, delimiter)),
            None => (Kind::Symbol, Some(1)),
        },
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => (Kind::Number, Some(number(text))),
        [b':', b':' | b'=', ..] | [b'.', b'.', ..] => (Kind::Symbol, Some(2)),
        [first, ..] if starts_identifier(*first) => (Kind::Word, Some(word(text))),
        [first, ..] if OPERATOR.contains(first) => (Kind::Symbol, Some(operator(text))),
        _ => (Kind::Symbol, Some(1)),
    };
    Some(match length {
        Some(length) => (kind, length),
        None => (Kind::Unterminated, text.len()),
    })
}

/// The length of the white space and of the comments that a text starts with.
fn blank(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match &text[at..] {
            [first, ..] if is_space(*first) => at += 1,
            [b'-', b'-', ..] => at += line_comment(&text[at..]),
            [b'/', b'*', ..] => match block_comment(&text[at..]) {
                Some(length) => at += length,
                None => return at,
            },
            _ => return at,
        }
    }
}

/// The vertical tab is white space since PostgreSQL 16, and an error before.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

fn line_comment(text: &[u8]) -> usize {
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    end.unwrap_or(text.len())
}

/// The length of a comment, together with those nested in it.
fn block_comment(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match text.get(at..)? {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            [] => return None,
            _ => at += 1,
        }
    }
}

/// The length of a string whose content starts at `at`. Two quotes stand for one in bit strings as well, to nobody's
/// harm: PostgreSQL has no use for two strings side by side.
fn string(text: &[u8], mut at: usize, backslash_escapes: bool) -> Option<usize> {
    loop {
        match text.get(at..)? {
            [b'\\', ..] if backslash_escapes => at += 2,
            [b'\'', b'\'', ..] => at += 2,
            [b'\'', rest @ ..] => match continuation(rest) {
                Some(length) => at += 1 + length,
                None => return Some(at + 1),
            },
            [] => return None,
            _ => at += 1,
        }
    }
}

/// How far it is from behind the last quote of a string to behind the first quote of its continuation: a string goes on
/// where nothing but white space with a newline in it, and comments to the end of a line, stand between two quotes.
pub(super) fn continuation(text: &[u8]) -> Option<usize> {
    let mut newline = false;
    let mut at = 0;
    loop {
        match &text[at..] {
            [b'\'', ..] if newline => return Some(at + 1),
            [b'-', b'-', ..] => at += line_comment(&text[at..]),
            [first, ..] if is_space(*first) => {
                newline |= matches!(first, b'\n' | b'\r');
                at += 1;
            }
            _ => return None,
        }
    }
}

fn quoted_identifier(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match text.get(at..)? {
            [b'"', b'"', ..] => at += 2,
            [b'"', ..] => return Some(at + 1),
            [] => return None,
            _ => at += 1,
        }
    }
}

/// The `$tag$` that a text starts with.
pub(super) fn dollar_delimiter(text: &[u8]) -> Option<&[u8]> {
    let tag = text.strip_prefix(b"$")?;
    let length = match tag.first() {
        Some(first) if starts_identifier(*first) => tag
            .iter()
            .position(|byte| !(starts_identifier(*byte) || byte.is_ascii_digit()))?,
        _ => 0,
    };
    (tag.get(length) == Some(&b'$')).then(|| &text[..length + 2])
}

fn dollar_quoted(text: &[u8], delimiter: &[u8]) -> Option<usize> {
    let content = &text[delimiter.len()..];
    let end = content
        .windows(delimiter.len())
        .position(|window| window == delimiter)?;
    Some(end + 2 * delimiter.len())
}

/// Where a number runs into letters, as in `1e'...'`, releases before 15 start a new token and the others report an
/// error, so a new token is right for all. The digits behind `0x` and `_` make a word here, which is as good.
fn number(text: &[u8]) -> usize {
    let mut at = digits(text);
    if let [b'.', rest @ ..] = &text[at..]
        && rest.first() != Some(&b'.')
    {
        at += 1 + digits(rest);
    }
    if let [b'e' | b'E', exponent @ ..] = &text[at..] {
        let sign = usize::from(matches!(exponent, [b'+' | b'-', ..]));
        let digits = digits(&exponent[sign..]);
        if digits > 0 {
            at += 1 + sign + digits;
        }
    }
    at
}

fn digits(text: &[u8]) -> usize {
    count(text, |byte| byte.is_ascii_digit())
}

fn word(text: &[u8]) -> usize {
    count(text, |byte| {
        starts_identifier(byte) || byte.is_ascii_digit() || byte == b'$'
    })
}

fn count(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| belongs(**byte)).count()
}

fn starts_identifier(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

/// "A multiple-character operator name cannot end in + or -, unless the name also contains at least one of these
/// characters", and a comment may start right behind it.
fn operator(text: &[u8]) -> usize {
    let run = &text[..count(text, |byte| OPERATOR.contains(&byte))];
    let comment = run
        .windows(2)
        .position(|pair| pair == b"--" || pair == b"/*");
    let name = &run[..comment.unwrap_or(run.len())];
    if name.iter().any(|byte| b"~!@#^&|`?%".contains(byte)) {
        return name.len();
    }
    let signs = name.iter().rev().take_while(|byte| b"+-".contains(byte));
    (name.len() - signs.count()).max(1)
}

const OPERATOR: &[u8] = b"~!@#^&|`?+-*/%<>=";

#[cfg(test)]
mod tests;
