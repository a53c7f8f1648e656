//! Isolation levels and the other modes of transactions: what a client asks for is what it is told.

use crate::stage::{A, B, Database, SCHEMA, Stage, play, same, shared_only};
use crate::wire::{Frontend, bind, describe_statement, execute, once, parse, sync};

/// What is said of a level is all in which a session differs that asks for it, so it is taken out of the transcript.
fn forget_warnings(stage: &mut Stage<'_>) {
    let is_warning = |line: &String| line.contains("is not exercised in a shared transaction");
    stage.transcript.retain(|line| !is_warning(line));
}

async fn run(stage: &mut Stage<'_>, id: usize, messages: &[Frontend]) {
    stage.run(id, messages).await;
    forget_warnings(stage);
}

async fn query(stage: &mut Stage<'_>, id: usize, sql: &str) {
    stage.query(id, sql).await;
    forget_warnings(stage);
}

async fn script(stage: &mut Stage<'_>, id: usize, script: &[&str]) {
    for sql in script {
        query(stage, id, sql).await;
    }
}

const MODES: &str = "SELECT current_setting('transaction_isolation'), current_setting('transaction_deferrable'), \
     current_setting('transaction_read_only'), current_setting('default_transaction_isolation')";

/// Asks for the modes in all ways, in this order: the first that is a query fixes them.
async fn tell(stage: &mut Stage<'_>, id: usize) {
    script(
        stage,
        id,
        &[
            "SHOW transaction_isolation",
            "SHOW TRANSACTION ISOLATION LEVEL; SHOW Transaction_Deferrable",
            "SHOW transaction_read_only",
        ],
    )
    .await;
    run(stage, id, &once("SHOW \"transaction_isolation\"")).await;
    run(stage, id, &once(MODES)).await;
    query(stage, id, MODES).await;
}

#[tokio::test]
async fn a_block_has_the_modes_that_it_was_begun_with() {
    same(async |s| {
        for begin in [
            "BEGIN",
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "BEGIN ISOLATION LEVEL READ UNCOMMITTED READ WRITE NOT DEFERRABLE",
            "BEGIN DEFERRABLE",
        ] {
            for end in [
                "COMMIT",
                "ROLLBACK",
                "COMMIT AND CHAIN",
                "ROLLBACK AND CHAIN",
            ] {
                query(s, A, begin).await;
                tell(s, A).await;
                query(
                    s,
                    A,
                    "INSERT INTO p2 SELECT coalesce(max(id), 0) + 1 FROM p2",
                )
                .await;
                tell(s, A).await;
                query(s, A, end).await;
                tell(s, A).await;
                query(s, A, "COMMIT").await;
                tell(s, A).await;
                tell(s, B).await;
            }
        }
        query(s, A, "SELECT count(*) FROM p2").await;
    })
    .await;
}

