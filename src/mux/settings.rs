//! Settings, of which each session has its own although they all live in one backend.
//!
//! # Theory of operation
//!
//! Only the *names* of what a session sets are known here, and they may be too many: a statement that fails sets nothing.
//! The values stay in the backend, in placeholder settings of our own, the *slots*. PostgreSQL undoes a change of a slot
//! with the subtransaction that made it, exactly as it undoes the change of the setting itself, so the two never disagree.
//!
//! * **Handover.** When a transaction begins, and what is in force belongs to another session, the prologue saves that
//!   one's values in its slots, resets what only that one has set, and loads the next one's. It happens where the standing
//!   savepoint is released but not set again: a later ROLLBACK TO goes back to what was loaded.
//! * **SET LOCAL** ends with the application's transaction, which the backend doesn't know to end. Before it runs, the
//!   value that it hides is put in a slot, from which the next prologue puts it back. A SET without LOCAL empties the slot.
//!
//! * **What a session starts with** is in no slot: while a slot is empty, the value to which RESET goes back is loaded.
//!   Sessions that have set nothing since, and started with the same, are handed over to each other for nothing.
//!
//! Sessions that set nothing are unknown here, and nothing is done for them.
//!
//! Each step stands in a subtransaction that fails by itself, because a prologue must not: a role may have been dropped
//! since it was set, or a temporary table may have made `temp_buffers` immutable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::belongings::mentions;
use super::block::Move;
use super::command::{Characteristics, Command};
use super::initial::{Initial, Starts};
use super::journal::Journal;
use super::lexer::{Kind, Token, Tokens};
use super::parameters::Parameters;
use super::redirect;
use super::session::SessionId;
use super::value;

/// What running a statement does to a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Sets it for the session.
    Set(String),
    /// Sets it back for the session.
    Reset(String),
    /// Sets it up to the end of the transaction.
    SetLocal(String),
}

/// What has become of a setting in a transaction.
#[derive(Clone, Debug)]
enum Deed {
    /// It was set LOCAL, which hides this value if it is one that clients are told.
    Hides(usize, Option<String>),
    /// It was set for the session later on, so that it stays.
    Stays(usize),
}

/// The settings of all sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// All names there are. A slot is named by the place here, because a name may hold what a slot's may not.
    names: Vec<String>,
    /// What each session may have set.
    set: BTreeMap<SessionId, BTreeSet<usize>>,
    /// The sessions whose values have been saved, by the number in the names of their slots. It is given again when its
    /// session has ended: PostgreSQL never forgets a placeholder, and goes through all of them time and again.
    seats: BTreeMap<SessionId, usize>,
    /// Whose settings are in force.
    in_force: Option<SessionId>,
    /// Its client has gone, so that nobody wants its values any more.
    is_orphaned: bool,
    /// What may have been set LOCAL since the standing savepoint was set.
    local: BTreeSet<usize>,
    /// Which of these end with the transaction, and what is in force then.
    ends: Journal<Deed>,
    /// Some session's defaults for the modes of its transactions may have changed.
    has_new_defaults: bool,
    starts: Starts,
}

impl Settings {
    /// Whether something must be done before a transaction of this session begins, which can't be done while others are
    /// under way.
    pub(super) fn needs_handover(&self, next: SessionId) -> bool {
        let is_any = |id| self.set.contains_key(&id);
        let differs = match self.in_force {
            Some(leaving) if leaving == next => false,
            Some(leaving) => {
                (is_any(leaving) || is_any(next)) && !self.starts.are_alike(leaving, next)
            }
            None => self.starts.sets_any(next),
        };
        differs || self.has_new_defaults || !self.local.is_empty()
    }

    /// A setting has this value for all sessions, from the first transaction on.
    pub(super) fn set_for_all(&mut self, name: &str, value: &str) {
        self.starts.set_for_all(name, value);
    }

    /// A session begins, with settings of its own.
    pub(super) fn start(&mut self, id: SessionId, initial: Arc<Initial>) {
        for (name, _) in &initial.settings {
            let index = self.index(name);
            self.set.entry(id).or_default().insert(index);
        }
        self.starts.begin(id, initial);
    }

