//! The portals of the model of a server, and the subtransactions that they belong to.

use bytes::Bytes;

use super::statement::Statement;
use super::{Server, error, text};
use crate::mux::message::to_session::Report;

#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) statement: Statement,
    /// What it has yet to return, as it was when the portal was bound.
    rows: Vec<u32>,
    /// How many savepoints there were then.
    level: usize,
    pub(super) is_done: bool,
}

impl Server {
    pub(super) fn bind_portal(&mut self, name: Bytes, statement: Statement) -> Result<(), Report> {
        if !name.is_empty() && self.portals.contains_key(&name) {
            let text = format!("cursor \"{}\" already exists", text(&name));
            return error("42P03", text);
        }
        let rows = match statement {
            Statement::List(session) => self.numbers(session),
            _ => Vec::new(),
        };
        let portal = Portal {
            statement,
            rows,
            level: self.savepoints.len(),
            is_done: false,
        };
        self.portals.insert(name, portal);
        Ok(())
    }

    /// A Query has come. If it fails, a real server still has an unnamed portal of before that it didn't come to replace. Of
    /// one that the multiplexer runs itself that can't be told, and it says that there is none.
    pub(super) fn forget_unrunnable_portal(&mut self) {
        let unnamed = self.portals.get(&b""[..]);
        if unnamed.is_some_and(|portal| portal.statement.is_answered()) {
            self.portals.remove(&b""[..]);
        }
    }

    /// A statement of a Query is run in the unnamed portal, which stays if that fails, and can't be run. A real server has
    /// one then even if there was none before, but the multiplexer says that there is none.
    pub(super) fn open_portal_of_query(&mut self, statement: Statement) {
        let level = self.savepoints.len();
        if let Some(portal) = self.portals.get_mut(&b""[..]) {
            *portal = Portal {
                statement,
                rows: Vec::new(),
                level,
                is_done: true,
            };
        }
    }

    pub(super) fn portal(&mut self, name: &Bytes) -> Result<&mut Portal, Report> {
        match self.portals.get_mut(name) {
            Some(portal) => Ok(portal),
            None => error("34000", format!("portal \"{}\" does not exist", text(name))),
        }
    }

    /// Returns up to so many rows of a SELECT, or all. Whether they were the last shows only when there were fewer.
    pub(super) fn fetch(&mut self, name: &Bytes, limit: i32) -> Result<(), Report> {
        let portal = self.portal(name)?;
        let limit = usize::try_from(limit).ok().filter(|&limit| limit > 0);
        let count = limit.map_or(portal.rows.len(), |limit| limit.min(portal.rows.len()));
        let rows: Vec<_> = portal.rows.drain(..count).collect();
        for row in rows {
            self.row(&row.to_string());
        }
        if limit == Some(count) {
            self.put(b's', b"");
        } else {
            self.complete(&format!("SELECT {count}"));
        }
        Ok(())
    }

    /// A savepoint was rolled back to, and what was opened since is gone.
    pub(super) fn drop_portals_above(&mut self, position: usize) {
        self.portals.retain(|_, portal| portal.level <= position);
    }

    /// A savepoint was released, and what was opened since belongs to what was before.
    pub(super) fn lower_portals(&mut self, position: usize) {
        for portal in self.portals.values_mut() {
            portal.level = portal.level.min(position);
        }
    }
}
