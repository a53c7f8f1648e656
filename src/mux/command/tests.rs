use super::*;

#[path = "../../../tests/data/control.rs"]
mod cases;

const UNSET: Characteristics = Characteristics {
    isolation: None,
    read_only: None,
    deferrable: None,
};

fn of(sql: &str) -> Command {
    Command::of(sql.as_bytes(), true)
}

fn check(table: &[(&str, Command)]) {
    for (sql, expected) in table {
        assert_eq!(of(sql), *expected, "{sql}");
    }
}

fn set(local: bool, setting: &str) -> Command {
    Command::Set {
        local,
        setting: setting.to_owned(),
    }
}

fn reset(setting: &str) -> Command {
    Command::Reset {
        setting: setting.to_owned(),
    }
}

#[test]
fn command_tags_are_those_of_postgresql() {
    for (sql, tag) in cases::CONTROL {
        assert_eq!(of(sql).tag(), *tag, "{sql}");
    }
}

#[test]
fn what_postgresql_rejects_is_left_to_it() {
    for (sql, _) in cases::CONTROL.iter().filter(|(_, tag)| tag.is_none()) {
        assert_eq!(of(sql), Command::Other, "{sql}");
    }
    check(&[
        ("", Command::Other),
        ("-- COMMIT", Command::Other),
        ("COMMIT /*", Command::Other),
    ]);
}

#[test]
fn begin_has_modes() {
    let begin = |start, modes| Command::Begin { start, modes };
    let modes = |isolation, read_only, deferrable| Characteristics {
        isolation,
        read_only,
        deferrable,
    };
    check(&[
        ("BEGIN", begin(false, UNSET)),
        ("START TRANSACTION", begin(true, UNSET)),
        (
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE",
            begin(
                true,
                modes(Some(IsolationLevel::Serializable), Some(true), Some(false)),
            ),
        ),
        (
            "BEGIN WORK READ WRITE ISOLATION LEVEL REPEATABLE READ",
            begin(
                false,
                modes(Some(IsolationLevel::RepeatableRead), Some(false), None),
            ),
        ),
        (
            "BEGIN DEFERRABLE, ISOLATION LEVEL READ COMMITTED",
            begin(
                false,
                modes(Some(IsolationLevel::ReadCommitted), None, Some(true)),
            ),
        ),
        (
            "BEGIN READ ONLY READ WRITE, ISOLATION LEVEL SERIALIZABLE ISOLATION LEVEL READ UNCOMMITTED",
            begin(
                false,
                modes(Some(IsolationLevel::ReadUncommitted), Some(false), None),
            ),
        ),
    ]);
}

#[test]
fn the_end_of_a_block_may_chain() {
    check(&[
        ("COMMIT", Command::Commit { chain: false }),
        ("END WORK AND NO CHAIN", Command::Commit { chain: false }),
        ("END AND CHAIN", Command::Commit { chain: true }),
        ("ROLLBACK TRANSACTION", Command::Rollback { chain: false }),
        ("ABORT AND CHAIN", Command::Rollback { chain: true }),
        ("PREPARE TRANSACTION 'a'", Command::PrepareTransaction),
        ("COMMIT PREPARED 'a'", Command::CommitPrepared),
        ("ROLLBACK PREPARED E'a'", Command::RollbackPrepared),
    ]);
}

#[test]
fn savepoints_have_the_name_that_postgresql_gives_them() {
    check(&[
        ("SAVEPOINT Foo", Command::Savepoint("foo".into())),
        ("SAVEPOINT \"Foo\"", Command::Savepoint("Foo".into())),
        (
            "SAVEPOINT/**/U&\"d!0061ta\" UESCAPE '!'",
            Command::Savepoint("data".into()),
        ),
        (
            "SAVEPOINT U&\"d\\0061ta\"",
            Command::Savepoint("data".into()),
        ),
        ("RELEASE SAVEPOINT sp_1", Command::Release("sp_1".into())),
        ("RELEASE sp_1", Command::Release("sp_1".into())),
        ("RELEASE savepoint", Command::Release("savepoint".into())),
        (
            "RELEASE SAVEPOINT savepoint",
            Command::Release("savepoint".into()),
        ),
        (
            "ROLLBACK TO savepoint",
            Command::RollbackTo("savepoint".into()),
        ),
        (
            "ROLLBACK WORK TO SAVEPOINT sp_1",
            Command::RollbackTo("sp_1".into()),
        ),
    ]);
}

