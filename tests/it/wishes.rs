//! What clients want to be set when they connect: it is so, RESET goes back to it, and it is nobody else's.

use actix_shareddb::SharedTransaction;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::programs::{output, psql};
use crate::socket::{SCHEMA, shared};
use crate::stage::{Database, connect};

/// What a client is told when it connects: the settings that are reported, or why it can't have them.
async fn greeting(config: &Config) -> Result<(Client, Vec<String>), String> {
    let (client, mut connection) = match config.connect(NoTls).await {
        Ok(connected) => connected,
        Err(error) => {
            let error = error.as_db_error().expect("the server has answered");
            return Err(format!(
                "{} {} {} {:?} {:?}",
                error.severity(),
                error.code().code(),
                error.message(),
                error.detail(),
                error.hint()
            ));
        }
    };
    let reported = |name| format!("{name}: {:?}", connection.parameter(name));
    let names = [
        "DateStyle",
        "IntervalStyle",
        "TimeZone",
        "application_name",
        "client_encoding",
        "default_transaction_read_only",
        "standard_conforming_strings",
    ];
    let reported = names.map(reported).to_vec();
    tokio::spawn(async move {
        let _ = std::future::poll_fn(|context| {
            while let std::task::Poll::Ready(message) = connection.poll_message(context) {
                if message.is_none_or(|message| message.is_err()) {
                    return std::task::Poll::Ready(());
                }
            }
            std::task::Poll::Pending
        })
        .await;
    });
    Ok((client, reported))
}

async fn said(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(messages) => {
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(format!("{:?}", row.get(0))),
                _ => None,
            });
            format!("{sql}: {}", rows.collect::<Vec<_>>().join(", "))
        }
        Err(error) => format!("{sql}: {}", error.as_db_error().unwrap().message()),
    }
}

const WISHES: &str = "-c search_path=pg_catalog,\\ information_schema -c work_mem=7MB --extra-float-digits=0 \
     -c app.tenant=o\\'neill$\\\\x -c idle_session_timeout=90s";

/// What a client sees of its settings, and sets back.
const SCRIPT: [&str; 31] = [
    "SHOW search_path",
    "SHOW work_mem",
    "SHOW extra_float_digits",
    "SHOW app.tenant",
    "SHOW idle_session_timeout",
    "SHOW DateStyle",
    "SELECT '2001-02-03'::date",
    "SET work_mem = '8MB'",
    "SHOW work_mem",
    "RESET work_mem",
    "SHOW work_mem",
    "SET search_path = public; SET work_mem = '9MB'; RESET search_path; SHOW search_path",
    "SHOW work_mem",
    "SET work_mem TO DEFAULT",
    "SHOW work_mem",
    "SET DateStyle = ISO; SET app.tenant = ''",
    "RESET ALL",
    "SELECT '2001-02-03'::date, current_setting('app.tenant')",
    "SHOW app.tenant",
    "BEGIN; RESET work_mem; SET work_mem = '5MB'; SET LOCAL app.tenant = 'local'; SHOW app.tenant",
    "SHOW work_mem",
    "ROLLBACK",
    "SHOW app.tenant",
    "SHOW work_mem",
    "BEGIN; SET work_mem = '5MB'",
    "RESET work_mem; SHOW work_mem; ROLLBACK",
    "SET work_mem = '4MB'; SET idle_session_timeout = 0",
    "DISCARD ALL",
    "SHOW work_mem",
    "SHOW idle_session_timeout",
    "RESET nonsense",
];

/// Connects and plays the script; before each step something else may happen.
async fn play(config: &Config, before: impl AsyncFn()) -> Vec<String> {
    let mut config = config.clone();
    config.options(WISHES).application_name("a guest");
    let (client, mut seen) = greeting(&config).await.unwrap();
    let reset = client.prepare("RESET work_mem").await.unwrap();
    for sql in SCRIPT {
        before().await;
        seen.push(said(&client, sql).await);
    }
    // DISCARD ALL has deallocated the other one.
    assert!(client.execute(&reset, &[]).await.is_err());
    let reset = client.prepare("RESET work_mem").await.unwrap();
    let default = client.prepare("SET work_mem TO DEFAULT").await.unwrap();
    for statement in [&reset, &default] {
        seen.push(said(&client, "SET work_mem = '3MB'").await);
        before().await;
        client.execute(statement, &[]).await.unwrap();
        seen.push(said(&client, "SHOW work_mem").await);
    }
    seen
}

#[tokio::test]
async fn what_a_client_starts_with_is_as_on_a_plain_server() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let url: Config = transaction.database_url().unwrap().parse().unwrap();
        let pool = transaction.pool().unwrap();
        let neighbour = pool.get().await.unwrap();
        neighbour
            .batch_execute("SET work_mem = '66MB'")
            .await
            .unwrap();
        let alone = play(&url, async || {}).await;
        let among_others = play(&url, async || {
            // In the midst of a block it would have to wait, so it asks for nothing then.
            let shown = neighbour.simple_query("SHOW work_mem");
            let shown = tokio::time::timeout(std::time::Duration::ZERO, shown).await;
            drop(shown);
        })
        .await;
        assert_eq!(
            said(&neighbour, "SHOW work_mem").await,
            "SHOW work_mem: Some(\"66MB\")"
        );
        transaction.rollback().await.unwrap();
        let plain = play(&database.config, async || {}).await;
        assert_eq!(alone, plain);
        assert_eq!(among_others, plain);
    })
    .await;
}

