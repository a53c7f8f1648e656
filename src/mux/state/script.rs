//! A simple query, which may hold several statements and transaction control among them.
//!
//! Without control it goes to the backend as it is. With it, it is run part by part, each when the one before has been
//! answered, so that what follows an error isn't run and what precedes a COMMIT is kept.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::Mux;
use super::send::errand_reader;
use crate::mux::belongings::Belongings;
use crate::mux::block::{Block, Executed};
use crate::mux::command::Command;
use crate::mux::control;
use crate::mux::flight::{AfterCheck, Effect, Flight, Part, Reader, Request, Script};
use crate::mux::message::to_session::Report;
use crate::mux::message::{Message, to_backend, to_session};
use crate::mux::modes;
use crate::mux::naming::Naming;
use crate::mux::on_commit::Table;
use crate::mux::own;
use crate::mux::rewrite::{self, Rewritten, Shifts};
use crate::mux::session::{Session, executed_by};
use crate::mux::settings::{self, Change, Settings};
use crate::mux::shape;
use crate::mux::split;

impl Mux {
    pub(super) fn send_query(
        &mut self,
        flight: &mut Flight,
        session: &mut Session,
        message: &Message,
    ) {
        flight.ended = true;
        let sql = message.fields().string();
        let Some(sql) = sql.filter(|_| shape::is_sound(message)) else {
            self.start(flight);
            self.put(message);
            return flight.expect(Request::Query, Reader::Client);
        };
        if let Some(order) = self.order(session.id, &sql) {
            session.last_sql = sql;
            return self.send_order(flight, order);
        }
        let scs = session.standard_conforming_strings();
        let statements = split::statements(&sql, scs);
        session.forget_unnamed(&mut self.garbage);
        if !statements.is_empty() {
            flight.unnamed = session.portals.remove(&b""[..]);
        }
        session.last_sql = sql.clone();
        let in_block = flight.standing.is_open();
        let count = statements.len();
        self.recorder
            .query(session.id, &sql, scs, count, in_block, self.now);
        for range in &statements {
            self.note_text(&sql[range.clone()], scs);
        }
        let script = cut(
            session,
            sql.clone(),
            &statements,
            scs,
            &mut self.belongings,
            &self.settings,
        );
        flight.executed = flight.executed.max(match script.is_plain() {
            true => self.reads.judge(script.executed),
            false => Executed::Anything,
        });
        flight.alone |= !script.is_plain();
        let is_cut = script.parts.len() > 1;
        // These are known by their first words, and a syntax error behind those comes first.
        let is_refused = !flight.standing.is_open()
            && matches!(
                script.parts.front(),
                Some(Part::Control {
                    command: Command::Lock | Command::DeclareCursor { .. },
                    ..
                })
            );
        flight.script = Some(script);
        if is_cut || is_refused {
            return self.send_proof(flight, &sql);
        }
        self.run_script(flight, session);
    }

    /// PostgreSQL parses the whole text before it runs any of it, so a script that is to be run part by part is parsed
    /// first: a Parse finds its syntax errors, and otherwise fails because there are several statements.
    fn send_proof(&mut self, flight: &mut Flight, text: &[u8]) {
        flight.after_check = Some(AfterCheck::Proof { error: None });
        let is_failed = flight.standing.is_failed();
        if !is_failed {
            self.start_in(flight, false);
            self.run_text(flight, own::SET_PROOF, || Reader::Guard);
        }
        self.put(&to_backend::parse(b"", text));
        flight.expect(Request::Parse, Reader::Proof);
        if !is_failed {
            self.put(&to_backend::sync());
            flight.expect(Request::Sync, Reader::Proof);
            for sql in own::END_PROOF {
                self.run_text(flight, sql, || Reader::Guard);
            }
        }
        self.put(&to_backend::sync());
        flight.expect(Request::Sync, Reader::Guard);
    }