#[test]
fn settings_have_the_name_that_show_takes() {
    let read_only = Characteristics {
        read_only: Some(true),
        ..UNSET
    };
    check(&[
        (
            "SET TRANSACTION READ ONLY",
            Command::SetTransaction(read_only),
        ),
        (
            "SET SESSION TRANSACTION READ ONLY",
            Command::SetTransaction(read_only),
        ),
        (
            "SET LOCAL TRANSACTION SNAPSHOT 'a'",
            Command::SetTransactionSnapshot,
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            Command::SetSessionCharacteristics(read_only),
        ),
        (
            "SET CONSTRAINTS ALL DEFERRED",
            Command::SetConstraints {
                all: true,
                deferred: true,
            },
        ),
        (
            "SET CONSTRAINTS a.b, \"c\" IMMEDIATE",
            Command::SetConstraints {
                all: false,
                deferred: false,
            },
        ),
        ("SET search_path TO a", set(false, "search_path")),
        ("SET SESSION DateStyle = iso", set(false, "datestyle")),
        ("SET LOCAL App.\"Tenant\" = '7'", set(true, "app.tenant")),
        ("SET LOCAL lock_timeout =-1", set(true, "lock_timeout")),
        ("SET a TO DEFAULT", set(false, "a")),
        ("SET a FROM CURRENT", set(false, "a")),
        ("SET local = 1", set(false, "local")),
        ("SET LOCAL session.a TO 1", set(true, "session.a")),
        ("SET transaction.a = 1", set(false, "transaction.a")),
        ("SET names = 'a'", set(false, "names")),
        ("SET TIME ZONE INTERVAL '1' HOUR", set(false, "timezone")),
        ("SET LOCAL TIME ZONE LOCAL", set(true, "timezone")),
        ("SET NAMES", set(false, "client_encoding")),
        ("SET SCHEMA 'a'", set(false, "search_path")),
        ("SET LOCAL ROLE a", set(true, "role")),
        ("SET role = a", set(false, "role")),
        (
            "SET SESSION AUTHORIZATION a",
            set(false, "session_authorization"),
        ),
        (
            "SET LOCAL SESSION AUTHORIZATION a",
            set(true, "session_authorization"),
        ),
        ("SET XML OPTION CONTENT", set(false, "xmloption")),
        ("SET CATALOG 'a'", Command::Other),
        ("RESET ALL", Command::ResetAll),
        ("RESET App.Tenant", reset("app.tenant")),
        ("RESET ROLE", reset("role")),
        ("RESET TIME ZONE", reset("timezone")),
        (
            "RESET SESSION AUTHORIZATION",
            reset("session_authorization"),
        ),
        (
            "RESET TRANSACTION ISOLATION LEVEL",
            reset("transaction_isolation"),
        ),
        ("DISCARD ALL", Command::Discard(Discard::All)),
        ("DISCARD TEMP", Command::Discard(Discard::Temp)),
    ]);
}