    /// Whether a statement that does this is to set something back to what the backend doesn't know.
    pub(super) fn restores(&self, id: SessionId, changes: &[Change]) -> bool {
        changes.iter().any(
            |change| matches!(change, Change::Reset(name) if self.starts.value(id, name).is_some()),
        )
    }

    /// A transaction of this session begins, with these moves of the standing savepoint. Returns what is to be run where
    /// they say [`Move::HandOver`].
    pub(super) fn begin(&mut self, next: SessionId, moves: &[Move]) -> Option<String> {
        if !moves.is_empty() {
            self.ends = Journal::default();
        }
        if moves.contains(&Move::HandOver) {
            return Some(self.hand_over(next));
        }
        // Otherwise its transaction is under way.
        if !self.needs_handover(next) {
            let leaving = self
                .in_force
                .replace(next)
                .filter(|&leaving| leaving != next);
            if let Some(leaving) = leaving.filter(|_| std::mem::take(&mut self.is_orphaned)) {
                self.remove(leaving);
            }
        }
        None
    }

    fn hand_over(&mut self, next: SessionId) -> String {
        let leaving = self.in_force.replace(next);
        let mut has_new_defaults = std::mem::take(&mut self.has_new_defaults);
        let mut steps = String::new();
        let is_orphaned = std::mem::take(&mut self.is_orphaned);
        let is_saved = |leaving: &SessionId| {
            *leaving != next && !is_orphaned && self.set.contains_key(leaving)
        };
        let saved = leaving.filter(is_saved);
        let saved = saved.map_or(0, |leaving| self.take_seat(leaving));
        let loaded = self.seats.get(&next).copied();
        let none = BTreeSet::new();
        let new = self.set.get(&next).unwrap_or(&none);
        for index in ordered(&self.names, std::mem::take(&mut self.local), Order::Leaving) {
            let (name, slot) = (literal(&self.names[index]), local_slot(index));
            steps += &step(&format!(
                "IF NULLIF(pg_catalog.current_setting({slot}, true), '') IS NOT NULL THEN \
                 PERFORM pg_catalog.set_config({name}, {}, false), pg_catalog.set_config({slot}, '', false); END IF;",
                value_in(&slot)
            ));
        }
        let mut is_left = None;
        if let Some(leaving) = leaving.filter(|&leaving| leaving != next) {
            let old = self.set.get(&leaving).unwrap_or(&none);
            has_new_defaults |= old.iter().any(|&index| is_default_mode(&self.names[index]));
            // All that is saved is saved first, because the role that is set may be the one that may read the others.
            for &index in old.iter().filter(|_| !is_orphaned) {
                let (name, slot) = (literal(&self.names[index]), slot(saved, index));
                steps += &step(&save(&name, &slot));
            }
            for index in ordered(&self.names, old.iter().copied(), Order::Leaving) {
                // Those that come first are in the way of the others.
                let name = &self.names[index];
                if !new.contains(&index) || is_identity(name) {
                    steps += &step(&set_back(name, self.starts.base_value(name)));
                }
            }
            is_left = is_orphaned.then_some(leaving);
        }
        if leaving != Some(next) {
            has_new_defaults |= new.iter().any(|&index| is_default_mode(&self.names[index]));
            for index in ordered(&self.names, new.iter().copied(), Order::Arriving) {
                let name = &self.names[index];
                let saved = loaded.map(|seat| value_in(&slot(seat, index)));
                let start = self.starts.value(next, name).map(literal);
                let value = match (saved, start) {
                    (Some(saved), Some(start)) => format!("COALESCE({saved}, {start})"),
                    (saved, start) => saved.or(start).unwrap_or_else(|| "NULL".to_owned()),
                };
                let name = literal(name);
                steps += &step(&format!(
                    "PERFORM pg_catalog.set_config({name}, {value}, false);"
                ));
            }
        }
        if let Some(leaving) = is_left {
            self.remove(leaving);
        }
        if has_new_defaults {
            steps += &step(&format!("PERFORM {};", redirect::default_modes()));
        }
        block(&steps)
    }

