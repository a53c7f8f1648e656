//! The lease: whose turn it is on the backend, for a batch or for a whole block, and who comes next.

use super::Mux;
use crate::mux::block::{Block, Executed, Standing};
use crate::mux::flight::Flight;
use crate::mux::message::to_session::Report;
use crate::mux::report;
use crate::mux::session::{Phase, SessionId};

impl Mux {
    pub(super) fn request_lease(&mut self, id: SessionId) {
        if self.lease == Some(id) {
            return self.take_off(id);
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.phase = Phase::Waiting { since: self.now };
            self.queue.push_back(id);
        }
        self.grant();
    }

    pub(super) fn grant(&mut self) {
        while self.lease.is_none() && self.flight.is_none() {
            let Some(id) = self.queue.pop_front() else {
                return;
            };
            self.lease = Some(id);
            self.take_off(id);
        }
    }

    pub(super) fn release_lease(&mut self, id: SessionId) {
        if self.lease == Some(id) && self.flight.is_none() {
            self.lease = None;
            self.idle_since = None;
            self.grant();
        }
    }

    /// The lease's holder begins its next batch.
    pub(super) fn take_off(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.phase = Phase::Running;
        self.idle_since = None;
        let standing = Standing {
            block: std::mem::take(&mut session.block),
            guard: self.guard,
        };
        let mut flight = Box::new(Flight::new(id, standing));
        flight.flushes_guard = session.key.is_some();
        self.flight = Some(flight);
        self.pump();
    }

    /// The holder's batch is over.
    pub(super) fn land(&mut self) {
        let Some(mut flight) = self.flight.take() else {
            return;
        };
        let id = flight.session;
        if flight.standing.block == Block::Implicit {
            flight.standing.end_batch(b'T', Executed::Anything);
        }
        self.guard = flight.standing.guard;
        let holds = flight.standing.holds_backend();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.block = flight.standing.block;
            if session.phase == Phase::Running {
                session.phase = Phase::Ready;
            }
            if !holds {
                session.forget_portals(&mut self.garbage);
            }
        }
        self.idle_since = holds.then_some(self.now);
        if !holds {
            self.lease = None;
        }
        self.advance(id);
        self.grant();
    }

    pub(super) fn lease_report(&self, id: SessionId) -> Report {
        let waiter = self.sessions.get(&id);
        let holder = self.lease.and_then(|holder| self.sessions.get(&holder));
        report::lease_timeout(
            waiter.map(Box::as_ref),
            holder.map(Box::as_ref),
            self.idle_since,
            self.now,
        )
    }
}
