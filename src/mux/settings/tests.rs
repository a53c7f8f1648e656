use super::Change::{Reset, Set, SetLocal};
use super::*;

fn changes_of(sql: &str) -> Vec<Change> {
    changes(&Command::of(sql.as_bytes(), true), sql.as_bytes(), true)
}

#[test]
fn the_text_shows_what_a_statement_sets() {
    let name = |name: &str| name.to_owned();
    for (sql, expected) in [
        ("SELECT 1", vec![]),
        ("SET search_path = a, b", vec![Set(name("search_path"))]),
        ("SET TIME ZONE DEFAULT", vec![Reset(name("timezone"))]),
        ("SET App.Tenant TO '7'", vec![Set(name("app.tenant"))]),
        ("SET LOCAL x TO DEFAULT", vec![SetLocal(name("x"))]),
        ("RESET x", vec![Reset(name("x"))]),
        (
            "SET SESSION AUTHORIZATION DEFAULT",
            vec![Reset(name("session_authorization"))],
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            vec![Set(name("default_transaction_read_only"))],
        ),
        ("SET TRANSACTION READ ONLY", vec![]),
        ("SET transaction_read_only = on", vec![]),
        ("SELECT set_config('X', $1, false)", vec![Set(name("x"))]),
        ("SELECT set_config('x', $1, $2)", vec![Set(name("x"))]),
        (
            "SELECT set_config('x', $1, true)",
            vec![SetLocal(name("x"))],
        ),
        (
            "SELECT pg_catalog.\"set_config\"('x', f(1, true), 't'::bool), set_config(E'y', '', false)",
            vec![SetLocal(name("x")), Set(name("y"))],
        ),
        (
            "SELECT set_config('x', '1', is_local => TRUE)",
            vec![SetLocal(name("x"))],
        ),
        (
            "SELECT set_config('x', '1', is_local := TRUE)",
            vec![SetLocal(name("x"))],
        ),
        (
            "DO $$ BEGIN PERFORM set_config('x', '1', true); END $$",
            vec![SetLocal(name("x"))],
        ),
        // What isn't written in the text can't be known, and what can't be a setting isn't touched.
        ("SELECT set_config($1, $2, true)", vec![]),
        ("SELECT set_config('x''); DROP', '', false)", vec![]),
        ("SELECT set_config('", vec![]),
        ("SELECT set_config", vec![]),
    ] {
        assert_eq!(changes_of(sql), expected, "{sql}");
    }
}

#[test]
fn a_session_that_sets_nothing_costs_nothing() {
    let mut settings = Settings::default();
    for id in [1, 2, 1].map(SessionId) {
        assert!(!settings.needs_handover(id));
        assert_eq!(settings.begin(id, &[]), None);
    }
    assert_eq!(
        note(&mut settings, SessionId(1), &[Set("x".to_owned())]),
        None
    );
    assert!(!settings.needs_handover(SessionId(1)));
    assert!(settings.needs_handover(SessionId(2)));
}

/// PostgreSQL never forgets a placeholder.
#[test]
fn sessions_that_follow_one_another_put_their_settings_in_one_place() {
    let mut settings = Settings::default();
    let stays = SessionId(1);
    let handover = [Move::Release, Move::HandOver, Move::Set];
    for id in (2..100).map(SessionId) {
        settings.begin(id, &handover);
        note(&mut settings, id, &[Set("x".to_owned())]);
        let saves = settings.begin(stays, &handover).unwrap();
        assert!(saves.contains("'actix_shareddb.session_1_0'"), "{saves}");
        let loads = settings.begin(id, &handover).unwrap();
        assert!(loads.contains("'actix_shareddb.session_1_0'"), "{loads}");
        settings.begin(stays, &handover);
        settings.forget(id);
    }
    // Two at once have one each, and who was never saved is given nobody else's.
    let (a, b) = (SessionId(100), SessionId(101));
    for id in [a, b, stays] {
        let loads = settings.begin(id, &handover).unwrap();
        note(&mut settings, id, &[Set("x".to_owned())]);
        assert_eq!(loads.contains("session_1_0"), id == b, "{loads}");
        assert_eq!(loads.contains("session_2_0"), id == stays, "{loads}");
    }
}

#[test]
fn the_identity_is_given_up_first_and_taken_on_last() {
    let mut settings = Settings::default();
    let (a, b) = (SessionId(1), SessionId(2));
    settings.begin(a, &[]);
    note(
        &mut settings,
        a,
        &["x", "role", "session_authorization"].map(|name| Set(name.to_owned())),
    );
    let order = |sql: String| {
        let sets = sql.split("PERFORM pg_catalog.set_config(E'").skip(1);
        sets.map(|set| set[..set.find('\'').expect("a literal ends")].to_owned())
            .collect::<Vec<_>>()
    };
    let given_up = settings.begin(b, &[Move::HandOver]).map(order);
    assert_eq!(
        given_up,
        Some(
            ["role", "session_authorization", "x"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    let taken_on = settings.begin(a, &[Move::HandOver]).map(order);
    assert_eq!(
        taken_on,
        Some(
            ["x", "session_authorization", "role"]
                .map(str::to_owned)
                .to_vec()
        )
    );
}

#[test]
fn what_a_session_starts_with_outlasts_a_checkpoint_that_was_before_it() {
    let mut settings = Settings::default();
    let memory = settings.clone();
    let id = SessionId(1);
    let initial = Initial {
        settings: vec![("work_mem".to_owned(), "it's 7MB".to_owned())],
        ..Initial::default()
    };
    settings.start(id, Arc::new(initial));
    settings.go_back_to(memory, |_| true);
    assert!(settings.needs_handover(id));
    let handed_over = settings.begin(id, &[Move::HandOver]);
    let loads = handed_over.is_some_and(|sql| sql.contains("E'it\\'s 7MB'"));
    assert!(loads, "what it starts with is not loaded");
}

#[test]
fn who_started_with_the_same_and_set_nothing_is_handed_over_to_for_nothing() {
    let mut settings = Settings::default();
    let initial = Arc::new(Initial {
        settings: vec![("work_mem".to_owned(), "7MB".to_owned())],
        ..Initial::default()
    });
    let (a, b) = (SessionId(1), SessionId(2));
    settings.start(a, Arc::clone(&initial));
    settings.start(b, initial);
    assert!(settings.needs_handover(a));
    settings.begin(a, &[Move::HandOver]);
    assert!(!settings.needs_handover(b));
    settings.begin(b, &[]);
    note(&mut settings, b, &[Set("work_mem".to_owned())]);
    assert!(settings.needs_handover(a));
}

fn note(settings: &mut Settings, id: SessionId, changes: &[Change]) -> Option<String> {
    settings.note(id, changes, &Parameters::default())
}
