//! What is done when a message is sent, because what follows in the pipeline counts on it, and taken back if it fails.

use bytes::Bytes;

use crate::mux::held::Held;
use crate::mux::session::{Prepared, Session};

/// A name, and what it stood for before.
#[derive(Debug)]
pub(in crate::mux) struct Named {
    pub(in crate::mux) what: Nameable,
    pub(in crate::mux) name: Bytes,
    pub(in crate::mux) previous: Option<Box<Prepared>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mux) enum Nameable {
    Statement,
    Portal,
    /// A cursor WITH HOLD.
    Held,
}

impl Named {
    /// Gives the name back to what it stood for.
    pub(in crate::mux) fn undo(self, session: &mut Session) {
        let names = match self.what {
            Nameable::Statement => &mut session.statements,
            Nameable::Portal => &mut session.portals,
            Nameable::Held => return session.held.close(&self.name),
        };
        match self.previous {
            Some(previous) => names.insert(self.name, *previous),
            None => names.remove(&self.name),
        };
    }
}

/// What was done when a message was sent that the backend has skipped.
#[derive(Debug)]
pub(in crate::mux) enum Undo {
    Named(Named),
    Held(Held),
}

impl Undo {
    pub(in crate::mux) fn undo(self, session: &mut Session) {
        match self {
            Self::Named(named) => named.undo(session),
            Self::Held(before) => session.held = before,
        }
    }
}
