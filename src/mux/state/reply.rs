//! The batch under way: what the backend answers, and whom that concerns.

use bytes::Bytes;

use super::Mux;
use super::inject::take_effect;
use super::script::keep_unnamed;
use super::send::only_command;
use crate::mux::block::Executed;
use crate::mux::command::Command;
use crate::mux::control;
use crate::mux::encoding;
use crate::mux::flight::{AfterCheck, Flight, Nameable, Progress, Reader, Request, Step};
use crate::mux::message::to_session::Report;
use crate::mux::message::{Message, ProtocolViolation, backend, to_backend};
use crate::mux::own;
use crate::mux::redirect;
use crate::mux::refcursor;
use crate::mux::report;
use crate::mux::session::{Phase, restore_names};

impl Mux {
    /// Takes the steps that need no reply, and ends a batch that is over.
    pub(super) fn settle(&mut self) {
        while let Some(flight) = self.flights.front_mut().filter(|flight| !flight.is_void) {
            if flight.awaits_reply() {
                return;
            }
            let id = flight.session;
            let Some(step) = flight.steps.pop_front() else {
                if !flight.ended {
                    return self.note_idle();
                }
                self.land();
                continue;
            };
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            match step {
                Step::Reply { .. } | Step::Named(_) | Step::ClosedHeld(_) | Step::Rewritten(_) => {}
                Step::Did(effect) => {
                    flight.awaits_table = false;
                    take_effect(effect, flight, session, &mut self.tables);
                }
                Step::Ran(command) => {
                    flight.standing.note(&command);
                    session.note(&command);
                }
                Step::Start {
                    hands_over,
                    in_mode,
                } => {
                    flight.standing.start(hands_over, in_mode);
                    if let Some(session) = self.sessions.get_mut(&flight.session) {
                        session.note_start();
                    }
                }
                Step::Queries => {
                    flight.standing.query();
                }
                Step::Ordered(order) => {
                    flight.standing.guard.flatten();
                    self.ordered(order);
                }
                Step::Tell(report) => {
                    session.send(&report.message());
                    self.dirty.push_back(id);
                }
                Step::Part => {
                    session.part();
                    self.dirty.push_back(id);
                }
                Step::Control(command) => self.control(&command),
            }
        }
    }

    /// A control statement of the batch ahead takes effect.
    fn control(&mut self, command: &Command) {
        let Some(flight) = self.flights.front_mut() else {
            return;
        };
        let Some(mut session) = self.sessions.remove(&flight.session) else {
            return;
        };
        let done = control::apply(&mut flight.standing, command);
        match &done {
            Ok(done) => self
                .recorder
                .completed(session.id, done.tag.as_bytes(), self.now),
            Err(report) => self
                .recorder
                .failed(session.id, None, &report.message(), self.now),
        }
        session.note_block(command, &flight.standing, self.now);
        let is_undone = flight.standing.guard.is_undone();
        if let Ok(done) = &done {
            self.note_control(&mut session, command, done.tag);
        }
        session.tell(done);
        if command.ends_block() {
            session.take_back_settings(&self.settings, is_undone);
        }
        self.dirty.push_back(session.id);
        self.sessions.insert(session.id, session);
    }

    /// Goes on with a batch that waited for the backend.
    pub(super) fn resume(&mut self) {
        if let Some(flight) = self.flights.front()
            && flight.steps.is_empty()
        {
            self.pump(flight.session);
        }
    }

