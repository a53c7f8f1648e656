use super::*;
use crate::mux::rewrite::Rewritten;

/// A statement as it is sent.
fn sent(sql: &str, release: Option<u32>) -> String {
    let command = Command::of(sql.as_bytes(), true);
    let replacements = replacements(&command, sql.as_bytes(), true, release);
    assert!(replacements.is_empty() || may_concern(&command, sql.as_bytes(), true));
    let rewritten = Rewritten::of(sql.as_bytes(), 0..sql.len(), &replacements);
    String::from_utf8(rewritten.text.to_vec()).unwrap()
}

#[test]
fn what_sets_or_tells_a_timeout_is_about_its_placeholder() {
    let tried = |value: &str| {
        format!(
            "pg_catalog.concat(pg_catalog.set_config('idle_session_timeout', {value}, true), \
             pg_catalog.left(pg_catalog.set_config('idle_session_timeout', NULL, true), 0))"
        )
    };
    for (sql, expected) in [
        ("SELECT 1", "SELECT 1"),
        ("SHOW work_mem", "SHOW work_mem"),
        (
            "SHOW idle_session_timeout, x",
            "SHOW idle_session_timeout, x",
        ),
        (
            "/**/ Show \"Idle_Session_Timeout\"",
            "/**/ Show actix_shareddb.idle_session_timeout",
        ),
        (
            "SET LOCAL Idle_Session_Timeout = -5",
            "SET LOCAL Idle_Session_Timeout = -5",
        ),
        (
            "SET idle_session_timeout TO DEFAULT",
            "SET actix_shareddb.idle_session_timeout TO DEFAULT",
        ),
        (
            "SET idle_session_timeout TO 1, 2",
            "SET actix_shareddb.idle_session_timeout TO 1, 2",
        ),
        (
            "RESET transaction_timeout",
            "RESET actix_shareddb.transaction_timeout",
        ),
        (
            "SELECT current_setting('idle_session_timeout'), 'idle_session_timeout', \"current_setting\" (E'idle_session_timeout', true)",
            "SELECT current_setting('actix_shareddb.idle_session_timeout'), 'idle_session_timeout', \
             \"current_setting\" ('actix_shareddb.idle_session_timeout', true)",
        ),
        (
            "SELECT set_config('idle_session_timeout', f(a, b[c, d]), true)",
            &format!(
                "SELECT set_config('actix_shareddb.idle_session_timeout', {}, true)",
                tried("f(a, b[c, d])")
            ),
        ),
        (
            "SELECT set_config('idle_session_timeout', current_setting('transaction_timeout'), false)",
            &format!(
                "SELECT set_config('actix_shareddb.idle_session_timeout', {}, false)",
                tried("current_setting('actix_shareddb.transaction_timeout')")
            ),
        ),
        (
            "DO $a$ BEGIN PERFORM current_setting('idle_session_timeout'); EXECUTE $b$SHOW idle_session_timeout$b$; END $a$",
            "DO $a$ BEGIN PERFORM current_setting('actix_shareddb.idle_session_timeout'); \
             EXECUTE $b$SHOW idle_session_timeout$b$; END $a$",
        ),
        // What the server refuses anyway.
        (
            "SELECT set_config('idle_session_timeout'",
            "SELECT set_config('idle_session_timeout'",
        ),
        (
            "SELECT set_config('idle_session_timeout', 1",
            "SELECT set_config('idle_session_timeout', 1",
        ),
        (
            "SELECT set_config('idle_session_timeout', , true)",
            "SELECT set_config('idle_session_timeout', , true)",
        ),
        (
            "DO $$ current_setting('idle_session_timeout')",
            "DO $$ current_setting('idle_session_timeout')",
        ),
        (
            "SELECT current_setting('idle_session_timeout",
            "SELECT current_setting('idle_session_timeout",
        ),
    ] {
        assert_eq!(sent(sql, None), expected);
    }
}

fn trial(sql: &str) -> Trial {
    match Command::of(sql.as_bytes(), true) {
        Command::SetRedirected(trial) => trial,
        command => panic!("{sql}: {command:?}"),
    }
}

#[test]
fn a_setting_of_a_later_release_is_left_to_the_server() {
    let reset = "RESET transaction_timeout";
    assert_eq!(sent(reset, Some(16)), reset);
    assert_eq!(
        sent(reset, Some(17)),
        "RESET actix_shareddb.transaction_timeout"
    );
    let trial = trial("SET transaction_timeout = 'x'");
    assert_eq!(trial.sql(Some(16)), "SET transaction_timeout TO DEFAULT");
    assert_ne!(trial.sql(Some(17)), "SET transaction_timeout TO DEFAULT");
}

#[test]
fn a_value_is_tried_on_a_setting_that_does_nothing_meanwhile() {
    let trial = trial(r"SET LOCAL transaction_timeout = 'it''s \'");
    assert_eq!(
        trial.sql(None),
        r"SELECT pg_catalog.set_config('actix_shareddb.transaction_timeout', pg_catalog.concat(pg_catalog.set_config('idle_session_timeout', E'it''s \\', true), pg_catalog.left(pg_catalog.set_config('idle_session_timeout', NULL, true), 0)), true)"
    );
    let error =
        Bytes::from_static(b"invalid value for parameter \"idle_session_timeout\": \"it's\"");
    assert_eq!(
        trial.explain(&error),
        "invalid value for parameter \"transaction_timeout\": \"it's\""
    );
}

#[test]
fn an_error_names_the_setting() {
    let error =
        Bytes::from_static(b"SET actix_shareddb.idle_session_timeout takes actix_shareddb.x");
    assert_eq!(
        restore_names(&error),
        "SET idle_session_timeout takes actix_shareddb.x"
    );
}
