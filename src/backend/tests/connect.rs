//! Authentication, the stream taken back, and cancelling, on a real server.

use std::error::Error as _;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::Config;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::fallible_iterator::FallibleIterator;

use super::super::Backend;
use super::postgres::PrivatePostgres;
use crate::error::Error;

/// Each role is let in by one method only; `r_missing` doesn't exist.
const METHODS: [(&str, &str); 6] = [
    ("r_trust", "trust"),
    ("r_password", "password"),
    ("r_md5", "md5"),
    ("r_scram", "scram-sha-256"),
    ("r_missing", "trust"),
    ("postgres", "trust"),
];

const ROLES: &str = "\
CREATE ROLE r_trust LOGIN
CREATE ROLE r_password LOGIN PASSWORD 'secret'
SET password_encryption = 'md5'
CREATE ROLE r_md5 LOGIN PASSWORD 'secret'
SET password_encryption = 'scram-sha-256'
CREATE ROLE r_scram LOGIN PASSWORD 'secret'
";

/// The server that these tests share while any of them runs; the last one to end stops it.
fn server() -> Arc<PrivatePostgres> {
    static SERVER: Mutex<Weak<PrivatePostgres>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let hba: String = METHODS
            .iter()
            .map(|(role, method)| {
                format!("local all {role} {method}\nhost all {role} 127.0.0.1/32 {method}\n")
            })
            .collect();
        let started = Arc::new(PrivatePostgres::start(&hba, ROLES));
        *shared = Arc::downgrade(&started);
        started
    })
}

/// For each transport, how to reach the server through it, and the address as an error shows it.
fn transports(server: &PrivatePostgres) -> [(Config, String); 2] {
    let (port, directory) = (server.port(), server.directory());
    let mut tcp = Config::new();
    tcp.host("127.0.0.1").port(port).dbname("postgres");
    let mut unix = Config::new();
    unix.host_path(directory).port(port).dbname("postgres");
    let path = directory.join(format!(".s.PGSQL.{port}"));
    [
        (tcp, format!("127.0.0.1:{port}")),
        (unix, path.display().to_string()),
    ]
}

async fn refusal(config: &Config) -> Error {
    match Backend::connect(config, None).await {
        Ok(_) => panic!("the connection was expected to be refused"),
        Err(error) => error,
    }
}

fn sqlstate(error: &Error) -> Option<&SqlState> {
    Some(error.source()?.downcast_ref::<DbError>()?.code())
}

async fn send(backend: &mut Backend, sql: &str) {
    let mut message = BytesMut::new();
    frontend::query(sql, &mut message).unwrap();
    backend.stream.write_all(&message).await.unwrap();
}

/// Everything that the server says until it is ready again: first columns of rows, command tags and SQLSTATEs.
async fn answer(backend: &mut Backend) -> Vec<String> {
    let mut received = BytesMut::new();
    let mut answer = Vec::new();
    loop {
        match Message::parse(&mut received).unwrap() {
            Some(Message::DataRow(row)) => {
                let column = row.ranges().next().unwrap().unwrap().unwrap();
                answer.push(String::from_utf8(row.buffer()[column].to_vec()).unwrap());
            }
            Some(Message::CommandComplete(body)) => answer.push(body.tag().unwrap().to_owned()),
            Some(Message::ErrorResponse(body)) => {
                let code = body
                    .fields()
                    .find(|field| Ok(field.type_() == b'C'))
                    .unwrap();
                answer.push(String::from_utf8(code.unwrap().value_bytes().to_vec()).unwrap());
            }
            Some(Message::ReadyForQuery(_)) => {
                assert!(received.is_empty());
                return answer;
            }
            Some(_) => {}
            None => {
                let count = backend.stream.read_buf(&mut received).await.unwrap();
                assert_ne!(count, 0, "the server closed the connection");
            }
        }
    }
}

async fn ask(backend: &mut Backend, sql: &str) -> Vec<String> {
    send(backend, sql).await;
    answer(backend).await
}

#[tokio::test]
async fn every_method_works_on_every_transport() {
    let server = server();
    for (config, place) in transports(&server) {
        for (role, _) in &METHODS[..4] {
            let mut config = config.clone();
            config.user(*role).password("secret");
            let mut backend = Backend::connect(&config, None).await.unwrap();
            assert_eq!(
                ask(&mut backend, "SELECT current_user").await,
                [*role, "SELECT 1"],
                "{place}"
            );
            let process_id = ask(&mut backend, "SELECT pg_backend_pid()").await;
            assert_eq!(process_id[0], backend.process_id.to_string());
        }
    }
}

