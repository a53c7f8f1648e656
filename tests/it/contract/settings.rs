//! Settings, which belong to one session or to one block.

use crate::stage::{A, B, same};
use crate::wire::{bind, execute, once, parse, query, sync};

const TENANT: &str = "SELECT coalesce(nullif(current_setting('app.tenant', true), ''), 'none')";

#[tokio::test]
async fn what_a_session_sets_is_its_own() {
    same(async |s| {
        for sql in [
            "SET search_path = 'nowhere', public",
            "SET statement_timeout = '5s'",
            "SET TIME ZONE 'Asia/Tokyo'",
            "SET app.tenant = 'it''s = 7'",
        ] {
            s.query(A, sql).await;
        }
        let show = "SELECT current_setting('search_path'), current_setting('statement_timeout'), \
                    current_setting('timezone'), coalesce(nullif(current_setting('app.tenant', true), ''), 'none')";
        for id in [B, A, B, A] {
            s.query(id, show).await;
        }
        s.query(B, "SET statement_timeout = '7s'").await;
        s.query(A, "RESET search_path").await;
        for id in [B, A, B] {
            s.query(id, show).await;
        }
        s.run(A, &once(show)).await;
        s.run(B, &once(show)).await;
    })
    .await;
}

#[tokio::test]
async fn a_role_is_its_sessions_own() {
    same(async |s| {
        s.query(A, "CREATE ROLE shareddb_it_role").await;
        s.query(A, "GRANT shareddb_it_role TO CURRENT_USER").await;
        s.query(A, "SET log_min_duration_statement = '1s'").await;
        s.query(A, "SET ROLE shareddb_it_role").await;
        let who = "SELECT current_user = session_user, current_setting('role')";
        for id in [A, B, A] {
            s.query(id, who).await;
        }
        s.query(A, "RESET ROLE").await;
        s.query(B, who).await;
        s.query(A, who).await;
        s.query(A, "SET SESSION AUTHORIZATION shareddb_it_role").await;
        s.query(B, "SET lock_timeout = '3s'").await;
        for id in [A, B, A] {
            s.query(id, "SELECT session_user = 'shareddb_it_role', current_setting('log_min_duration_statement'), current_setting('lock_timeout') = '3s'").await;
        }
        s.query(A, "RESET SESSION AUTHORIZATION").await;
        s.query(A, "DROP ROLE shareddb_it_role").await;
    })
    .await;
}

#[tokio::test]
async fn a_setting_goes_with_the_transaction_that_made_it() {
    same(async |s| {
        s.query(A, "SET app.tenant = '1'").await;
        s.query(A, "SET app.tenant = '2'; SELECT 1/0").await;
        s.query(B, TENANT).await;
        s.query(A, TENANT).await;
        s.query(A, "BEGIN").await;
        s.query(A, "SET app.tenant = '3'").await;
        s.query(A, "SET TIME ZONE 'Asia/Tokyo'").await;
        s.query(A, "ROLLBACK").await;
        s.query(B, TENANT).await;
        s.query(A, TENANT).await;
        s.query(A, "BEGIN").await;
        s.query(A, "SET app.tenant = '4'").await;
        s.query(A, "SAVEPOINT s").await;
        s.query(A, "SET app.tenant = '5'").await;
        s.query(A, "ROLLBACK TO s").await;
        s.query(A, "COMMIT").await;
        s.query(B, TENANT).await;
        s.query(A, TENANT).await;
        s.query(A, "SET app.nothing.at.all = '").await;
        s.query(A, "SET nothing = 1").await;
        s.query(B, TENANT).await;
        s.query(A, TENANT).await;
    })
    .await;
}

