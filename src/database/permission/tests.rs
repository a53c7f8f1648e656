use super::*;

fn check(text: &str, permission: &Permission) -> Result<()> {
    let url = Url {
        origin: "DATABASE_URL",
        text: text.to_owned(),
    };
    let target = text.parse().expect("a connection string");
    permission.check(&url, &target)
}

fn allowing(servers: &[&str], databases: &[&str]) -> Permission {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Permission {
        servers: owned(servers),
        databases: owned(databases),
    }
}

fn error(text: &str) -> String {
    format!(
        "{:?}",
        check(text, &Permission::default()).expect_err("an error")
    )
}

#[test]
fn a_server_on_this_machine_needs_no_permission() {
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
        check(text, &Permission::default()).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }
}

#[test]
fn a_server_elsewhere_is_refused_unless_it_is_allowed_by_name() {
    for (text, host) in [
        (
            "postgres://alice:secret@db.example.com/todo",
            "db.example.com",
        ),
        ("postgres://postgres@postgres/postgres", "postgres"),
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
                "DATABASE_URL names the server '{host}', which is not this machine\n  help: if it is meant for tests, \
                allow it by name: set ACTIX_SHAREDDB_ALLOW_SERVER={host} or call \
                Config::new().allow_server(\"{host}\")"
            )
        );
        check(text, &allowing(&["elsewhere", host], &[]))
            .unwrap_or_else(|error| panic!("{text}: {error:?}"));
        check(text, &allowing(&["elsewhere"], &[host])).expect_err("another server's permission");
    }
}

#[test]
fn an_allowed_server_may_be_written_in_other_ways() {
    for (text, allowed) in [
        ("postgres://DB.example.com/todo", "db.Example.com"),
        ("postgres://[2001:db8:0:0::1]/todo", "2001:db8::1"),
    ] {
        check(text, &allowing(&[allowed], &[])).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }
    check(
        "postgres://db.example.com.evil.org/todo",
        &allowing(&["db.example.com"], &[]),
    )
    .expect_err("a longer name");
}

#[test]
fn the_remedy_names_every_server_that_needs_one() {
    let text = "postgres://one,localhost,two/todo";
    assert_eq!(
        error(text),
        "DATABASE_URL names the server 'one', which is not this machine\n  help: if it is meant for tests, allow it by \
        name: set ACTIX_SHAREDDB_ALLOW_SERVER=one,two or call \
        Config::new().allow_server(\"one\").allow_server(\"two\")"
    );
    check(text, &allowing(&["one"], &[])).expect_err("the other one");
    check(text, &allowing(&["one", "two"], &[])).expect("both are allowed");
}

#[test]
fn a_database_that_looks_like_production_is_refused_unless_it_is_allowed_by_name() {
    for (text, name, word) in [
        ("postgres://localhost/prod", "prod", "prod"),
        (
            "postgres://localhost/todo_production",
            "todo_production",
            "production",
        ),
        ("postgres://localhost/todo-prd2", "todo-prd2", "prd"),
        ("postgres://localhost/todoLive", "todoLive", "live"),
        ("postgres://localhost/MASTER", "MASTER", "master"),
        // Not named, so named like the user.
        ("host=/tmp user=prod", "prod", "prod"),
    ] {
        assert_eq!(
            error(text),
            format!(
                "DATABASE_URL names the database '{name}', which looks like production ('{word}')\n  help: if it is \
                meant for tests, allow it by name: set ACTIX_SHAREDDB_ALLOW_DATABASE={name} or call \
                Config::new().allow_database(\"{name}\")"
            )
        );
        check(text, &allowing(&[], &[name])).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        check(text, &allowing(&[name], &["another"])).expect_err("a server's permission");
    }
}

#[test]
fn a_tunnel_to_production_is_refused() {
    assert_eq!(
        error("host=db.prod.example.com hostaddr=127.0.0.1 dbname=todo"),
        "DATABASE_URL names the server 'db.prod.example.com', which looks like production ('prod')\n  help: if it is \
        meant for tests, allow it by name: set ACTIX_SHAREDDB_ALLOW_SERVER=db.prod.example.com or call \
        Config::new().allow_server(\"db.prod.example.com\")"
    );
}

#[test]
fn other_names_do_not_look_like_production() {
    for name in [
        "todo",
        "products",
        "prodigy",
        "liver",
        "todo_live_test",
        "productionTest",
        "ci-prod",
        "",
    ] {
        assert_eq!(production(name), None, "{name}");
    }
}

#[test]
fn lists_of_the_environment_may_have_spaces_and_gaps() {
    let names: Vec<_> = names_in(" postgres, db ,,").collect();
    assert_eq!(names, ["postgres", "db"]);
    assert_eq!(names_in("").count(), 0);
}

#[test]
fn the_case_allows_what_it_names_and_so_does_the_environment() {
    let config = Config::new()
        .allow_server("db.example.com")
        .allow_server("db2.example.com")
        .allow_database("todo_live");
    let permission = Permission::from(&config, |variable| match variable {
        "ACTIX_SHAREDDB_ALLOW_SERVER" => "postgres".to_owned(),
        "ACTIX_SHAREDDB_ALLOW_DATABASE" => "one,two".to_owned(),
        _ => panic!("{variable} is nobody's business"),
    });
    assert_eq!(
        permission,
        allowing(
            &["db.example.com", "db2.example.com", "postgres"],
            &["todo_live", "one", "two"]
        )
    );
}
