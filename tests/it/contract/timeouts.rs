//! The timeouts by which a server ends connections that do nothing, as a client sets them.

use crate::stage::{A, B, Database, SCHEMA, Stage, same};
use crate::wire::{bind, describe_portal, describe_statement, execute, once, parse, sync};

const IDLE_TIMEOUTS: [&str; 2] = [
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
];

#[tokio::test]
async fn a_timeout_is_told_as_it_was_set() {
    same(async |s| {
        for name in IDLE_TIMEOUTS {
            for sql in [
                "SET x = 60000",
                "SET SESSION X TO '2h'",
                "SET x = '90 min'; SELECT 1",
                "SELECT 1; SET \"x\" = 1234.5; SHOW x; SET x TO DEFAULT",
                "SET x TO U&'\\0037200000'",
                "SET x FROM CURRENT",
                "RESET x",
                "SET x = +7200000",
                "SET x = 0",
            ] {
                s.query(A, &sql.replace('x', name)).await;
                tell(s, name).await;
                s.run(A, &once(&sql.replace('x', name))).await;
                tell(s, name).await;
            }
        }
    })
    .await;
}

/// In all ways to ask, for it and another session.
async fn tell(s: &mut Stage<'_>, name: &str) {
    s.query(A, &format!("SHOW {name}")).await;
    s.query(B, &format!("SHOW {name}")).await;
    s.run(A, &once(&format!("Show \"{name}\""))).await;
    s.run(A, &once(&format!("SELECT Current_Setting('{name}')")))
        .await;
    s.query(
        A,
        &format!("SELECT nothing, pg_catalog.current_setting(E'{name}', true)"),
    )
    .await;
    s.query(
        A,
        &format!("SELECT pg_catalog.current_setting(E'{name}', true), nothing"),
    )
    .await;
}

