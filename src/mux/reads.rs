//! Statements that do nothing but read, and need no savepoint of their own.
//!
//! What a failed statement takes with it is all that was written since the standing savepoint was set. Behind a statement that has
//! written nothing that savepoint is as good as a new one, and to leave it where it is saves a fifth of what a short
//! statement costs. But a statement that writes and was taken for a read would be undone by the next one that fails, so whatever
//! isn't known to be a read is none:
//!
//! * its text is a query, locks no rows, and calls none but well-known functions of PostgreSQL's, in whatever notation, which
//!   [`only_reads`] says;
//! * nothing else that it may run in passing, such as an operator, a view or a policy, is anything but PostgreSQL's own,
//!   or can write: a look at the catalog says so when the database is prepared, which nobody changes afterwards;
//! * and no statement of the test's can have made such a thing, which [`Reads::note`] watches.

use super::block::Executed;
use super::lexer::{Kind, Token, Tokens};

/// Whether what looks like a read is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reads {
    /// The database may hold what writes when it's read.
    #[default]
    Doubtful,
    /// It holds nothing of the kind.
    Pure,
}

impl Reads {
    /// A statement is about to be run: behind one that may define something, nothing is known any more.
    pub(super) fn note(&mut self, statement: &[u8], scs: bool) {
        if *self == Self::Pure
            && let Some(first) = Tokens::new(statement, scs).next()
            && !first.is_one_of(&HARMLESS)
        {
            *self = Self::Doubtful;
        }
    }

    /// What running a statement means for the standing savepoint, if this is what it looks like.
    pub(super) fn judge(self, executed: Executed) -> Executed {
        match executed {
            Executed::Reads if self == Self::Doubtful => Executed::Plain,
            _ => executed,
        }
    }
}

/// What statements begin with that define nothing, and run nothing that could, unless it was there before.
#[rustfmt::skip]
const HARMLESS: [&str; 36] = [
    "ABORT", "ANALYZE", "BEGIN", "CLOSE", "COMMIT", "COPY", "DEALLOCATE", "DECLARE", "DELETE", "DISCARD", "DROP", "END",
    "EXECUTE", "EXPLAIN", "FETCH", "INSERT", "LISTEN", "LOCK", "MERGE", "MOVE", "NOTIFY", "PREPARE", "RELEASE", "RESET",
    "ROLLBACK", "SAVEPOINT", "SELECT", "SET", "SHOW", "START", "TABLE", "TRUNCATE", "UNLISTEN", "UPDATE", "VALUES", "WITH",
];

/// Whether a statement is a query that can do nothing but read, if all that it runs in passing is PostgreSQL's own.
pub(super) fn only_reads(statement: &[u8], scs: bool) -> bool {
    let mut tokens = Tokens::new(statement, scs);
    let Some(mut last) = tokens.next() else {
        return false;
    };
    if !last.is_one_of(&["SELECT", "WITH", "VALUES"]) {
        return false;
    }
    let (mut is_qualified, mut is_of_catalog) = (false, false);
    for token in tokens {
        let is_fine = match token.kind {
            Kind::Word | Kind::QuotedIdentifier if last.is_symbol(".") => {
                is_of_catalog || !may_be_called_as_attribute(&token)
            }
            Kind::Word => !token.is_one_of(&WRITES),
            Kind::Symbol if token.text == b"(" => !is_qualified && may_open(&last),
            Kind::Symbol if token.text == b"." => may_be_qualified(&last),
            Kind::Unterminated => false,
            _ => true,
        };
        if !is_fine {
            return false;
        }
        is_qualified = last.is_symbol(".");
        is_of_catalog = last.is_word("pg_catalog");
        last = token;
    }
    true
}

/// Whether a dot behind this makes no function of what follows, as in `(1).f` or `$1.f`, which are `f(1)` and `f($1)`.
fn may_be_qualified(before: &Token<'_>) -> bool {
    matches!(before.kind, Kind::Word | Kind::QuotedIdentifier)
}