    /// Runs a script's next parts, up to one that the backend must answer.
    pub(super) fn run_script(&mut self, flight: &mut Flight, session: &mut Session) {
        loop {
            let Some(script) = &mut flight.script else {
                return;
            };
            let Some(part) = script.parts.pop_front() else {
                if !self.deferral.is_possible() || !flight.standing.block.is_implicit() {
                    return self.end_script(flight, session);
                }
                flight.after_check = Some(AfterCheck::EndOfScript);
                self.send_check(flight, false);
                self.put(&to_backend::sync());
                return flight.expect(Request::Sync, Reader::Guard);
            };
            let Some(part) = self.meet_in_script(flight, session, part) else {
                return;
            };
            let Some(script) = &flight.script else {
                return;
            };
            let is_last = script.parts.is_empty();
            let several = script.several;
            match part {
                Part::Statements {
                    range,
                    copies_in,
                    queries,
                    changes,
                } => {
                    let text = script.text.clone();
                    let run = Run {
                        range,
                        copies_in,
                        is_last,
                        queries,
                        changes,
                        warnings: Vec::new(),
                        stand_in: None,
                    };
                    return self.send_part(flight, &text, run);
                }
                Part::Control {
                    range,
                    command,
                    queries,
                    changes,
                } => {
                    self.note_command(session, &command);
                    if let Some(report) =
                        control::refused(&command, &flight.standing, several, self.denies_levels)
                    {
                        return self.fail_script(flight, session, &report);
                    }
                    if !control::is_control(&command) {
                        let text = script.text.clone();
                        let run = Run {
                            range,
                            copies_in: false,
                            is_last,
                            queries,
                            warnings: control::warnings(
                                &command,
                                &flight.standing,
                                several,
                                || session.release(),
                            ),
                            stand_in: self.stand_in(session.id, &command, &changes),
                            changes,
                        };
                        self.send_part(flight, &text, run);
                        flight.running = Some(command).filter(control::is_remembered);
                        return;
                    }
                    for warning in
                        control::warnings(&command, &flight.standing, several, || session.release())
                    {
                        session.send(&warning.message());
                    }
                    if let Some(sql) = self.errand(session.id, &command, &flight.standing) {
                        self.start(flight);
                        self.send_changes(flight, &changes);
                        self.run_text(flight, &sql, || errand_reader(&command));
                        self.put(&to_backend::sync());
                        flight.expect(Request::Sync, Reader::Guard);
                        flight.after_check = Some(AfterCheck::Control(command));
                        return;
                    }
                    if self.needs_check(&command, &flight.standing) {
                        self.send_check(flight, true);
                        self.put(&to_backend::sync());
                        flight.expect(Request::Sync, Reader::Guard);
                        flight.after_check = Some(AfterCheck::Control(command));
                        return;
                    }
                    if let Err(report) = self.control_in_script(flight, session, &command) {
                        return self.fail_script(flight, session, &report);
                    }
                }
            }
        }
    }

    pub(super) fn control_in_script(
        &mut self,
        flight: &mut Flight,
        session: &mut Session,
        command: &Command,
    ) -> Result<(), Report> {
        let held = flight.standing.block.is_on_backend();
        let done = control::apply(&mut flight.standing, command)?;
        flight.ahead = flight.standing.clone();
        flight.unnamed = None;
        session.took_effect(command, &mut self.garbage);
        if let Some(script) = &mut flight.script {
            script.complete();
        }
        self.recorder
            .completed(session.id, done.tag.as_bytes(), self.now);
        session.note_block(command, &flight.standing, self.now);
        let ends_block = command.ends_block();
        self.note_control(session, command, done.tag);
        let is_last = flight
            .script
            .as_ref()
            .is_some_and(|script| script.parts.is_empty());
        if is_last && flight.standing.block.is_implicit() {
            // The end of the implicit transaction comes first.
            flight.withheld = Some(to_session::command_complete(done.tag));
        } else {
            session.tell(Ok(done));
        }
        if ends_block {
            let is_undone = flight.standing.guard.is_undone();
            session.take_back_settings(&self.settings, is_undone);
            if held {
                flight.read_only = session.default_transaction_read_only_behind(
                    &self.reported,
                    &self.settings,
                    is_undone,
                );
            }
        }
        Ok(())
    }

