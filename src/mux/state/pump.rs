//! The batch under way: which of its messages are sent now, and what becomes of those that have no place there.

use super::Mux;
use crate::mux::flight::{Flight, Reader, Request, Step};
use crate::mux::message::{Message, frontend, to_backend};
use crate::mux::own;
use crate::mux::report;
use crate::mux::session::{Session, SessionId};
use crate::mux::shape;

impl Mux {
    /// Sends on what can be sent of the session's batch, if that is under way. It is then the last, because nothing is
    /// sent behind one that isn't complete.
    pub(super) fn pump(&mut self, id: SessionId) {
        loop {
            let is_last = self
                .flights
                .back()
                .is_some_and(|flight| flight.session == id && !flight.is_void);
            if !is_last {
                return;
            }
            let Some(mut flight) = self.flights.pop_back() else {
                return;
            };
            let Some(mut session) = self.sessions.remove(&id) else {
                return;
            };
            let mut went_on = self.pump_one(&mut flight, &mut session);
            while went_on && !self.can_settle_with(&flight) {
                went_on = self.pump_one(&mut flight, &mut session);
            }
            self.sessions.insert(id, session);
            self.flights.push_back(flight);
            self.note_idle();
            self.settle();
            if !went_on {
                return;
            }
        }
    }

    /// Whether there is something to settle, this being the last flight.
    fn can_settle_with(&self, last: &Flight) -> bool {
        let first = self.flights.front().map_or(last, Box::as_ref);
        !first.is_void && !first.awaits_reply()
    }

    /// Deals with the session's next message; `false` if there is nothing to deal with now.
    pub(super) fn pump_one(&mut self, flight: &mut Flight, session: &mut Session) -> bool {
        let Some(tag) = session.peek().map(Message::tag) else {
            return session.gone && self.abandon(flight, session);
        };
        if flight.copying {
            return self.pump_copy(flight, session, tag);
        }
        if flight.script.is_some() || flight.intruder.is_some() {
            return false;
        }
        if flight.skipping {
            let message = session.pop();
            if let Some(sync) = message.filter(|_| tag == frontend::SYNC) {
                flight.skipping = false;
                flight.ended = true;
                self.put(&sync);
                flight.expect(Request::Sync, Reader::Client);
            }
            return true;
        }
        if flight.ended {
            return false;
        }
        match tag {
            frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => {
                // Sent before the backend has said that it wants any.
                let is_stray = flight.steps.is_empty() || !flight.copies_in;
                if is_stray {
                    session.pop();
                } else {
                    self.put(&to_backend::flush());
                }
                return is_stray;
            }
            frontend::SYNC => {}
            frontend::FLUSH if session.peek().is_some_and(shape::is_sound) => {}
            _ if flight.awaits_copy => return false,
            _ if flight.awaits_table => {
                self.put(&to_backend::flush());
                return false;
            }
            _ if !session.has_request() => {
                return session.gone && self.abandon(flight, session);
            }
            frontend::QUERY | frontend::FUNCTION_CALL if !flight.steps.is_empty() => {
                self.put(&to_backend::flush());
                return false;
            }
            _ => {}
        }
        let Some(message) = session.pop() else {
            return false;
        };
        match tag {
            // Its error is the server's, and it names no names.
            frontend::PARSE
            | frontend::DESCRIBE
            | frontend::CLOSE
            | frontend::EXECUTE
            | frontend::FLUSH
                if !shape::is_sound(&message) =>
            {
                self.send_malformed(flight, &message);
            }
            frontend::QUERY => self.send_query(flight, session, &message),
            frontend::FUNCTION_CALL => self.send_function_call(flight, session, &message),
            frontend::PARSE => self.send_parse(flight, session, &message),
            frontend::BIND => self.send_bind(flight, session, &message),
            frontend::DESCRIBE | frontend::CLOSE => self.send_named(flight, session, &message),
            frontend::EXECUTE => self.send_execute(flight, session, &message),
            frontend::SYNC => self.send_sync(flight, &message),
            _ => self.put(&message),
        }
        true
    }

    pub(super) fn pump_copy(
        &mut self,
        flight: &mut Flight,
        session: &mut Session,
        tag: u8,
    ) -> bool {
        match tag {
            // The backend ignores both while it reads CopyData.
            frontend::SYNC | frontend::FLUSH => {
                session.pop();
                return true;
            }
            frontend::COPY_DATA => {}
            frontend::COPY_DONE | frontend::COPY_FAIL => flight.copying = false,
            // PostgreSQL ends the connection of who does this, unless the COPY has failed before. Ours serves others, too,
            // so it must not see the message; how it answers CopyFail tells which it is.
            _ => {
                flight.copying = false;
                flight.intruder = Some(tag);
                self.put(&to_backend::copy_fail(own::INTRUDER));
                return false;
            }
        }
        if let Some(message) = session.pop() {
            self.put(&message);
        }
        true
    }

    /// The client went in the middle of a batch. Its unfinished transaction is undone, as the backend of a client that
    /// vanishes would do.
    pub(super) fn abandon(&mut self, flight: &mut Flight, session: &mut Session) -> bool {
        if flight.copying {
            flight.copying = false;
            session.part();
            self.dirty.push_back(session.id);
            self.put(&to_backend::copy_fail("the client has gone"));
            if matches!(
                flight.steps.front(),
                Some(Step::Reply {
                    to: Request::Query,
                    ..
                })
            ) {
                return true;
            }
        }
        if flight.ended {
            return false;
        }
        if matches!(
            flight.steps.front(),
            Some(Step::Reply {
                to: Request::Query | Request::FunctionCall,
                ..
            })
        ) {
            return false;
        }
        session.clear_inbox();
        flight.ended = true;
        flight.steps.push_back(Step::Part);
        // A batch that has failed is undone by its Sync, and until then the backend wouldn't answer anything else.
        if !std::mem::take(&mut flight.skipping) {
            self.send_refusal(flight, report::client_gone().message());
        }
        self.put(&to_backend::sync());
        flight.expect(Request::Sync, Reader::Client);
        true
    }
}
