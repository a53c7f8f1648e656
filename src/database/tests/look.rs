//! What is found in a database.

use super::*;
use crate::mux::Reads;

/// Beside a table and a sequence each of these is found to be so, by the process that prepares it and by the next one.
async fn assert_each(definitions: &[&str], expected: Reads) {
    let private = Private::join();
    let server = server(&private.config("postgres", "postgres"));
    for sql in definitions {
        let schema = Schema::sql(format!(
            "CREATE TABLE item (n int); CREATE SEQUENCE numbers; {sql}"
        ));
        for _ in 0..2 {
            let prepared = prepare::prepare(&server, &steps(&schema)).await.expect(sql);
            assert_eq!(prepared.reads, expected, "{sql}");
        }
    }
}

#[tokio::test]
async fn what_cannot_write_when_it_is_read_is_trusted() {
    let definitions = [
        "",
        "CREATE EXTENSION pg_trgm",
        "CREATE VIEW v AS SELECT n, lower('A') FROM item WHERE n > 0",
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON item USING (n = current_setting('a.b')::int)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_notify(''a'', ''b''); RETURN NEW; END'",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.created_at := now(); RETURN NEW; END'",
    ];
    assert_each(&definitions, Reads::Pure).await;
}

#[tokio::test]
async fn what_may_write_when_it_is_read_is_found() {
    let definitions = [
        "CREATE FUNCTION note() RETURNS void LANGUAGE sql AS 'INSERT INTO item VALUES (1)'",
        "CREATE FUNCTION stable() RETURNS text STABLE LANGUAGE sql AS $$SELECT set_config('a.b', 'c', false)$$",
        "CREATE FUNCTION number(regclass) RETURNS bigint LANGUAGE internal AS 'nextval_oid'",
        "CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int)",
        "CREATE OPERATOR ### (FUNCTION = nextval, RIGHTARG = regclass)",
        "CREATE CAST (text AS oid) WITH FUNCTION lo_import(text) AS IMPLICIT",
        "CREATE VIEW v AS SELECT nextval('numbers')",
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON item USING (set_config('a.b', 'c', false) = 'c')",
        "CREATE DOMAIN noted AS int CHECK (nextval('numbers') > 0)",
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; \
         CREATE FOREIGN TABLE file (n int) SERVER files OPTIONS (filename '/dev/null')",
        "CREATE FUNCTION define() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN EXECUTE ''CREATE VIEW v AS SELECT 1''; RETURN NEW; END'",
        "CREATE FUNCTION alter() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN ALTER DOMAIN positive ADD CHECK (nextval(''numbers'') > 0); RETURN NEW; END'",
    ];
    assert_each(&definitions, Reads::Doubtful).await;
}

#[tokio::test]
async fn what_was_found_is_known_to_another_package() {
    let private = Private::join();
    let server = server(&private.config("postgres", "postgres"));
    let steps = steps(&Schema::sql("CREATE TABLE found ()"));
    let first = prepare::prepare(&server, &steps).await.expect("a database");
    let client = private.client("postgres").await;
    for name in [&name(&first.config), &first.template] {
        let elsewhere = format!(
            "DO $$ BEGIN EXECUTE (SELECT format('COMMENT ON DATABASE {name} IS %L', regexp_replace(
                 shobj_description(oid, 'pg_database'), 'prepared for [^,]*', 'prepared for /elsewhere'))
                 FROM pg_database WHERE datname = '{name}'); END $$"
        );
        client.batch_execute(&elsewhere).await.expect("a comment");
    }
    let second = prepare::prepare(&server, &steps).await.expect("a database");
    assert_eq!((first.reads, second.reads), (Reads::Pure, Reads::Pure));
}