#[tokio::test]
async fn a_parameter_takes_back_an_option() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let url: Config = transaction.database_url().unwrap().parse().unwrap();
        let mut seen = Vec::new();
        for config in [&database.config, &url] {
            let mut config = config.clone();
            // What the driver itself asks for comes later.
            config.options("-c client_encoding=LATIN1 -c work_mem=7MB -c work_mem=9MB -c geqo=on");
            let (client, mut lines) = greeting(&config).await.unwrap();
            lines.retain(|line| !line.starts_with("application_name"));
            for name in ["work_mem", "client_encoding", "geqo"] {
                lines.push(said(&client, &format!("SHOW {name}")).await);
            }
            seen.push(lines);
        }
        assert_eq!(seen[0], seen[1]);
        transaction.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_the_server_does_not_take_is_refused_at_the_door() {
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let url: Config = transaction.database_url().unwrap().parse().unwrap();
        for options in [
            "-c nonsense=1",
            "-c DateStyle=nonsense",
            "--work-mem=nonsense",
            "-c max_connections=7",
            "-c role=nobody_of_that_name",
            "-q",
            "-c",
        ] {
            let refused = async |config: &Config| {
                let mut config = config.clone();
                config.options(options);
                greeting(&config).await.map(|(_, reported)| reported)
            };
            let plain = refused(&database.config).await;
            assert!(plain.is_err(), "{plain:?}");
            assert_eq!(refused(&url).await, plain, "{options}");
        }
        // That has cost nobody anything.
        let client = connect(&url).await;
        client
            .execute("INSERT INTO t (v) VALUES ('good')", &[])
            .await
            .unwrap();
        transaction.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn psql_takes_its_options_from_the_environment() {
    shared(async |transaction| {
        let url = transaction.database_url().unwrap();
        let pool = transaction.pool().unwrap();
        let client = pool.get().await.unwrap();
        client
            .batch_execute("CREATE SCHEMA x; CREATE TABLE x.only_here ()")
            .await
            .unwrap();
        let mut command = psql(&url);
        command
            .env("PGOPTIONS", "-c search_path=x")
            .env("PGDATESTYLE", "German")
            .env("PGTZ", "Asia/Tokyo")
            .args(["-c", "SELECT count(*) FROM only_here"])
            .args(["-c", "SELECT '2001-02-03'::date", "-c", "SHOW timezone"]);
        assert_eq!(output(command).await, "0\n03.02.2001\nAsia/Tokyo\n");
    })
    .await;
}

/// What the server knows the transaction's connection by.
async fn name_on_the_server(database: &Database) -> String {
    let sql = "SELECT application_name FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    database.observer.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_server_knows_the_connection_by_the_name_of_the_test() {
    const NAME: &str = "wishes::the_server_knows_the_connection_by_the_name_of_the_test";
    let named = |name: &str| NAME.ends_with(name);
    Database::with(SCHEMA, async |database| {
        let transaction = database.open().await;
        let name = async |client: &Client| said(client, "SHOW application_name").await;
        let pool = transaction.pool().unwrap();
        let client = pool.get().await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        let shown = name_on_the_server(database).await;
        assert!(shown.len() > 50 && named(&shown), "{shown}");
        assert_eq!(
            name(&client).await,
            format!("SHOW application_name: Some({shown:?})")
        );

        // Who gives a name has it, and is seen by it while it works.
        let guest = outsider(&transaction, "a guest").await;
        assert_eq!(
            name(&guest).await,
            "SHOW application_name: Some(\"a guest\")"
        );
        assert_eq!(name_on_the_server(database).await, "a guest");
        guest
            .batch_execute("SET application_name = 'another'")
            .await
            .unwrap();
        assert_eq!(
            name(&client).await,
            format!("SHOW application_name: Some({shown:?})")
        );
        assert_eq!(name_on_the_server(database).await, shown);
        assert_eq!(
            name(&guest).await,
            "SHOW application_name: Some(\"another\")"
        );
        guest.batch_execute("RESET application_name").await.unwrap();
        assert_eq!(
            name(&guest).await,
            "SHOW application_name: Some(\"a guest\")"
        );
        client
            .batch_execute("SET application_name = 'x'; RESET application_name")
            .await
            .unwrap();
        assert_eq!(
            name(&client).await,
            format!("SHOW application_name: Some({shown:?})")
        );

        drop((client, guest));
        transaction.rollback().await.unwrap();
        // The connection that is kept has no test.
        database
            .until(
                "SELECT application_name = 'actix-shareddb' FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
    })
    .await;
}

async fn outsider(transaction: &SharedTransaction, name: &str) -> Client {
    let mut config: Config = transaction.database_url().unwrap().parse().unwrap();
    config.application_name(name);
    connect(&config).await
}