#[test]
fn statements_and_cursors_have_names() {
    let cursor = |hold| Command::DeclareCursor {
        name: "a".into(),
        hold,
    };
    check(&[
        ("PREPARE Foo AS SELECT 1", Command::Prepare("foo".into())),
        (
            "PREPARE foo(int, text) AS SELECT $1",
            Command::Prepare("foo".into()),
        ),
        ("EXECUTE foo", Command::Execute("foo".into())),
        ("EXECUTE \"Foo\"(1, ')')", Command::Execute("Foo".into())),
        ("EXPLAIN EXECUTE foo", Command::ReadPrepared("foo".into())),
        (
            "EXPLAIN (ANALYZE, COSTS off) EXECUTE foo",
            Command::ReadPrepared("foo".into()),
        ),
        (
            "EXPLAIN ANALYZE VERBOSE EXECUTE foo",
            Command::ReadPrepared("foo".into()),
        ),
        ("EXPLAIN SELECT 1", Command::Other),
        (
            "CREATE TABLE a.b (c) WITH (d = 'AS') AS EXECUTE foo(1)",
            Command::ReadPrepared("foo".into()),
        ),
        (
            "EXPLAIN CREATE TEMP TABLE IF NOT EXISTS a AS EXECUTE foo",
            Command::ReadPrepared("foo".into()),
        ),
        ("CREATE TABLE a AS SELECT 1 AS execute", Command::Other),
        ("CREATE TABLE a AS (SELECT 1)", Command::Other),
        ("DEALLOCATE PREPARE foo", Command::Deallocate("foo".into())),
        ("DEALLOCATE prepare", Command::Deallocate("prepare".into())),
        ("DEALLOCATE ALL", Command::DeallocateAll),
        ("DECLARE a CURSOR FOR SELECT 1", cursor(false)),
        (
            "DECLARE a INSENSITIVE SCROLL CURSOR WITHOUT HOLD FOR SELECT 1",
            cursor(false),
        ),
        (
            "DECLARE a BINARY CURSOR WITH HOLD FOR SELECT 1",
            cursor(true),
        ),
        ("CLOSE a", Command::CloseCursor("a".into())),
        ("CLOSE ALL", Command::CloseAll),
        ("FETCH a", Command::Other),
    ]);
}

#[test]
fn copies_from_and_to_the_client_are_told_from_the_others() {
    check(&[
        ("COPY a FROM STDIN", Command::CopyFromStdin),
        (
            "copy binary public.\"a\" (b, c) from stdin",
            Command::CopyFromStdin,
        ),
        (
            "COPY a FROM STDOUT WITH (FORMAT csv)",
            Command::CopyFromStdin,
        ),
        ("COPY a TO STDOUT", Command::CopyToStdout),
        (
            "COPY (SELECT (1), 'FROM STDIN)' FROM b) TO STDOUT",
            Command::CopyToStdout,
        ),
        ("COPY a FROM '/stdin'", Command::Other),
        ("COPY a FROM PROGRAM 'stdin'", Command::Other),
    ]);
}

#[test]
fn notifications_have_a_channel_and_a_payload() {
    let notify = |payload: &str| Command::Notify {
        channel: "a".into(),
        payload: payload.into(),
    };
    check(&[
        ("LISTEN A", Command::Listen("a".into())),
        ("UNLISTEN \"A\"", Command::Unlisten("A".into())),
        ("UNLISTEN *", Command::UnlistenAll),
        ("NOTIFY a", notify("")),
        ("NOTIFY a, 'it''s'", notify("it's")),
        ("NOTIFY a, E'\\x41'\n'\\n'", notify("A\n")),
        ("NOTIFY a, $$'b'$$", notify("'b'")),
        ("NOTIFY a, U&'!0041' UESCAPE '!'", notify("A")),
    ]);
    let text = |text: &str| Argument::Text(text.into());
    let pg_notify = |channel, payload| Command::PgNotify { channel, payload };
    check(&[
        ("SELECT pg_notify('A', '')", pg_notify(text("A"), text(""))),
        (
            "select PG_CATALOG . pg_notify ( $$a$$::text , E'\\n' :: TEXT )",
            pg_notify(text("a"), text("\n")),
        ),
        (
            "SELECT pg_notify($2, $1::text)",
            pg_notify(Argument::Parameter(2), Argument::Parameter(1)),
        ),
        ("SELECT pg_notify('a', 'b') FROM t", Command::Other),
        ("SELECT pg_notify('a' || 'b', 'c')", Command::Other),
        ("SELECT pg_notify('a')", Command::Other),
        ("SELECT my.pg_notify('a', 'b')", Command::Other),
        ("SELECT pg_notify('a', $1::int)", Command::Other),
        ("SELECT pg_notify('a', 'b'), 1", Command::Other),
    ]);
    let payload = |sql: &str, standard_conforming_strings| match Command::of(
        sql.as_bytes(),
        standard_conforming_strings,
    ) {
        Command::Notify { payload, .. } => Some(payload),
        _ => None,
    };
    assert_eq!(payload("NOTIFY a, '\\\\'", true), Some(b"\\\\".to_vec()));
    assert_eq!(payload("NOTIFY a, '\\\\'", false), Some(b"\\".to_vec()));
    assert_eq!(
        payload("NOTIFY a, U&'b'", false),
        None,
        "PostgreSQL refuses it as unsafe"
    );
}

