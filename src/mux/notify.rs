//! LISTEN and NOTIFY of one session: what it listens to, what its transaction has yet to say, and what it has yet to hear.
//!
//! The outer transaction is never committed, so PostgreSQL itself delivers nothing. What sessions say to each other by
//! statements is delivered here, at the time at which a transaction of the application's own would have ended.

use std::collections::{BTreeSet, HashSet};

use super::block::Done;
use super::command::{Argument, Command};
use super::journal::Journal;
use super::message::to_session::Report;
use super::message::{Fields, Message};
use super::report::needs_database;

/// What a session says to others with one NOTIFY.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Notification {
    pub(super) channel: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug)]
enum Deed {
    Listen(Vec<u8>),
    Unlisten(Vec<u8>),
    UnlistenAll,
    Notify(Notification),
}

/// One session's part in notifications.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    channels: BTreeSet<Vec<u8>>,
    journal: Journal<Deed>,
    /// What came while the session was in a transaction, with its channels.
    undelivered: Vec<(Vec<u8>, Message)>,
}

impl Mailbox {
    /// A statement of the session's has succeeded.
    pub(super) fn note(&mut self, command: &Command) {
        let deed = match command {
            Command::Listen(channel) => Deed::Listen(channel.as_bytes().to_vec()),
            Command::Unlisten(channel) => Deed::Unlisten(channel.as_bytes().to_vec()),
            Command::UnlistenAll => Deed::UnlistenAll,
            Command::Notify { channel, payload } => Deed::Notify(Notification {
                channel: channel.as_bytes().to_vec(),
                payload: payload.clone(),
            }),
            Command::PgNotify {
                channel: Argument::Text(channel),
                payload: Argument::Text(payload),
            } => Deed::Notify(Notification {
                channel: channel.clone(),
                payload: payload.clone(),
            }),
            _ => return self.journal.note(command),
        };
        self.journal.deed(deed);
    }

    /// The session's transaction has ended. Returns what it says to all, in order and each thing once.
    pub(super) fn end_transaction(&mut self, kept: bool) -> Vec<Notification> {
        let mut said = Vec::new();
        if self.journal.is_empty() {
            return said;
        }
        for deed in self.journal.take().filter(|_| kept) {
            match deed {
                Deed::Listen(channel) => drop(self.channels.insert(channel)),
                Deed::Unlisten(channel) => drop(self.channels.remove(&channel)),
                Deed::UnlistenAll => self.channels.clear(),
                Deed::Notify(notification) => said.push(notification),
            }
        }
        let mut known = HashSet::new();
        said.retain(|notification| known.insert(notification.clone()));
        said
    }

    pub(super) fn listens_to(&self, channel: &[u8]) -> bool {
        self.channels.contains(channel)
    }

    /// Whether UNLISTEN may have something to do.
    pub(super) fn may_listen(&self) -> bool {
        let mut deeds = self.journal.deeds();
        !self.channels.is_empty() || deeds.any(|deed| matches!(deed, Deed::Listen(_)))
    }

    /// Keeps a notification until the session's transaction has ended.
    pub(super) fn keep(&mut self, channel: &[u8], message: Message) {
        self.undelivered.push((channel.to_vec(), message));
    }

    /// What was kept, but for what the session doesn't listen to any more.
    pub(super) fn take_undelivered(&mut self) -> Vec<Message> {
        let mut kept = std::mem::take(&mut self.undelivered);
        kept.retain(|(channel, _)| self.listens_to(channel));
        kept.into_iter().map(|(_, message)| message).collect()
    }
}

/// What a client is told about a LISTEN, UNLISTEN or NOTIFY.
pub(super) fn answer(command: &Command) -> Result<Done, Report> {
    let mut done = Done::new(command.tag().unwrap_or_default());
    match command {
        Command::Notify { payload, .. } if payload.len() >= PAYLOAD_LIMIT => Err(Report::error(
            INVALID_PARAMETER_VALUE,
            "payload string too long",
        )),
        Command::Listen(_) => {
            done.warning = Some(
                Report::warning(
                    WARNING,
                    "what triggers and functions notify is not delivered in a shared transaction",
                )
                .hint(
                    needs_database!(
                        "NOTIFY and SELECT pg_notify(...) are delivered where each is a statement of its own. A test of the \
                         others needs a database of its own."
                    ),
                ),
            );
            Ok(done)
        }
        _ => Ok(done),
    }
}

/// `NOTIFY_PAYLOAD_MAX_LENGTH` of a PostgreSQL with pages of the usual size.
const PAYLOAD_LIMIT: usize = 8000;

const INVALID_PARAMETER_VALUE: &str = "22023";
const WARNING: &str = "01000";

/// What a Parse prepares, seen with the types that it declares for the parameters: `pg_notify` of what isn't text is the
/// server's business alone.
pub(super) fn with_types(command: Command, mut types: Fields) -> Command {
    if !matches!(command, Command::PgNotify { .. }) {
        return command;
    }
    let count = types.short().unwrap_or_default();
    let are_text = (0..count).all(|_| {
        types
            .int()
            .is_some_and(|oid| [UNSPECIFIED, TEXT, UNKNOWN, VARCHAR].contains(&oid))
    });
    if are_text { command } else { Command::Other }
}

const UNSPECIFIED: i32 = 0;
const TEXT: i32 = 25;
const UNKNOWN: i32 = 705;
const VARCHAR: i32 = 1043;

/// The `pg_notify` that a Bind makes of a prepared one with the values that stand in it behind the names. Text is the same
/// in both formats.
pub(super) fn with_values(command: &Command, mut fields: Fields) -> Command {
    let Command::PgNotify { channel, payload } = command else {
        return command.clone();
    };
    let values = fields.values().unwrap_or_default();
    let bound = |argument: &Argument| match argument {
        Argument::Text(_) => Some(argument.clone()),
        Argument::Parameter(number) => {
            let value = values.get(number.checked_sub(1)?)?;
            Some(Argument::Text(value.as_deref().unwrap_or_default().into()))
        }
    };
    match (bound(channel), bound(payload)) {
        (Some(channel), Some(payload)) => Command::PgNotify { channel, payload },
        _ => Command::Other,
    }
}
