//! Servers that are none, or not quite: each is a thread that says its lines to the first one who connects.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio_postgres::Config;

use super::super::Backend;

const AUTHENTICATION_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const KEY: &[u8] = b"K\0\0\0\x0c\0\0\0\x07\0\0\0\x09";
const READY: &[u8] = b"Z\0\0\0\x05I";
const NOTICE: &[u8] = b"N\0\0\0\x05\0";

/// A server that reads the startup message, says `lines`, and then does what `end` does.
struct Script {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Script {
    fn start(lines: &[&[u8]], end: fn(TcpStream)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lines = lines.concat();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut startup).unwrap();
            stream.write_all(&lines).unwrap();
            end(stream);
        });
        Self { address, thread }
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .hostaddr(self.address.ip())
            .port(self.address.port())
            .user("alice")
            .dbname("todo");
        config
    }

    /// What an attempt to connect with this configuration says, behind the place.
    async fn refusal(self, config: &Config) -> String {
        let Err(error) = Backend::connect(config, None).await else {
            panic!("no backend was expected");
        };
        self.thread.join().unwrap();
        let place = format!(
            "no connection to PostgreSQL at {} (user 'alice', database 'todo')\n  ",
            self.address
        );
        let words = format!("{error:?}");
        words
            .strip_prefix(&place)
            .unwrap_or_else(|| panic!("{words}"))
            .to_owned()
    }
}

fn wait_until_closed(mut stream: TcpStream) {
    // Dropping the socket with unread bytes in it resets the connection.
    let _ = stream.read_to_end(&mut Vec::new());
}

const IS_IT_POSTGRES: &str =
    "help: check that it is a PostgreSQL server that listens there; its log may say more";

#[tokio::test]
async fn one_that_closes_during_startup() {
    let server = Script::start(&[], drop);
    let config = server.config();
    assert_eq!(
        server.refusal(&config).await,
        format!("caused by: connection closed\n  {IS_IT_POSTGRES}")
    );
}

#[tokio::test]
async fn one_that_closes_after_authentication() {
    let server = Script::start(&[AUTHENTICATION_OK, KEY], drop);
    let config = server.config();
    assert_eq!(
        server.refusal(&config).await,
        format!("caused by: connection closed\n  {IS_IT_POSTGRES}")
    );
}

#[tokio::test]
async fn one_that_speaks_another_protocol() {
    let server = Script::start(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], drop);
    let config = server.config();
    let words = server.refusal(&config).await;
    assert!(words.ends_with(IS_IT_POSTGRES), "{words}");
}

#[tokio::test]
async fn one_that_never_answers() {
    let server = Script::start(&[], wait_until_closed);
    let mut config = server.config();
    config.connect_timeout(Duration::from_millis(50));
    assert_eq!(
        server.refusal(&config).await,
        "caused by: no answer within 50ms (connect_timeout)\n  \
         help: start PostgreSQL, or correct the host and the port of the connection string"
    );
}

#[tokio::test]
async fn one_that_is_still_starting_up_is_passed_over_but_not_forgotten() {
    let starting = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let header = [b"E".as_slice(), &(starting.len() as u32 + 4).to_be_bytes()].concat();
    let server = Script::start(&[&header, starting], drop);
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(server.address.port())
        .host_path("/nothing/here")
        .port(1)
        .user("alice")
        .dbname("todo");
    let Err(error) = Backend::connect(&config, None).await else {
        panic!("no backend was expected");
    };
    server.thread.join().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "no connection to PostgreSQL at /nothing/here/.s.PGSQL.1 (user 'alice', database 'todo'), \
             nor before at {}: FATAL: the database system is starting up",
            server.address
        )
    );
}

#[tokio::test]
async fn one_that_says_more_than_it_was_asked() {
    let server = Script::start(&[AUTHENTICATION_OK, KEY, READY, NOTICE], wait_until_closed);
    let config = server.config();
    assert_eq!(
        server.refusal(&config).await,
        "caused by: the server spoke unasked after ReadyForQuery\n  \
         help: a proxy or pooler in between may be the reason; connect to the server itself"
    );
}

#[tokio::test]
async fn one_that_gives_no_key() {
    let server = Script::start(&[AUTHENTICATION_OK, READY], wait_until_closed);
    let config = server.config();
    assert_eq!(
        server.refusal(&config).await,
        "caused by: the server sent no BackendKeyData, without which no statement can be cancelled\n  \
         help: a proxy or pooler in between may be the reason; connect to the server itself"
    );
}

#[tokio::test]
async fn nothing_is_written_after_the_startup_message() {
    let server = Script::start(&[AUTHENTICATION_OK, NOTICE, KEY, READY], |mut stream| {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(
            rest, b"",
            "taking the stream back says nothing, not even Terminate"
        );
    });
    let backend = Backend::connect(&server.config(), None).await.unwrap();
    assert_eq!(backend.process_id, 7);
    drop(backend);
    server.thread.join().unwrap();
}

#[tokio::test]
async fn requiring_tls_is_refused_before_anything_is_sent() {
    let config: Config = "host=127.0.0.1 user=alice sslmode=require".parse().unwrap();
    let Err(error) = Backend::connect(&config, None).await else {
        panic!("no backend was expected");
    };
    assert_eq!(
        format!("{error:?}"),
        "the connection string requires TLS, and the configuration has no connector for it\n  \
         help: give Config::tls the connector that the application gives to its own pool, such as \
         tokio_postgres_rustls::MakeRustlsConnect; or use sslmode=prefer or sslmode=disable, with a server on this \
         machine or in a trusted network"
    );
}
