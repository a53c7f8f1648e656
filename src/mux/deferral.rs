//! Deferred constraints, which PostgreSQL checks where a transaction of an application would have ended.

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

    /// What defers again, after a check, what is deferred initially. The constraints are named one by one, because
    /// `SET CONSTRAINTS ALL DEFERRED` defers those too that are immediate initially.
    pub(super) fn restore(&self) -> Option<String> {
        match self {
            Self::Known(names) if names.is_empty() => None,
            Self::Known(names) => Some(format!("SET CONSTRAINTS {names} DEFERRED")),
            Self::None | Self::Changed => Some(DEFER_ALL.to_owned()),
        }
    }
}

/// Defers what is deferred initially, whatever that is by now.
const DEFER_ALL: &str = "DO $actix_shareddb$ DECLARE names text; BEGIN \
     SELECT string_agg(format('%I.%I', n.nspname, c.conname), ', ') INTO names \
     FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace \
     WHERE c.condeferrable AND c.condeferred; \
     IF names IS NOT NULL THEN EXECUTE 'SET CONSTRAINTS ' || names || ' DEFERRED'; END IF; \
     END $actix_shareddb$";
