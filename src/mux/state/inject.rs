//! What the multiplexer says of its own in a session's pipeline: the prologue of a transaction, the check of deferred
//! constraints, and errors that the backend is made to share.

use bytes::{BufMut, BytesMut};
use postgres_protocol::escape::escape_literal;

use super::Mux;
use crate::mux::block::{Executed, Move, Prologue, Standing};
use crate::mux::command::Command;
use crate::mux::control;
use crate::mux::flight::{Effect, Flight, Reader, Request, Step};
use crate::mux::message::{self, Message, frontend, to_backend};
use crate::mux::on_commit::Tables;
use crate::mux::own;
use crate::mux::refcursor;
use crate::mux::session::Session;
use crate::mux::settings::Change;

impl Mux {
    /// Begins the session's transaction on the backend, if it has not begun.
    pub(super) fn start(&mut self, flight: &mut Flight) {
        self.start_in(flight, true);
    }

    /// The same; `in_mode` is not needed for what doesn't read or write.
    pub(super) fn start_in(&mut self, flight: &mut Flight, in_mode: bool) {
        // What stands behind a message that may have failed may be skipped.
        if flight.is_heard() {
            let (closes, count) = self.garbage.take();
            self.to_backend.put_slice(&closes);
            for _ in 0..count {
                flight.expect(Request::Close, Reader::Guard);
            }
        }
        let hands_over = flight.orphans.is_some() || self.settings.needs_handover(flight.session);
        let Some(prologue) = flight.ahead.start(hands_over, in_mode) else {
            return self.note_tables(flight, || Reader::Check { commit: false });
        };
        flight.steps.push_back(Step::Start {
            hands_over,
            in_mode,
        });
        let follows_client = flight.shows_client;
        let Prologue { moves, modes } = prologue;
        if moves.is_empty() {
            self.note_tables(flight, || Reader::Check { commit: false });
        }
        let handover = self.settings.begin(flight.session, moves);
        for &step in moves {
            if let Some(statement) = own::statement(step) {
                self.run_own(flight, statement, || Reader::Guard);
            } else if let Some(handover) = &handover {
                self.run_text(flight, handover, || Reader::Guard);
                self.give_up_orphans(flight);
            }
            if step == Move::Begin
                && let Some(name) = &self.name
            {
                // It is undone with the outer transaction.
                let sql = format!("SET application_name TO {}", escape_literal(name));
                self.run_text(flight, sql, || Reader::Guard);
            }
            self.settle_tables(flight, step);
        }
        // They were of the transaction before.
        if self.returns_cursors && moves.iter().any(|&step| step != Move::HandOver) {
            self.run_text(flight, refcursor::CLOSE, || Reader::Guard);
        }
        for table in &flight.tables {
            self.tables.add(flight.session, table.clone());
        }
        let read_only = modes.and_then(|modes| {
            let by_default = flight.read_only.then_some(true);
            modes.read_only.or(by_default)
        });
        if let Some(read_only) = read_only {
            // It ends with its savepoint, so the next one isn't to be set on top.
            flight.executed = Executed::Anything;
            self.run_text(flight, own::set_transaction(read_only), || Reader::Guard);
        }
        let told = modes.and_then(|modes| self.settings.tell_modes(modes));
        if let Some(sql) = &told {
            flight.executed = Executed::Anything;
            self.run_text(flight, sql, || Reader::Guard);
        }
        if follows_client && (!moves.is_empty() || read_only.is_some() || told.is_some()) {
            flight.hides_guard = true;
            // What runs in a block may turn out to be an orphan that somebody waits for.
            let may_be_orphaned = flight.executes && flight.ahead.is_open();
            if flight.may_be_cancelled || may_be_orphaned {
                self.put(&to_backend::flush());
            }
        }
    }

    /// As settings are, so that nobody's rollback brings it back.
    fn give_up_orphans(&mut self, flight: &mut Flight) {
        if let Some(sql) = flight.orphans.take() {
            self.belongings.gave_up();
            self.run_text(flight, sql, || Reader::Guard);
        }
    }

    /// The transaction before was kept or undone, and so were the tables that it has made.
    fn settle_tables(&mut self, flight: &mut Flight, step: Move) {
        match step {
            // The next savepoint isn't set yet, so this is not undone with what follows.
            Move::Release => {
                self.note_tables(flight, || Reader::Guard);
                if let Some(sql) = self.tables.commit() {
                    self.run_text(flight, sql, || Reader::Guard);
                }
            }
            Move::RollBack | Move::RollBackNested => {
                self.tables.roll_back();
            }
            Move::Begin | Move::Set | Move::Nest | Move::HandOver => {}
        }
    }

    /// Tables that were created just now are noted before anything else is run.
    fn note_tables(&mut self, flight: &mut Flight, reader: impl Fn() -> Reader) {
        if let Some(sql) = self.tables.note() {
            self.run_text(flight, sql, reader);
        }
    }

