//! A session between batches: what is answered without the backend, what is refused, and how a session ends.

use super::send::only_command;
use super::{Lost, Mux};
use crate::mux::block::{self, Executed, Standing};
use crate::mux::command::Command;
use crate::mux::control;
use crate::mux::message::to_session::Report;
use crate::mux::message::{Message, frontend, to_session};
use crate::mux::report;
use crate::mux::session::{Phase, Session, SessionId};
use crate::mux::shape;
use crate::mux::split;

impl Mux {
    /// Goes on with what a session's client has sent.
    pub(super) fn advance(&mut self, id: SessionId) {
        loop {
            let refusal = self.refusal();
            let Some(session) = self.sessions.get_mut(&id) else {
                return;
            };
            match session.phase {
                Phase::Startup | Phase::Waiting { .. } | Phase::Over if !session.gone => return,
                Phase::Waiting { .. } => return,
                Phase::Startup | Phase::Over => return self.bury(id),
                Phase::Running => {
                    self.pump(id);
                    return self.grant();
                }
                Phase::Skipping => {
                    let Some(message) = session.pop() else {
                        if session.gone {
                            session.phase = Phase::Ready;
                            continue;
                        }
                        return;
                    };
                    if message.tag() == frontend::SYNC {
                        session.phase = Phase::Ready;
                        self.ready(id);
                    }
                }
                Phase::Ready => {
                    if matches!(
                        session.peek().map(Message::tag),
                        Some(frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL)
                    ) {
                        // The backend ignores what a client still sends after its COPY has failed.
                        session.pop();
                        continue;
                    }
                    if !session.has_request() {
                        if session.gone {
                            self.bury(id);
                        }
                        return;
                    }
                    if let Some(refusal) = refusal {
                        self.end_session(id, &refusal);
                        return self.leave(id);
                    }
                    if self.loses_connection(id) {
                        self.end_session(id, &report::terminated());
                        return self.leave(id);
                    }
                    if !self.answer_locally(id) {
                        return self.request_lease(id);
                    }
                }
            }
        }
    }

    /// Answers a batch that needs nothing from the backend; `false` leaves it untouched.
    pub(super) fn answer_locally(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let Some(first) = session
            .peek()
            .filter(|first| shape::is_sound(first))
            .cloned()
        else {
            return false;
        };
        let mut standing = Standing {
            block: session.block.clone(),
            guard: self.guard,
        };
        match first.tag() {
            frontend::SYNC => {
                session.pop();
            }
            frontend::FLUSH => {
                session.pop();
                return true;
            }
            frontend::CLOSE => return self.close_locally(id),
            frontend::QUERY => {
                let Some(sql) = first.fields().string() else {
                    return false;
                };
                let Some(command) = control::local_command(
                    &sql,
                    session.standard_conforming_strings(),
                    &standing,
                    &self.deferral,
                    self.denies_levels,
                ) else {
                    return false;
                };
                if let Some(command) = &command
                    && (self.errand(id, command, &standing).is_some()
                        || self.may_meet_fault(id, &sql, command))
                {
                    return false;
                }
                let Some(session) = self.sessions.get_mut(&id) else {
                    return false;
                };
                session.pop();
                session.forget_unnamed(&mut self.garbage);
                let scs = session.standard_conforming_strings();
                let in_block = standing.is_open();
                let count = usize::from(command.is_some());
                self.recorder
                    .query(id, &sql, scs, count, in_block, self.now);
                session.last_sql = sql;
                match command {
                    None => session.send(&to_session::empty_query_response()),
                    Some(command) => {
                        session.portals.remove(&b""[..]);
                        let held = standing.holds_backend();
                        for warning in
                            control::warnings(&command, &standing, false, || session.release())
                        {
                            session.send(&warning.message());
                        }
                        let answer = control::apply(&mut standing, &command);
                        let tag = answer.as_ref().map_or("", |done| done.tag);
                        self.recorder.completed(id, tag.as_bytes(), self.now);
                        session.tell(answer);
                        if !command.ends_block() {
                            session.took_effect(&command, &mut self.garbage);
                        }
                        session.note_block(&command, &standing, self.now);
                        if held && command.ends_block() {
                            session.take_back_settings(&self.settings, standing.guard.is_undone());
                        }
                        // What a SET TRANSACTION has begun outside a block is over with it.
                        standing.end_batch(b'T', Executed::Nothing);
                        session.block = standing.block.clone();
                        self.guard = standing.guard;
                        let lets_go = held && !standing.holds_backend();
                        if lets_go {
                            session.forget_portals(&mut self.garbage);
                        }
                        self.note_local(id, &command, tag);
                        if lets_go {
                            self.release_lease(id);
                        }
                    }
                }
            }
            _ => return false,
        }
        self.ready(id);
        true
    }

