//! Temporary tables that PostgreSQL drops or empties where a transaction commits.
//!
//! The backend's own transaction never commits, so what `ON COMMIT` asks for is done in the prologue of the next one,
//! whosever that is. Before that begins with RELEASE, the one before was kept, and its tables have come to their end; if it
//! was rolled back, they are gone anyway.
//!
//! A name may come to be another table's meanwhile: by DROP and CREATE, by ROLLBACK TO, or within a function. So a table that
//! was created is *noted* before anything else is run: its OID is put in a placeholder setting of our own, which PostgreSQL
//! takes back with the subtransaction that has created the table. Too many names do no harm then.

use bytes::{BufMut, Bytes, BytesMut};

use super::command::{Command, OnCommit};
use super::session::SessionId;
use super::value::Name;

/// A table with an `ON COMMIT` clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    name: Name,
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
#[derive(Debug, Default)]
pub(super) struct Tables {
    tables: Vec<(SessionId, Table)>,
    /// Those of them that were created just now, and have not been noted.
    created: Vec<(SessionId, Table)>,
    /// All names there have been. The setting of a name is called by its place here.
    names: Vec<Name>,
}

impl Tables {
    pub(super) fn create(&mut self, id: SessionId, table: Table) {
        self.created.push((id, table.clone()));
        self.add(id, table);
    }

    pub(super) fn add(&mut self, id: SessionId, table: Table) {
        let table = (id, table);
        if !self.tables.contains(&table) {
            self.tables.push(table);
        }
    }

    /// The transaction was rolled back, with the tables that it had created.
    pub(super) fn roll_back(&mut self) {
        self.tables.clear();
        self.created.clear();
    }

    /// What notes the tables that were created just now.
    pub(super) fn note(&mut self) -> Option<Bytes> {
        if self.created.is_empty() {
            return None;
        }
        let mut sql = BytesMut::from(&b"DO $actix_shareddb$ BEGIN"[..]);
        for (id, table) in std::mem::take(&mut self.created) {
            let (slot, noted) = (self.slot(&table.name), noted(id));
            let note = format!(
                " PERFORM pg_catalog.set_config({slot}, {noted}, false){OWN} AND relname = "
            );
            sql.put_slice(note.as_bytes());
            sql.put_slice(&literal(&table.name));
            sql.put_slice(b";");
        }
        sql.put_slice(END.as_bytes());
        Some(sql.freeze())
    }

    /// The transaction was kept, and what it has created is noted: returns what does as the tables have been told.
    pub(super) fn commit(&mut self) -> Option<String> {
        if self.tables.is_empty() {
            return None;
        }
        let mut sql = "DO $actix_shareddb$ DECLARE names text; BEGIN".to_owned();
        for (on_commit, command, behaviour) in [
            (OnCommit::Drop, "DROP TABLE", " CASCADE"),
            (OnCommit::DeleteRows, "TRUNCATE", ""),
        ] {
            let tables: Vec<_> = self
                .tables
                .iter()
                .filter(|(_, table)| table.on_commit == on_commit)
                .cloned()
                .collect();
            let noted: Vec<_> = tables
                .iter()
                .map(|(id, table)| {
                    let slot = self.slot(&table.name);
                    format!("{} = pg_catalog.current_setting({slot}, true)", noted(*id))
                })
                .collect();
            if noted.is_empty() {
                continue;
            }
            sql += &format!(
                " SELECT string_agg(format('pg_temp.%I', relname), ', ') INTO names{OWN} AND ({}); \
                 IF names IS NOT NULL THEN EXECUTE '{command} ' || names || '{behaviour}'; END IF;",
                noted.join(" OR ")
            );
        }
        self.tables.clear();
        Some(sql + END)
    }

    /// The setting that tells which table of a name is meant.
    fn slot(&mut self, name: &Name) -> String {
        let known = self.names.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name.clone());
            self.names.len() - 1
        });
        format!("'actix_shareddb.table_{index}'")
    }
}

/// What is noted of a session's table.
fn noted(id: SessionId) -> String {
    format!("pg_catalog.concat('{}=', oid)", id.0)
}

/// The tables among the temporary relations.
const OWN: &str = " FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema() AND relkind IN ('r', 'p')";

/// A table that can't be dropped is no reason to lose everything else.
const END: &str = " EXCEPTION WHEN others THEN NULL; END $actix_shareddb$";

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
