use super::*;

fn parse(text: &str, allow_remote: bool) -> Result<Server> {
    let url = Url {
        origin: "DATABASE_URL",
        text: text.to_owned(),
    };
    Server::parse(&url, allow_remote)
}

fn error(text: &str) -> String {
    format!("{:?}", parse(text, false).expect_err("an error"))
}

#[test]
fn a_server_on_this_machine_is_accepted() {
    for text in [
        "postgres://localhost/todo",
        "postgres://LocalHost:5433/todo",
        "postgres://alice:secret@127.0.0.1/todo",
        "postgres://127.1.2.3/todo",
        "postgres://[::1]:5432/todo",
        "postgres://[::ffff:127.0.0.1]/todo",
        "postgres://alice@%2Fvar%2Frun%2Fpostgresql/todo",
        "postgres:///todo?host=/var/run/postgresql",
        "host=localhost user=alice",
        "host=db.example.com hostaddr=127.0.0.1 user=alice",
    ] {
        parse(text, false).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }
}

#[test]
fn a_server_elsewhere_is_refused_unless_it_is_allowed() {
    for (text, host) in [
        (
            "postgres://alice:secret@db.example.com/todo",
            "db.example.com",
        ),
        ("postgres://10.0.0.1/todo", "10.0.0.1"),
        ("postgres://[2001:db8::1]/todo", "2001:db8::1"),
        (
            "postgres://localhost.example.com/todo",
            "localhost.example.com",
        ),
        ("postgres://localhost,db.example.com/todo", "db.example.com"),
        ("host=/tmp,db.example.com user=alice", "db.example.com"),
        ("host=localhost hostaddr=10.0.0.1", "10.0.0.1"),
    ] {
        assert_eq!(
            error(text),
            format!(
                "DATABASE_URL names the host '{host}', which is not this machine\n  \
                help: If this database is meant for tests, set SHAREDDB_ALLOW_REMOTE=1."
            )
        );
        parse(text, true).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }
}

#[test]
fn a_url_without_a_host_is_refused() {
    assert_eq!(
        error("postgres:///todo"),
        "DATABASE_URL names no host\n  help: For example postgres://user@localhost/name, or \
        postgres://user@%2Fvar%2Frun%2Fpostgresql/name for a Unix socket."
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
                help: For example postgres://user:password@localhost:5432/name."
            )
            .replace("invalid connection string: ", "")
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
        "DATABASE_URL has more than one '@'\n  help: In a password, write '@' as %40."
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

#[test]
fn an_empty_url_is_none() {
    assert!(
        url(&Config::new().database_url(""))
            .expect("no error")
            .is_none()
    );
}
