use super::*;

#[test]
fn tokens_are_those_that_postgresql_finds() {
    use Kind::{
        BitString, Number, Parameter, QuotedIdentifier, String, Symbol, Unterminated, Word,
    };
    let table: &[(&str, &[(Kind, &str)])] = &[
        ("a$1 _b é2", &[(Word, "a$1"), (Word, "_b"), (Word, "é2")]),
        (
            "\"a\"\"b\"u&\"c\"",
            &[
                (QuotedIdentifier, "\"a\"\"b\""),
                (QuotedIdentifier, "u&\"c\""),
            ],
        ),
        ("U & 'a'", &[(Word, "U"), (Symbol, "&"), (String, "'a'")]),
        (
            "E'\\''x'1'N'a'",
            &[
                (String, "E'\\''"),
                (BitString, "x'1'"),
                (Word, "N"),
                (String, "'a'"),
            ],
        ),
        ("'a' 'b'", &[(String, "'a'"), (String, "'b'")]),
        ("'a'\n 'b' -- c\n'd'", &[(String, "'a'\n 'b' -- c\n'd'")]),
        ("'a' /* \n */ 'b'", &[(String, "'a'"), (String, "'b'")]),
        ("'a'\n -- b", &[(String, "'a'")]),
        (
            "$1a $$$$ $a$b$a$",
            &[
                (Parameter, "$1"),
                (Word, "a"),
                (String, "$$$$"),
                (String, "$a$b$a$"),
            ],
        ),
        ("$a $", &[(Symbol, "$"), (Word, "a"), (Symbol, "$")]),
        ("1$a$;$a$", &[(Number, "1"), (String, "$a$;$a$")]),
        (
            "1.5e+3 1..2 .5",
            &[
                (Number, "1.5e+3"),
                (Number, "1"),
                (Symbol, ".."),
                (Number, "2"),
                (Number, ".5"),
            ],
        ),
        (
            "a::b:=c[:d]",
            &[
                (Word, "a"),
                (Symbol, "::"),
                (Word, "b"),
                (Symbol, ":="),
                (Word, "c"),
                (Symbol, "["),
                (Symbol, ":"),
                (Word, "d"),
                (Symbol, "]"),
            ],
        ),
        ("1e'\\''", &[(Number, "1"), (String, "e'\\''")]),
        (
            "a=-1",
            &[(Word, "a"), (Symbol, "="), (Symbol, "-"), (Number, "1")],
        ),
        (
            "a@-1 +- *",
            &[
                (Word, "a"),
                (Symbol, "@-"),
                (Number, "1"),
                (Symbol, "+"),
                (Symbol, "-"),
                (Symbol, "*"),
            ],
        ),
        ("<=--b", &[(Symbol, "<=")]),
        ("=-/*b*/*", &[(Symbol, "="), (Symbol, "-"), (Symbol, "*")]),
        (
            "::[];",
            &[(Symbol, "::"), (Symbol, "["), (Symbol, "]"), (Symbol, ";")],
        ),
        ("\\{", &[(Symbol, "\\"), (Symbol, "{")]),
        ("a\x0bb\x0cc", &[(Word, "a"), (Word, "b"), (Word, "c")]),
        ("a /* b", &[(Word, "a"), (Unterminated, "/* b")]),
        ("a 'b\n'c", &[(Word, "a"), (String, "'b\n'"), (Word, "c")]),
        ("a U&'b", &[(Word, "a"), (Unterminated, "U&'b")]),
    ];
    for (sql, expected) in table {
        let found: Vec<(Kind, &str)> = Tokens::new(sql.as_bytes(), true)
            .map(|token| {
                (
                    token.kind,
                    &sql[token.start..token.start + token.text.len()],
                )
            })
            .collect();
        assert_eq!(found, *expected, "in {sql:?}");
    }
}