    /// What is about to be run changes settings like this. What precedes it is as much the client's as itself.
    pub(super) fn send_changes(&mut self, flight: &mut Flight, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        flight.alone = true;
        if flight.ahead.is_failed() {
            return;
        }
        // Before that what is in force may be another session's.
        let shown = match flight.standing.block.is_on_backend() {
            true => &self.reported,
            false => &flight.told,
        };
        if let Some(sql) = self.settings.note(flight.session, changes, shown) {
            self.run_text(flight, &sql, || Reader::Check { commit: false });
            if flight.may_be_cancelled {
                self.put(&to_backend::flush());
            }
        }
    }

    /// Makes the backend fail here, and the client see this error.
    pub(super) fn send_refusal(&mut self, flight: &mut Flight, error: Message) {
        self.send_refusal_in(flight, own::PORTAL, error);
    }

    /// The same in a portal of this name, which goes with what has failed.
    pub(super) fn send_refusal_in(&mut self, flight: &mut Flight, portal: &[u8], error: Message) {
        self.start(flight);
        self.put(&to_backend::bind(portal, own::REFUSE));
        flight.expect(Request::Bind, Reader::Refusal(error.clone()));
        self.put(&to_backend::execute(portal));
        flight.expect(Request::Execute, Reader::Refusal(error));
    }

    /// Makes the backend see that the block has failed, so that it takes nothing but its end.
    pub(super) fn send_failure(&mut self, flight: &mut Flight) {
        self.start(flight);
        self.run_own(flight, own::REFUSE, || Reader::Failure);
        self.put(&to_backend::sync());
        flight.expect(Request::Sync, Reader::Failure);
    }

    /// Whether deferred constraints must be checked before this takes effect.
    pub(super) fn needs_check(&self, command: &Command, standing: &Standing) -> bool {
        matches!(command, Command::Commit { .. })
            && self.deferral.is_possible()
            && standing.commits_work()
            && control::apply(&mut standing.clone(), command).is_ok()
    }

    /// Checks the deferred constraints where a COMMIT would, and defers again what is deferred initially.
    pub(super) fn send_check(&mut self, flight: &mut Flight, commit: bool) {
        // A BEGIN READ ONLY may still be unknown to the backend.
        self.start(flight);
        self.run_own(flight, own::CHECK, || Reader::Check { commit });
        let id = flight.session;
        let in_role = self.settings.has_set(id, "role") || self.settings.is_local("role");
        let Some(restore) = self.deferral.restore(in_role) else {
            return;
        };
        self.run_text(flight, &restore, || Reader::Check { commit });
    }

    /// Runs a statement of the multiplexer's own in the session's pipeline.
    pub(super) fn run_own(
        &mut self,
        flight: &mut Flight,
        statement: &[u8],
        reader: impl Fn() -> Reader,
    ) {
        self.put_built(frontend::BIND, |body| {
            to_backend::bind_body(body, b"", statement);
        });
        flight.expect(Request::Bind, reader());
        self.put_built(frontend::EXECUTE, |body| {
            to_backend::execute_body(body, b"");
        });
        flight.expect(Request::Execute, reader());
    }

    /// Runs a statement of the multiplexer's own that isn't prepared.
    pub(super) fn run_text(
        &mut self,
        flight: &mut Flight,
        sql: impl AsRef<[u8]>,
        reader: impl Fn() -> Reader,
    ) {
        let mark = match reader() {
            Reader::Guard => own::MARK,
            _ => "",
        };
        let text = [mark.as_bytes(), sql.as_ref()].concat();
        self.put(&to_backend::parse(b"", &text));
        flight.expect(Request::Parse, reader());
        self.put(&to_backend::bind(own::PORTAL, b""));
        flight.expect(Request::Bind, reader());
        self.put(&to_backend::execute(own::PORTAL));
        flight.expect(Request::Execute, reader());
        // A Bind of an unnamed statement that its client doesn't have must not find ours.
        for (kind, name) in [(b'P', own::PORTAL), (b'S', b"")] {
            self.put(&to_backend::close(kind, name));
            flight.expect(Request::Close, reader());
        }
    }

    pub(super) fn put(&mut self, message: &Message) {
        self.to_backend.put_slice(message.frame());
    }

    pub(super) fn put_built(&mut self, tag: u8, body: impl FnOnce(&mut BytesMut)) {
        message::write(&mut self.to_backend, tag, body);
    }
}

/// A statement has succeeded, and this is what it has done.
pub(super) fn take_effect(
    effect: Effect,
    flight: &mut Flight,
    session: &mut Session,
    tables: &mut Tables,
) {
    match effect {
        Effect::Names(naming) => drop(naming.apply(session)),
        Effect::Creates(_) if flight.existed => {}
        Effect::Creates(table) => {
            tables.create(session.id, table.clone());
            flight.keep_table(session, table);
        }
        Effect::Holds(name) => session.held.declare(&name),
        Effect::Closes(name) => session.held.close(&name),
    }
}
