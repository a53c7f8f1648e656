//! Checkpoints: set and gone back to between the transactions of all sessions, as one more batch that waits for its turn.

use super::Mux;
use crate::mux::block::Move;
use crate::mux::checkpoint::{Memory, Order};
use crate::mux::flight::{Flight, Reader, Request, Step};
use crate::mux::message::to_backend;
use crate::mux::message::to_session::Report;
use crate::mux::own;
use crate::mux::record::Origin;
use crate::mux::report;
use crate::mux::session::SessionId;

impl Mux {
    /// What a simple query orders, if its client is one of our own.
    pub(super) fn order(&self, id: SessionId, sql: &[u8]) -> Option<Order> {
        let is_own = self.recorder.origin(id) == Origin::Own;
        is_own.then(|| Order::of(sql)).flatten()
    }

    /// Runs an order, between two transactions.
    pub(super) fn send_order(&mut self, flight: &mut Flight, order: Order) {
        flight.alone = true;
        if let Order::Restore(number) = order
            && !self.checkpoints.contains(number)
        {
            return self.refuse_order(flight, &report::no_checkpoint());
        }
        self.start(flight);
        if let Order::Set(_) = order {
            // What was kept so far stays, whatever becomes of what comes.
            self.move_savepoint(flight, Move::Release);
        }
        self.run_text(flight, order.statement(), || Reader::Guard);
        self.move_savepoint(flight, Move::Set);
        flight.steps.push_back(Step::Ordered(order));
        self.put(&to_backend::sync());
        flight.expect(Request::Sync, Reader::Client);
    }

    fn move_savepoint(&mut self, flight: &mut Flight, step: Move) {
        if let Some(statement) = own::statement(step) {
            self.run_own(flight, statement, || Reader::Guard);
        }
    }

    fn refuse_order(&mut self, flight: &mut Flight, report: &Report) {
        self.send_refusal_of_query(flight, b"", report.message());
    }

    /// The backend has done so.
    pub(super) fn ordered(&mut self, order: Order) {
        match order {
            Order::Set(number) => {
                let sessions = self.sessions.iter();
                let memory = Memory {
                    settings: self.settings.clone(),
                    deferral: self.deferral.clone(),
                    held: sessions
                        .map(|(id, session)| (*id, session.held.clone()))
                        .collect(),
                };
                self.checkpoints.push(number, memory);
            }
            Order::Restore(number) => {
                if let Some(memory) = self.checkpoints.restore(number) {
                    self.remember(memory);
                }
            }
        }
    }

    fn remember(&mut self, memory: Memory) {
        let sessions = &self.sessions;
        self.settings
            .go_back_to(memory.settings, |id| sessions.contains_key(&id));
        self.tables.roll_back();
        self.belongings.restored();
        self.deferral = memory.deferral;
        for (id, session) in &mut self.sessions {
            match memory.held.get(id) {
                Some(held) => session.held.keep(held),
                None => drop(session.held.take()),
            }
        }
    }
}
