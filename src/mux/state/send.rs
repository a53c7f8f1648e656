//! The batch under way: how each of its messages is sent to the backend.

use bytes::{BufMut, Bytes};

use super::Mux;
use crate::mux::block::{self, Executed, Standing};
use crate::mux::command::{Command, Discard};
use crate::mux::control;
use crate::mux::deferral::Deferral;
use crate::mux::fault::Action;
use crate::mux::flight::{Effect, Flight, Nameable, Reader, Request, Step};
use crate::mux::message::{Fields, Message, frontend, to_backend};
use crate::mux::naming::Naming;
use crate::mux::notify;
use crate::mux::on_commit::Table;
use crate::mux::own;
use crate::mux::report;
use crate::mux::rewrite::Shifts;
use crate::mux::session::{Prepared, Session, SessionId};
use crate::mux::settings::{self, Change};
use crate::mux::shape;
use crate::mux::split;

impl Mux {
    pub(super) fn send_parse(
        &mut self,
        flight: &mut Flight,
        session: &mut Session,
        message: &Message,
    ) {
        let mut fields = message.fields();
        let (Some(name), Some(sql)) = (fields.string(), fields.string()) else {
            return self.send_malformed(flight, message);
        };
        self.start(flight);
        let scs = session.standard_conforming_strings();
        let command = only_command(&sql, scs);
        let rest = fields.rest();
        let command = notify::with_types(command, Fields::new(rest.clone()));
        self.belongings.note(session.id, &command, &sql);
        self.note_text(&sql, scs);
        let full_name = session.statement_name(&name);
        if name.is_empty() {
            self.put(&to_backend::close(b'S', &full_name));
            flight.expect(Request::Close, Reader::Guard);
        }
        let rewritten = session.rewrite(&sql, &command, scs);
        let (text, shifts) = match &rewritten {
            Some(rewritten) => (&rewritten.text, rewritten.shifts.clone()),
            None => (&sql, Shifts::default()),
        };
        let mut prepared = Prepared::new(command, sql.clone(), scs);
        match self.stand_in(session.id, &prepared.command, &prepared.changes) {
            Some(stand_in) => self.put(&to_backend::parse(&full_name, stand_in.as_bytes())),
            None => {
                self.put_built(frontend::PARSE, |body| {
                    body.put_slice(&full_name);
                    body.put_u8(0);
                    body.put_slice(text);
                    body.put_u8(0);
                    body.put_slice(&rest);
                });
            }
        }
        session.last_sql = sql;
        if prepared.queries {
            flight.query();
        }
        prepared.shifts = shifts.clone();
        prepared.types = Bytes::copy_from_slice(&rest);
        let previous = session.statements.insert(name.clone(), prepared);
        flight.expect(Request::Parse, Reader::Client);
        flight.named(Nameable::Statement, name, previous);
        flight.rewritten(&shifts);
    }

    pub(super) fn send_bind(
        &mut self,
        flight: &mut Flight,
        session: &mut Session,
        message: &Message,
    ) {
        let mut fields = message.fields();
        let (Some(portal), Some(statement)) = (fields.string(), fields.string()) else {
            return self.send_malformed(flight, message);
        };
        self.start(flight);
        let rest = fields.rest();
        let mut prepared = session.statements.get(&statement).cloned();
        if let Some(prepared) = &mut prepared {
            prepared.command = notify::with_values(&prepared.command, Fields::new(rest.clone()));
            prepared.values = rest.clone();
        }
        let full_name = match prepared {
            Some(_) => session.statement_name(&statement),
            // The backend knows none of that name either, and says so in its own words.
            None => session.unknown_name(&statement),
        };
        let full_portal = session.portal_name(&portal);
        self.put_built(frontend::BIND, |body| {
            for name in [&full_portal, &full_name] {
                body.put_slice(name);
                body.put_u8(0);
            }
            body.put_slice(&rest);
        });
        flight.expect(Request::Bind, Reader::Client);
        if let Some(prepared) = prepared {
            flight.rewritten(&prepared.shifts);
            let previous = session.portals.insert(portal.clone(), prepared);
            flight.named(Nameable::Portal, portal, previous);
        }
    }