/// The method `md5` of `pg_hba.conf` silently becomes SCRAM for a role whose password is stored that way.
#[tokio::test]
async fn the_passwords_are_stored_as_the_methods_need_them() {
    let server = server();
    let [(mut config, _), _] = transports(&server);
    let mut backend = Backend::connect(config.user("postgres"), None)
        .await
        .unwrap();
    let sql = "SELECT rolname || ' ' || left(rolpassword, 5) FROM pg_authid \
               WHERE rolpassword IS NOT NULL ORDER BY rolname COLLATE \"C\"";
    let stored = ask(&mut backend, sql).await;
    assert_eq!(stored.len(), 4);
    assert!(stored[0].starts_with("r_md5 md5"), "{stored:?}");
    assert_eq!(stored[2], "r_scram SCRAM");
}

#[tokio::test]
async fn startup_options_are_passed_on_and_parameters_kept_in_order() {
    let server = server();
    let [(mut config, _), _] = transports(&server);
    config
        .user("r_trust")
        .application_name("the name")
        .options("-c datestyle=German -c work_mem=1234kB");
    let mut backend = Backend::connect(&config, None).await.unwrap();

    let parameter = |name: &str| {
        let mut values = backend.parameters.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.clone());
        assert!(values.next().is_none(), "{name} was reported twice");
        value
    };
    assert_eq!(parameter("application_name").as_deref(), Some("the name"));
    assert_eq!(parameter("DateStyle").as_deref(), Some("German, DMY"));
    assert_eq!(parameter("client_encoding").as_deref(), Some("UTF8"));
    assert_eq!(
        parameter("standard_conforming_strings").as_deref(),
        Some("on")
    );
    assert!(parameter("server_version").is_some());
    assert_eq!(ask(&mut backend, "SHOW work_mem").await, ["1234kB", "SHOW"]);
}

#[tokio::test]
async fn a_wrong_password_is_told_with_place_user_database_and_remedy() {
    let server = server();
    for (config, place) in transports(&server) {
        for role in ["r_password", "r_md5", "r_scram"] {
            let mut config = config.clone();
            config.user(role).password("wrong");
            let error = refusal(&config).await;
            assert_eq!(
                format!("{error:?}"),
                format!(
                    "no connection to PostgreSQL at {place} (user '{role}', database 'postgres')\n  \
                     caused by: FATAL 28P01: password authentication failed for user \"{role}\"\n  \
                     help: check the user and the password of the connection string"
                )
            );
            assert_eq!(sqlstate(&error), Some(&SqlState::INVALID_PASSWORD));
        }
    }
}

#[tokio::test]
async fn a_missing_password_is_told() {
    let server = server();
    for (mut config, place) in transports(&server) {
        for role in ["r_password", "r_md5", "r_scram"] {
            config.user(role);
            let error = refusal(&config).await;
            assert_eq!(
                format!("{error:?}"),
                format!(
                    "no connection to PostgreSQL at {place} (user '{role}', database 'postgres')\n  \
                     caused by: invalid configuration\n  \
                     caused by: password missing\n  \
                     help: the server asks for a password: add one to the connection string"
                )
            );
        }
    }
}

#[tokio::test]
async fn a_missing_database_and_a_missing_role_are_told_apart() {
    let server = server();
    let [(config, _), _] = transports(&server);

    let error = refusal(config.clone().user("r_trust").dbname("nowhere")).await;
    assert_eq!(sqlstate(&error), Some(&SqlState::INVALID_CATALOG_NAME));
    let words = format!("{error:?}");
    assert!(
        words.contains("database \"nowhere\" does not exist"),
        "{words}"
    );
    assert!(
        words.contains("help: create the database (`createdb NAME`)"),
        "{words}"
    );

    let error = refusal(config.clone().user("r_missing")).await;
    let words = format!("{error:?}");
    assert!(
        words.contains("role \"r_missing\" does not exist"),
        "{words}"
    );
    assert!(
        words.contains("help: if the role is missing, create it"),
        "{words}"
    );

    let error = refusal(config.clone().user("r_unknown")).await;
    let words = format!("{error:?}");
    assert!(
        words.contains("no pg_hba.conf entry for host \"127.0.0.1\""),
        "{words}"
    );
    assert!(words.contains("if pg_hba.conf shuts it out"), "{words}");
}

#[tokio::test]
async fn a_missing_privilege_is_told_with_the_statement_that_grants_it() {
    let server = server();
    let [(config, _), _] = transports(&server);
    let mut admin = Backend::connect(config.clone().user("postgres"), None)
        .await
        .unwrap();
    for sql in [
        "CREATE DATABASE \"closed Up\"",
        "REVOKE ALL ON DATABASE \"closed Up\" FROM PUBLIC",
        "ALTER ROLE r_md5 NOLOGIN",
    ] {
        ask(&mut admin, sql).await;
    }

    for (role, database, remedy) in [
        (
            "r_trust",
            "closed Up",
            "GRANT CONNECT ON DATABASE \"closed Up\" TO \"r_trust\";",
        ),
        ("r_md5", "postgres", "ALTER ROLE \"r_md5\" LOGIN;"),
    ] {
        let mut config = config.clone();
        config.user(role).dbname(database).password("secret");
        let words = format!("{:?}", refusal(&config).await);
        assert!(words.contains(remedy), "{words}");
        ask(&mut admin, remedy).await;
        Backend::connect(&config, None)
            .await
            .expect("the remedy helps");
    }
}

