//! Schemas that need no preparation, and the connection that tells so.

use super::private::Private;
use super::*;
use crate::SharedTransaction;
use crate::database::ready::at_once;
use crate::mux::Reads;

/// A role of its own, with what another process has made of the schema for it.
async fn prepared_for(private: &Private, role: &str, schema: &Schema) -> Prepared {
    let client = private.client("postgres").await;
    let create = format!("CREATE ROLE {role} LOGIN CREATEDB CONNECTION LIMIT 2");
    client.batch_execute(&create).await.expect("a role");
    let server = server(&private.config(role, "postgres"));
    let prepared = prepare::prepare(&server, &steps(schema)).await;
    prepared.expect("a database")
}

/// What a test of a process of its own finds.
async fn found(config: &Config, schema: &Schema) -> Option<Prepared> {
    let found = at_once(&server(config), &steps(schema), config).await;
    found.expect("no error")
}

async fn sessions(private: &Private, database: &str) -> Vec<i32> {
    let client = private.client("postgres").await;
    let sessions = "SELECT pid FROM pg_stat_activity WHERE datname = $1";
    let rows = client.query(sessions, &[&database]).await;
    let rows = rows.expect("the sessions");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_first_test_of_a_process_needs_one_connection() {
    let private = Private::join();
    let schema = Schema::sql("CREATE TABLE one_connection ()");
    let prepared = prepared_for(&private, "one_connection", &schema).await;
    // Who connected to this database would be told that it isn't there.
    let config = private.config("one_connection", "nowhere");
    let transaction = SharedTransaction::open(&schema, &config).await;
    let transaction = transaction.expect("a transaction");
    let client = transaction.pool().expect("a pool").get().await;
    let row = client
        .expect("a client")
        .query_one("SELECT pg_backend_pid(), count(*) FROM one_connection", &[])
        .await
        .expect("a row");
    let own: i32 = row.get(0);
    assert_eq!(sessions(&private, &name(&prepared.config)).await, [own]);
    transaction.rollback().await.expect("rolled back");
}

#[tokio::test]
async fn all_is_found_that_a_preparation_finds() {
    let private = Private::join();
    for (role, sql, reads) in [
        ("ready_pure", "CREATE TABLE pure ()", Reads::Pure),
        (
            "ready_doubtful",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            Reads::Doubtful,
        ),
    ] {
        let schema = Schema::sql(sql);
        let prepared = prepared_for(&private, role, &schema).await;
        let found = found(&private.config(role, "postgres"), &schema).await;
        let found = found.expect("a database");
        assert_eq!(
            (found.config, found.template, found.reads),
            (prepared.config, prepared.template, reads)
        );
    }
}

#[tokio::test]
async fn a_database_may_have_a_time_zone_in_which_it_is_another_day() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    for zone in ["<-12>12", "<+12>-12"] {
        let schema = Schema::sql(format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), '{zone}'); END $$"
        ));
        prepared(&server(&config), &steps(&schema)).await;
        assert!(found(&config, &schema).await.is_some(), "{zone}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_prepared() {
    let private = Private::join();
    let config = private.config("postgres", "postgres");
    let schema = Schema::sql("CREATE TABLE not_there ()");
    assert!(found(&config, &schema).await.is_none());
    let prepared = prepared(&server(&config), &steps(&schema)).await;
    let template = format!("{}_template", name(&prepared));
    assert!(found(&config, &schema).await.is_some());
    let client = private.client("postgres").await;
    let drop = format!("DROP DATABASE {template}");
    client.batch_execute(&drop).await.expect("dropped");
    assert!(found(&config, &schema).await.is_none());
}

#[tokio::test]
async fn what_was_not_used_today_is_dated_first() {
    let private = Private::join();
    let schema = Schema::sql("CREATE TABLE of_yesterday ()");
    let prepared = prepared_for(&private, "of_yesterday", &schema).await;
    let client = private.client("postgres").await;
    let comment = format!(
        "COMMENT ON DATABASE {} IS 'last used 2000-01-01'",
        name(&prepared.config)
    );
    client.batch_execute(&comment).await.expect("a comment");
    let config = private.config("of_yesterday", "postgres");
    assert!(found(&config, &schema).await.is_none());
    let dated = prepare::prepare(&server(&config), &steps(&schema)).await;
    dated.expect("a database");
    assert!(found(&config, &schema).await.is_some());
}

#[tokio::test]
async fn a_role_that_becomes_another_one_finds_that_ones_database() {
    let private = Private::join();
    let schema = Schema::sql("CREATE TABLE of_another ()");
    let of_login = prepared_for(&private, "logs_in", &schema).await;
    let client = private.client("postgres").await;
    client
        .batch_execute("CREATE ROLE works CREATEDB; GRANT works TO logs_in; ALTER ROLE logs_in SET role = works")
        .await
        .expect("roles");
    let config = private.config("logs_in", "postgres");
    assert!(found(&config, &schema).await.is_none());
    let found = resolve(&schema, &config).await.expect("a database");
    assert_ne!(name(&found), name(&of_login.config));
}

#[tokio::test]
async fn a_connection_that_waits_for_its_test_makes_room_for_a_preparation() {
    let private = Private::join();
    let schema = Schema::sql("CREATE TABLE makes_room ()");
    prepared_for(&private, "makes_room", &schema).await;
    let config = private.config("makes_room", "postgres");
    assert!(found(&config, &schema).await.is_some());
    // To prepare takes two connections, and the role has no more.
    let other = Schema::sql("CREATE TABLE takes_room ()");
    let other = prepare::prepare(&server(&config), &steps(&other)).await;
    other.expect("a database");
}
