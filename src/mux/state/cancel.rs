//! A client asks for what it runs to be cancelled.
//!
//! A CancelRequest reaches the backend on a connection of its own, so it hits whatever runs when it arrives. It must hit
//! the batch of the session that asked and nothing else: not the next session's, and never a statement that moves the
//! standing savepoint, because what was acknowledged before would be undone with it. Two things see to that:
//!
//! * it is sent only once the backend has answered everything of the multiplexer's own that it could hit, for which the
//!   prologue of a session whose client can cancel ends with a Flush;
//! * until the connection that it goes over has closed, which the server does after the signal was given, the backend is
//!   sent nothing. A signal that finds it between two messages is ignored.

use std::time::Instant;

use super::Mux;
use crate::mux::report;
use crate::mux::session::Phase;

impl Mux {
    /// A CancelRequest has come. As with PostgreSQL, one that names no session, or one that runs nothing, does nothing.
    pub(crate) fn handle_cancel(&mut self, process_id: i32, secret_key: i32, now: Instant) {
        self.now = now;
        let key = Some((process_id, secret_key));
        let Some(session) = self.sessions.values().find(|session| session.key == key) else {
            return;
        };
        let id = session.id;
        match session.phase {
            Phase::Waiting { .. } => {
                self.queue.retain(|&waiting| waiting != id);
                self.refuse_batch(id, &report::canceled());
                self.advance(id);
            }
            Phase::Running => {
                let flights = &mut self.flights;
                if let Some(flight) = flights
                    .iter_mut()
                    .find(|flight| flight.session == id && !flight.is_void)
                {
                    flight.cancel = flight.runs();
                }
            }
            _ => {}
        }
    }

    /// The connection of a CancelRequest has closed: whatever it was to hit is hit.
    pub(crate) fn handle_cancelled(&mut self, now: Instant) {
        self.now = now;
        self.canceling = false;
    }

    /// Whether a CancelRequest is to be sent now. If so, the backend is sent nothing else until it has closed.
    pub(super) fn take_cancel(&mut self) -> bool {
        let [flight] = self.flights.make_contiguous() else {
            return false;
        };
        if self.canceling || !flight.cancel || !flight.is_cancellable() {
            return false;
        }
        flight.cancel = false;
        self.canceling = true;
        true
    }
}