    /// A transaction of these modes begins. Returns what makes them those that its session is told.
    pub(super) fn tell_modes(&mut self, modes: Characteristics) -> Option<String> {
        let mut steps = String::new();
        for (name, value) in redirect::modes(modes) {
            steps += &self.hide(&name, None);
            let name = literal(&name);
            steps += &step(&format!(
                "PERFORM pg_catalog.set_config({name}, '{value}', false);"
            ));
        }
        (!steps.is_empty()).then(|| block(&steps))
    }

    /// What keeps the value that is about to be hidden up to the end of the transaction.
    fn hide(&mut self, name: &str, hidden: Option<&str>) -> String {
        let index = self.index(name);
        self.local.insert(index);
        self.ends
            .deed(Deed::Hides(index, hidden.map(str::to_owned)));
        let (name, slot) = (literal(name), local_slot(index));
        step(&format!(
            "IF NULLIF(pg_catalog.current_setting({slot}, true), '') IS NULL THEN {} END IF;",
            save(&name, &slot)
        ))
    }

    /// All that a session has set is set back.
    pub(super) fn note_reset(&mut self, id: SessionId) {
        let mut set = self.set.get(&id).into_iter().flatten();
        self.has_new_defaults |= set.any(|&index| is_default_mode(&self.names[index]));
        for &index in &self.local {
            self.ends.deed(Deed::Stays(index));
        }
    }

    /// A statement about a savepoint is run.
    pub(super) fn note_savepoint(&mut self, command: &Command) {
        self.ends.note(command);
    }

    /// A statement of this session's is about to be run that changes this, while these are in force. Returns what is to be run
    /// first.
    pub(super) fn note(
        &mut self,
        id: SessionId,
        changes: &[Change],
        shown: &Parameters,
    ) -> Option<String> {
        let mut steps = String::new();
        for change in changes {
            match change {
                Change::SetLocal(name) => steps += &self.hide(name, shown.get(name)),
                Change::Set(name) | Change::Reset(name) => {
                    self.has_new_defaults |= is_default_mode(name);
                    let index = self.index(name);
                    if matches!(change, Change::Set(_)) {
                        self.set.entry(id).or_default().insert(index);
                        self.starts.note_set(id);
                    } else if let Some(value) = self.starts.value(id, name) {
                        steps += &step(&set_back(name, Some(value)));
                    }
                    if self.local.contains(&index) {
                        self.ends.deed(Deed::Stays(index));
                        let slot = local_slot(index);
                        steps += &step(&format!(
                            "PERFORM pg_catalog.set_config({slot}, '', false);"
                        ));
                    }
                }
            }
        }
        (!steps.is_empty()).then(|| block(&steps))
    }

    /// What sets all back that the session has set, or that RESET ALL leaves as it is as well.
    pub(super) fn reset(&self, id: SessionId, also_identity: bool) -> String {
        let set = self.set.get(&id).into_iter().flatten();
        let indices: BTreeSet<_> = set.chain(&self.local).copied().collect();
        let mut steps = String::new();
        for index in ordered(&self.names, indices, Order::Leaving) {
            let name = &self.names[index];
            // What a transaction's modes are called isn't reset either.
            if is_identity(name) && !also_identity || redirect::is_mode(name) {
                continue;
            }
            steps += &step(&set_back(name, self.starts.value(id, name)));
            if self.local.contains(&index) {
                let slot = local_slot(index);
                steps += &step(&format!(
                    "PERFORM pg_catalog.set_config({slot}, '', false);"
                ));
            }
        }
        steps
    }

    /// Whether the session has set this, as far as is known.
    pub(super) fn has_set(&self, id: SessionId, name: &str) -> bool {
        let mut indices = self.set.get(&id).into_iter().flatten();
        indices.any(|&index| self.names[index] == name)
    }

    /// Whether this was set LOCAL in the transaction that is under way or was the last.
    pub(super) fn is_local(&self, name: &str) -> bool {
        self.hidden(name).is_some()
    }

    /// If so, the value that is in force where that transaction is kept, as far as it is known.
    pub(super) fn hidden(&self, name: &str) -> Option<Option<&str>> {
        let is_meant = |index: usize| self.names[index].eq_ignore_ascii_case(name);
        self.ends.deeds().fold(None, |hidden, deed| match deed {
            Deed::Hides(index, value) if is_meant(*index) => hidden.or(Some(value.as_deref())),
            Deed::Stays(index) if is_meant(*index) => None,
            _ => hidden,
        })
    }