    pub(super) fn send_part(&mut self, flight: &mut Flight, text: &Bytes, run: Run) {
        self.start(flight);
        self.send_changes(flight, &run.changes);
        // The position in an error counts characters of the client's whole text.
        flight.offset = rewrite::characters(&text[..run.range.start]);
        let replacements = flight
            .script
            .as_ref()
            .map_or(&[][..], |script| script.replacements_in(&run.range));
        let rewritten = (!replacements.is_empty())
            .then(|| Rewritten::of(text, run.range.clone(), replacements));
        flight.shifts = rewritten
            .as_ref()
            .map_or_else(Shifts::default, |rewritten| rewritten.shifts.clone());
        if !flight.sent.is_empty() {
            self.put(&to_backend::sync());
            flight.expect(Request::Sync, Reader::Fence);
        }
        flight.tell(run.warnings);
        if run.queries {
            flight.query();
        }
        let text = rewritten
            .as_ref()
            .map_or(&text[run.range], |rewritten| &rewritten.text[..]);
        let text = run.stand_in.as_ref().map_or(text, String::as_bytes);
        self.put(&to_backend::query(text));
        flight.expect(Request::Query, Reader::Client);
        let implicit = flight.ahead.block.is_implicit();
        flight.withholds = self.deferral.is_possible() && implicit && run.is_last;
        if flight.withholds {
            flight.after_check = Some(AfterCheck::EndOfScript);
            flight.copies_in = run.copies_in;
            if !run.copies_in {
                self.send_check(flight, false);
                self.put(&to_backend::sync());
                flight.expect(Request::Sync, Reader::Guard);
            }
        }
    }

    /// Ends a Query with this error. What PostgreSQL refuses when it runs it fails in the unnamed portal.
    pub(super) fn send_refusal_of_query(
        &mut self,
        flight: &mut Flight,
        portal: &[u8],
        error: Message,
    ) {
        self.send_refusal_in(flight, portal, error);
        self.put(&to_backend::sync());
        flight.expect(Request::Sync, Reader::Client);
    }

    pub(super) fn fail_script(
        &mut self,
        flight: &mut Flight,
        session: &mut Session,
        report: &Report,
    ) {
        if flight.standing.holds_backend() && !flight.standing.is_failed() {
            // The backend must know that the block has failed.
            flight.script = None;
            return self.send_refusal_of_query(flight, b"", report.message());
        }
        flight.failed = true;
        flight.standing.end_batch(b'E', Executed::Anything);
        flight.standing.block.fail();
        let error = report.message();
        self.recorder.failed(session.id, None, &error, self.now);
        session.send(&error);
        self.end_script(flight, session);
    }

    pub(super) fn end_script(&mut self, flight: &mut Flight, session: &mut Session) {
        flight.script = None;
        keep_unnamed(flight, session);
        flight.after_check = None;
        flight.ahead = flight.standing.clone();
        if let Some(text) = flight.withheld.take() {
            session.send(&text);
        }
        if matches!(flight.standing.block, Block::Implicit(_)) {
            flight.standing.end_batch(b'T', flight.executed);
        }
        if !flight.standing.is_open() {
            self.end_transaction(session, !flight.failed);
        }
        session.tell_settings(&self.reported, &self.settings);
        session.send_ready(flight.standing.block.status());
        self.dirty.push_back(session.id);
        flight.steps.clear();
    }
}

/// A batch is over. If it was a Query and has failed in a block, it may have run nothing, so that the unnamed portal is that of
/// before, or else it is the one in which it failed: the backend knows. It doesn't of one that it was never to run.
pub(super) fn keep_unnamed(flight: &mut Flight, session: &mut Session) {
    let before = flight.unnamed.take();
    if let Some(portal) = before.filter(|portal| !control::is_control(&portal.command))
        && flight.failed
        && flight.standing.is_open()
    {
        session.portals.insert(Bytes::new(), portal);
    }
}