#[tokio::test]
async fn a_timeout_that_is_none_is_refused() {
    same(async |s| {
        for name in IDLE_TIMEOUTS {
            s.query(A, &format!("SET {name} = '1h'")).await;
            for value in [
                "-5",
                "'5 foo'",
                "''",
                "on",
                "true",
                "DEFAULT, 1",
                "1, 2",
                "x",
                "\"1 X\"",
                "9999999999999",
                "$1",
                "nothing FROM nowhere",
                "",
            ] {
                let sql = format!("SET {name} = {value}");
                s.query(A, &sql).await;
                s.run(A, &once(&sql)).await;
                s.query(A, &format!("SELECT 1; {sql}; SELECT 2")).await;
                s.query(
                    A,
                    &format!(
                        "SELECT set_config('{name}', '{}', false)",
                        value.replace('\'', "''")
                    ),
                )
                .await;
            }
            s.query(A, &format!("SHOW {name}; SHOW {name}x")).await;
            s.query(A, &format!("RESET {name} x")).await;
            s.query(A, &format!("SHOW {name}")).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_timeout_goes_with_the_transaction_that_set_it() {
    same(async |s| {
        for name in IDLE_TIMEOUTS {
            for sql in [
                "SET x = '1h'",
                "BEGIN",
                "SET x = '2h'",
                "SHOW x",
                "SAVEPOINT s",
                "SET LOCAL x = '3h'",
                "SHOW x",
                "ROLLBACK TO s",
                "SHOW x",
                "ROLLBACK",
                "SHOW x",
                "BEGIN; SET LOCAL x = 240000; COMMIT",
                "SHOW x",
                "BEGIN",
                "SET LOCAL x TO 300000",
                "SHOW x",
                "COMMIT",
                "SHOW x",
                "SET LOCAL x = '7h'",
                "BEGIN",
                "SELECT 1/0",
                "SET x = 'y'",
                "SHOW x",
                "ROLLBACK",
                "RESET ALL",
                "SHOW x",
                "SET x = '1h'",
                "DISCARD ALL",
                "SHOW x",
            ] {
                s.query(A, &sql.replace('x', name)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_timeout_set_by_a_function_is_told_as_well() {
    same(async |s| {
        for name in IDLE_TIMEOUTS {
            for sql in [
                "SELECT set_config('x', '60000', false)",
                "SELECT pg_catalog.set_config(E'x', CASE WHEN true THEN '2' || concat('h', '') END, false), 1",
                "SELECT set_config('x', v, false) FROM (VALUES ('3h'), ('4h')) AS t(v)",
                "SELECT set_config('x', NULL, false)",
                "DO $$ BEGIN PERFORM set_config('x', '6h', false); END $$",
                "DO $do$ BEGIN IF current_setting('x') = '6h' THEN RAISE NOTICE 'it is %', current_setting('x'); END IF; END $do$",
                "BEGIN; SELECT set_config('x', '7h', true); SHOW x; COMMIT",
            ] {
                s.query(A, &sql.replace('x', name)).await;
                tell(s, name).await;
            }
            s.query(B, &format!("PREPARE p AS SELECT set_config('{name}', $1, false)"))
                .await;
            s.query(B, "EXECUTE p('8h')").await;
            s.query(B, "DEALLOCATE p").await;
            tell(s, name).await;
            s.run(
                A,
                &[
                    parse("s", &format!("SELECT set_config('{name}', $1, false)")),
                    describe_statement("s"),
                    bind("", "s", &["540000"]),
                    execute("", 0),
                    sync(),
                ],
            )
            .await;
            tell(s, name).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_prepared_show_tells_what_holds_when_it_is_run() {
    same(async |s| {
        for name in IDLE_TIMEOUTS {
            s.run(
                A,
                &[
                    parse(name, &format!("SHOW {name}")),
                    describe_statement(name),
                    sync(),
                ],
            )
            .await;
            for sql in ["SELECT 1", "SET x = '1h'", "BEGIN; SET x = '2h'", "COMMIT"] {
                s.query(A, &sql.replace('x', name)).await;
                s.run(
                    A,
                    &[
                        bind("", name, &[]),
                        describe_portal(""),
                        execute("", 0),
                        sync(),
                    ],
                )
                .await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_timeout_that_this_server_has_not_is_unknown() {
    same(async |s| {
        for sql in [
            "SET transaction_timeouts = 5",
            "SHOW transaction_timeouts",
            "SELECT current_setting('transaction_timeouts')",
            "SELECT set_config('transaction_timeouts', '5', false)",
        ] {
            // Since release 17 there is one of almost this name.
            let name = match s.database().release().await >= 17 {
                true => "transaction_timeouts",
                false => "transaction_timeout",
            };
            let sql = sql.replace("transaction_timeouts", name);
            s.query(A, &sql).await;
            s.run(A, &once(&sql)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_timeout_reaches_the_outer_transaction() {
    Database::with(SCHEMA, async |database| {
        let mut config = database.shared_config();
        let url = format!(
            "{} options='-c idle_session_timeout=1h'",
            database.settings()
        );
        config = config.database_url(url);
        let transaction = database.open_with(&config).await;
        let pool = transaction.pool().unwrap();
        let client = pool.get().await.unwrap();
        for name in IDLE_TIMEOUTS {
            let set_config = format!("SELECT set_config('{name}', '1h', false)");
            for sql in [
                format!("SET {name} = '1h'"),
                set_config.clone(),
                format!("DO $$ BEGIN PERFORM set_config('{name}', '1h', false); END $$"),
                format!("SET {name} TO DEFAULT"),
                format!("RESET {name}"),
                "RESET ALL".to_owned(),
            ] {
                client.batch_execute(&sql).await.unwrap();
                client.execute(&sql, &[]).await.unwrap();
                // By this name it isn't known to be the client's own.
                let real = "SELECT current_setting($1)";
                let row = client.query_one(real, &[&name]).await.unwrap();
                assert_eq!(row.get::<_, String>(0), "0", "{sql}");
            }
        }
        transaction.rollback().await.unwrap();
    })
    .await;
}
