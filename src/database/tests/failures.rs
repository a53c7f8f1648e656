//! What a user reads when a schema can't be prepared.

use std::fs;

use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::eight_at_once;
use super::private::{Private, connect};
use crate::config::Config;
use crate::database::resolve;
use crate::error::Error;
use crate::schema::Schema;

#[tokio::test]
async fn a_failing_statement_is_shown_with_its_place() {
    let private = Private::join();
    let dir = TempDir::new().expect("a directory");
    fs::write(
        dir.path().join("1.sql"),
        "CREATE TABLE failing (a int UNIQUE);",
    )
    .expect("a file");
    let file = dir.path().join("2.sql");
    // A role of its own, to see that no database of its remains.
    let client = private.client("postgres").await;
    client
        .batch_execute("CREATE ROLE failing LOGIN CREATEDB")
        .await
        .expect("a role");
    let config = private.config("failing", "postgres");
    for (text, expected) in [
        (
            "INSERT INTO failing VALUES (1);\n\n-- ä\nINSERT INTO fooling VALUES (2);\n",
            "the schema failed at DIR/2.sql:4:13\n  caused by: ERROR 42P01: relation \"fooling\" does not exist",
        ),
        (
            "SELECT 'ä';\nSELECT FRM;",
            "the schema failed at DIR/2.sql:2:8\n  caused by: ERROR 42703: column \"frm\" does not exist",
        ),
        (
            "INSERT INTO failing VALUES (1);\n -- again;\n INSERT INTO failing VALUES (1);",
            "the schema failed at DIR/2.sql:3:2, in its statement 2\n  caused by: ERROR 23505: duplicate key value violates \
            unique constraint \"failing_a_key\"\nDETAIL: Key (a)=(1) already exists.",
        ),
        (
            "DO $$ BEGIN\n  RAISE 'oh no';\nEND $$",
            "the schema failed at DIR/2.sql:1:1, in its statement 1\n  caused by: ERROR P0001: oh no\n  \
            help: PL/pgSQL function inline_code_block line 2 at RAISE",
        ),
        (
            "COPY failing FROM STDIN;",
            "the schema failed at DIR/2.sql:1:1, in its statement 1\n  caused by: unexpected message from server\n  \
            help: COPY FROM STDIN and COPY TO STDOUT take their data from outside of SQL, which a schema has not: \
            use INSERT (pg_dump --inserts writes it)",
        ),
        (
            "BEGIN; INSERT INTO failing VALUES (1);",
            "DIR/2.sql leaves a transaction open\n  help: it has a BEGIN without its COMMIT",
        ),
    ] {
        fs::write(&file, text).expect("a file");
        let error = resolve(&Schema::dir(dir.path()), &config)
            .await
            .expect_err("an error");
        let shown = format!("{error:?}").replace(&dir.path().display().to_string(), "DIR");
        assert_eq!(shown, expected);
    }
    let failing_code = Schema::run("failing", async |client| {
        client
            .batch_execute("CREATE TABLE kept (); SELEKT 1")
            .await?;
        Ok(())
    });
    let panicking = Schema::run("panicking", async |_| panic!("oh no"));
    let open = Schema::run("open", async |client| {
        Ok(client.batch_execute("BEGIN").await?)
    });
    let failing_at = Schema::run_at("failing at", async |_| Err(Error::other("exit status: 1")));
    let panicking_at = Schema::run_at("panicking at", async |_| panic!("oh no"));
    for (schema, expected) in [
        (
            failing_at,
            "the schema's code failed\n  caused by: exit status: 1",
        ),
        (
            panicking_at,
            "the schema's code panicked\n  caused by: oh no",
        ),
        (
            failing_code,
            "the schema's code failed\n  caused by: the database refused or failed a request\n  \
            caused by: ERROR 42601: syntax error at or near \"SELEKT\"",
        ),
        (panicking, "the schema's code panicked\n  caused by: oh no"),
        (
            open,
            "the schema's code leaves a transaction open\n  help: it has a BEGIN without its COMMIT",
        ),
    ] {
        let error = resolve(&schema, &config).await.expect_err("an error");
        assert_eq!(format!("{error:?}"), expected);
    }
    let failing = Schema::sql("SELEKT 1");
    for _ in 0..2 {
        let error = resolve(&failing, &config).await.expect_err("an error");
        assert_eq!(
            format!("{error:?}"),
            "the schema failed at <Schema::sql>:1:1\n  caused by: ERROR 42601: syntax error at or near \"SELEKT\""
        );
    }
    let left = client
        .query(
            "SELECT FROM pg_database WHERE pg_get_userbyid(datdba) = 'failing'",
            &[],
        )
        .await
        .expect("the databases");
    assert_eq!(left.len(), 0);
}

