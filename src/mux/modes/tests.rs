use super::*;

/// What a transaction says to a script, up to the first error.
fn played(script: &str) -> Result<Characteristics, String> {
    let mut modes = Modes::default();
    for statement in script.split("; ") {
        let command = Command::of(statement.as_bytes(), true);
        match &command {
            Command::SetTransaction(wanted) | Command::SetMode { modes: wanted, .. } => {
                modes.set(*wanted).map_err(|report| report.message)?;
            }
            command => modes.note(command),
        }
        if takes_snapshot(&command, statement.as_bytes(), true) {
            modes.query();
        }
    }
    Ok(modes.asked())
}

#[test]
fn modes_may_be_asked_for_before_the_first_query() {
    let serializable = Ok(Characteristics {
        isolation: Some(IsolationLevel::Serializable),
        ..Characteristics::default()
    });
    for before in [
        "SHOW x",
        "SET x = 1",
        "LISTEN x",
        "SET CONSTRAINTS ALL DEFERRED",
        "LOCK TABLE x",
        "SAVEPOINT s; RELEASE s",
        "SAVEPOINT s; SAVEPOINT t; ROLLBACK TO s; RELEASE s",
        "SAVEPOINT s; SAVEPOINT s; SAVEPOINT t; RELEASE s; RELEASE s",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    ] {
        let script = format!("{before}; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE");
        assert_eq!(played(&script), serializable, "{script}");
        let script = format!("{before}; SET LOCAL transaction_isolation = Serializable");
        assert_eq!(played(&script), serializable, "{script}");
    }
}

#[test]
fn a_query_and_a_savepoint_fix_the_modes() {
    let level = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    for (script, error) in [
        (
            "SELECT 1; @",
            "ISOLATION LEVEL must be called before any query",
        ),
        (
            "PREPARE p AS SELECT 1; @",
            "ISOLATION LEVEL must be called before any query",
        ),
        (
            "SAVEPOINT s; @",
            "ISOLATION LEVEL must not be called in a subtransaction",
        ),
        (
            "SAVEPOINT s; SAVEPOINT t; ROLLBACK TO s; @",
            "ISOLATION LEVEL must not be called in a subtransaction",
        ),
        (
            "SAVEPOINT s; SELECT 1; @",
            "ISOLATION LEVEL must be called before any query",
        ),
        (
            "SELECT 1; SET TRANSACTION DEFERRABLE",
            "[NOT] DEFERRABLE must be called before any query",
        ),
        (
            "SAVEPOINT s; SELECT 1; SET TRANSACTION NOT DEFERRABLE",
            "[NOT] DEFERRABLE cannot be called within a subtransaction",
        ),
    ] {
        let error = format!("SET TRANSACTION {error}");
        assert_eq!(played(&script.replace('@', level)), Err(error), "{script}");
    }
    // The level that it has already may always be asked for.
    for script in [
        "@; SELECT 1; @",
        "@; SAVEPOINT s; @",
        "SELECT 1; SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    ] {
        assert!(played(&script.replace('@', level)).is_ok(), "{script}");
    }
}

#[test]
fn read_only_ends_with_its_savepoint() {
    let read_only = |script: &str| played(script).map(|asked| asked.read_only);
    assert_eq!(read_only("SET TRANSACTION READ ONLY"), Ok(Some(true)));
    assert_eq!(read_only("SET transaction_read_only = of"), Ok(Some(false)));
    let in_savepoint = "SAVEPOINT s; SAVEPOINT t; SET TRANSACTION READ ONLY; SAVEPOINT u";
    for (after, expected) in [
        ("SHOW x", Some(true)),
        ("RELEASE u", Some(true)),
        ("ROLLBACK TO u", Some(true)),
        ("RELEASE t", None),
        ("ROLLBACK TO s", None),
        ("RELEASE nothing", Some(true)),
    ] {
        let script = format!("{in_savepoint}; {after}");
        assert_eq!(read_only(&script), Ok(expected), "{script}");
    }
}