    /// A Describe or a Close, of a statement or of a portal.
    pub(super) fn send_named(
        &mut self,
        flight: &mut Flight,
        session: &mut Session,
        message: &Message,
    ) {
        let mut fields = message.fields();
        let (Some(kind), Some(name)) = (fields.byte(), fields.string()) else {
            return self.send_malformed(flight, message);
        };
        self.start(flight);
        let closes = message.tag() == frontend::CLOSE;
        let full_name = match kind {
            b'S' if session.statements.contains_key(&name) => session.statement_name(&name),
            b'P' => portal_name(session, &name),
            _ => session.unknown_name(&name),
        };
        self.put_built(message.tag(), |body| {
            body.put_u8(kind);
            body.put_slice(&full_name);
            body.put_u8(0);
        });
        let request = match (closes, kind) {
            (true, _) => Request::Close,
            (false, b'S') => Request::DescribeStatement(name.clone()),
            (false, _) => Request::DescribePortal,
        };
        flight.expect(request, Reader::Client);
        if closes {
            if kind == b'P' && session.held.contains(&name) {
                let closes = Effect::Closes(name.to_vec());
                return flight.steps.push_back(Step::Did(closes));
            }
            let (what, names) = match kind {
                b'S' => (Nameable::Statement, &mut session.statements),
                _ => (Nameable::Portal, &mut session.portals),
            };
            if let Some(previous) = names.remove(&name) {
                flight.named(what, name, Some(previous));
            }
        }
    }

    pub(super) fn send_execute(
        &mut self,
        flight: &mut Flight,
        session: &mut Session,
        message: &Message,
    ) {
        let mut fields = message.fields();
        let Some(portal) = fields.string() else {
            return self.send_malformed(flight, message);
        };
        if let Some(portal) = session.portals.get(&portal) {
            let in_block = flight.ahead.is_open();
            self.recorder.portal(session.id, portal, in_block, self.now);
        } else {
            let text = b"(a portal that there isn't)";
            self.recorder
                .query(session.id, text, true, 1, false, self.now);
        }
        let (command, executed, shifts, changes, queries) = match session.portals.get(&portal) {
            Some(prepared) if prepared.spent => {
                let report = match flight.ahead.is_failed() {
                    true => block::aborted(),
                    false => report::spent_portal(&portal),
                };
                return self.send_refusal(flight, report.message());
            }
            Some(prepared) => {
                session.last_sql = prepared.sql.clone();
                let changes = session.changes_by(prepared);
                let command = session.resolve(prepared.command.clone());
                let shifts = prepared.shifts.clone();
                (
                    command,
                    prepared.executed,
                    shifts,
                    changes,
                    prepared.queries,
                )
            }
            None => (
                Command::Other,
                Executed::Anything,
                Shifts::default(),
                Vec::new(),
                false,
            ),
        };
        self.note_command(session, &command);
        let sql = session.last_sql.clone();
        match self.fault(session.id, &sql, &command, &flight.ahead) {
            None | Some(Action::Disconnect) => {}
            Some(Action::Delay(time)) => self.send_delay(flight, time),
            Some(Action::Fail(error)) if matches!(command, Command::Commit { .. }) => {
                self.send_failed_commit(flight, &error);
            }
            Some(Action::Fail(error)) => return self.send_refusal(flight, error),
        }
        let in_pipeline = flight.has_executed && !flight.ahead.is_open();
        // What follows in a pipeline is in an implicit block, as the later ones of a Query's statements are.
        let several = in_pipeline && session.release() >= Some(18);
        let refused = control::refused(&command, &flight.ahead, several, self.denies_levels);
        let refused = refused.or_else(|| control::refused_in_pipeline(&command, in_pipeline));
        if let Some(report) = refused {
            return self.send_refusal(flight, report.message());
        }
        flight.has_executed = control::opens_pipeline(&command, &sql, flight.has_executed);
        if control::is_control(&command) {
            if self.needs_check(&command, &flight.ahead) {
                self.send_check(flight, true);
            }
            flight.alone = true;
            let warnings =
                control::warnings(&command, &flight.ahead, several, || session.release());
            flight.tell(warnings);
            if let Some(sql) = self.errand(session.id, &command, &flight.ahead) {
                self.start(flight);
                self.send_changes(flight, &changes);
                self.run_text(flight, &sql, || errand_reader(&command));
                flight.executed = Executed::Anything;
            }
            return match control::apply(&mut flight.ahead, &command) {
                Ok(_) => {
                    flight.steps.push_back(Step::Control(command.clone()));
                    match command {
                        Command::DeallocateAll => self.close_statements(flight, session),
                        Command::Discard(Discard::All) => {
                            self.close_statements(flight, session);
                            self.close_portals(flight, session);
                            self.close_held(flight, session);
                        }
                        Command::CloseAll => {
                            self.close_portals(flight, session);
                            self.close_held(flight, session);
                        }
                        Command::Commit { .. } | Command::Rollback { .. } => {
                            self.close_portals(flight, session);
                        }
                        _ => {}
                    }
                    if let Some(prepared) = session.portals.get_mut(&portal) {
                        prepared.spent = true;
                    }
                }
                Err(report) => self.send_refusal(flight, report.message()),
            };
        }
        self.start(flight);
        self.send_changes(flight, &changes);
        let warnings = control::warnings(&command, &flight.ahead, several, || session.release());
        flight.tell(warnings);
        if queries {
            flight.query();
        }
        flight.executed = flight.executed.max(self.reads.judge(executed));
        flight.copies_in |= command == Command::CopyFromStdin;
        flight.alone |= command == Command::CopyFromStdin;
        flight.awaits_copy = command == Command::CopyFromStdin;
        let full_name = portal_name(session, &portal);
        let rest = fields.rest();
        self.put_built(frontend::EXECUTE, |body| {
            body.put_slice(&full_name);
            body.put_u8(0);
            body.put_slice(&rest);
        });
        flight.expect(Request::Execute, Reader::Client);
        flight.rewritten(&shifts);
        if let Some(table) = Table::of(&command) {
            flight.alone = true;
            flight.awaits_table = true;
            flight.steps.push_back(Step::Did(Effect::Creates(table)));
        }
        match session.effect_on_cursors(&command, &[]) {
            // What follows in the same pipeline may name it.
            Some(Effect::Holds(name)) if !session.held.contains(&name) => {
                session.held.declare(&name);
                flight.named(Nameable::Held, name.into(), None);
            }
            Some(Effect::Closes(name)) => flight.steps.push_back(Step::Did(Effect::Closes(name))),
            _ => {}
        }
        let sql = session.last_sql.clone();
        if let Some(naming) = Naming::of(&command, sql, shifts) {
            let (name, previous) = naming.apply(session);
            flight.named(Nameable::Statement, name, previous);
        }
        if control::is_remembered(&command) {
            if !flight.ahead.is_failed() || matches!(command, Command::RollbackTo(_)) {
                self.settings.note_savepoint(&command);
            }
            flight.ahead.note(&command);
            flight.steps.push_back(Step::Ran(command));
        }
    }