    /// A driver closes its statements one by one when they are dropped. That needs no round trip and no lease: the Close
    /// rides along with the next batch.
    pub(super) fn close_locally(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let closes_only = session.batch().all(|message| match message.tag() {
            frontend::CLOSE => message.body().first() == Some(&b'S') && shape::is_sound(message),
            tag => tag == frontend::SYNC && shape::is_sound(message),
        });
        if !closes_only {
            return false;
        }
        while let Some(message) = session.pop() {
            if message.tag() == frontend::SYNC {
                break;
            }
            let mut fields = message.fields();
            let (Some(_), Some(name)) = (fields.byte(), fields.string()) else {
                continue;
            };
            if session.statements.remove(&name).is_some() {
                let full_name = session.statement_name(&name);
                self.garbage.close_statement(&full_name);
            }
            session.send(&to_session::close_complete());
        }
        self.ready(id);
        true
    }

    /// Where it would have to wait for that, a session isn't told by the backend that its block has failed.
    pub(super) fn refuse_in_failed_block(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let is_waiting = matches!(session.phase, Phase::Waiting { .. });
        if is_waiting && session.block.status() == b'E' && !ends_block(session) {
            self.queue.retain(|&waiting| waiting != id);
            self.refuse_batch(id, &block::aborted());
            self.advance(id);
        }
    }

    pub(super) fn ready(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.send_ready(session.block.status());
            self.dirty.push_back(id);
        }
    }

    /// Answers a whole batch with one error, as the backend would: up to its Sync, or for its Query.
    pub(super) fn refuse_batch(&mut self, id: SessionId, report: &Report) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.block.fail();
        let text = session
            .batch()
            .find_map(|message| report::first_sql(session, message));
        let error = report.message();
        self.recorder.failed(id, text.as_ref(), &error, self.now);
        session.send(&error);
        session.phase = Phase::Skipping;
        self.dirty.push_back(id);
        while let Some(message) = session.pop() {
            if matches!(
                message.tag(),
                frontend::SYNC | frontend::QUERY | frontend::FUNCTION_CALL
            ) {
                session.phase = Phase::Ready;
                return self.ready(id);
            }
        }
    }

    /// The transaction is lost: every session is told, and nothing more is sent.
    pub(super) fn lose(&mut self, report: Report) {
        if self.lost.is_some() {
            return;
        }
        self.lost = Some(Lost(report.clone()));
        self.flights.clear();
        self.lease = None;
        self.queue.clear();
        self.to_backend.clear();
        let all: Vec<_> = self.sessions.keys().copied().collect();
        for id in all {
            self.end_session(id, &report);
        }
    }

    /// Tells a session why it is over.
    pub(super) fn end_session(&mut self, id: SessionId, report: &Report) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.phase != Phase::Over
        {
            session.send(&report.message());
            session.phase = Phase::Over;
            session.clear_inbox();
            self.dirty.push_back(id);
        }
    }

    pub(super) fn settle_session_ends(&mut self) {
        let gone: Vec<_> = self
            .sessions
            .values()
            .filter(|session| session.gone)
            .map(|session| session.id)
            .collect();
        for id in gone {
            self.advance(id);
        }
    }

    /// A session whose client has gone has nothing left to do.
    pub(super) fn bury(&mut self, id: SessionId) {
        if self.is_in_flight(id) {
            return;
        }
        self.leave(id);
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        self.recorder.leave(id);
        session.close_all(&mut self.garbage);
        session.forget_statements(&mut self.garbage);
        self.settings.forget(id);
        self.belongings.leave(id);
        self.dirty.push_back(id);
        if session.phase != Phase::Over {
            session.part();
            session.phase = Phase::Over;
        }
        if !session.outbox.is_empty() {
            // Its client is still to be told why.
            self.sessions.insert(id, session);
        }
    }

    /// A session that is over, and of which nothing is under way, has no block and no turn any more.
    pub(super) fn leave(&mut self, id: SessionId) {
        self.queue.retain(|&waiting| waiting != id);
        self.roll_back(id);
        self.release_lease(id);
    }

    /// A session's block doesn't outlive it.
    pub(super) fn roll_back(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            let mut standing = Standing {
                block: std::mem::take(&mut session.block),
                guard: self.guard,
            };
            standing.undo();
            session.mailbox.end_transaction(false);
            session.held.end_transaction(false);
            self.guard = standing.guard;
        }
    }
}

/// Whether a session's batch begins with a COMMIT or ROLLBACK, behind which everything is run.
fn ends_block(session: &Session) -> bool {
    let scs = session.standard_conforming_strings();
    let ends_block = session.batch().find_map(|message| {
        let mut fields = message.fields();
        match message.tag() {
            frontend::QUERY => {
                let sql = fields.string()?;
                let first = split::statements(&sql, scs).into_iter().next()?;
                Some(Command::of(&sql[first], scs).ends_block())
            }
            frontend::PARSE => {
                let (_name, sql) = (fields.string()?, fields.string()?);
                Some(only_command(&sql, scs).ends_block())
            }
            frontend::BIND => {
                let (_portal, name) = (fields.string()?, fields.string()?);
                Some(session.statements.get(&name)?.command.ends_block())
            }
            _ => None,
        }
    });
    ends_block.unwrap_or(false)
}
