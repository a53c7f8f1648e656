//! Texts of simple queries, and the statements that PostgreSQL finds in them.
//!
//! Read by the unit tests of the lexer, and by a test that asks a real server about every row: a Parse message with the
//! text must be refused as "multiple commands" if there are two or more, and each statement must be one on its own.

/// With `standard_conforming_strings` on.
pub(crate) const SPLIT: &[(&str, &[&str])] = &[
    // White space, comments and semicolons alone are no statement.
    ("", &[]),
    (" ;; /* nothing */ ; -- nothing", &[]),
    ("SELECT 1", &["SELECT 1"]),
    (" SELECT 1 ;; COMMIT; ", &["SELECT 1", "COMMIT"]),
    (
        "SELECT 1;COMMIT;SELECT 2",
        &["SELECT 1", "COMMIT", "SELECT 2"],
    ),
    // Comments belong to the statement that they are in.
    (
        "/* a */ SELECT 1 -- b\n; -- c\n",
        &["/* a */ SELECT 1 -- b"],
    ),
    ("SELECT 1 -- ; '\n; COMMIT", &["SELECT 1 -- ; '", "COMMIT"]),
    ("SELECT 1 -- ;\r; COMMIT", &["SELECT 1 -- ;", "COMMIT"]),
    (
        "SELECT 1 /* ; /* ' */ ; */; COMMIT",
        &["SELECT 1 /* ; /* ' */ ; */", "COMMIT"],
    ),
    (
        "SELECT 1 /*/ ; */; COMMIT",
        &["SELECT 1 /*/ ; */", "COMMIT"],
    ),
    (
        "SELECT 1 /**/; /***/ COMMIT",
        &["SELECT 1 /**/", "/***/ COMMIT"],
    ),
    (
        "SELECT 1 -- /*\n; COMMIT -- */",
        &["SELECT 1 -- /*", "COMMIT -- */"],
    ),
    // An operator stops where a comment starts.
    (
        "SELECT 1 +-- ;\n1; COMMIT",
        &["SELECT 1 +-- ;\n1", "COMMIT"],
    ),
    (
        "SELECT 1 */* ; */ 1; COMMIT",
        &["SELECT 1 */* ; */ 1", "COMMIT"],
    ),
    (
        "SELECT 1 @-/* ; */ 1; COMMIT",
        &["SELECT 1 @-/* ; */ 1", "COMMIT"],
    ),
    ("SELECT 1 - - 1; COMMIT", &["SELECT 1 - - 1", "COMMIT"]),
    ("SELECT 1 --1; COMMIT", &["SELECT 1 --1; COMMIT"]),
    // Strings.
    ("SELECT 'a;b'; COMMIT", &["SELECT 'a;b'", "COMMIT"]),
    ("SELECT 'it''s;'; COMMIT", &["SELECT 'it''s;'", "COMMIT"]),
    (
        "SELECT '\\'; COMMIT; SELECT ''",
        &["SELECT '\\'", "COMMIT", "SELECT ''"],
    ),
    (
        "SELECT E'\\'; COMMIT; SELECT '",
        &["SELECT E'\\'; COMMIT; SELECT '"],
    ),
    ("SELECT e'\\\\'; COMMIT", &["SELECT e'\\\\'", "COMMIT"]),
    ("SELECT n'\\'; COMMIT", &["SELECT n'\\'", "COMMIT"]),
    (
        "SELECT U&'\\0041;\\\\'; COMMIT",
        &["SELECT U&'\\0041;\\\\'", "COMMIT"],
    ),
    (
        "SELECT B'1', x'f'; COMMIT",
        &["SELECT B'1', x'f'", "COMMIT"],
    ),
    (
        "SELECT '/*'; COMMIT; SELECT '*/'",
        &["SELECT '/*'", "COMMIT", "SELECT '*/'"],
    ),
    ("SELECT '--'; COMMIT", &["SELECT '--'", "COMMIT"]),
    // A string that is continued stays of its kind.
    (
        "SELECT E'a'\n'\\';'; COMMIT",
        &["SELECT E'a'\n'\\';'", "COMMIT"],
    ),
    (
        "SELECT E'a' -- ';\n \r'\\';'; COMMIT",
        &["SELECT E'a' -- ';\n \r'\\';'", "COMMIT"],
    ),
    ("SELECT 'a'\n'\\'; COMMIT", &["SELECT 'a'\n'\\'", "COMMIT"]),
    (
        "SELECT f(E'a',\n'\\'); COMMIT",
        &["SELECT f(E'a',\n'\\')", "COMMIT"],
    ),
    // Identifiers.
    (
        "SELECT 1 AS \"a;\"\"b\"; COMMIT",
        &["SELECT 1 AS \"a;\"\"b\"", "COMMIT"],
    ),
    (
        "SELECT 1 AS U&\"a;\\0041\"; COMMIT",
        &["SELECT 1 AS U&\"a;\\0041\"", "COMMIT"],
    ),
    (
        "SELECT 1 AS \"'\"; COMMIT",
        &["SELECT 1 AS \"'\"", "COMMIT"],
    ),
    ("SELECT 1 AS é; COMMIT", &["SELECT 1 AS é", "COMMIT"]),
    // Dollar quotes, and dollars that are none.
    ("SELECT $$;'$$; COMMIT", &["SELECT $$;'$$", "COMMIT"]),
    (
        "SELECT $a$;$$;$b$;$A$;$a$; COMMIT",
        &["SELECT $a$;$$;$b$;$A$;$a$", "COMMIT"],
    ),
    (
        "SELECT $é_1$;$é$;$é_1$; COMMIT",
        &["SELECT $é_1$;$é$;$é_1$", "COMMIT"],
    ),
    ("SELECT $a$ $b$a$; COMMIT", &["SELECT $a$ $b$a$", "COMMIT"]),
    (
        "SELECT foo$1$; COMMIT; SELECT foo$1$",
        &["SELECT foo$1$", "COMMIT", "SELECT foo$1$"],
    ),
    (
        "SELECT a$$; COMMIT; SELECT b$$",
        &["SELECT a$$", "COMMIT", "SELECT b$$"],
    ),
    ("SELECT $1; COMMIT", &["SELECT $1", "COMMIT"]),
    (
        "SELECT $1::text, $2; COMMIT",
        &["SELECT $1::text, $2", "COMMIT"],
    ),
    (
        "SELECT 'a' AS x$$, 1; COMMIT",
        &["SELECT 'a' AS x$$, 1", "COMMIT"],
    ),
    // Numbers and operators.
    (
        "SELECT 1.e5, .5, 1.5e-3, 1.; COMMIT",
        &["SELECT 1.e5, .5, 1.5e-3, 1.", "COMMIT"],
    ),
    (
        "SELECT f(a := 1, b => 2)::int[]; COMMIT",
        &["SELECT f(a := 1, b => 2)::int[]", "COMMIT"],
    ),
    (
        "SELECT a[1:2] #>> '{;}'; COMMIT",
        &["SELECT a[1:2] #>> '{;}'", "COMMIT"],
    ),
    // The commands of a rule.
    (
        "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM t; NOTIFY x;); COMMIT",
        &[
            "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM t; NOTIFY x;)",
            "COMMIT",
        ],
    ),
    ("SELECT (')'); COMMIT", &["SELECT (')')", "COMMIT"]),
    // The bodies of routines.
    (
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; COMMIT",
        &[
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
            "COMMIT",
        ],
    ),
    (
        "create or /**/ replace procedure p() begin /* ; */ atomic ; select 1; ; end; commit",
        &[
            "create or /**/ replace procedure p() begin /* ; */ atomic ; select 1; ; end",
            "commit",
        ],
    ),
    (
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC END; END",
        &["CREATE FUNCTION f() RETURNS int BEGIN ATOMIC END", "END"],
    ),
    (
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC RETURN CASE WHEN true THEN CASE WHEN true THEN 1 END END; END; END",
        &[
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC RETURN CASE WHEN true THEN CASE WHEN true THEN 1 END END; END",
            "END",
        ],
    ),
    (
        "CREATE PROCEDURE p() BEGIN ATOMIC CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; END; SELECT 2; END; COMMIT",
        &[
            "CREATE PROCEDURE p() BEGIN ATOMIC CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; END; SELECT 2; END",
            "COMMIT",
        ],
    ),
    (
        "CREATE FUNCTION f() BEGIN ATOMIC CREATE FUNCTION g() RETURN 1; SELECT begin atomic; END; COMMIT",
        &[
            "CREATE FUNCTION f() BEGIN ATOMIC CREATE FUNCTION g() RETURN 1; SELECT begin atomic; END",
            "COMMIT",
        ],
    ),
    // BEGIN, END and CASE as names and labels, in and outside of bodies.
    (
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 end; SELECT 1 AS case; END; COMMIT",
        &[
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 end; SELECT 1 AS case; END",
            "COMMIT",
        ],
    ),
    (
        "CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMIT",
        &[
            "CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "COMMIT",
        ],
    ),
    (
        "CREATE FUNCTION f(begin atomic) RETURNS begin BEGIN ATOMIC SELECT 1; END; COMMIT",
        &[
            "CREATE FUNCTION f(begin atomic) RETURNS begin BEGIN ATOMIC SELECT 1; END",
            "COMMIT",
        ],
    ),
    (
        "CREATE FUNCTION f() RETURNS int AS $$ BEGIN ATOMIC $$ LANGUAGE sql; COMMIT",
        &[
            "CREATE FUNCTION f() RETURNS int AS $$ BEGIN ATOMIC $$ LANGUAGE sql",
            "COMMIT",
        ],
    ),
    (
        "SELECT 1 end; SELECT begin atomic; END",
        &["SELECT 1 end", "SELECT begin atomic", "END"],
    ),
    (
        "SELECT 1 AS create; SELECT 2 function; COMMIT",
        &["SELECT 1 AS create", "SELECT 2 function", "COMMIT"],
    ),
    (
        "CREATE VIEW v AS SELECT begin atomic; COMMIT",
        &["CREATE VIEW v AS SELECT begin atomic", "COMMIT"],
    ),
];