    pub(super) fn on_reply(&mut self, message: &Message, tag: u8) -> Result<(), ProtocolViolation> {
        if self.is_void_reply_next() {
            return self.on_void_reply(message);
        }
        let Some(flight) = self.flights.front_mut() else {
            return Err(unexpected(message, "nobody has asked for anything"));
        };
        let Some(Step::Reply { to, reader }) = flight.steps.front() else {
            return Err(unexpected(message, "nothing is awaited"));
        };
        let progress = to.progress(tag);
        if progress == Progress::Violates {
            return Err(unexpected(message, &format!("{to:?} was to be answered")));
        }
        let is_client = matches!(reader, Reader::Client);
        let id = flight.session;
        let in_query = matches!(to, Request::Query);
        let described = match to {
            Request::DescribeStatement(name) if tag == backend::PARAMETER_DESCRIPTION => {
                Some(name.clone())
            }
            _ => None,
        };
        let runs = matches!(to, Request::Execute | Request::FunctionCall);
        let ends_statement = match tag {
            backend::COMMAND_COMPLETE => in_query || runs,
            _ => runs && progress == Progress::Completes,
        };
        if tag == backend::COPY_IN_RESPONSE {
            flight.copying = true;
            flight.awaits_copy = false;
            if !in_query {
                flight.copies_in = false;
                if flight.copies_next_sync() {
                    // "the backend ... ignores Sync while in copy-in mode", so the batch is open again.
                    flight.steps.remove(1);
                    flight.ended = false;
                }
            }
        }
        if progress == Progress::Completes {
            flight.steps.pop_front();
        }
        if is_client {
            self.returns_cursors = self.returns_cursors
                || tag == backend::ROW_DESCRIPTION && refcursor::is_described(message);
            let withholds = in_query
                && flight.withholds
                && matches!(
                    tag,
                    backend::COMMAND_COMPLETE | backend::EMPTY_QUERY_RESPONSE
                );
            let earlier = if in_query {
                flight.withheld.take()
            } else {
                None
            };
            if withholds {
                flight.withheld = Some(message.clone());
            }
            if let Some(session) = self.sessions.get_mut(&id) {
                if let Some(earlier) = earlier {
                    session.send(&earlier);
                }
                if !withholds {
                    match redirect::restore_column(message) {
                        Some(restored) => session.send(&restored),
                        None => session.send(message),
                    }
                }
                if let Some(prepared) = described.and_then(|name| session.statements.get_mut(&name))
                {
                    prepared.types = Bytes::copy_from_slice(&message.body());
                }
                if ends_statement {
                    let tag = message.fields().string().unwrap_or_default();
                    self.recorder.completed(id, &tag, self.now);
                }
                if in_query
                    && tag == backend::COMMAND_COMPLETE
                    && let Some(script) = &mut flight.script
                {
                    if let Some(effect) = script.complete() {
                        take_effect(effect, flight, session, &mut self.tables);
                    }
                    flight.existed = false;
                }
                self.dirty.push_back(id);
            }
        }
        if tag == backend::COPY_IN_RESPONSE {
            self.pump(id);
        } else if progress == Progress::Completes {
            self.settle();
            if tag == backend::COMMAND_COMPLETE
                && let Some(flight) = self.flights.front_mut()
            {
                flight.existed = false;
            }
            self.resume();
        }
        Ok(())
    }

