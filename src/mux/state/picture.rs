//! Who is in the middle of something, for the eyes of a person.

use std::time::{Duration, Instant};

use super::Mux;
use crate::mux::record::Origin;
use crate::mux::report;
use crate::mux::session::Phase;

impl Mux {
    /// The open transaction blocks, and who waits for the backend: one line for each.
    pub(crate) fn picture(&self, now: Instant) -> Vec<String> {
        let since = |time: Instant| seconds(now.saturating_duration_since(time));
        let mut lines = Vec::new();
        for session in self.sessions.values() {
            // While its batch is under way, the flight has its block.
            let flight = self
                .flights
                .iter()
                .find(|flight| flight.session == session.id && !flight.is_void);
            let block = flight.map_or(&session.block, |flight| &flight.standing.block);
            if !block.is_open() || self.recorder.origin(session.id) == Origin::Own {
                continue;
            }
            let state = match block.status() {
                b'E' => "is in a failed transaction block",
                _ => "is in a transaction block",
            };
            let what = match flight {
                Some(_) => "it runs",
                None => "its last statement was",
            };
            lines.push(format!(
                "{} {state}, begun {} ago with: {}; {what}: {}",
                report::describe(session),
                session.begun.map_or_else(|| seconds(Duration::ZERO), since),
                report::sql(&session.begin_sql),
                report::sql(&session.last_sql),
            ));
        }
        for id in &self.queue {
            let Some(session) = self.sessions.get(id) else {
                continue;
            };
            let Phase::Waiting { since: began } = session.phase else {
                continue;
            };
            let text = session
                .batch()
                .find_map(|message| report::first_sql(session, message));
            lines.push(format!(
                "{} has waited {} for its turn, with: {}",
                report::describe(session),
                since(began),
                report::sql(&text.unwrap_or_default()),
            ));
        }
        lines
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
