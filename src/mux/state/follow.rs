//! A batch that is sent before the one ahead of it has been answered.
//!
//! A round trip is mostly waiting, so with several clients the backend would be idle most of the time if each batch had to
//! wait for the one before. Therefore a plain batch may *follow* another: it is sent behind it as if that one had
//! succeeded, with the prologue that fits. Nothing is risked by that, because a batch that fails leaves the backend in a
//! failed transaction, in which nothing but its rollback runs:
//!
//! ```text
//!   batch ahead      prologue      follower                      ROLLBACK TO     follower, again
//!   INSERT: error    SAVEPOINT: error (skipped up to its Sync)   ...             ...
//! ```
//!
//! * Every follower starts with a statement that moves the standing savepoint, so if the batch ahead has failed, that
//!   statement fails and the backend skips the rest. Before a Query stands a Sync, without which it would be skipped as
//!   well, and then never be answered; in the failed transaction it fails by itself.
//! * When a batch has failed, those behind it are **void**: their sessions wait for their turn again, in the order in
//!   which they were, and what the backend still answers to them is dropped. Their clients see nothing of it.
//! * Nothing follows a batch that isn't complete, that copies in, controls transactions or holds a block, or that its
//!   client may cancel: what hits it must not hit another.

use super::Mux;
use super::reply::unexpected;
use crate::mux::command::Command;
use crate::mux::flight::{Flight, Progress, Step};
use crate::mux::message::{Message, ProtocolViolation, backend, frontend};
use crate::mux::record::Origin;
use crate::mux::report;
use crate::mux::session::{Phase, Prepared, Session, SessionId};
use crate::mux::settings;
use crate::mux::shape;
use crate::mux::split;

/// How many batches are under way at the most. A failure repeats all that were sent behind it.
const DEPTH: usize = 8;

impl Mux {
    /// The last batch that the backend was sent, if it is still under way and counts.
    pub(super) fn last_flight(&self) -> Option<&Flight> {
        let last = self.flights.back()?;
        (!last.is_void).then_some(last)
    }

    /// Whether the backend works on this session's batch, and no other's failure can undo it.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn leads(&self, id: SessionId) -> bool {
        let first = self.flights.front();
        first.is_some_and(|flight| flight.session == id && !flight.is_void)
    }

    /// Whether the next batch of a session may be sent behind one that has not been answered.
    pub(super) fn may_follow(&self, last: &Flight, id: SessionId) -> bool {
        let Some(session) = self.sessions.get(&id) else {
            return false;
        };
        // The check of deferred constraints behind a Query is another turn of its session.
        let goes_on = last.script.is_some() && self.deferral.is_possible();
        if !last.ended || last.alone || last.failed || goes_on {
            return false;
        }
        let expected = last.expected();
        let under_way = self.flights.iter().filter(|flight| !flight.is_void);
        // A block that has failed says so first, which must not be all that is void.
        session.block.status() != b'E'
            && !expected.holds_backend()
            && !self.settings.needs_handover(id)
            && !self.belongings.has_orphans()
            && self.recorder.origin(id) != Origin::Own
            && self.faults.is_empty()
            && !expected.guard.is_undone()
            && under_way.count() < DEPTH
            && Self::is_plain_batch(session)
    }

    /// Whether a batch is complete and runs only what can be run again if it turns out that it has not been run.
    fn is_plain_batch(session: &Session) -> bool {
        let scs = session.standard_conforming_strings();
        let mut portal = None;
        let mut ends = false;
        for (number, message) in session.batch().enumerate() {
            let mut fields = message.fields();
            let is_plain = match message.tag() {
                // Behind others that have no Sync it is sent only when those are answered.
                frontend::QUERY if number > 0 => false,
                frontend::QUERY => {
                    ends = true;
                    fields.string().is_some_and(|sql| is_plain_text(&sql, scs))
                }
                frontend::PARSE => {
                    let (_, sql) = (fields.string(), fields.string());
                    sql.is_some_and(|sql| is_plain_text(&sql, scs))
                }
                frontend::BIND => {
                    portal = fields.string();
                    let statement = fields.string().unwrap_or_default();
                    portal.as_ref().is_some_and(|portal| portal.is_empty())
                        && session
                            .statements
                            .get(&statement)
                            .is_none_or(Prepared::is_plain)
                }
                frontend::EXECUTE => portal.is_some() && fields.string() == portal,
                frontend::DESCRIBE | frontend::CLOSE => true,
                frontend::SYNC => {
                    ends = true;
                    true
                }
                _ => false,
            };
            if !is_plain || !shape::is_sound(message) {
                return false;
            }
        }
        ends
    }

    /// The batch ahead has failed: whoever follows waits for its turn again. None of them is void already, because what is
    /// void stands ahead of all that is sent later.
    pub(super) fn void_followers(&mut self) {
        let refusal = self.refusal();
        let mut waiting = Vec::new();
        let mut canceled = Vec::new();
        for flight in &mut self.flights {
            let id = flight.session;
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            flight.make_void(session);
            self.recorder.forget(id);
            session.phase = Phase::Waiting { since: self.now };
            waiting.push(id);
            if std::mem::take(&mut flight.cancel) {
                canceled.push(id);
            }
        }
        if self.lease.is_some_and(|id| waiting.contains(&id)) {
            self.lease = None;
        }
        if let Some(refusal) = refusal {
            for id in waiting {
                self.end_session(id, &refusal);
                self.advance(id);
            }
            return;
        }
        waiting.retain(|id| !canceled.contains(id));
        for id in waiting.into_iter().rev() {
            self.queue.push_front(id);
        }
        // Their clients have asked for that while they were under way.
        for id in canceled {
            self.refuse_batch(id, &report::canceled());
            self.advance(id);
        }
    }

    pub(super) fn is_void_reply_next(&self) -> bool {
        self.flights.front().is_some_and(|flight| flight.is_void)
    }

    /// Drops what the backend answers to a batch that is void.
    pub(super) fn on_void_reply(&mut self, message: &Message) -> Result<(), ProtocolViolation> {
        let Some(flight) = self.flights.front_mut() else {
            return Ok(());
        };
        let Some(Step::Reply { to, .. }) = flight.steps.front() else {
            return Err(unexpected(message, "nothing is awaited"));
        };
        match message.tag() {
            backend::ERROR_RESPONSE if to.is_synced() => {}
            backend::ERROR_RESPONSE => drop(flight.drop_to_sync()),
            tag => match to.progress(tag) {
                Progress::Violates => {
                    return Err(unexpected(message, &format!("{to:?} was to be answered")));
                }
                Progress::Continues => {}
                Progress::Completes => {
                    flight.steps.pop_front();
                }
            },
        }
        if flight.steps.is_empty() {
            self.flights.pop_front();
            self.note_idle();
            self.settle();
        }
        Ok(())
    }
}

fn is_plain_text(sql: &[u8], scs: bool) -> bool {
    !settings::mentions_set_config(sql)
        && split::statements(sql, scs)
            .into_iter()
            .all(|range| Command::of(&sql[range], scs) == Command::Other)
}