    pub(super) fn on_error(&mut self, message: &Message) -> Result<(), ProtocolViolation> {
        let fatal = message
            .error_field(b'V')
            .is_some_and(|severity| severity != "ERROR");
        if fatal {
            // The session that it hit gets the server's own words, the others get ours.
            let error = message.map_error_fields(|_, text| restore_names(&text));
            if let Some(flight) = self.flights.front().filter(|flight| !flight.is_void) {
                self.recorder.failed(flight.session, None, &error, self.now);
            }
            self.forward(&error);
            if let Some(session) = self
                .flights
                .front()
                .filter(|flight| !flight.is_void)
                .and_then(|flight| self.sessions.get_mut(&flight.session))
            {
                session.phase = Phase::Over;
            }
            let text = message.error_field(b'M').unwrap_or_default();
            let code = message.error_field(b'C').unwrap_or_default();
            self.lose(report::backend_died(&code, &text));
            return Ok(());
        }
        if self.is_void_reply_next() {
            return self.on_void_reply(message);
        }
        let hint = self.hint(message);
        let blockers = self.blockers().filter(|_| report::is_lock_timeout(message));
        let detail = blockers.map(report::lock_holders);
        let Some(flight) = self.flights.front_mut() else {
            return Err(unexpected(message, "nobody has asked for anything"));
        };
        let Some(Step::Reply { to, reader }) = flight.steps.front() else {
            return Err(unexpected(message, "nothing is awaited"));
        };
        if !matches!(reader, Reader::Client) && report::is_own_statement_gone(message) {
            // A check stands in the same batch, unless it is that of a COMMIT by itself.
            let last = match reader {
                Reader::Check { commit: false } => self.running_sql().map(Bytes::from),
                _ => None,
            };
            let last = last.unwrap_or_else(|| self.ran.clone());
            self.lose(report::statements_gone(&last));
            return Ok(());
        }
        let synced = to.is_synced();
        let parses = matches!(to, Request::Parse | Request::Bind);
        let mut warning = None;
        let mut intruder = None;
        let reply = match reader {
            Reader::Guard | Reader::Fence => {
                let text = message.error_field(b'M').unwrap_or_default();
                let sql = self.running_sql().unwrap_or_default();
                self.lose(report::guard_failed(&text, &sql));
                return Ok(());
            }
            Reader::Failure => None,
            Reader::Check { .. } if flight.failed => None,
            Reader::Check { commit } => {
                if *commit {
                    warning = flight.standing.fail_commit();
                }
                flight.withheld = None;
                Some(message.map_error_fields(|_, text| restore_names(&text)))
            }
            Reader::Trial(trial) => Some(message.map_error_fields(|_, text| trial.explain(&text))),
            // The error's text may be translated, but not the name of the function that reports it.
            Reader::Proof if is_several_statements(message) => None,
            Reader::Proof => {
                self.recorder
                    .failed(flight.session, None, message, self.now);
                let error = Some(message.clone());
                flight.after_check = Some(AfterCheck::Proof { error });
                None
            }
            Reader::Refusal(error) => Some(error.clone()),
            Reader::FailedCommit(error) => {
                warning = flight.standing.fail_commit();
                Some(error.clone())
            }
            Reader::Client => {
                intruder = flight.intruder.take().filter(|_| {
                    let text = message.error_field(b'M').unwrap_or_default();
                    text.ends_with(own::INTRUDER.as_bytes())
                });
                let error = message.map_error_fields(|code, text| match (code, intruder) {
                    (b'C', Some(_)) => Bytes::from_static(b"08P01"),
                    (b'M', Some(tag)) => report::not_copy(tag).into(),
                    (b'P', _) => written_position(flight, &text),
                    _ => restore_names(&text),
                });
                let error = match detail {
                    Some(detail) => error.with_error_field(b'D', &detail),
                    None => error,
                };
                Some(match hint {
                    Some(hint) => error.with_error_field(b'H', hint),
                    None => error,
                })
            }
        };
        flight.failed = true;
        flight.copying = false;
        flight.awaits_copy = false;
        flight.awaits_table = false;
        let earlier = flight.withheld.take();
        let id = flight.session;
        let named = flight.names_next();
        if let Some(session) = self.sessions.get_mut(&id) {
            if let Some(reply) = &reply {
                let prepared = match named {
                    Some((Nameable::Statement, name)) if parses => session.statements.get(name),
                    Some((Nameable::Portal, name)) => session.portals.get(name),
                    _ => None,
                };
                let text = prepared.map(|prepared| &prepared.sql);
                self.recorder.failed(id, text, reply, self.now);
            }
            if let Some(earlier) = earlier {
                session.send(&earlier);
            }
            if let Some(warning) = warning {
                session.send(&warning.message());
            }
            if let Some(reply) = reply {
                session.send(&reply);
            }
            if intruder.is_some() {
                session.send(&report::out_of_step().message());
                session.phase = Phase::Over;
                session.gone = true;
                session.farewell = None;
                session.clear_inbox();
            }
            self.dirty.push_back(id);
            if !synced {
                flight.skip_to_sync(session);
            }
        }
        self.settle();
        self.resume();
        Ok(())
    }

