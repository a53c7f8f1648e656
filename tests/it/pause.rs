//! A test that has failed, and waits for somebody to look.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use actix_shareddb::{LiveServer, Result, live_server};

use crate::queries::{Lists, without_times};

live_server! {
    impl Lists {
        #[ignore = "fails on purpose, under `a_test_that_has_failed_can_be_looked_at`"]
        async fn waits(&self, live: &LiveServer) -> Result<()> {
            Self::with_lists(live).await?;
            panic!("on purpose");
        }

        #[ignore = "fails on purpose, under `a_database_of_a_test_that_has_failed_can_be_looked_at`"]
        #[isolation(Database)]
        async fn waits_in_a_database(&self, live: &LiveServer) -> Result<()> {
            Self::with_lists(live).await?;
            panic!("on purpose");
        }
    }
}

const STORY: &str = "what the test did, and its SQL:

the test
   1  INSERT INTO list VALUES (1, 'a'), (2, 'b')  => INSERT 0 2, _ ms
";

/// Starts such a test, and returns what it says of where it is to be found.
fn paused(
    test: &str,
    of_database: &str,
) -> (
    std::process::Child,
    BufReader<std::process::ChildStderr>,
    String,
    String,
) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .env("ACTIX_SHAREDDB_ON_FAILURE", "pause")
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("to go on:") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{said}");
    }
    let behind = |words: &str| {
        let (_, behind) = said.split_once(words).expect(&said);
        behind.lines().next().unwrap().trim().to_owned()
    };
    let (server, psql) = (behind("its server:"), behind(of_database));
    let database = psql.strip_prefix("psql '").expect(&psql);
    let database = database.strip_suffix('\'').expect(&psql).to_owned();
    let go_on = format!("kill -USR1 {}", child.id());
    if cfg!(unix) {
        // What is done on plain connections isn't seen.
        let story = match of_database {
            "its transaction:" => STORY,
            _ => "",
        };
        assert_eq!(
            without_times(&said),
            format!(
                "\n{story}\nthe test '{test}' has failed and waits\n  its server:      {server}\n  {of_database:<16} {psql}\n  \
                 to go on:        {go_on}\n"
            )
        );
    }
    (child, stderr, server, database)
}

async fn rows(database: &str) -> Result<i64, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let row = client.query_one("SELECT count(*) FROM list", &[]).await?;
    drop(client);
    connection.await.unwrap()?;
    Ok(row.get(0))
}

#[actix_web::test]
async fn a_test_that_has_failed_can_be_looked_at() {
    let (mut child, mut stderr, server, database) = paused("pause::waits", "its transaction:");
    assert_eq!(rows(&database).await.unwrap(), 2);
    let response = awc::Client::default()
        .get(format!("{server}none"))
        .send()
        .await;
    assert_eq!(response.unwrap().status(), 204);
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert_eq!(said, "it goes on, and is rolled back\n");
    assert_eq!(child.wait().unwrap().code(), Some(101));
    assert!(rows(&database).await.is_err());
}

#[actix_web::test]
async fn a_database_of_a_test_that_has_failed_can_be_looked_at() {
    let (mut child, mut stderr, _, database) =
        paused("pause::waits_in_a_database", "its database:");
    assert_eq!(rows(&database).await.unwrap(), 2);
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert_eq!(said, "it goes on\n");
    assert_eq!(child.wait().unwrap().code(), Some(101));
    assert!(rows(&database).await.is_err());
}

#[cfg(unix)]
#[test]
fn a_signal_goes_on_where_nobody_types() {
    let (mut child, mut stderr, ..) = paused("pause::waits", "its transaction:");
    drop(child.stdin.take());
    let signal = format!("kill -USR1 {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &signal])
            .status()
            .unwrap()
            .success()
    );
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert_eq!(said, "it goes on, and is rolled back\n");
    assert_eq!(child.wait().unwrap().code(), Some(101));
}