/// A part of a script that the backend runs.
pub(super) struct Run {
    range: Range<usize>,
    copies_in: bool,
    is_last: bool,
    queries: bool,
    changes: Vec<Change>,
    warnings: Vec<Report>,
    /// What is sent instead of the client's own text.
    stand_in: Option<String>,
}

/// Cuts a simple query where transaction control has to be looked at, and around what sets something LOCAL, because what
/// it hides has to be looked up first.
///
/// UNLISTEN, which pools send for good measure, is not looked at where there is nothing that it could end.
fn cut(
    session: &Session,
    text: Bytes,
    statements: &[Range<usize>],
    scs: bool,
    belongings: &mut Belongings,
    settings: &Settings,
) -> Script {
    let mut parts: VecDeque<Part> = VecDeque::new();
    let mut replacements = Vec::new();
    let mut effects = VecDeque::new();
    let mut declares = Vec::new();
    let mut may_listen = session.mailbox.may_listen();
    let mut executed = Executed::Nothing;
    for (number, range) in statements.iter().enumerate() {
        let statement = &text[range.clone()];
        let command = Command::of(statement, scs);
        belongings.note(session.id, &command, statement);
        executed = executed.max(executed_by(&command, statement, scs));
        let replaced = session.replacements(&text, range.clone(), &command, scs, &declares);
        replacements.extend(replaced);
        let changes = match &command {
            Command::Execute(name) => session.changes_by_execute(name),
            command => settings::changes(command, statement, scs),
        };
        let command = session.resolve(command);
        let sql = text.slice(range.clone());
        let effect = Naming::of(&command, sql, Shifts::default()).map(Effect::Names);
        let effect = effect.or_else(|| Table::of(&command).map(Effect::Creates));
        let effect = effect.or_else(|| session.effect_on_cursors(&command, &declares));
        match &command {
            Command::DeclareCursor { name, hold } if !hold || effect.is_some() => {
                declares.push((name.as_bytes().to_vec(), *hold));
            }
            _ => {}
        }
        effects.extend(effect.map(|effect| (number, effect)));
        may_listen |= matches!(command, Command::Listen(_));
        let is_idle = matches!(command, Command::Unlisten(_) | Command::UnlistenAll) && !may_listen;
        let is_local = |change: &Change| matches!(change, Change::SetLocal(_));
        let is_looked_at = control::is_looked_at(&command)
            || statements.len() == 1 && control::is_looked_at_alone(&command);
        let queries = modes::takes_snapshot(&command, statement, scs);
        if is_looked_at && !is_idle
            || changes.iter().any(is_local)
            || settings.restores(session.id, &changes)
        {
            parts.push_back(Part::Control {
                range: range.clone(),
                command,
                queries,
                changes,
            });
            continue;
        }
        let copies_in = command == Command::CopyFromStdin;
        match parts.back_mut() {
            Some(Part::Statements {
                range: run,
                copies_in: run_copies_in,
                queries: run_queries,
                changes: run_changes,
            }) => {
                run.end = range.end;
                *run_copies_in |= copies_in;
                *run_queries |= queries;
                run_changes.extend(changes);
            }
            _ => parts.push_back(Part::Statements {
                range: range.clone(),
                copies_in,
                queries,
                changes,
            }),
        }
    }
    match parts.make_contiguous() {
        [Part::Statements { range, .. }] => *range = 0..text.len(),
        // An empty query has an answer, too.
        [] => parts.push_back(Part::Statements {
            range: 0..text.len(),
            copies_in: false,
            queries: false,
            changes: Vec::new(),
        }),
        _ => {}
    }
    Script {
        several: statements.len() > 1,
        text,
        parts,
        replacements,
        effects,
        executed,
        completed: 0,
    }
}
