//! What tokens stand for: the name behind an identifier, the content of a string.
//!
//! An answer of `None` means that PostgreSQL would report an error.

use std::fmt;

use super::lexer::{Kind, Token, continuation, dollar_delimiter};

/// The name of a savepoint, a prepared statement, a cursor or a channel: folded to lower case unless quoted, and cut to
/// the length that PostgreSQL keeps. In the client's encoding, hence bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name(Box<[u8]>);

impl Name {
    /// The name that an identifier gives where the grammar wants a `ColId`.
    pub(super) fn of(token: &Token<'_>) -> Option<Self> {
        match token.kind {
            Kind::Word if !is_reserved(token.text) => {
                Some(Self::cut(&token.text.to_ascii_lowercase()))
            }
            Kind::QuotedIdentifier => {
                let content = token.text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
                Self::non_empty(undouble(content, b'"'))
            }
            _ => None,
        }
    }

    /// The name that `U&"..."` gives.
    pub(super) fn of_unicode(token: &Token<'_>, escape: u8) -> Option<Self> {
        let content = token.text.get(3..)?.strip_suffix(b"\"")?;
        Self::non_empty(unicode(&undouble(content, b'"'), escape)?)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn non_empty(name: Vec<u8>) -> Option<Self> {
        (!name.is_empty()).then(|| Self::cut(&name))
    }

    /// PostgreSQL cuts names between characters; that they are UTF-8 is a guess that costs nothing when it is wrong.
    fn cut(name: &[u8]) -> Self {
        let mut length = name.len().min(MAX_NAME);
        if length < name.len() {
            while length > MAX_NAME - 4 && name[length] & 0xC0 == 0x80 {
                length -= 1;
            }
        }
        Self(name[..length].into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

/// The content of a string, but for those that start with `U&`.
pub(super) fn string(token: &Token<'_>, standard_conforming_strings: bool) -> Option<Vec<u8>> {
    if token.kind != Kind::String {
        return None;
    }
    match token.text {
        [b'\'', content @ ..] => unquote(content, !standard_conforming_strings),
        [b'e' | b'E', b'\'', content @ ..] => unquote(content, true),
        [b'$', ..] => {
            let delimiter = dollar_delimiter(token.text)?;
            let content = token.text.strip_prefix(delimiter)?;
            content.strip_suffix(delimiter).map(<[u8]>::to_vec)
        }
        _ => None,
    }
}

/// The content of `U&'...'`, which PostgreSQL refuses when backslashes are escapes in plain strings as well.
pub(super) fn unicode_string(token: &Token<'_>, escape: u8) -> Option<Vec<u8>> {
    unicode(&unquote(token.text.get(3..)?, false)?, escape)
}

/// Whether a token is one of those that `UESCAPE` may follow.
pub(super) fn takes_unicode_escapes(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::String | Kind::QuotedIdentifier)
        && matches!(token.text, [b'u' | b'U', b'&', ..])
}

fn undouble(content: &[u8], quote: u8) -> Vec<u8> {
    let mut doubled = false;
    let keep = |byte: &u8| {
        doubled = *byte == quote && !doubled;
        !doubled
    };
    content.iter().copied().filter(keep).collect()
}

/// Takes a string's content, up to its last quote, from behind its first one.
fn unquote(mut content: &[u8], backslash_escapes: bool) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(content.len());
    loop {
        content = match content {
            [b'\\', escaped @ ..] if backslash_escapes => escape_sequence(escaped, &mut value)?,
            [b'\'', b'\'', rest @ ..] => {
                value.push(b'\'');
                rest
            }
            [b'\'', rest @ ..] => match continuation(rest) {
                Some(length) => &rest[length..],
                None => return Some(value),
            },
            [byte, rest @ ..] => {
                value.push(*byte);
                rest
            }
            [] => return None,
        };
    }
}

/// Takes what stands behind a backslash, and returns what follows it.
fn escape_sequence<'a>(text: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (first, rest) = text.split_first()?;
    let byte = match first {
        b'b' => b'\x08',
        b'f' => b'\x0c',
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => b'\x0b',
        b'0'..=b'7' => return code_byte(text, 3, 8, value),
        b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
            return code_byte(rest, 2, 16, value);
        }
        b'u' => return code_point(rest, 4, &UnicodeEscape::Backslash, value),
        b'U' => return code_point(rest, 8, &UnicodeEscape::Backslash, value),
        other => *other,
    };
    value.push(byte);
    Some(rest)
}

