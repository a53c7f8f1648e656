//! Faults: a statement that is about to be run meets what a test has ordered for it.
//!
//! The backend's part of it is real. A statement that is to fail is replaced by one that does, so its transaction is aborted
//! as in production; one that is to be late is preceded by a `pg_sleep`, during which it can be cancelled.

use std::time::Duration;

use bytes::Bytes;

use super::Mux;
use crate::mux::block::{Executed, Standing};
use crate::mux::command::Command;
use crate::mux::fault::{Action, Candidate, Faults};
use crate::mux::flight::{AfterCheck, Flight, Part, Reader, Request};
use crate::mux::message::{Message, frontend, to_backend};
use crate::mux::own;
use crate::mux::report;
use crate::mux::session::{Session, SessionId};
use crate::mux::split;

impl Mux {
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(crate) fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    fn candidate<'a>(&self, id: SessionId, sql: &'a [u8], command: &Command) -> Candidate<'a> {
        Candidate {
            session: id,
            origin: self.recorder.origin(id),
            sql,
            commits: matches!(command, Command::Commit { .. }),
            controls: command.controls_transaction(),
        }
    }

    /// Whether something may happen to a statement that could be answered without the backend.
    pub(super) fn may_meet_fault(&self, id: SessionId, sql: &[u8], command: &Command) -> bool {
        !self.faults.is_empty() && self.faults.concern(&self.candidate(id, sql, command))
    }

    /// What happens to a statement that is about to be run. Nothing does to one that fails anyway, or that can't fail.
    pub(super) fn fault(
        &mut self,
        id: SessionId,
        sql: &[u8],
        command: &Command,
        standing: &Standing,
    ) -> Option<Action> {
        if self.faults.is_empty() || standing.is_failed() {
            return None;
        }
        let can_fail = match command {
            Command::Rollback { .. } => false,
            Command::Commit { .. } => standing.is_open(),
            _ => true,
        };
        if !can_fail {
            return None;
        }
        let candidate = self.candidate(id, sql, command);
        self.faults.meet(&candidate, false)
    }

    /// Whether a session's connection is lost with the batch that its client has sent, before any of it is run.
    pub(super) fn loses_connection(&mut self, id: SessionId) -> bool {
        if self.faults.is_empty() {
            return false;
        }
        let Some(session) = self.sessions.get(&id) else {
            return false;
        };
        let scs = session.standard_conforming_strings();
        let texts: Vec<_> = session
            .batch()
            .filter(|message| matches!(message.tag(), frontend::QUERY | frontend::BIND))
            .filter_map(|message| match message.tag() {
                frontend::BIND => bound_text(session, message),
                _ => message.fields().string(),
            })
            .collect();
        for text in texts {
            for range in split::statements(&text, scs) {
                let sql = &text[range];
                let candidate = self.candidate(id, sql, &Command::of(sql, scs));
                if self.faults.meet(&candidate, true).is_some() {
                    let error = report::terminated().message();
                    self.recorder.failed(id, Some(&text), &error, self.now);
                    return true;
                }
            }
        }
        false
    }

    /// A part of a script, unless something else is done than to run it.
    pub(super) fn meet_in_script(
        &mut self,
        flight: &mut Flight,
        session: &Session,
        mut part: Part,
    ) -> Option<Part> {
        if self.faults.is_empty() || std::mem::take(&mut flight.is_spared) {
            return Some(part);
        }
        let script = flight.script.as_mut()?;
        let scs = session.standard_conforming_strings();
        let text = script.text.clone();
        let (range, command) = match &mut part {
            Part::Control { range, command, .. } => (range.clone(), command.clone()),
            // Each statement may meet one of its own, so each is run by itself.
            Part::Statements {
                range,
                copies_in,
                queries,
                ..
            } => {
                let start = range.start;
                let statements = split::statements(&text[range.clone()], scs);
                let Some(first) = statements.first() else {
                    return Some(part);
                };
                if let Some(second) = statements.get(1) {
                    script.parts.push_front(Part::Statements {
                        range: start + second.start..range.end,
                        copies_in: *copies_in,
                        queries: *queries,
                        changes: Vec::new(),
                    });
                    range.end = start + first.end;
                }
                let first = start + first.start..start + first.end;
                let command = Command::of(&text[first.clone()], scs);
                (first, command)
            }
        };
        let after = match self.fault(session.id, &text[range], &command, &flight.standing) {
            None | Some(Action::Disconnect) => return Some(part),
            Some(Action::Fail(error)) if matches!(command, Command::Commit { .. }) => {
                self.send_failed_commit(flight, &error);
                AfterCheck::Control(command)
            }
            Some(Action::Fail(error)) => {
                flight.script = None;
                self.send_refusal_of_query(flight, b"", error);
                return None;
            }
            Some(Action::Delay(time)) => {
                let script = flight.script.as_mut()?;
                script.parts.push_front(part);
                flight.is_spared = true;
                self.send_delay(flight, time);
                AfterCheck::Delay
            }
        };
        flight.after_check = Some(after);
        self.put(&to_backend::sync());
        flight.expect(Request::Sync, Reader::Guard);
        None
    }

    /// Makes the transaction fail where a COMMIT is about to take effect.
    pub(super) fn send_failed_commit(&mut self, flight: &mut Flight, error: &Message) {
        self.start(flight);
        self.run_own(flight, own::REFUSE, || Reader::FailedCommit(error.clone()));
    }

    /// Keeps the backend busy before a statement. What cancels this cancels the statement.
    pub(super) fn send_delay(&mut self, flight: &mut Flight, time: Duration) {
        self.start(flight);
        flight.alone = true;
        flight.executed = Executed::Anything;
        let sleep = format!("SELECT pg_catalog.pg_sleep({})", time.as_secs_f64());
        self.run_text(flight, sleep, || Reader::Check { commit: false });
    }
}

/// The text of the statement that a Bind is about.
fn bound_text(session: &Session, bind: &Message) -> Option<Bytes> {
    let mut fields = bind.fields();
    let (_portal, name) = (fields.string()?, fields.string()?);
    let parsed = session.batch().find_map(|message| {
        let mut fields = message.fields();
        let is_parse = message.tag() == frontend::PARSE;
        (is_parse && fields.string()? == name).then(|| fields.string())?
    });
    parsed.or_else(|| Some(session.statements.get(&name)?.sql.clone()))
}