    /// The backend has gone back to how things stood then. What the sessions of now started with they have for ever.
    pub(super) fn go_back_to(&mut self, memory: Self, is_session: impl Fn(SessionId) -> bool) {
        let starts = std::mem::replace(self, memory).starts;
        for (id, name) in starts.names() {
            let index = self.index(name);
            self.set.entry(id).or_default().insert(index);
        }
        self.starts = starts;
        self.keep_sessions(is_session);
    }

    /// Other sessions than these have ended.
    fn keep_sessions(&mut self, keep: impl Fn(SessionId) -> bool) {
        let known: BTreeSet<_> = self.set.keys().copied().chain(self.in_force).collect();
        for id in known.into_iter().filter(|&id| !keep(id)) {
            self.forget(id);
        }
    }

    /// The session has ended.
    pub(super) fn forget(&mut self, id: SessionId) {
        if self.in_force == Some(id) {
            self.is_orphaned = true;
        } else {
            self.remove(id);
        }
    }

    fn take_seat(&mut self, id: SessionId) -> usize {
        if let Some(&seat) = self.seats.get(&id) {
            return seat;
        }
        let taken: BTreeSet<_> = self.seats.values().copied().collect();
        let free = (1..).find(|seat| !taken.contains(seat)).unwrap_or_default();
        self.seats.insert(id, free);
        free
    }

    fn remove(&mut self, id: SessionId) {
        self.set.remove(&id);
        self.seats.remove(&id);
        self.starts.end(id);
    }

    fn index(&mut self, name: &str) -> usize {
        let known = self.names.iter().position(|known| known == name);
        known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }
}

/// What running a statement does to settings, as far as its text shows.
pub(super) fn changes(command: &Command, statement: &[u8], scs: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    match command {
        Command::Set { local, setting } => {
            let mut tokens = Tokens::new(statement, scs);
            let is_default = tokens
                .by_ref()
                .last()
                .is_some_and(|last| last.is_word("DEFAULT"));
            push(&mut changes, setting, *local, is_default);
        }
        Command::SetRedirected(trial) => push(&mut changes, trial.setting(), trial.local, false),
        Command::Reset { setting } => push(&mut changes, setting, false, true),
        Command::SetSessionCharacteristics(modes) => {
            for (name, is_set) in [
                ("default_transaction_isolation", modes.isolation.is_some()),
                ("default_transaction_read_only", modes.read_only.is_some()),
                ("default_transaction_deferrable", modes.deferrable.is_some()),
            ] {
                if is_set {
                    push(&mut changes, name, false, false);
                }
            }
        }
        _ if mentions_set_config(statement) => calls_in(statement, scs, &mut changes),
        _ => {}
    }
    changes
}

/// Whether a text may call `set_config`.
pub(super) fn mentions_set_config(text: &[u8]) -> bool {
    mentions(text, SET_CONFIG.as_bytes())
}

const SET_CONFIG: &str = "set_config";

/// Finds `set_config('name', ..., true)`, in the body of a DO as well. Whether it is local doesn't show when the last
/// argument is no literal; it is then taken to be for the session, which is what the others share.
fn calls_in(text: &[u8], scs: bool, changes: &mut Vec<Change>) {
    let tokens: Vec<_> = Tokens::new(text, scs).collect();
    for (at, token) in tokens.iter().enumerate() {
        if token.kind == Kind::String {
            if let Some(body) = value::string(token, scs).filter(|body| mentions_set_config(body)) {
                calls_in(&body, scs, changes);
            }
            continue;
        }
        let is_call = token.is_word(SET_CONFIG)
            || token.kind == Kind::QuotedIdentifier && token.text == b"\"set_config\"";
        let Some([open, name, rest @ ..]) = tokens.get(at + 1..).filter(|_| is_call) else {
            continue;
        };
        let Some(name) = value::string(name, scs).filter(|_| open.is_symbol("(")) else {
            continue;
        };
        let name = String::from_utf8_lossy(&name).to_ascii_lowercase();
        push(changes, &name, is_local_call(rest), false);
    }
}

