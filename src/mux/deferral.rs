//! Deferred constraints, which PostgreSQL checks where a transaction of an application would have ended.

use super::lexer::Tokens;

/// How the database defers constraints.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Deferral {
    /// No constraint can be deferred, so there is nothing to check.
    #[default]
    None,
    /// Some can: they are checked where a transaction of an application would have ended. The names are those of the
    /// constraints that are deferred initially, as SET CONSTRAINTS takes them.
    Known(String),
    /// Some can, and the test has changed which.
    Changed,
}

impl Deferral {
    /// Whether there may be something to check.
    pub(super) fn is_possible(&self) -> bool {
        *self != Self::None
    }

    /// A statement is about to be run: if it may drop or rename what is deferred initially, that isn't known any more.
    pub(super) fn note(&mut self, statement: &[u8], scs: bool) {
        if let Self::Known(names) = self
            && !names.is_empty()
            && let Some(first) = Tokens::new(statement, scs).next()
            && first.is_one_of(&["DROP", "ALTER", "DO", "CALL"])
        {
            *self = Self::Changed;
        }
    }

    /// What defers again, after a check, what is deferred initially. The constraints are named one by one, because
    /// `SET CONSTRAINTS ALL DEFERRED` defers those too that are immediate initially. A session in a role of its own may not be
    /// allowed to name them.
    pub(super) fn restore(&self, in_role: bool) -> Option<String> {
        match self {
            Self::Known(names) if names.is_empty() => None,
            Self::Known(names) if !in_role => Some(format!("SET CONSTRAINTS {names} DEFERRED")),
            Self::None | Self::Known(_) | Self::Changed => Some(DEFER_ALL.to_owned()),
        }
    }
}

/// Defers what is deferred initially, whatever that is by now, and whoever asks.
const DEFER_ALL: &str = "DO $actix_shareddb$ DECLARE names text; role text := pg_catalog.current_setting('role'); BEGIN \
     SELECT string_agg(format('%I.%I', n.nspname, c.conname), ', ') INTO names \
     FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace \
     WHERE c.condeferrable AND c.condeferred; \
     IF names IS NOT NULL THEN \
     IF role <> 'none' THEN PERFORM pg_catalog.set_config('role', 'none', false); END IF; \
     EXECUTE 'SET CONSTRAINTS ' || names || ' DEFERRED'; \
     IF role <> 'none' THEN PERFORM pg_catalog.set_config('role', role, false); END IF; \
     END IF; \
     END $actix_shareddb$";

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Deferral {
        Deferral::Known("public.child_pid_fkey".to_owned())
    }

    #[test]
    fn what_may_drop_or_rename_a_constraint_is_noticed() {
        for sql in [
            "DROP TABLE child",
            "/* */ alter table child RENAME TO x",
            "DO $$$$",
            "CALL p()",
        ] {
            let mut deferral = known();
            deferral.note(sql.as_bytes(), true);
            assert_eq!(deferral, Deferral::Changed, "{sql}");
        }
        let mut deferral = known();
        deferral.note(b"SELECT 'DROP TABLE child'", true);
        assert_eq!(deferral, known());
    }

    #[test]
    fn a_session_in_a_role_asks_the_catalog() {
        let by_name = "SET CONSTRAINTS public.child_pid_fkey DEFERRED";
        assert_eq!(known().restore(false).as_deref(), Some(by_name));
        assert_eq!(known().restore(true).as_deref(), Some(DEFER_ALL));
    }
}
