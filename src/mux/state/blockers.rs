//! Who holds the lock that a statement waits for.
//!
//! The server knows while it waits, and nobody does afterwards. So somebody looks, on another connection, when the backend has
//! been silent for a while, and what was seen is told should the statement run into its `lock_timeout`.

use std::time::Instant;

use super::Mux;

/// What was seen.
#[derive(Debug)]
pub(super) struct Blockers {
    /// Since when the backend had been silent.
    silent_since: Instant,
    description: String,
}

impl Mux {
    /// Since when the backend has owed an answer without sending anything.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        self.awaits_backend().then_some(self.heard)
    }

    /// Somebody has looked who blocks the backend, which had been silent since then.
    pub(crate) fn handle_blockers(&mut self, silent_since: Instant, blockers: Option<String>) {
        self.blockers = blockers.map(|description| Blockers {
            silent_since,
            description,
        });
    }

    /// The backend says something. What comes at once, such as what it has put off saying, ends one silence.
    pub(super) fn hear(&mut self) {
        if self.now > self.heard {
            self.heard_before = std::mem::replace(&mut self.heard, self.now);
        }
    }

    /// Who has blocked what the backend answers now, if anybody was seen.
    pub(super) fn blockers(&self) -> Option<&str> {
        let blockers = self.blockers.as_ref()?;
        (blockers.silent_since == self.heard_before).then_some(&blockers.description)
    }
}
