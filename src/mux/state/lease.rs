//! The lease: whose turn it is on the backend, for a batch or for a whole block, and who comes next.

use super::Mux;
use crate::mux::block::{Block, Executed, Guard, Standing};
use crate::mux::flight::Flight;
use crate::mux::message::frontend;
use crate::mux::message::to_session::Report;
use crate::mux::report::{self, Idle};
use crate::mux::session::{Phase, SessionId};

impl Mux {
    /// A session between two batches has sent one that the backend must be asked about.
    pub(super) fn request_lease(&mut self, id: SessionId) {
        if self.lease == Some(id) {
            return self.take_off(id);
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.phase = Phase::Waiting { since: self.now };
            self.queue.push_back(id);
        }
        self.grant();
        self.refuse_in_failed_block(id);
    }

    pub(super) fn grant(&mut self) {
        while let Some(&id) = self.queue.front() {
            let may_take_off = match self.last_flight() {
                None => self.lease.is_none(),
                Some(last) => self.may_follow(last, id),
            };
            if !may_take_off {
                return;
            }
            self.queue.pop_front();
            self.lease = Some(id);
            self.take_off(id);
        }
    }

    /// A session between two batches needs its turn no longer.
    pub(super) fn release_lease(&mut self, id: SessionId) {
        if self.lease == Some(id) {
            self.lease = None;
            self.idle_since = None;
            self.grant();
        }
    }

    /// The lease's holder begins its next batch.
    pub(super) fn take_off(&mut self, id: SessionId) {
        let guard = self.last_flight().map(|last| last.expected().guard);
        let ahead = self.flights.back();
        let shows_client = ahead.map_or(self.shows_client, |ahead| ahead.shows_client);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.phase = Phase::Running;
        if !session.block.holds_backend() {
            session.note_settings();
        }
        self.idle_since = None;
        if self.flights.is_empty() {
            self.heard = self.now;
        }
        let sent = match guard {
            Some(_) => session.batch().cloned().collect(),
            None => Vec::new(),
        };
        let standing = Standing {
            block: std::mem::take(&mut session.block),
            guard: guard.map_or(self.guard, Guard::behind_another),
        };
        let mut flight = Box::new(Flight::new(id, standing));
        flight.orphans = self.belongings.give_up_orphans();
        flight.told = session.told().clone();
        flight.read_only = session.default_transaction_read_only();
        flight.may_be_cancelled = session.key.is_some();
        flight.shows_client = shows_client;
        flight.executes = session.batch().any(|message| {
            matches!(
                message.tag(),
                frontend::QUERY | frontend::EXECUTE | frontend::FUNCTION_CALL
            )
        });
        flight.alone = flight.may_be_cancelled;
        flight.sent = sent;
        if !session.tables.is_empty() {
            // Its tables are emptied behind it, once that is known to have been kept.
            flight.tables.clone_from(&session.tables);
            flight.executed = Executed::Anything;
            flight.alone = true;
        }
        if flight.standing.is_failed_unseen() {
            self.send_failure(&mut flight);
        }
        self.flights.push_back(flight);
        self.pump(id);
    }

    /// The batch ahead of all others is over.
    pub(super) fn land(&mut self) {
        let Some(mut flight) = self.flights.pop_front() else {
            return;
        };
        let id = flight.session;
        self.shows_client = flight.shows_client;
        if flight.orphans.is_some() {
            self.belongings.still_pending();
        }
        self.recorder.forget(id);
        if matches!(flight.standing.block, Block::Implicit(_)) {
            flight.standing.end_batch(b'T', Executed::Anything);
        }
        self.guard = flight.standing.guard;
        let holds = flight.standing.holds_backend();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.block = flight.standing.block;
            self.ran = session.last_sql.clone();
            if session.phase == Phase::Running {
                session.phase = Phase::Ready;
            }
            if !holds {
                session.forget_portals(&mut self.garbage);
            }
        }
        if self.guard.is_undone() {
            self.void_followers();
        }
        if !holds && self.lease == Some(id) {
            self.lease = None;
        }
        self.note_idle();
        self.advance(id);
        self.grant();
    }

    /// Only time counts in which the backend has nothing to do while somebody holds the lease.
    pub(super) fn note_idle(&mut self) {
        let is_idle = match self.flights.front() {
            None => self.lease.is_some(),
            Some(flight) => self.flights.len() == 1 && !flight.is_void && flight.awaits_client(),
        };
        self.idle_since = is_idle.then_some(self.now);
    }

    pub(super) fn lease_report(&self, id: SessionId) -> Report {
        let waiter = self.sessions.get(&id);
        let holder = self.lease.and_then(|holder| self.sessions.get(&holder));
        let flight = self.flights.front();
        let idle = match flight {
            Some(flight) if flight.copying => Idle::Copy,
            Some(_) => Idle::Pipeline,
            None => Idle::Block,
        };
        let in_block = flight.is_none_or(|flight| flight.standing.is_open());
        report::lease_timeout(
            waiter.map(Box::as_ref),
            holder.map(Box::as_ref),
            (idle, in_block),
            self.idle_since,
            self.now,
        )
    }
}