#[tokio::test]
async fn a_setting_made_by_a_function_is_its_sessions_own() {
    same(async |s| {
        s.query(A, "SELECT set_config('app.tenant', '1', false)")
            .await;
        s.query(
            B,
            "DO $$ BEGIN PERFORM pg_catalog.set_config('App.Tenant', '2', false); END $$",
        )
        .await;
        for id in [A, B, A, B] {
            s.query(id, TENANT).await;
        }
        s.run(
            A,
            &[
                parse("s", "SELECT set_config('app.tenant', $1, false)"),
                bind("", "s", &["3"]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        for id in [B, A] {
            s.query(id, TENANT).await;
        }
        s.query(A, "PREPARE p AS SELECT set_config('app.tenant', $1, true)")
            .await;
        s.query(A, "BEGIN").await;
        s.query(A, "EXECUTE p('4')").await;
        s.query(A, TENANT).await;
        s.query(A, "COMMIT").await;
        s.query(A, TENANT).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_is_told_of_its_own_settings_only() {
    same(async |s| {
        s.query(A, "SET TIME ZONE 'Asia/Tokyo'").await;
        s.query(B, "SELECT 1").await;
        s.query(B, "SET TIME ZONE 'Asia/Tokyo'").await;
        s.query(A, "SELECT 1").await;
        s.query(
            A,
            "SET DateStyle = 'SQL'; SET standard_conforming_strings = off",
        )
        .await;
        s.query(A, r"SELECT 'it\'s; COMMIT'").await;
        s.query(B, r"SELECT 'it\'").await;
        s.run(A, &once(r"SELECT 'it\'s; COMMIT'")).await;
        s.query(B, "BEGIN").await;
        s.query(B, "SET IntervalStyle = 'iso_8601'").await;
        s.query(B, "ROLLBACK").await;
        s.query(B, "SELECT 1").await;
        s.run(B, &[query("BEGIN; SET IntervalStyle = 'iso_8601'; COMMIT")])
            .await;
        s.query(A, "SELECT 1").await;
        s.query(A, "SET application_name = 'A'").await;
        s.query(B, "SELECT current_setting('application_name') = 'A'")
            .await;
        s.query(A, "SELECT current_setting('application_name') = 'A'")
            .await;
    })
    .await;
}

#[tokio::test]
async fn what_is_set_local_ends_with_its_block() {
    same(async |s| {
        for end in ["COMMIT", "ROLLBACK"] {
            for set in [
                "SET LOCAL app.tenant = '7'",
                "SELECT set_config('app.tenant', '7', true)",
                "SELECT pg_catalog.set_config('app.tenant', '7', is_local => true)",
                "DO $$ BEGIN PERFORM set_config('app.tenant', '7', 't'::bool); END $$",
                "SET app.tenant = '6'; SET LOCAL app.tenant = '7'",
                "SET LOCAL app.tenant = '7'; SET app.tenant = '8'",
            ] {
                s.query(A, "BEGIN").await;
                s.query(A, set).await;
                s.query(A, TENANT).await;
                s.query(A, end).await;
                s.query(B, TENANT).await;
                s.query(A, TENANT).await;
            }
        }
        s.run(
            A,
            &[
                parse("b", "BEGIN"),
                bind("", "b", &[]),
                execute("", 0),
                parse("l", "SELECT set_config('app.tenant', $1, true)"),
                bind("", "l", &["9"]),
                execute("", 0),
                parse("c", "COMMIT"),
                bind("", "c", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.query(A, TENANT).await;
        s.query(A, "BEGIN; SET LOCAL app.tenant = '10'; COMMIT; BEGIN")
            .await;
        s.query(A, TENANT).await;
        s.query(A, "SET LOCAL app.tenant = '11'").await;
        s.query(A, "COMMIT AND CHAIN").await;
        s.query(A, TENANT).await;
        s.query(A, "COMMIT").await;
    })
    .await;
}

#[tokio::test]
async fn savepoints_within_a_block_undo_what_is_set_local() {
    same(async |s| {
        for sql in [
            "SET app.tenant = '0'",
            "BEGIN",
            "SAVEPOINT s",
            "SET LOCAL app.tenant = '1'",
            "ROLLBACK TO s",
            "SET app.tenant = '2'",
            "SAVEPOINT t",
            "SET LOCAL app.tenant = '3'",
            "RELEASE t",
            "SAVEPOINT u",
            "SET app.tenant = '4'",
            "ROLLBACK TO u",
            "COMMIT",
        ] {
            s.query(A, sql).await;
            s.query(A, TENANT).await;
        }
        s.query(B, TENANT).await;
        s.query(A, TENANT).await;
    })
    .await;
}

#[tokio::test]
async fn transactions_are_read_only_where_their_session_wants_that() {
    same(async |s| {
        s.query(A, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            .await;
        for id in [A, B, A, B] {
            s.query(id, "INSERT INTO p2 SELECT coalesce(max(id), 0) + 1 FROM p2")
                .await;
            s.run(id, &once("SELECT current_setting('transaction_read_only')"))
                .await;
        }
        for sql in [
            "BEGIN",
            "INSERT INTO p2 VALUES (10)",
            "ROLLBACK",
            "BEGIN READ WRITE",
            "INSERT INTO p2 VALUES (11)",
            "COMMIT AND CHAIN",
            "INSERT INTO p2 VALUES (12)",
            "COMMIT",
            "INSERT INTO p2 VALUES (13)",
            "RESET default_transaction_read_only",
            "INSERT INTO p2 VALUES (14)",
        ] {
            s.query(A, sql).await;
        }
        s.query(B, "SELECT id FROM p2 ORDER BY id").await;
    })
    .await;
}

#[tokio::test]
async fn set_local_outside_a_block_has_no_effect() {
    same(async |s| {
        s.query(A, "SET LOCAL app.tenant = '7'").await;
        s.query(A, TENANT).await;
        s.query(A, "SET LOCAL nothing = '7'").await;
        s.run(A, &once("SET LOCAL app.tenant = '7'")).await;
        s.query(A, TENANT).await;
        s.query(A, "SELECT set_config('app.tenant', '7', true)")
            .await;
        s.query(A, TENANT).await;
        s.query(
            A,
            "SET LOCAL app.tenant = '8'; SELECT current_setting('app.tenant')",
        )
        .await;
        s.query(A, TENANT).await;
        s.query(A, "BEGIN").await;
        s.query(A, "SELECT 1/0").await;
        s.query(A, "SET LOCAL app.tenant = '8'").await;
        s.query(A, "SET app.tenant = '8'").await;
        s.query(A, "SELECT set_config('app.tenant', '7', true)")
            .await;
        s.query(A, "ROLLBACK").await;
        s.query(A, TENANT).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_is_told_what_stays_when_its_block_ends_in_the_same_batch() {
    same(async |s| {
        for set in [
            "SET LOCAL TimeZone = 'Asia/Tokyo'",
            "SET LOCAL default_transaction_read_only = on",
            "SET LOCAL standard_conforming_strings = off",
        ] {
            s.run(A, &[query(&format!("BEGIN; {set}; COMMIT"))]).await;
            s.query(A, r"SELECT 'it\'").await;
            s.query(A, "INSERT INTO p2 SELECT coalesce(max(id), 0) + 1 FROM p2")
                .await;
        }
        for set in ["SET TimeZone = 'Asia/Tokyo'", "SET DateStyle = 'SQL'"] {
            s.run(A, &[query(&format!("BEGIN; {set}; ROLLBACK"))]).await;
            s.query(A, set).await;
        }
        s.run(
            B,
            &[
                parse("b", "BEGIN"),
                bind("", "b", &[]),
                execute("", 0),
                parse("l", "SET LOCAL IntervalStyle = 'iso_8601'"),
                bind("", "l", &[]),
                execute("", 0),
                parse("c", "COMMIT"),
                bind("", "c", &[]),
                execute("", 0),
                sync(),
            ],
        )
        .await;
        s.query(A, "SELECT 1").await;
        s.query(B, "SELECT 1").await;
        s.query(B, "SET IntervalStyle = 'iso_8601'").await;
    })
    .await;
}

#[tokio::test]
async fn a_client_is_told_of_a_set_that_follows_a_set_local() {
    same(async |s| {
        for sql in [
            "BEGIN",
            "SET LOCAL TimeZone = 'Asia/Tokyo'",
            "SET TimeZone = 'Europe/Paris'",
            "COMMIT",
            "SELECT 1",
        ] {
            s.query(A, sql).await;
        }
        s.query(B, "SELECT 1").await;
        s.query(A, "SHOW TimeZone").await;
    })
    .await;
}

/// What a SET LOCAL hides comes back with the COMMIT, and savepoints take part of it back.
#[tokio::test]
async fn a_client_is_told_what_a_set_local_has_hidden() {
    same(async |s| {
        let (local, paris) = (
            "SET LOCAL TimeZone = 'Asia/Tokyo'",
            "SET TimeZone = 'Europe/Paris'",
        );
        let lima = "SET TimeZone = 'America/Lima'";
        let in_one = format!("BEGIN; {paris}; {local}; COMMIT");
        let in_one_undone = format!("BEGIN; {paris}; {local}; ROLLBACK");
        for statements in [
            &[
                "BEGIN",
                local,
                "SAVEPOINT s",
                paris,
                "ROLLBACK TO s",
                "COMMIT",
            ][..],
            &[
                "BEGIN",
                paris,
                "SAVEPOINT s",
                local,
                "ROLLBACK TO s",
                "COMMIT",
            ],
            &["BEGIN", local, "SAVEPOINT s", paris, "RELEASE s", "COMMIT"],
            &[
                "BEGIN",
                "SAVEPOINT s",
                local,
                "ROLLBACK TO s",
                paris,
                local,
                "COMMIT",
            ],
            &[
                "BEGIN",
                paris,
                local,
                "SAVEPOINT s",
                lima,
                "ROLLBACK TO s",
                "COMMIT",
            ],
            &["BEGIN", paris, local, "COMMIT"],
            &["BEGIN", paris, local, "ROLLBACK"],
            &["BEGIN", local, local, "COMMIT"],
            &[&in_one],
            &[&in_one_undone],
        ] {
            for others in ["SELECT 1", lima] {
                s.query(B, others).await;
                for sql in statements {
                    s.query(A, sql).await;
                }
                s.query(A, "SELECT 1").await;
                s.query(A, "RESET TimeZone").await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_script_that_changes_what_its_transactions_may_do_obeys() {
    same(async |s| {
        let insert = "INSERT INTO p2 SELECT coalesce(max(id), 0) + 1 FROM p2";
        let on = "SET default_transaction_read_only = on";
        let off = "RESET default_transaction_read_only";
        let local = "SET LOCAL default_transaction_read_only = on";
        for script in [
            format!("{on}; COMMIT; {insert}"),
            format!("{off}; COMMIT; {insert}"),
            format!("BEGIN; {on}; COMMIT; {insert}"),
            format!("BEGIN READ WRITE; {off}; COMMIT; {insert}; BEGIN; {insert}; COMMIT"),
            format!("BEGIN; {on}; ROLLBACK; {insert}"),
            format!("BEGIN; {local}; COMMIT; {insert}"),
            format!("BEGIN; {on}; {local}; COMMIT; {insert}"),
            format!("BEGIN; COMMIT; {insert}"),
            off.to_owned(),
            format!("BEGIN; COMMIT; {insert}"),
        ] {
            s.query(A, &script).await;
            s.query(B, on).await;
            s.query(A, insert).await;
        }
        s.query(A, "SELECT count(*) FROM p2").await;
    })
    .await;
}