/// By the names that PostgreSQL 15 prints before "cannot run inside a transaction block".
#[test]
fn commands_that_cannot_run_in_a_block_are_named() {
    let table = [
        ("VACUUM (FULL) a", Some("VACUUM")),
        ("CREATE DATABASE a", Some("CREATE DATABASE")),
        ("DROP DATABASE IF EXISTS a", Some("DROP DATABASE")),
        (
            "CREATE TABLESPACE a LOCATION 'b'",
            Some("CREATE TABLESPACE"),
        ),
        ("DROP TABLESPACE a", Some("DROP TABLESPACE")),
        ("ALTER SYSTEM RESET ALL", Some("ALTER SYSTEM")),
        (
            "ALTER DATABASE a SET TABLESPACE b",
            Some("ALTER DATABASE SET TABLESPACE"),
        ),
        (
            "ALTER DATABASE a WITH TABLESPACE b",
            Some("ALTER DATABASE SET TABLESPACE"),
        ),
        ("ALTER DATABASE a SET work_mem = 1", None),
        (
            "CREATE UNIQUE INDEX CONCURRENTLY ON a (b)",
            Some("CREATE INDEX CONCURRENTLY"),
        ),
        (
            "CREATE INDEX /* c */ concurrently IF NOT EXISTS a ON b (c)",
            Some("CREATE INDEX CONCURRENTLY"),
        ),
        ("CREATE INDEX a ON b (c)", None),
        ("CREATE INDEX \"concurrently\" ON b (c)", None),
        ("DROP INDEX CONCURRENTLY a", Some("DROP INDEX CONCURRENTLY")),
        ("DROP INDEX a", None),
        ("REINDEX INDEX CONCURRENTLY a", Some("REINDEX CONCURRENTLY")),
        (
            "REINDEX (VERBOSE, CONCURRENTLY) TABLE a",
            Some("REINDEX CONCURRENTLY"),
        ),
        ("REINDEX (VERBOSE) SCHEMA a", Some("REINDEX SCHEMA")),
        ("REINDEX DATABASE a", Some("REINDEX DATABASE")),
        ("REINDEX SYSTEM a", Some("REINDEX SYSTEM")),
        ("REINDEX TABLE a", None),
        ("CLUSTER", Some("CLUSTER")),
        ("CLUSTER VERBOSE", Some("CLUSTER")),
        ("CLUSTER a", None),
        (
            "ALTER TABLE IF EXISTS ONLY a DETACH PARTITION b.c CONCURRENTLY",
            Some("ALTER TABLE ... DETACH CONCURRENTLY"),
        ),
        ("ALTER TABLE a DETACH PARTITION b", None),
        ("ALTER TYPE a ADD VALUE 'b'", None),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY a", None),
        ("ANALYZE", None),
    ];
    for (sql, name) in table {
        assert_eq!(
            of(sql),
            name.map_or(Command::Other, Command::Unrunnable),
            "{sql}"
        );
    }
}