/// Whether a column's name may be that of a function of PostgreSQL's that takes one value and has an effect that a rollback
/// undoes. In `SELECT x.f FROM generate_series(1, 2) AS x` the column is `f(x)`.
fn may_be_called_as_attribute(name: &Token<'_>) -> bool {
    let begins = |prefix: &[u8]| {
        let start = name.text.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let is_disguised = begins(b"U&");
    is_disguised || PREFIXES.iter().any(|prefix| begins(prefix))
}

/// How their names begin, which are about large objects, locks, collations and origins.
const PREFIXES: [&[u8]; 4] = [b"lo_", b"\"lo_", b"pg_", b"\"pg_"];

/// What a query has to name where it writes a table, or locks its rows.
const WRITES: [&str; 6] = ["DELETE", "FOR", "INSERT", "INTO", "MERGE", "UPDATE"];

/// Whether a parenthesis behind this begins no call of a function that might do anything but compute.
fn may_open(before: &Token<'_>) -> bool {
    match before.kind {
        Kind::Word => before.is_one_of(&KEYWORDS) || before.is_one_of(&FUNCTIONS),
        Kind::Symbol => true,
        _ => false,
    }
}

/// Where a parenthesis belongs to the grammar, or to a type.
#[rustfmt::skip]
const KEYWORDS: [&str; 51] = [
    "ALL", "AND", "ANY", "ARRAY", "AS", "BETWEEN", "BY", "CASE", "CHAR", "CUBE", "DECIMAL", "DISTINCT", "ELSE", "EXCEPT",
    "EXISTS", "FILTER", "FROM", "GROUP", "HAVING", "ILIKE", "IN", "INTERSECT", "JOIN", "LATERAL", "LIKE", "LIMIT",
    "MATERIALIZED", "NOT", "NUMERIC", "OFFSET", "ON", "OR", "OVER", "ROLLUP", "ROW", "SELECT", "SETS", "SOME", "SYMMETRIC",
    "THEN", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "TO", "UNION", "USING", "VALUES", "VARCHAR", "VARYING", "WHEN", "WHERE",
];

/// Functions of PostgreSQL's that have no effect. There are more; these are what applications call.
#[rustfmt::skip]
const FUNCTIONS: [&str; 88] = [
    "abs", "age", "array_agg", "array_length", "array_position", "array_to_string", "avg", "bool_and", "bool_or", "btrim",
    "cardinality", "cast", "ceil", "ceiling", "char_length", "clock_timestamp", "coalesce", "concat", "concat_ws", "count",
    "current_database", "current_schema", "current_setting", "date_part", "date_trunc", "dense_rank", "encode", "every",
    "extract", "first_value", "floor", "format", "gen_random_uuid", "generate_series", "greatest", "initcap", "json_agg",
    "json_build_array", "json_build_object", "json_object_agg", "jsonb_agg", "jsonb_array_elements", "jsonb_array_length",
    "jsonb_build_array", "jsonb_build_object", "jsonb_object_agg", "lag", "last_value", "lead", "least", "left", "length",
    "lower", "ltrim", "make_date", "make_interval", "max", "md5", "min", "now", "ntile", "nullif", "octet_length",
    "percentile_cont", "position", "random", "rank", "regexp_replace", "repeat", "replace", "right", "round", "row_number",
    "row_to_json", "rtrim", "split_part", "starts_with", "string_agg", "strpos", "substr", "substring", "sum", "to_char",
    "to_json", "to_jsonb", "trim", "unnest", "upper",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_tables_only_read() {
        for sql in [
            "SELECT 1",
            "select name from item where id = $1",
            "SELECT \"id\", \"update\" FROM \"public\".\"item\" WHERE (\"item\".\"id\" = $1) LIMIT $2",
            "SELECT count(*) FILTER (WHERE done), max ( a.b ) FROM a JOIN b USING (id) WHERE x IN ($1, $2) AND NOT (y OR z)",
            "WITH x AS (SELECT 1) SELECT * FROM x, (VALUES (1), (2)) AS y WHERE x = ANY($1)",
            "VALUES (1), (2)",
            "SELECT coalesce(sum(amount), 0)::numeric(10, 2) FROM b WHERE at > now() - interval '1 day' -- FOR UPDATE",
            "SELECT 'nextval(''a'')', $$setval($$",
            "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM c UNION (SELECT 1)",
            "SELECT t.oid, a.update, 1.5 FROM pg_catalog.pg_type t JOIN pg_catalog.\"pg_enum\" a ON t.oid = a.enumtypid",
        ] {
            assert!(only_reads(sql.as_bytes(), true), "{sql}");
        }
    }

    #[test]
    fn what_may_do_more_is_no_read() {
        for sql in [
            "",
            "(SELECT 1)",
            "TABLE item",
            "EXPLAIN ANALYZE SELECT 1",
            "UPDATE item SET id = 1",
            "SELECT nextval('a')",
            "SELECT nextval /* */ ('a')",
            "SELECT \"lower\"(a)",
            "SELECT U&\"d!0061ta\" UESCAPE '!' (1)",
            "SELECT app.lower(a)",
            "SELECT app . lower (a)",
            "SELECT * FROM item, audit(item)",
            "SELECT 1 OPERATOR(app.+) 2",
            "SELECT id FROM item FOR UPDATE",
            "SELECT id FROM item for no key update",
            "SELECT id INTO copy FROM item",
            "WITH x AS (INSERT INTO item VALUES (1) RETURNING id) SELECT * FROM x",
            "WITH x AS (DELETE FROM item RETURNING id) SELECT * FROM x",
            "SELECT 'open",
            "SELECT (1).lo_create",
            "SELECT $1 . lo_create",
            "SELECT (ARRAY[1])[1].lo_create",
            "SELECT a[1].lo_create",
            "SELECT x.LO_create FROM generate_series(1, 2) AS x",
            "SELECT x.\"lo_create\" FROM generate_series(1, 2) AS x",
            "SELECT x.U&\"!006co_create\" UESCAPE '!' FROM generate_series(1, 2) AS x",
            "SELECT pg_catalog.x.pg_advisory_xact_lock FROM generate_series(1, 2) AS x",
        ] {
            assert!(!only_reads(sql.as_bytes(), true), "{sql}");
        }
    }

    #[test]
    fn strings_end_where_the_session_has_them_end() {
        let sql = br"SELECT '\' || nextval('a') || '";
        assert!(!only_reads(sql, true));
        let sql = br"SELECT '\' || nextval(''a'') || '";
        assert!(!only_reads(sql, true));
        assert!(only_reads(br"SELECT '\' || nextval(\'a\') || '", false));
    }

    #[test]
    fn behind_a_definition_nothing_is_known() {
        for sql in [
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "/* */ create view v AS SELECT 1",
            "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
            "DO $$ $$",
            "CALL p()",
            "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c",
            "LOAD 'x'",
        ] {
            let mut reads = Reads::Pure;
            reads.note(sql.as_bytes(), true);
            assert_eq!(reads, Reads::Doubtful, "{sql}");
        }
        let mut reads = Reads::Pure;
        for sql in [
            "",
            "INSERT INTO item VALUES ('CREATE')",
            "begin",
            "SELECT 1",
        ] {
            reads.note(sql.as_bytes(), true);
        }
        assert_eq!(reads, Reads::Pure);
        assert_eq!(reads.judge(Executed::Reads), Executed::Reads);
        assert_eq!(Reads::Doubtful.judge(Executed::Reads), Executed::Plain);
        assert_eq!(Reads::Doubtful.judge(Executed::Nothing), Executed::Nothing);
    }
}