/// Whether the last argument of a call, of which the first has been taken, is a literal `true`.
fn is_local_call(rest: &[Token<'_>]) -> bool {
    let mut depth = 1_usize;
    let mut last: &[Token<'_>] = &[];
    let mut start = 0;
    for (at, token) in rest.iter().enumerate() {
        if token.is_symbol("(") {
            depth += 1;
        } else if token.is_symbol(")") {
            depth -= 1;
            if depth == 0 {
                last = &rest[start..at];
                break;
            }
        } else if token.is_symbol(",") && depth == 1 {
            start = at + 1;
        }
    }
    let Some(value) = last.first() else {
        return false;
    };
    // It may be written is_local => true, 'true', 't'::bool and so on.
    let value = match last {
        [_, arrow, value, ..] if arrow.is_symbol("=>") || arrow.is_symbol(":=") => value,
        _ => value,
    };
    let text = value.text.trim_ascii();
    ["true", "'true'", "'t'", "'on'", "'yes'", "'1'"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
}

fn push(changes: &mut Vec<Change>, name: &str, local: bool, is_default: bool) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_plain) || is_exempt(name) {
        return;
    }
    let name = redirect::placeholder(name).unwrap_or_else(|| name.to_owned());
    changes.push(match (local, is_default) {
        (true, _) => Change::SetLocal(name),
        (false, true) => Change::Reset(name),
        (false, false) => Change::Set(name),
    });
}

const MAX_NAME: usize = 200;

/// What ends with the transaction anyway, or can be set but not read.
fn is_exempt(name: &str) -> bool {
    matches!(
        name,
        "transaction_isolation"
            | "transaction_read_only"
            | "transaction_deferrable"
            | "seed"
            | "is_superuser"
    )
}

/// What decides what the mode of a transaction is that isn't asked for one, and that READ ONLY is told by itself.
fn is_default_mode(name: &str) -> bool {
    matches!(
        name,
        "default_transaction_isolation" | "default_transaction_deferrable"
    )
}

/// What decides who may set the others.
fn is_identity(name: &str) -> bool {
    matches!(name, "role" | "session_authorization")
}

enum Order {
    /// The identity first, because it may not set the rest.
    Leaving,
    /// The identity last.
    Arriving,
}

fn ordered(names: &[String], indices: impl IntoIterator<Item = usize>, order: Order) -> Vec<usize> {
    let mut indices: Vec<_> = indices.into_iter().collect();
    // A role is set within a session authorization.
    indices.sort_by_key(|&index| {
        let rank = match &names[index][..] {
            "role" => 2,
            "session_authorization" => 1,
            _ => 0,
        };
        match order {
            Order::Leaving => 2 - rank,
            Order::Arriving => rank,
        }
    });
    indices
}

fn slot(seat: usize, index: usize) -> String {
    format!("'actix_shareddb.session_{seat}_{index}'")
}

fn local_slot(index: usize) -> String {
    format!("'actix_shareddb.local_{index}'")
}

fn literal(text: &str) -> String {
    // Whatever the text holds, it must end neither the string nor the block around it.
    let text = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("E'{}'", text.replace('$', "\\x24"))
}

/// Sets back what a session has set, to a value that the backend doesn't know if there is one.
fn set_back(name: &str, value: Option<&str>) -> String {
    let value = value.map_or_else(|| "NULL".to_owned(), literal);
    format!(
        "PERFORM pg_catalog.set_config({}, {value}, false);",
        literal(name)
    )
}

/// A slot that isn't empty starts with a mark, because a value may be empty.
fn save(name: &str, slot: &str) -> String {
    format!(
        "PERFORM pg_catalog.set_config({slot}, pg_catalog.concat('=', pg_catalog.current_setting({name}, true)), false);"
    )
}

/// NULL, which resets, if there is no value.
fn value_in(slot: &str) -> String {
    format!("pg_catalog.substr(NULLIF(pg_catalog.current_setting({slot}, true), ''), 2)")
}

fn step(statement: &str) -> String {
    format!("BEGIN {statement} EXCEPTION WHEN OTHERS THEN NULL; END; ")
}

pub(super) fn block(steps: &str) -> String {
    format!("DO $actix_shareddb$ BEGIN {steps}END $actix_shareddb$")
}

#[cfg(test)]
mod tests;