#[test]
fn definitions_of_deferrable_constraints_are_noticed() {
    let table = [
        ("CREATE TABLE a (b int REFERENCES c DEFERRABLE)", true),
        (
            "CREATE TEMP TABLE a (b int UNIQUE INITIALLY /**/ DEFERRED)",
            true,
        ),
        (
            "ALTER TABLE a ADD UNIQUE (b) DEFERRABLE INITIALLY IMMEDIATE",
            true,
        ),
        ("ALTER TABLE a ALTER CONSTRAINT b deferrable", true),
        (
            "CREATE CONSTRAINT TRIGGER a AFTER INSERT ON b INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION c()",
            true,
        ),
        (
            "CREATE SCHEMA a CREATE TABLE b (c int UNIQUE DEFERRABLE)",
            true,
        ),
        ("CREATE TABLE a (b int UNIQUE NOT DEFERRABLE)", false),
        ("CREATE TABLE a (b int UNIQUE INITIALLY IMMEDIATE)", false),
        (
            "CREATE TABLE a (\"deferrable\" text DEFAULT 'DEFERRABLE')",
            false,
        ),
        (
            "CREATE OR REPLACE FUNCTION a() RETURNS int BEGIN ATOMIC SELECT 1 AS deferrable; END",
            false,
        ),
        ("SELECT 1 AS deferrable", false),
    ];
    for (sql, noticed) in table {
        let expected = if noticed {
            Command::CreateDeferrable
        } else {
            Command::Other
        };
        assert_eq!(of(sql), expected, "{sql}");
    }
}

/// Any prefix of a statement may come, and none may be too short to look at.
#[test]
fn no_prefix_panics() {
    for (sql, _) in cases::CONTROL {
        for end in 0..=sql.len() {
            for standard_conforming_strings in [true, false] {
                let command = Command::of(&sql.as_bytes()[..end], standard_conforming_strings);
                assert!(end > 0 || command == Command::Other);
            }
        }
    }
}

#[test]
fn temporary_tables_that_a_commit_ends_are_noticed() {
    let table = |name: &str, on_commit| Command::CreateTable {
        name: name.into(),
        on_commit,
    };
    check(&[
        (
            "CREATE TEMP TABLE x (a int CHECK (a > (0))) ON COMMIT DROP",
            table("x", OnCommit::Drop),
        ),
        (
            "create local temporary table if not exists pg_temp.\"X\" on commit delete rows as select 1",
            table("X", OnCommit::DeleteRows),
        ),
        (
            "CREATE TEMP TABLE x INHERITS (y) WITH (a = 1) ON COMMIT DROP TABLESPACE z",
            table("x", OnCommit::Drop),
        ),
        (
            "CREATE TEMP TABLE x ON COMMIT DROP AS EXECUTE p(1)",
            table("x", OnCommit::Drop),
        ),
        (
            "CREATE TEMP TABLE x (a int) ON COMMIT PRESERVE ROWS",
            Command::Other,
        ),
        (
            "CREATE TABLE x (a int REFERENCES y ON DELETE CASCADE)",
            Command::Other,
        ),
        ("CREATE TABLE x AS SELECT a ON COMMIT DROP", Command::Other),
    ]);
}

#[test]
fn cursors_are_found_where_they_are_named() {
    for (sql, names) in [
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "c"),
        ("CLOSE C", "c"),
        ("CLOSE ALL", ""),
        ("FETCH c", "c"),
        ("FETCH NEXT FROM c", "c"),
        ("FETCH -5 IN \"C\"", "C"),
        ("MOVE BACKWARD ALL FROM U&\"!0063\" UESCAPE '!'", "c"),
        ("MOVE next", "next"),
        ("FETCH FROM", ""),
        ("UPDATE t SET a = 1 WHERE CURRENT OF c", "c"),
        (
            "PREPARE p AS DELETE FROM t WHERE CURRENT OF c RETURNING *",
            "c",
        ),
        (
            "WITH a AS (DELETE FROM t WHERE CURRENT OF b) UPDATE u SET v = 1 WHERE CURRENT OF c",
            "b c",
        ),
        ("SELECT 'CURRENT OF c'", ""),
    ] {
        let found: Vec<_> = Command::cursors(sql.as_bytes(), true)
            .into_iter()
            .map(|mention| mention.name.to_string())
            .collect();
        assert_eq!(found.join(" "), names, "{sql}");
    }
}
