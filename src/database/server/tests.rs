use tokio_postgres::config::SslMode;

use super::*;

fn parse(text: &str) -> Result<Server> {
    let url = Url {
        origin: "DATABASE_URL",
        text: text.to_owned(),
    };
    Server::at(&url, &Permission::default(), &Config::new())
}

fn error(text: &str) -> String {
    format!("{:?}", parse(text).expect_err("an error"))
}

#[test]
fn a_server_is_called_by_its_addresses() {
    for (text, name) in [
        ("postgres://alice:secret@localhost/todo", "localhost"),
        (
            "postgres://localhost,127.0.0.1/todo",
            "localhost, 127.0.0.1",
        ),
        ("host=db.example.com hostaddr=127.0.0.1", "127.0.0.1"),
        ("host=/tmp user=alice", "/tmp"),
    ] {
        let server = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(
            server.name(),
            format!("the server of DATABASE_URL at {name}")
        );
    }
}

#[test]
fn a_server_that_is_not_allowed_is_refused() {
    let error = error("postgres://alice:secret@db.example.com/todo");
    assert!(error.contains("which is not this machine"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_url_without_a_host_is_refused() {
    assert_eq!(
        error("postgres:///todo"),
        "DATABASE_URL names no host\n  help: for example postgres://user@localhost/name, or \
        postgres://user@%2Fvar%2Frun%2Fpostgresql/name for a Unix socket"
    );
}

#[test]
fn what_is_wrong_with_a_url_is_said() {
    for (text, cause) in [
        (
            "postgres://alice:secret@localhost/todo?schema=public",
            "unknown option `schema`",
        ),
        (
            "postgres://alice:secret@localhost:port/todo",
            "invalid value for option `port`",
        ),
        ("localhost", "unexpected EOF"),
    ] {
        assert_eq!(
            error(text),
            format!(
                "DATABASE_URL is not a valid connection string\n  \
                caused by: invalid connection string: {cause}\n  \
                help: for example postgres://user:password@localhost:5432/name"
            )
            .replace("invalid connection string: ", "")
        );
    }
}

#[test]
fn the_modes_of_libpq_are_known() {
    for text in [
        "postgres://localhost/todo?sslmode=require",
        "postgres://localhost/todo?sslmode=verify-full",
        "postgres://localhost/todo?connect_timeout=3&sslmode=verify-ca",
        "host=localhost sslmode=verify-full user=alice",
        "host=localhost sslmode='verify-ca'",
    ] {
        let server = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(server.config().get_ssl_mode(), SslMode::Require, "{text}");
    }
    assert_eq!(
        error("postgres://localhost/todo?sslmode=verify-fully"),
        "DATABASE_URL is not a valid connection string\n  caused by: invalid value for option `sslmode`\n  \
        help: for example postgres://user:password@localhost:5432/name"
    );
}

#[test]
fn files_that_only_a_connector_can_load_are_told() {
    for text in [
        "postgres://localhost/todo?sslmode=verify-full&sslrootcert=/ca.pem",
        "host=localhost sslrootcert = '/ca.pem'",
    ] {
        assert_eq!(
            error(text),
            "DATABASE_URL has the option sslrootcert, which only a TLS connector can obey\n  \
            help: have the connector given to Config::tls load the file, and leave the option out"
        );
    }
}

#[test]
fn no_part_of_a_password_is_shown() {
    for text in [
        "postgres://alice:pass@secret@localhost/todo",
        "postgres://alice:pass@x?secret=1@localhost/todo",
        "host=localhost password=pass secret=1",
        "postgres://localhost/todo?password=a&secret=b",
    ] {
        let error = error(text);
        assert!(!error.contains("secret"), "{error}");
        assert!(error.starts_with("DATABASE_URL"), "{error}");
    }
    assert_eq!(
        error("postgres://alice:pass@secret@localhost/todo"),
        "DATABASE_URL has more than one '@'\n  help: in a password, write '@' as %40"
    );
}

#[test]
fn the_url_of_the_case_comes_first() {
    let url = url(&Config::new().database_url(" postgres://localhost/todo\n"))
        .expect("no error")
        .expect("a URL");
    assert_eq!(url.origin, "Config::database_url");
    assert_eq!(url.text, "postgres://localhost/todo");
}

/// It must not be taken for the environment's, where a database that is left alone would be written to.
#[test]
fn an_empty_url_of_the_case_is_an_error() {
    for text in ["", " \n"] {
        let error = url(&Config::new().database_url(text)).err().expect(text);
        assert_eq!(
            format!("{error:?}"),
            "Config::database_url is empty\n  help: name the database, or leave the call out to use DATABASE_URL or the \
             embedded server"
        );
    }
}