    /// Portals end with their transaction, and their names may be given again in the same pipeline.
    fn close_portals(&mut self, flight: &mut Flight, session: &mut Session) {
        for (name, previous) in std::mem::take(&mut session.portals) {
            if !name.is_empty() {
                self.put(&to_backend::close(b'P', &session.portal_name(&name)));
                flight.expect(Request::Close, Reader::Guard);
            }
            flight.named(Nameable::Portal, name, Some(previous));
        }
    }

    /// The same for its cursors WITH HOLD.
    fn close_held(&mut self, flight: &mut Flight, session: &mut Session) {
        let before = session.held.clone();
        for name in session.held.take() {
            self.put(&to_backend::close(b'P', &session.statement_name(&name)));
            flight.expect(Request::Close, Reader::Guard);
        }
        if !before.is_empty() {
            flight.steps.push_back(Step::ClosedHeld(before));
        }
    }

    /// What a statement that is answered here has to do on the backend, if it succeeds.
    pub(super) fn errand(
        &self,
        id: SessionId,
        command: &Command,
        standing: &Standing,
    ) -> Option<Bytes> {
        if control::apply(&mut standing.clone(), command).is_err() {
            return None;
        }
        let settings = match command {
            Command::SetRedirected(trial) => return Some(trial.sql(self.defaults.release())),
            Command::Begin { modes, .. }
            | Command::SetTransaction(modes)
            | Command::SetMode { modes, .. } => {
                let read_only = standing.sets_read_only(*modes)?;
                return Some(own::set_transaction(read_only).into());
            }
            Command::ResetAll => self.settings.reset(id, false),
            Command::Discard(Discard::All) => self.settings.reset(id, true),
            Command::Discard(Discard::Temp) => String::new(),
            _ => return None,
        };
        let steps = settings + &self.belongings.gives_up(id, command);
        (!steps.is_empty()).then(|| settings::block(&steps).into())
    }