#[tokio::test]
async fn code_that_stays_connected_is_told_so() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    // Its own runtime ends with it, and so do connections there.
    let runtime = Handle::current();
    let (keep, mut kept) = mpsc::unbounded_channel();
    let schema = Schema::run_at("connected", async move |url| {
        let config: tokio_postgres::Config = url.parse()?;
        let client = runtime.spawn(async move { connect(&config).await }).await;
        keep.send(client.map_err(Error::other)?)
            .map_err(Error::other)
    });
    let error = resolve(&schema, &config).await.expect_err("an error");
    let draft = format!("{error:?}");
    let draft = draft.split('"').nth(1).expect("its name");
    assert_eq!(
        format!("{error:?}").replace(draft, "DRAFT"),
        "the schema's code has left connections to its database open\n  \
        caused by: ERROR 55006: source database \"DRAFT\" is being accessed by other users\n\
        DETAIL: There is 1 other session using the database.\n  \
        help: close them before it returns, and wait for the programs that it starts: the database is copied then, and \
        nobody may be connected to it"
    );
    assert!(kept.recv().await.is_some());
    assert_eq!(private.databases_like(draft).await.len(), 0);
}

#[test]
fn an_error_is_told_to_all_and_tried_again() {
    let private = Private::join();
    let schema = Schema::sql("CREATE EXTENSION later");
    let config = private.config("postgres", "postgres");
    let errors = eight_at_once(async || {
        resolve(&schema, &config)
            .await
            .expect_err("an error")
            .to_string()
    });
    assert_eq!(
        errors,
        vec!["the schema failed at <Schema::sql>:1:1, in its statement 1"; 8]
    );
}

#[tokio::test]
async fn a_role_that_may_not_create_databases_is_told_how() {
    let private = Private::join();
    let client = private.client("postgres").await;
    client
        .batch_execute("CREATE ROLE \"Alice\" LOGIN")
        .await
        .expect("a role");
    let config = private.config("Alice", "postgres");
    let schema = Schema::sql("CREATE TABLE privileged ()");
    let error = resolve(&schema, &config).await.expect_err("an error");
    assert_eq!(
        format!("{error:?}"),
        format!(
            "cannot create a database for the schema on the server of Config::database_url at {}\n  \
            caused by: ERROR 42501: permission denied to create database\n  \
            help: let the role create databases, as a superuser:\n            ALTER ROLE \"Alice\" CREATEDB;\n        \
            or use the database as it is, with Schema::existing()",
            private.dir().display()
        )
    );
    client
        .batch_execute("ALTER ROLE \"Alice\" CREATEDB")
        .await
        .expect("the remedy");
    resolve(&schema, &config).await.expect("a database");
}

#[tokio::test]
async fn a_server_that_does_not_run_is_named() {
    let dir = TempDir::new().expect("a directory");
    let config = Config::new().database_url(format!("host={} user=alice", dir.path().display()));
    let error = resolve(&Schema::sql(""), &config)
        .await
        .expect_err("an error");
    assert_eq!(
        format!("{error:?}").replace(&dir.path().display().to_string(), "DIR"),
        "cannot connect to the server of Config::database_url at DIR\n  \
        caused by: no connection to PostgreSQL at DIR/.s.PGSQL.5432 (user 'alice', database named like the user)\n  \
        caused by: No such file or directory (os error 2)\n  \
        help: start PostgreSQL, or correct the host and the port of the connection string"
    );
}

#[tokio::test]
async fn a_server_that_refuses_a_connection_says_why() {
    let private = Private::join();
    let config = private.config("postgres", "nowhere");
    let error = resolve(&Schema::sql(""), &config)
        .await
        .expect_err("an error");
    assert_eq!(
        format!("{error:?}"),
        format!(
            "cannot connect to the server of Config::database_url at {0}\n  \
            caused by: no connection to PostgreSQL at {0}/.s.PGSQL.5432 (user 'postgres', database 'nowhere')\n  \
            caused by: FATAL 3D000: database \"nowhere\" does not exist\n  \
            help: create the database (`createdb NAME`) or name another one in the connection string",
            private.dir().display()
        )
    );
}