    /// What to do about an error that a session would not get without the others.
    fn hint(&self, error: &Message) -> Option<&'static str> {
        if report::is_lock_timeout(error) {
            return Some(report::LOCK_TIMEOUT);
        }
        let mut sessions = self.sessions.values();
        if report::is_in_use(error) && sessions.any(|session| !session.held.is_empty()) {
            return Some(report::HELD_CURSOR);
        }
        let hint = report::needs_commit(error)?;
        let flight = self.flights.front()?;
        let several = flight.script.as_ref().is_some_and(|script| script.several);
        if flight.standing.is_open() || several {
            return None;
        }
        // A function that ends its transaction can't do so anywhere.
        let is_function = || {
            let session = self.sessions.get(&flight.session)?;
            let command = only_command(&session.last_sql, session.standard_conforming_strings());
            Some(!matches!(command, Command::Call | Command::Do))
        };
        let of_function =
            error.error_field(b'C').as_deref() == Some(b"2D000") && is_function().unwrap_or(true);
        (!of_function).then_some(hint)
    }

    pub(super) fn on_ready(&mut self, message: &Message) -> Result<(), ProtocolViolation> {
        let status = message.transaction_status();
        if status == Some(b'I') {
            let sql = self.running_sql().unwrap_or_default();
            self.lose(report::transaction_ended(&sql));
            return Ok(());
        }
        if self.is_void_reply_next() {
            return self.on_void_reply(message);
        }
        let (Some(mut flight), Some(status)) = (self.flights.pop_front(), status) else {
            return Err(unexpected(message, "nobody has asked for anything"));
        };
        let Some(Step::Reply { to, reader }) = flight.steps.pop_front() else {
            return Err(unexpected(message, "nothing is awaited"));
        };
        if !to.is_synced() {
            return Err(unexpected(message, &format!("{to:?} was to be answered")));
        }
        let Some(mut session) = self.sessions.remove(&flight.session) else {
            return Ok(());
        };
        match reader {
            // The end of the whole batch.
            Reader::Client if flight.script.is_none() => {
                flight.standing.end_batch(status, flight.executed);
                if !flight.standing.is_open() {
                    self.end_transaction(&mut session, !flight.failed);
                }
                keep_unnamed(&mut flight, &mut session);
                session.tell_settings(&self.reported, &self.settings);
                session.send_ready(flight.standing.block.status());
                self.dirty.push_back(session.id);
            }
            // The end of a part of a simple query; a check may be under way behind it.
            Reader::Client => {
                let ran = flight.running.take().filter(|_| status != b'E');
                if let Some(command) = ran {
                    flight.standing.note(&command);
                    session.note(&command);
                    self.settings.note_savepoint(&command);
                }
                flight.ahead = flight.standing.clone();
                if status == b'E' {
                    if flight.steps.is_empty() {
                        flight.standing.end_batch(status, Executed::Anything);
                        self.end_script(&mut flight, &mut session);
                    }
                } else {
                    if flight.standing.is_open() {
                        flight.standing.end_batch(status, Executed::Anything);
                        flight.ahead = flight.standing.clone();
                    }
                    if flight.after_check.is_some() {
                        if flight.steps.is_empty() {
                            self.send_check(&mut flight, false);
                            self.put(&to_backend::sync());
                            flight.expect(Request::Sync, Reader::Guard);
                        }
                    } else {
                        self.run_script(&mut flight, &mut session);
                    }
                }
            }
            // What went before the query has been answered.
            Reader::Fence => {}
            // The failure was to be expected, and is undone by what follows, or was told long ago.
            Reader::Proof | Reader::Failure => flight.failed = false,
            // The end of a check.
            _ => {
                let after = flight.after_check.take();
                if let Some(AfterCheck::Proof { error }) = after {
                    flight.failed = false;
                    match error {
                        None => self.run_script(&mut flight, &mut session),
                        Some(error) if status == b'E' => {
                            session.send(&error);
                            self.end_script(&mut flight, &mut session);
                        }
                        Some(error) => {
                            flight.script = None;
                            self.send_refusal_of_query(&mut flight, own::PORTAL, error);
                        }
                    }
                } else if status == b'E' {
                    flight.standing.end_batch(status, Executed::Anything);
                    self.end_script(&mut flight, &mut session);
                } else if let Some(AfterCheck::Delay) = after {
                    self.run_script(&mut flight, &mut session);
                } else if let Some(AfterCheck::Control(command)) = after {
                    match self.control_in_script(&mut flight, &mut session, &command) {
                        Ok(()) => self.run_script(&mut flight, &mut session),
                        Err(report) => self.fail_script(&mut flight, &mut session, &report),
                    }
                } else {
                    self.end_script(&mut flight, &mut session);
                }
            }
        }
        self.sessions.insert(session.id, session);
        self.flights.push_front(flight);
        self.settle();
        self.resume();
        Ok(())
    }

    pub(super) fn on_parameter_status(&mut self, message: &Message) {
        let mut fields = message.fields();
        if let (Some(name), Some(value)) = (fields.string(), fields.string()) {
            let value = String::from_utf8_lossy(&value);
            self.reported.set(&String::from_utf8_lossy(&name), &value);
            if name == "client_encoding" && encoding::is_unsafe(&value) {
                self.end_unsafe(&value);
            }
        }
    }

    /// A session has set such an encoding in a way that its text didn't show. It can't be understood any more.
    fn end_unsafe(&mut self, name: &str) {
        if let Some(flight) = self.flights.front().filter(|flight| !flight.is_void)
            && let Some(session) = self.sessions.get_mut(&flight.session)
        {
            let text = encoding::refusal(name);
            session.farewell = Some(Report::fatal(encoding::REFUSED, text));
            session.gone = true;
            session.clear_inbox();
        }
    }

    /// Whether the backend's next reply is to the guard.
    pub(super) fn is_own_reply_next(&self) -> bool {
        let next = self.flights.front().and_then(|flight| flight.steps.front());
        matches!(
            next,
            Some(Step::Reply {
                reader: Reader::Guard,
                ..
            })
        )
    }

    pub(super) fn on_notice(&mut self, message: &Message) {
        if let Some(flight) = self.flights.front_mut() {
            flight.existed |= message.error_field(b'C').as_deref() == Some(DUPLICATE_TABLE);
        }
        self.forward(message);
    }

    /// Passes a message on to the session whose batch is under way.
    pub(super) fn forward(&mut self, message: &Message) {
        if let Some(flight) = self.flights.front().filter(|flight| !flight.is_void)
            && let Some(session) = self.sessions.get_mut(&flight.session)
        {
            session.send(message);
            self.dirty.push_back(flight.session);
        }
    }
}

const DUPLICATE_TABLE: &[u8] = b"42P07";

/// Whether a Parse has failed only because its text holds several statements.
fn is_several_statements(message: &Message) -> bool {
    message.error_field(b'R').as_deref() == Some(b"exec_parse_message")
}

fn written_position(flight: &Flight, text: &Bytes) -> Bytes {
    match std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<usize>().ok())
    {
        Some(position) => Bytes::from(flight.written_position(position).to_string()),
        None => text.clone(),
    }
}

pub(super) fn unexpected(message: &Message, context: &str) -> ProtocolViolation {
    ProtocolViolation(format!(
        "unexpected backend message of type {:?}: {context}",
        char::from(message.tag())
    ))
}
