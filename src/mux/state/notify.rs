//! Notifications: when a transaction of a session's ends, who hears what it has said.

use super::Mux;
use crate::mux::command::{Command, Discard, ROLLBACK};
use crate::mux::message::to_session;
use crate::mux::session::{Session, SessionId};

impl Mux {
    /// A statement that is answered here has succeeded, with this command tag.
    pub(super) fn note_control(&mut self, session: &mut Session, command: &Command, tag: &str) {
        match command {
            Command::Commit { .. } | Command::Rollback { .. } => {
                self.end_transaction(session, tag != ROLLBACK);
            }
            Command::Discard(Discard::All) => {
                self.settings.note_reset(session.id);
                session.mailbox.note(&Command::UnlistenAll);
            }
            Command::ResetAll => self.settings.note_reset(session.id),
            _ => session.note(command),
        }
    }

    /// The same for a statement that is a batch of its own.
    pub(super) fn note_local(&mut self, id: SessionId, command: &Command, tag: &str) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        self.note_control(&mut session, command, tag);
        if !session.block.is_open() {
            self.end_transaction(&mut session, true);
        }
        self.sessions.insert(id, session);
    }

    /// A transaction of the session's is over; the session itself is at hand, not among the others.
    pub(super) fn end_transaction(&mut self, session: &mut Session, kept: bool) {
        session.held.end_transaction(kept);
        for notification in session.mailbox.end_transaction(kept) {
            let channel = &notification.channel;
            let process_id = session.id.process_id();
            let message =
                to_session::notification_response(process_id, channel, &notification.payload);
            // Its own it hears when it gets ready for the next query.
            if session.mailbox.listens_to(channel) {
                session.mailbox.keep(channel, message.clone());
            }
            for (id, other) in &mut self.sessions {
                if other.hear(channel, &message) {
                    self.dirty.push_back(*id);
                }
            }
        }
    }
}