/// Takes a byte given by up to so many digits, which may be any but zero. PostgreSQL, too, lets `\777` overflow.
fn code_byte<'a>(text: &'a [u8], most: usize, radix: u32, value: &mut Vec<u8>) -> Option<&'a [u8]> {
    let digits = text
        .iter()
        .map_while(|byte| char::from(*byte).to_digit(radix));
    let (length, code) = digits.take(most).fold((0, 0), |(length, code), digit| {
        (length + 1, code * radix + digit)
    });
    let byte = code.to_le_bytes()[0];
    value.push(byte);
    (byte != 0).then(|| &text[length..])
}

/// Replaces `\XXXX` and `\+XXXXXX`, where the backslash may be another character by `UESCAPE`.
fn unicode(mut content: &[u8], escape: u8) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(content.len());
    loop {
        content = match content {
            [first, second, rest @ ..] if *first == escape && *second == escape => {
                value.push(escape);
                rest
            }
            [first, b'+', rest @ ..] if *first == escape => {
                code_point(rest, 6, &UnicodeEscape::Marked(escape), &mut value)?
            }
            [first, rest @ ..] if *first == escape => {
                code_point(rest, 4, &UnicodeEscape::Marked(escape), &mut value)?
            }
            [byte, rest @ ..] => {
                value.push(*byte);
                rest
            }
            [] => return Some(value),
        };
    }
}

/// How the escape of a character is written, which its second half repeats if it is a surrogate pair.
enum UnicodeEscape {
    /// `\uXXXX` and `\UXXXXXXXX`.
    Backslash,
    /// `\XXXX` and `\+XXXXXX`, or another character in place of the backslash.
    Marked(u8),
}

impl UnicodeEscape {
    /// The digits of an escape that a text starts with: how many, and what follows.
    fn start<'a>(&self, text: &'a [u8]) -> Option<(usize, &'a [u8])> {
        match (self, text) {
            (Self::Backslash, [b'\\', b'u', rest @ ..]) => Some((4, rest)),
            (Self::Backslash, [b'\\', b'U', rest @ ..]) => Some((8, rest)),
            (Self::Marked(mark), [first, b'+', rest @ ..]) if first == mark => Some((6, rest)),
            (Self::Marked(mark), [first, rest @ ..]) if first == mark => Some((4, rest)),
            _ => None,
        }
    }
}

/// Takes the character whose code these digits are, and returns what follows it.
fn code_point<'a>(
    text: &'a [u8],
    digits: usize,
    escape: &UnicodeEscape,
    value: &mut Vec<u8>,
) -> Option<&'a [u8]> {
    let (mut code, mut rest) = hexadecimal(text, digits)?;
    if (0xD800..0xDC00).contains(&code) {
        let (digits, second) = escape.start(rest)?;
        let (low, after) = hexadecimal(second, digits)?;
        if !(0xDC00..0xE000).contains(&low) {
            return None;
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        rest = after;
    }
    let character = char::from_u32(code).filter(|character| *character != '\0')?;
    value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn hexadecimal(text: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    if !number.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let number = std::str::from_utf8(number).ok()?;
    Some((u32::from_str_radix(number, 16).ok()?, rest))
}

fn is_reserved(word: &[u8]) -> bool {
    RESERVED
        .iter()
        .any(|reserved| word.eq_ignore_ascii_case(reserved.as_bytes()))
}

/// `NAMEDATALEN` without the zero byte.
const MAX_NAME: usize = 63;

/// The keywords that can't be a `ColId`: those of category R and T in `pg_get_keywords()` of PostgreSQL 15. A word that
/// only a later release reserves is missing by intent: taking it for a name lets that server report the error.
#[rustfmt::skip]
const RESERVED: [&str; 100] = [
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "binary",
    "both", "case", "cast", "check", "collate", "collation", "column", "concurrently", "constraint", "create",
    "cross", "current_catalog", "current_date", "current_role", "current_schema", "current_time",
    "current_timestamp", "current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end",
    "except", "false", "fetch", "for", "foreign", "freeze", "from", "full", "grant", "group", "having", "ilike",
    "in", "initially", "inner", "intersect", "into", "is", "isnull", "join", "lateral", "leading", "left",
    "like", "limit", "localtime", "localtimestamp", "natural", "not", "notnull", "null", "offset", "on", "only",
    "or", "order", "outer", "overlaps", "placing", "primary", "references", "returning", "right", "select",
    "session_user", "similar", "some", "symmetric", "table", "tablesample", "then", "to", "trailing", "true",
    "union", "unique", "user", "using", "variadic", "verbose", "when", "where", "window", "with",
];

#[cfg(test)]
mod tests;
