//! Temporary tables that PostgreSQL drops or empties where a transaction commits.
//!
//! The backend's own transaction never commits, so what `ON COMMIT` asks for is done in the prologue of the next one,
//! whosever that is. Before that begins with RELEASE, the one before was kept, and its tables have come to their end; if it
//! was rolled back, they are gone anyway.

use bytes::{BufMut, Bytes, BytesMut};

use super::command::{Command, OnCommit};
use super::session::SessionId;
use super::value::Name;

/// A table with an `ON COMMIT` clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: Name,
    pub(super) on_commit: OnCommit,
}

impl Table {
    /// The table that a statement creates.
    pub(super) fn of(command: &Command) -> Option<Self> {
        let Command::CreateTable { name, on_commit } = command else {
            return None;
        };
        Some(Self {
            name: name.clone(),
            on_commit: *on_commit,
        })
    }
}

/// The tables that the commit of the transaction under way, or else of the last one, concerns.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    tables: Vec<Table>,
    /// Those of them that it has created.
    created: Vec<(SessionId, Table)>,
}

impl Tables {
    pub(super) fn create(&mut self, id: SessionId, table: Table) {
        self.created.push((id, table.clone()));
        self.add(table);
    }

    pub(super) fn add(&mut self, table: Table) {
        if !self.tables.contains(&table) {
            self.tables.push(table);
        }
    }

    /// The transaction was rolled back: returns the tables that are gone with it.
    pub(super) fn roll_back(&mut self) -> Vec<(SessionId, Table)> {
        self.tables.clear();
        std::mem::take(&mut self.created)
    }

    /// The transaction was kept: returns what does as the tables have been told.
    pub(super) fn commit(&mut self) -> Option<Bytes> {
        self.created.clear();
        if self.tables.is_empty() {
            return None;
        }
        let mut sql = BytesMut::from(&b"DO $actix_shareddb$ DECLARE names text; BEGIN"[..]);
        for (on_commit, command, behaviour) in [
            (OnCommit::Drop, "DROP TABLE", " CASCADE"),
            (OnCommit::DeleteRows, "TRUNCATE", ""),
        ] {
            let tables = self
                .tables
                .iter()
                .filter(|table| table.on_commit == on_commit);
            let names: Vec<_> = tables.map(|table| literal(&table.name)).collect();
            if names.is_empty() {
                continue;
            }
            sql.put_slice(
                b" SELECT string_agg(format('pg_temp.%I', relname), ', ') INTO names \
                  FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema() \
                  AND relkind IN ('r', 'p') AND relname IN (",
            );
            sql.put_slice(&names.join(&b", "[..]));
            sql.put_slice(
                format!(
                    "); IF names IS NOT NULL THEN EXECUTE '{command} ' || names || '{behaviour}'; END IF;"
                )
                .as_bytes(),
            );
        }
        // A table that can't be dropped is no reason to lose everything else.
        sql.put_slice(b" EXCEPTION WHEN others THEN NULL; END $actix_shareddb$");
        self.tables.clear();
        Some(sql.freeze())
    }
}

/// A name as a string, whatever backslashes mean.
fn literal(name: &Name) -> Vec<u8> {
    let mut text = b"E'".to_vec();
    for &byte in name.as_bytes() {
        if matches!(byte, b'\'' | b'\\') {
            text.push(byte);
        }
        text.push(byte);
    }
    text.push(b'\'');
    text
}
