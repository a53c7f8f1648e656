use super::*;
use crate::mux::lexer::Tokens;

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.as_bytes().into())
    }
}

fn token(text: &[u8]) -> Token<'_> {
    let mut tokens = Tokens::new(text, true);
    let token = tokens.next().expect("the row holds a token");
    assert_eq!(tokens.next(), None, "in {}", String::from_utf8_lossy(text));
    token
}

#[test]
fn names_are_folded_unquoted_and_cut() {
    let cut = "é".repeat(31);
    let table: &[(&str, Option<&str>)] = &[
        ("Foo_1$", Some("foo_1$")),
        ("ÉCOLE", Some("École")),
        ("\"Foo\"\"\"", Some("Foo\"")),
        ("\"\"", None),
        ("select", None),
        ("LEFT", None),
        ("between", Some("between")),
        ("\"select\"", Some("select")),
        ("'foo'", None),
        ("1", None),
    ];
    for (text, expected) in table {
        assert_eq!(
            Name::of(&token(text.as_bytes())),
            expected.map(Name::from),
            "{text}"
        );
    }
    let long = "é".repeat(40);
    assert_eq!(
        Name::of(&token(long.as_bytes())),
        Some(Name::from(cut.as_str()))
    );
    let long = "a".repeat(64);
    assert_eq!(
        Name::of(&token(long.as_bytes())),
        Some(Name::from(&long[..63]))
    );
    let latin1 = [&b"a"[..], &[0xE9; 80]].concat();
    assert_eq!(
        Name::of(&token(&latin1)).expect("it is a name").as_bytes(),
        &latin1[..63]
    );
}

#[test]
fn unicode_escapes_are_those_of_postgresql() {
    let table: &[(&str, u8, Option<&str>)] = &[
        ("U&\"d\\0061t\\+000061\"", b'\\', Some("data")),
        ("u&\"d!0061ta\\\"", b'!', Some("data\\")),
        ("U&\"\\\\\"\"\"", b'\\', Some("\\\"")),
        ("U&\"\\D83D\\DE00\\+00D83D\\DE00\"", b'\\', Some("😀😀")),
        ("U&\"\\D83D\"", b'\\', None),
        ("U&\"\\DE00\"", b'\\', None),
        ("U&\"\\0000\"", b'\\', None),
        ("U&\"\\006\"", b'\\', None),
        ("U&\"\\+00+061\"", b'\\', None),
        ("U&\"\"", b'\\', None),
    ];
    for (text, escape, expected) in table {
        let name = Name::of_unicode(&token(text.as_bytes()), *escape);
        assert_eq!(name, expected.map(Name::from), "{text}");
    }
    let string = unicode_string(&token(b"U&'\\0061''\\\\'\n'\\0062'"), b'\\');
    assert_eq!(string.as_deref(), Some(&b"a'\\b"[..]));
}

#[test]
fn strings_hold_what_postgresql_reads() {
    let table: &[(&str, bool, Option<&[u8]>)] = &[
        ("''", true, Some(b"")),
        ("'it''s'", true, Some(b"it's")),
        ("'a\\n'", true, Some(b"a\\n")),
        ("'a\\n'", false, Some(b"a\n")),
        ("'a'\n  'b'", true, Some(b"ab")),
        ("E'a' -- c\n'\\t'", true, Some(b"a\t")),
        (
            "e'\\b\\f\\n\\r\\t\\v\\q\\'\\\\'",
            true,
            Some(b"\x08\x0c\n\r\t\x0bq'\\"),
        ),
        ("E'\\101\\1018\\x41\\x4g\\xg'", true, Some(b"AA8A\x04gxg")),
        ("E'\\u0061\\U00000062'", true, Some(b"ab")),
        ("E'\\uD83D\\U0000DE00'", true, Some("😀".as_bytes())),
        ("E'\\u006'", true, None),
        ("E'\\0'", true, None),
        ("E'\\x00'", true, None),
        ("$$it's$$", true, Some(b"it's")),
        ("$a$ $$ \\n$a$", false, Some(b" $$ \\n")),
        ("B'1'", true, None),
        ("foo", true, None),
    ];
    for (text, standard_conforming_strings, expected) in table {
        let content = string(&token(text.as_bytes()), *standard_conforming_strings);
        assert_eq!(content.as_deref(), *expected, "{text}");
    }
}
