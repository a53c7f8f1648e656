//! A simple query that is run part by part, because it holds transaction control.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::mux::block::Executed;
use crate::mux::command::Command;
use crate::mux::message::Message;
use crate::mux::naming::Naming;
use crate::mux::on_commit::Table;
use crate::mux::rewrite::Replacement;
use crate::mux::settings::Change;

/// What is left of it, and what is to be known of it as a whole.
#[derive(Debug)]
pub(in crate::mux) struct Script {
    pub(in crate::mux) text: Bytes,
    pub(in crate::mux) parts: VecDeque<Part>,
    /// The string holds more than one statement, which PostgreSQL runs as an implicit transaction block.
    pub(in crate::mux) several: bool,
    /// What is sent in other words than the client's, in order.
    pub(in crate::mux) replacements: Vec<Replacement>,
    /// What its statements do that is to be kept in mind, each with the statement's number.
    pub(in crate::mux) effects: VecDeque<(usize, Effect)>,
    /// What running all of them means for the standing savepoint.
    pub(in crate::mux) executed: Executed,
    /// How many statements have succeeded.
    pub(in crate::mux) completed: usize,
}

impl Script {
    /// One of its statements has succeeded.
    pub(in crate::mux) fn complete(&mut self) -> Option<Effect> {
        let number = self.completed;
        self.completed += 1;
        if self.effects.front()?.0 > number {
            return None;
        }
        self.effects.pop_front().map(|(_, effect)| effect)
    }

    /// What is replaced in this part of the text.
    pub(in crate::mux) fn replacements_in(&self, part: &Range<usize>) -> &[Replacement] {
        let before = |end| {
            self.replacements
                .partition_point(|replacement| replacement.range.start < end)
        };
        &self.replacements[before(part.start)..before(part.end)]
    }

    /// The backend runs all of it at once, and needs nothing more from anybody meanwhile.
    pub(in crate::mux) fn is_plain(&self) -> bool {
        matches!(
            self.parts.as_slices(),
            (
                [Part::Statements {
                    copies_in: false,
                    ..
                }],
                []
            )
        ) && self.effects.is_empty()
    }
}

/// What a statement does that is to be kept in mind when it has succeeded.
#[derive(Debug)]
pub(in crate::mux) enum Effect {
    Names(Naming),
    Creates(Table),
    /// Declares a cursor WITH HOLD.
    Holds(Vec<u8>),
    /// Closes a cursor.
    Closes(Vec<u8>),
}

/// A run of statements that goes to the backend as it is, or one that is looked at.
#[derive(Debug)]
pub(in crate::mux) enum Part {
    Statements {
        range: Range<usize>,
        copies_in: bool,
        queries: bool,
        changes: Vec<Change>,
    },
    Control {
        range: Range<usize>,
        command: Command,
        queries: bool,
        changes: Vec<Change>,
    },
}

/// What a script goes on with when something of ours has been answered.
#[derive(Debug)]
pub(in crate::mux) enum AfterCheck {
    /// The deferred constraints hold, and the script is at its end.
    EndOfScript,
    /// The deferred constraints hold, and this may take effect.
    Control(Command),
    /// The next part was to come late, and may be run.
    Delay,
    /// The whole text has been parsed, with this error, and nothing of it has been run yet.
    Proof { error: Option<Message> },
}
