//! What runs is cancelled: because its client asks for that, or because nobody wants it any more.
//!
//! A statement is **orphaned** when the future that awaited it was dropped, as that of an HTTP request is whose client has
//! given up. A driver then sends the ROLLBACK of its block right behind, and PostgreSQL goes on with the statement until
//! it is done. On connections of their own the others would not notice. Here they wait for their turn, so the statement
//! is cancelled as soon as one does, or the next user of the same client: what it has done is rolled back anyway.
//!
//! A CancelRequest reaches the backend on a connection of its own, so it hits whatever runs when it arrives. It must hit
//! the batch of the session that asked and nothing else: not the next session's, and never a statement that moves the
//! standing savepoint, because what was acknowledged before would be undone with it. Two things see to that:
//!
//! * until it is over the backend is sent nothing, so that it can only go on with what it has. A signal that finds it
//!   between two messages is ignored;
//! * it is sent when nothing of the multiplexer's own is left that it could hit ([`Reach::Open`]); or when that stands at
//!   the head of the batch, and the backend *shows* that it is past it ([`Reach::Guarded`]): it tells in `pg_stat_activity`
//!   which statement it is at, and the prologue's have a mark. Who looks there cancels in the same statement.
//!
//! To look costs a connection, but only who cancels pays for it. The alternative is a Flush behind each prologue of what may
//! be cancelled, so that it is answered at once: a packet and a wake-up for each statement. It is left to prologues amid a
//! batch, where the backend goes on to show what went before.

use std::time::Instant;

use bytes::Bytes;

use super::Mux;
use super::send::only_command;
use crate::mux::command::Command;
use crate::mux::flight::Reach;
use crate::mux::message::frontend;
use crate::mux::report;
use crate::mux::session::Phase;

/// How often a statement is cancelled without a pause. A cancel that comes before the backend has begun with the statement
/// is lost, but one that ignores them must not be stormed.
const ATTEMPTS: u8 = 16;

/// Nothing longer is looked at to see whether it is a ROLLBACK.
const LONGEST_ROLLBACK: usize = 200;

impl Mux {
    /// A CancelRequest has come. As with PostgreSQL, one that names no session, or one that runs nothing, does nothing.
    pub(crate) fn handle_cancel(&mut self, process_id: i32, secret_key: Bytes, now: Instant) {
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

    /// A cancel is over: whatever it was to hit is hit, unless it has found the backend at nothing of the client's.
    pub(crate) fn handle_cancelled(&mut self, found: bool, now: Instant) {
        self.now = now;
        self.canceling = false;
        if let Some(flight) = self.flights.front_mut()
            && std::mem::take(&mut flight.canceling)
        {
            // It has not begun with it, or is done, and then the answers are on their way.
            flight.cancel |= !found && flight.attempts < ATTEMPTS;
        }
    }

    /// A CancelRequest is on its way.
    pub(crate) fn is_canceling(&self) -> bool {
        self.canceling
    }

    /// Whether something is to be cancelled now, and how. If so, the backend is sent nothing until that is over.
    pub(super) fn take_cancel(&mut self) -> Option<Reach> {
        if self.canceling || self.flights.len() != 1 {
            return None;
        }
        let is_orphaned = self.is_orphaned();
        let flight = self.flights.front_mut()?;
        if !(flight.cancel || is_orphaned) {
            return None;
        }
        let reach = flight.reach()?;
        flight.attempts = flight.attempts.saturating_add(1);
        flight.cancel = false;
        flight.canceling = true;
        self.canceling = true;
        Some(reach)
    }

    /// Whether somebody waits for what will be rolled back whatever comes of it.
    fn is_orphaned(&self) -> bool {
        let Some(flight) = self.flights.front() else {
            return false;
        };
        let Some(session) = self.sessions.get(&flight.session) else {
            return false;
        };
        if flight.attempts >= ATTEMPTS || !flight.is_of_open_block() {
            return false;
        }
        let is_awaited = !self.queue.is_empty();
        let mut inbox = session.inbox();
        for message in inbox.by_ref() {
            if message.tag() != frontend::QUERY || message.frame().len() > LONGEST_ROLLBACK {
                break;
            }
            let sql = message.fields().string();
            match sql.map(|sql| only_command(&sql, session.standard_conforming_strings())) {
                // A pool may have given the client to somebody else already.
                Some(Command::Rollback { .. }) => return is_awaited || inbox.next().is_some(),
                // A driver sends one for each block within the block.
                Some(Command::RollbackTo(_)) => {}
                _ => break,
            }
        }
        is_awaited && session.gone && !session.has_request()
    }
}
