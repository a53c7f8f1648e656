//! What a server shows of the statement that it is at, as `pg_stat_activity` does, and what a cancel could hit.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use crate::mux::message::{Fields, Message, frontend};
use crate::mux::own::MARK;

/// The length of what stands behind an Execute's portal.
const ROW_LIMIT: usize = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shows {
    #[default]
    Idle,
    /// A statement of a prologue.
    Marked,
    Unmarked,
}

/// Reads along with a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) now: Shows,
    /// The statements (`S`) and portals (`P`) whose text is marked.
    marked: BTreeSet<(u8, Bytes)>,
}

impl Shown {
    /// The server reads this, unless it skips it. Says whether that is marked.
    pub(super) fn read(&mut self, message: &Message, is_skipping: bool) -> bool {
        if is_skipping && message.tag() != frontend::SYNC {
            return false;
        }
        let mut fields = message.fields();
        let string = |fields: &mut Fields| fields.string().unwrap_or_default();
        let is_marked = match message.tag() {
            frontend::PARSE => {
                let (name, text) = (string(&mut fields), string(&mut fields));
                let is_marked = text.starts_with(MARK.as_bytes());
                self.set((b'S', name), is_marked)
            }
            frontend::BIND => {
                let (portal, statement) = (string(&mut fields), string(&mut fields));
                let is_marked = self.marked.contains(&(b'S', statement));
                self.set((b'P', portal), is_marked)
            }
            frontend::EXECUTE => {
                let portal = string(&mut fields);
                // A malformed one runs nothing.
                if fields.rest().len() != ROW_LIMIT {
                    return false;
                }
                self.marked.contains(&(b'P', portal))
            }
            frontend::QUERY | frontend::FUNCTION_CALL | frontend::SYNC => {
                if message.tag() == frontend::QUERY {
                    self.set((b'P', Bytes::new()), false);
                }
                self.now = Shows::Idle;
                return false;
            }
            frontend::CLOSE => {
                if let (Some(kind), Some(name)) = (fields.byte(), fields.string()) {
                    self.set((kind, name), false);
                }
                return false;
            }
            _ => return false,
        };
        self.now = match is_marked {
            true => Shows::Marked,
            false => Shows::Unmarked,
        };
        is_marked
    }

    fn set(&mut self, what: (u8, Bytes), is_marked: bool) -> bool {
        match is_marked {
            true => self.marked.insert(what),
            false => self.marked.remove(&what),
        };
        is_marked
    }

    /// Whether something marked is among what has been sent and not been read yet.
    pub(super) fn is_marked_ahead(&self, sent: &BytesMut, mut is_skipping: bool) -> bool {
        let (mut shown, mut sent) = (self.clone(), sent.clone());
        while let Ok(Some(message)) = Message::take_frontend(&mut sent) {
            if shown.read(&message, is_skipping) {
                return true;
            }
            is_skipping &= message.tag() != frontend::SYNC;
        }
        false
    }
}