#[tokio::test]
async fn a_prepared_block_has_modes_as_well() {
    same(async |s| {
        let sql = "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE";
        run(s, A, &[parse("b", sql), describe_statement("b"), sync()]).await;
        run(s, A, &[parse("s", "SHOW transaction_isolation"), sync()]).await;
        let show = [bind("", "s", &[]), execute("", 0), sync()];
        for _ in 0..2 {
            run(s, A, &show).await;
            run(s, A, &[bind("", "b", &[]), execute("", 0), sync()]).await;
            run(s, A, &show).await;
            tell(s, A).await;
            run(s, A, &once("COMMIT AND CHAIN")).await;
            tell(s, A).await;
            run(s, A, &once("ROLLBACK")).await;
            tell(s, A).await;
        }
        run(
            s,
            A,
            &[
                bind("", "b", &[]),
                execute("", 0),
                bind("", "s", &[]),
                execute("", 0),
                parse("c", "COMMIT"),
                bind("", "c", &[]),
                execute("", 0),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
    })
    .await;
}

const SETS: [&str; 10] = [
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL TRANSACTION READ ONLY, DEFERRABLE",
    "SET TRANSACTION READ WRITE NOT DEFERRABLE",
    "SET transaction_isolation = 'Serializable'",
    "SET LOCAL transaction_isolation TO \"read uncommitted\"",
    "SET transaction_read_only = on",
    "SET LOCAL transaction_read_only TO f",
    "SET transaction_deferrable = 'yes'",
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
];

#[tokio::test]
async fn modes_are_set_before_the_first_query_and_not_behind_it() {
    for sets in SETS.chunks(2) {
        same(async |s| {
            for set in sets {
                for before in [
                    "SHOW work_mem",
                    "SET LOCAL work_mem = '5MB'",
                    "SAVEPOINT s; RELEASE s",
                    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                    "SELECT 1",
                    "LOCK TABLE p2 IN SHARE MODE; FETCH 1 FROM nothing",
                    "DEALLOCATE ALL",
                    "SAVEPOINT s",
                    "SAVEPOINT s; SAVEPOINT t; ROLLBACK TO s",
                    "SAVEPOINT s; SELECT 1",
                ] {
                    query(s, A, "BEGIN").await;
                    query(s, A, before).await;
                    query(s, A, set).await;
                    tell(s, A).await;
                    query(s, A, "COMMIT AND CHAIN").await;
                    query(s, A, MODES).await;
                    query(s, A, "COMMIT").await;
                    let script = format!("BEGIN; {before}; {set}; {MODES}");
                    query(s, A, &script).await;
                    query(s, A, "ROLLBACK").await;
                    run(s, A, &once("BEGIN")).await;
                    run(s, A, &once(before.split(';').next().unwrap())).await;
                    run(s, A, &once(set)).await;
                    query(s, A, MODES).await;
                    run(s, A, &once("ROLLBACK")).await;
                    query(s, A, MODES).await;
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn read_only_may_be_taken_back_before_the_first_query() {
    same(async |s| {
        script(
            s,
            A,
            &[
                "BEGIN READ ONLY",
                "SET TRANSACTION READ WRITE",
                "INSERT INTO p2 VALUES (1)",
                "SET TRANSACTION READ ONLY",
                "INSERT INTO p2 VALUES (2)",
                "COMMIT",
                "BEGIN READ ONLY",
                "SELECT count(*) FROM p2",
                "SET TRANSACTION READ WRITE",
                "ROLLBACK",
                "BEGIN READ ONLY",
                "SAVEPOINT s",
                "SET transaction_read_only = off",
                "ROLLBACK",
                "BEGIN",
                "SAVEPOINT s",
                "SET TRANSACTION READ ONLY",
                "INSERT INTO p2 VALUES (3)",
                "ROLLBACK TO s",
                "INSERT INTO p2 VALUES (4)",
                "SET TRANSACTION READ ONLY",
                "RELEASE s",
                "INSERT INTO p2 VALUES (5)",
                "COMMIT AND CHAIN",
                "INSERT INTO p2 VALUES (6)",
                "COMMIT",
                "SET default_transaction_read_only = on",
                "BEGIN READ WRITE; INSERT INTO p2 VALUES (9); COMMIT",
                "BEGIN",
                "SET TRANSACTION READ WRITE, ISOLATION LEVEL SERIALIZABLE",
                "INSERT INTO p2 VALUES (7)",
                "COMMIT",
                "INSERT INTO p2 VALUES (8)",
            ],
        )
        .await;
        query(s, B, "SELECT id FROM p2 ORDER BY id").await;
    })
    .await;
}

#[tokio::test]
async fn a_begin_within_a_block_sets_its_modes() {
    same(async |s| {
        for sql in [
            "BEGIN; BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            "BEGIN; SELECT 1; BEGIN ISOLATION LEVEL SERIALIZABLE",
            "BEGIN; SELECT 1; BEGIN READ ONLY",
            "BEGIN READ ONLY; SELECT 1; BEGIN READ WRITE",
            "BEGIN; SAVEPOINT s; START TRANSACTION DEFERRABLE",
            "SELECT 1; BEGIN ISOLATION LEVEL SERIALIZABLE",
            "SELECT 1; BEGIN READ ONLY",
            "SHOW work_mem; BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; BEGIN",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; BEGIN READ ONLY; SHOW transaction_isolation",
        ] {
            query(s, A, sql).await;
            tell(s, A).await;
            query(s, A, "INSERT INTO p2 VALUES (1)").await;
            query(s, A, "ROLLBACK").await;
            for part in sql.split("; ") {
                query(s, A, part).await;
            }
            tell(s, A).await;
            query(s, A, "ROLLBACK").await;
        }
    })
    .await;
}

#[tokio::test]
async fn outside_a_block_modes_last_as_long_as_the_implicit_transaction() {
    same(async |s| {
        for set in SETS {
            query(s, A, set).await;
            tell(s, A).await;
            run(s, A, &once(set)).await;
            tell(s, A).await;
            for sql in [
                "SET; SHOW transaction_isolation; SHOW transaction_deferrable; INSERT INTO p2 VALUES (1)",
                "SELECT 1; SET; SHOW transaction_isolation; SHOW transaction_read_only",
                "SET; SET",
                "SET; SELECT 1/0",
            ] {
                query(s, A, &sql.replace("SET", set)).await;
                tell(s, A).await;
            }
            run(
                s,
                A,
                &[
                    parse("", set),
                    bind("", "", &[]),
                    execute("", 0),
                    parse("", "SHOW transaction_isolation"),
                    bind("", "", &[]),
                    execute("", 0),
                    parse("", "INSERT INTO p2 VALUES (2)"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                ],
            )
            .await;
            tell(s, A).await;
            query(s, B, "SELECT id FROM p2 ORDER BY id; DELETE FROM p2").await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_modes_of_a_session_are_those_of_its_transactions() {
    same(async |s| {
        for set in [
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET default_transaction_isolation = 'repeatable read'",
            "SET default_transaction_deferrable = on",
            "SELECT set_config('default_transaction_isolation', 'serializable', false)",
            "BEGIN; SET default_transaction_isolation TO serializable; SHOW transaction_isolation; COMMIT",
            "BEGIN; SET default_transaction_isolation TO serializable; ROLLBACK",
            "BEGIN; SET LOCAL default_transaction_isolation TO serializable; SHOW transaction_isolation; COMMIT",
            "SET default_transaction_isolation = 'nothing'",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
        ] {
            query(s, A, set).await;
            for id in [A, B, A] {
                tell(s, id).await;
                query(s, id, "BEGIN").await;
                tell(s, id).await;
                query(s, id, "COMMIT AND CHAIN").await;
                tell(s, id).await;
                query(s, id, "ROLLBACK").await;
                query(s, id, "BEGIN ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE").await;
                tell(s, id).await;
                query(s, id, "COMMIT").await;
            }
        }
        for reset in [
            "RESET default_transaction_isolation",
            "RESET ALL",
            "DISCARD ALL",
            "SET default_transaction_isolation TO DEFAULT",
        ] {
            query(s, A, "SET default_transaction_isolation = serializable").await;
            tell(s, A).await;
            query(s, A, reset).await;
            tell(s, A).await;
            tell(s, B).await;
        }
        query(s, A, "SET default_transaction_isolation = serializable").await;
        tell(s, A).await;
        s.drop_connection(A).await;
        tell(s, B).await;
        tell(s, A).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_mode_is_refused() {
    same(async |s| {
        for sql in [
            "SET transaction_isolation = 'nothing'",
            "SET LOCAL transaction_isolation = serializable, serializable",
            "SET transaction_read_only = 'o'",
            "SET transaction_deferrable = nothing",
            "SET TRANSACTION ISOLATION LEVEL NOTHING",
            "SET TRANSACTION",
            "BEGIN ISOLATION LEVEL CHAOS",
            "SET TRANSACTION READ",
            "SET default_transaction_isolation = chaos",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL CHAOS",
            "SELECT set_config('transaction_isolation', 'chaos', true)",
            "SELECT set_config('transaction_isolation', 'serializable', true)",
            "SELECT set_config('transaction_isolation', 'read committed', true)",
        ] {
            query(s, A, sql).await;
            run(s, A, &once(sql)).await;
            query(s, A, "BEGIN").await;
            query(s, A, sql).await;
            query(s, A, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await;
            query(s, A, "ROLLBACK").await;
            query(s, A, "BEGIN").await;
            run(s, A, &once(sql)).await;
            query(s, A, "ROLLBACK").await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_has_no_effect_outside_a_block_is_warned_of() {
    same(async |s| {
        for sql in [
            "SET CONSTRAINTS ALL DEFERRED",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "SET CONSTRAINTS nothing DEFERRED",
            "SET TRANSACTION READ ONLY",
            "SET LOCAL TRANSACTION READ ONLY",
            "SET LOCAL transaction_read_only = on",
            "SET LOCAL work_mem = '5MB'",
            "RESET transaction_isolation",
            "RESET TRANSACTION ISOLATION LEVEL",
        ] {
            query(s, A, sql).await;
            run(s, A, &once(sql)).await;
            query(s, A, &format!("SELECT 1; {sql}")).await;
            query(s, A, "BEGIN").await;
            query(s, A, sql).await;
            query(s, A, "SELECT 1/0").await;
            query(s, A, sql).await;
            run(s, A, &once(sql)).await;
            query(s, A, "ROLLBACK").await;
            query(s, A, "INSERT INTO child VALUES (1, 999)").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_database_may_have_other_modes_by_default() {
    let schema = format!(
        "{SCHEMA} DO $$ DECLARE setting text; BEGIN FOREACH setting IN ARRAY ARRAY['isolation TO ''serializable''', \
         'read_only TO on', 'deferrable TO on'] LOOP \
         EXECUTE format('ALTER DATABASE %I SET default_transaction_', current_database()) || setting; END LOOP; END $$"
    );
    Database::with(&schema, async |database| {
        let scenario = async |s: &mut Stage<'_>| {
            for begin in [
                "SELECT 1",
                "BEGIN",
                "BEGIN READ WRITE",
                "BEGIN ISOLATION LEVEL REPEATABLE READ, NOT DEFERRABLE",
            ] {
                query(s, A, begin).await;
                tell(s, A).await;
                query(s, A, "INSERT INTO p2 VALUES (1)").await;
                query(s, A, "ROLLBACK").await;
                tell(s, B).await;
            }
        };
        let transaction = database.open().await;
        let mut shared = Stage::shared(database, &transaction);
        play(&scenario, &mut shared).await;
        let shared = shared.close().await;
        transaction.rollback().await.unwrap();
        let mut plain = Stage::plain(database);
        play(&scenario, &mut plain).await;
        let plain = plain.close().await;
        if let Some(difference) = crate::stage::difference(&plain, &shared) {
            panic!("{difference}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_level_that_is_not_exercised_is_warned_of_once() {
    let transcript = shared_only(
        |config| config,
        async |s| {
            s.query(A, "BEGIN ISOLATION LEVEL READ COMMITTED").await;
            s.query(A, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                .await;
            s.query(A, "BEGIN ISOLATION LEVEL SERIALIZABLE").await;
            s.query(A, "SET transaction_isolation = serializable").await;
            s.query(A, "COMMIT AND CHAIN").await;
            s.query(A, "COMMIT").await;
        },
    )
    .await;
    let warned: Vec<_> = transcript
        .iter()
        .filter(|line| line.contains("WARNING 01000"))
        .collect();
    let [warning] = &warned[..] else {
        panic!("{transcript:#?}");
    };
    for part in [
        "isolation level SERIALIZABLE is not exercised in a shared transaction",
        "SHOW tells the level that was asked for",
        "a database of its own",
    ] {
        assert!(warning.contains(part), "{warning}");
    }
    // Each of these is another request, and each of the others none.
    let transcript = shared_only(
        |config| config,
        async |s| {
            for sql in [
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "SELECT 1; SET default_transaction_isolation = serializable; SELECT 2",
                "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                "ROLLBACK",
            ] {
                s.query(A, sql).await;
            }
            s.run(B, &once("BEGIN ISOLATION LEVEL SERIALIZABLE")).await;
            for sql in [
                "SELECT 1",
                "BEGIN ISOLATION LEVEL SERIALIZABLE",
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "BEGIN ISOLATION LEVEL SERIALIZABLE",
                "ROLLBACK",
                "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY, DEFERRABLE",
                "ROLLBACK",
            ] {
                s.query(B, sql).await;
            }
        },
    )
    .await;
    let warned = transcript
        .iter()
        .filter(|line| line.contains("WARNING 01000"));
    assert_eq!(warned.count(), 5, "{transcript:#?}");
}

#[tokio::test]
async fn levels_that_are_not_exercised_may_be_denied() {
    let transcript = shared_only(
        |config| config.deny_isolation_levels(true),
        async |s| {
            s.query(A, "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY")
                .await;
            s.query(A, "COMMIT").await;
            for sql in [
                "BEGIN ISOLATION LEVEL SERIALIZABLE",
                "SET CONSTRAINTS ALL DEFERRED; START TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 2",
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                "SET default_transaction_isolation = 'serializable'",
            ] {
                s.query(A, sql).await;
                s.query(A, "SHOW default_transaction_isolation").await;
            }
            s.run(A, &once("BEGIN ISOLATION LEVEL SERIALIZABLE")).await;
            s.query(A, "BEGIN").await;
            s.query(A, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                .await;
            s.query(A, "COMMIT").await;
            s.query(A, "SELECT count(*) FROM p2").await;
        },
    )
    .await;
    let denied = transcript.iter().filter(|line| {
        line.contains("ERROR 0A000 \"isolation level ") && line.contains("deny_isolation_levels")
    });
    assert_eq!(denied.count(), 6, "{transcript:#?}");
    let told = |line: &&String| line.contains("DataRow") || line.contains("ReadyForQuery T");
    let told: Vec<_> = transcript.iter().filter(told).collect();
    assert_eq!(
        told,
        [
            "A < ReadyForQuery T",
            "A < DataRow \"read committed\"",
            "A < DataRow \"read committed\"",
            "A < DataRow \"read committed\"",
            "A < DataRow \"read committed\"",
            "A < ReadyForQuery T",
            "A < DataRow \"0\"",
        ],
        "{transcript:#?}"
    );
}

#[tokio::test]
async fn a_reset_of_all_leaves_every_session_its_level() {
    same(async |s| {
        for reset in ["RESET ALL", "DISCARD ALL"] {
            s.query(A, "BEGIN DEFERRABLE").await;
            s.query(A, "SELECT 1").await;
            s.query(A, "COMMIT").await;
            s.query(A, reset).await;
            for id in [A, B] {
                s.query(id, "SHOW transaction_isolation").await;
                s.query(id, "SHOW transaction_deferrable").await;
            }
        }
        s.query(A, "BEGIN DEFERRABLE").await;
        s.query(A, "RESET ALL").await;
        s.query(A, "SHOW transaction_deferrable").await;
        s.query(A, "COMMIT").await;
        s.query(A, "SHOW transaction_deferrable").await;
    })
    .await;
}