/// With `standard_conforming_strings` off.
pub(crate) const SPLIT_BACKSLASHES: &[(&str, &[&str])] = &[
    (
        "SELECT '\\'; COMMIT; SELECT '",
        &["SELECT '\\'; COMMIT; SELECT '"],
    ),
    ("SELECT '\\\\'; COMMIT", &["SELECT '\\\\'", "COMMIT"]),
    (
        "SELECT 'a'\n'\\';'; COMMIT",
        &["SELECT 'a'\n'\\';'", "COMMIT"],
    ),
    ("SELECT N'\\';'; COMMIT", &["SELECT N'\\';'", "COMMIT"]),
    ("SELECT B'1'; COMMIT", &["SELECT B'1'", "COMMIT"]),
    ("SELECT $$\\$$; COMMIT", &["SELECT $$\\$$", "COMMIT"]),
    (
        "SELECT 1 AS \"\\\"; COMMIT",
        &["SELECT 1 AS \"\\\"", "COMMIT"],
    ),
];

/// What PostgreSQL can't parse, however its words are read, and of which it therefore runs nothing.
pub(crate) const REJECTED: &[&str] = &[
    "COMMIT; SELECT 'a",
    "COMMIT; SELECT E'a\\",
    "COMMIT; SELECT \"a",
    "COMMIT; SELECT $a$ $b$",
    "COMMIT; SELECT B'1",
    "COMMIT /* ",
    "COMMIT; /* /* */",
    "COMMIT; SELECT (1; COMMIT",
    "COMMIT; SELECT 1); COMMIT",
    "COMMIT; CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; COMMIT",
];