#[tokio::test]
async fn an_unreachable_host_is_passed_over() {
    let server = server();
    let mut config = Config::new();
    config
        .host_path(server.directory().join("nothing"))
        .port(1)
        .host("127.0.0.1")
        .port(server.port())
        .user("r_trust")
        .dbname("postgres");
    let mut backend = Backend::connect(&config, None).await.unwrap();
    assert_eq!(ask(&mut backend, "SELECT 1").await, ["1", "SELECT 1"]);
}

#[tokio::test]
async fn a_server_that_refuses_ends_the_search() {
    let server = server();
    let untouched = TcpListener::bind("127.0.0.1:0").unwrap();
    untouched.set_nonblocking(true).unwrap();
    let mut config = Config::new();
    config
        .host_path(server.directory().join("nothing"))
        .port(1)
        .host_path(server.directory())
        .port(server.port())
        .host("127.0.0.1")
        .port(untouched.local_addr().unwrap().port())
        .user("r_scram")
        .password("wrong")
        .dbname("postgres");
    let error = refusal(&config).await;
    let directory = server.directory().display();
    assert_eq!(
        error.to_string(),
        format!(
            "no connection to PostgreSQL at {directory}/.s.PGSQL.{} (user 'r_scram', database 'postgres'), \
             nor before at {directory}/nothing/.s.PGSQL.1: No such file or directory (os error 2)",
            server.port()
        )
    );
    let knocked = untouched.accept().expect_err("no one may come here");
    assert_eq!(knocked.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_running_statement_is_cancelled() {
    let server = server();
    for (mut config, _) in transports(&server) {
        let mut backend = Backend::connect(config.user("r_trust"), None)
            .await
            .unwrap();
        let mut observer = Backend::connect(&config, None).await.unwrap();
        send(&mut backend, "SELECT pg_sleep(60)").await;
        wait_until_active(&mut observer, backend.process_id).await;

        backend.canceller().cancel().await.unwrap();
        assert_eq!(answer(&mut backend).await, ["57014"]);
        assert_eq!(ask(&mut backend, "SELECT 1").await, ["1", "SELECT 1"]);
    }
}

/// Returns once the statement executes: a cancel that comes earlier than that finds nothing to cancel.
async fn wait_until_active(observer: &mut Backend, process_id: i32) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {process_id} AND wait_event = 'PgSleep'"
    );
    while ask(observer, &sql).await != ["1", "SELECT 1"] {}
}

/// What makes it safe to dispatch the next statement once `cancel` has returned.
#[tokio::test]
async fn a_cancel_that_has_returned_hits_nothing_that_is_sent_afterwards() {
    let server = server();
    let [_, (mut config, _)] = transports(&server);
    let mut backend = Backend::connect(config.user("r_trust"), None)
        .await
        .unwrap();
    for _ in 0..200 {
        backend.canceller().cancel().await.unwrap();
        let answer = ask(
            &mut backend,
            "SELECT count(*) FROM generate_series(1, 1000)",
        )
        .await;
        assert_eq!(answer, ["1000", "SELECT 1"]);
    }
}

#[tokio::test]
async fn a_stopped_server_is_told_by_connect_and_by_cancel() {
    let server = PrivatePostgres::start("local all all trust\n", "");
    let [_, (mut config, place)] = transports(&server);
    let mut backend = Backend::connect(config.user("postgres"), None)
        .await
        .unwrap();
    drop(server);

    // What the server said on its way out doesn't matter here; that it is gone does.
    let mut farewell = Vec::new();
    backend.stream.read_to_end(&mut farewell).await.unwrap();
    let error = backend.canceller().cancel().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no CancelRequest got through to PostgreSQL at {place}")
    );
    let words = format!(
        "{:?}",
        refusal(config.connect_timeout(Duration::from_secs(5))).await
    );
    assert!(words.contains(&place), "{words}");
    assert!(
        words.contains("help: start PostgreSQL, or correct the host"),
        "{words}"
    );
}

#[tokio::test]
async fn a_connection_that_has_ended_is_not_quiet() {
    let server = server();
    for (mut config, place) in transports(&server) {
        let mut backend = Backend::connect(config.user("r_trust"), None)
            .await
            .unwrap();
        // As it is when it was kept: no runtime has been told to watch it.
        backend.stream.forget_runtimes();
        assert!(backend.is_quiet(), "{place}");

        let mut other = Backend::connect(&config, None).await.unwrap();
        let end = format!("SELECT pg_terminate_backend({}, 5000)", backend.process_id);
        assert_eq!(ask(&mut other, &end).await, ["t", "SELECT 1"], "{place}");
        assert!(!backend.is_quiet(), "{place}");
    }
}