    /// What a statement is parsed as, if not as itself.
    pub(super) fn stand_in(
        &self,
        id: SessionId,
        command: &Command,
        changes: &[Change],
    ) -> Option<String> {
        match command {
            Command::UnlockAll if self.belongings.others_may_lock(id) => {
                Some(own::UNLOCK_NOTHING.to_owned())
            }
            // What precedes it does it.
            Command::Reset { .. } if self.settings.restores(id, changes) => {
                Some(own::RESET_NOTHING.to_owned())
            }
            Command::Set { .. } if self.settings.restores(id, changes) => {
                Some(own::SET_NOTHING_TO_DEFAULT.to_owned())
            }
            command => own::stand_in(command),
        }
    }

    /// DEALLOCATE ALL amid a pipeline, which may give the names again. The unnamed statement isn't its business.
    fn close_statements(&mut self, flight: &mut Flight, session: &mut Session) {
        let unnamed = session.statements.remove(&Bytes::new());
        for (name, previous) in std::mem::take(&mut session.statements) {
            self.put(&to_backend::close(b'S', &session.statement_name(&name)));
            flight.expect(Request::Close, Reader::Guard);
            flight.named(Nameable::Statement, name, Some(previous));
        }
        session
            .statements
            .extend(unnamed.map(|unnamed| (Bytes::new(), unnamed)));
    }

    pub(super) fn send_sync(&mut self, flight: &mut Flight, message: &Message) {
        if !shape::is_sound(message) {
            // It fails, and must not fail what was acknowledged before.
            self.start(flight);
        } else if self.deferral.is_possible()
            && flight.ahead.block.is_implicit()
            && !flight.copies_in
        {
            self.send_check(flight, false);
        }
        flight.ended = true;
        self.put(message);
        flight.expect(Request::Sync, Reader::Client);
    }

    pub(super) fn send_function_call(
        &mut self,
        flight: &mut Flight,
        session: &mut Session,
        message: &Message,
    ) {
        session.last_sql = Bytes::from_static(b"(function call)");
        let in_block = flight.ahead.is_open();
        let sql = session.last_sql.clone();
        self.recorder
            .query(session.id, &sql, true, 1, in_block, self.now);
        flight.alone = true;
        flight.executed = Executed::Anything;
        // It ends the implicit transaction. What it violates itself is found at the end of the test.
        if self.deferral.is_possible() && flight.ahead.block.is_implicit() {
            self.send_check(flight, false);
        }
        self.start(flight);
        self.put(message);
        flight.ended = true;
        flight.expect(Request::FunctionCall, Reader::Client);
    }

    /// A message whose fields don't add up goes to the backend as it is: it knows best what to say.
    pub(super) fn send_malformed(&mut self, flight: &mut Flight, message: &Message) {
        self.start(flight);
        self.put(message);
        let request = match message.tag() {
            frontend::BIND => Request::Bind,
            frontend::EXECUTE => Request::Execute,
            _ => Request::Close,
        };
        flight.expect(request, Reader::Client);
    }

    /// The text of a statement that is about to be run: it may change what is known of the database.
    pub(super) fn note_text(&mut self, statement: &[u8], scs: bool) {
        self.deferral.note(statement, scs);
        self.reads.note(statement, scs);
    }

    /// A statement may change what has to be done when its transaction ends.
    pub(super) fn note_command(&mut self, session: &mut Session, command: &Command) {
        match command {
            Command::CreateDeferrable => self.deferral = Deferral::Changed,
            // A cursor is a portal, and ends where one does.
            Command::DeclareCursor { name, hold: false }
                if !session.held.contains(name.as_bytes()) =>
            {
                let cursor = Prepared::new(Command::Other, session.last_sql.clone(), true);
                session
                    .portals
                    .insert(Bytes::copy_from_slice(name.as_bytes()), cursor);
            }
            _ => {}
        }
    }
}

/// Who reads the replies to what a statement has to do on the backend.
pub(super) fn errand_reader(command: &Command) -> Reader {
    match command {
        Command::SetRedirected(trial) => Reader::Trial(trial.clone()),
        _ => Reader::Check { commit: false },
    }
}

/// What the one statement of a Parse is.
pub(super) fn only_command(sql: &[u8], scs: bool) -> Command {
    let mut statements = split::statements(sql, scs).into_iter();
    match (statements.next(), statements.next()) {
        (Some(range), None) => Command::of(&sql[range], scs),
        _ => Command::Other,
    }
}

/// The portal's own name, or one that the backend is sure not to know: its own unnamed portal may be one of ours.
fn portal_name(session: &Session, name: &Bytes) -> Bytes {
    if name.is_empty() && !session.portals.contains_key(name) {
        Bytes::from_static(own::NO_PORTAL)
    } else {
        session.portal_name(name)
    }
}
