//! The statements that the model of a server knows.

use super::Row;
use crate::mux::{own, split};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Statement {
    Empty,
    Insert(Row),
    /// Inserts what a deferred constraint forbids.
    Violate(Row),
    List(usize),
    Divide,
    Copy,
    Begin,
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    Listen(String),
    UnlistenAll,
    /// `NOTIFY`, or `SELECT pg_notify(...)`, which returns a row.
    Notify {
        channel: String,
        payload: String,
        selects: bool,
    },
    /// Checks what is deferred.
    CheckConstraints,
    /// What a server does without a sound, for all that matters here.
    Quiet,
    Several,
    Nonsense,
}

impl Statement {
    /// The statements of a Query.
    pub(super) fn all(sql: &str) -> Vec<Self> {
        let ranges = split::statements(sql.as_bytes(), true);
        let texts = ranges.into_iter().map(|range| &sql[range]);
        texts.map(Self::one).collect()
    }

    /// The statement of a Parse.
    pub(super) fn of(sql: &str) -> Self {
        let mut all = Self::all(sql);
        match &all[..] {
            [] => Self::Empty,
            [_] => all.remove(0),
            // A text is parsed whole before its statements are counted.
            _ if all.contains(&Self::Nonsense) => Self::Nonsense,
            _ => Self::Several,
        }
    }

    fn one(sql: &str) -> Self {
        let sql = sql.trim_start_matches(own::MARK);
        let numbers: Vec<u32> = sql
            .split(|char: char| !char.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        let words: Vec<&str> = sql.split_ascii_whitespace().collect();
        let chain = words.ends_with(&["AND", "CHAIN"]);
        match (&words[..], &numbers[..]) {
            (["INSERT", "INTO", "t", ..], [session, number]) => {
                Self::Insert((*session as usize, *number))
            }
            (["INSERT", "INTO", "deferred", ..], [session, number]) => {
                Self::Violate((*session as usize, *number))
            }
            (["SELECT", "number", ..], [session]) => Self::List(*session as usize),
            (["SELECT", "1/0"], _) => Self::Divide,
            (["COPY", "t", "FROM", "STDIN"], _) => Self::Copy,
            (["BEGIN", ..], _) => Self::Begin,
            (["COMMIT"] | ["COMMIT", "AND", "CHAIN"], _) => Self::Commit { chain },
            (["ROLLBACK"] | ["ROLLBACK", "AND", "CHAIN"], _) => Self::Rollback { chain },
            (["SAVEPOINT", name], _) => Self::Savepoint((*name).to_owned()),
            (["RELEASE", "SAVEPOINT", name], _) => Self::Release((*name).to_owned()),
            (["ROLLBACK", "TO", "SAVEPOINT", name], _) => Self::RollbackTo((*name).to_owned()),
            (["LISTEN", channel], _) => Self::Listen((*channel).to_owned()),
            (["UNLISTEN", "*"], _) => Self::UnlistenAll,
            (["NOTIFY", channel, payload], _) => Self::Notify {
                channel: channel.trim_matches(',').to_owned(),
                payload: payload.trim_matches('\'').to_owned(),
                selects: false,
            },
            (["SELECT", call, payload], _) if call.starts_with("pg_notify('") => Self::Notify {
                channel: call["pg_notify('".len()..]
                    .trim_matches([',', '\''])
                    .to_owned(),
                payload: payload.trim_matches([')', '\'']).to_owned(),
                selects: true,
            },
            (["SET", "CONSTRAINTS", "ALL", "IMMEDIATE"], _) => Self::CheckConstraints,
            (
                [
                    "SET" | "DO" | "PREPARE" | "DEALLOCATE" | "DECLARE" | "CLOSE" | "FETCH"
                    | "CREATE" | "EXECUTE" | "LOCK",
                    ..,
                ],
                _,
            ) => Self::Quiet,
            _ => Self::Nonsense,
        }
    }

    /// What may run in a failed transaction.
    pub(super) fn is_exit(&self) -> bool {
        matches!(
            self,
            Self::Empty | Self::Commit { .. } | Self::Rollback { .. } | Self::RollbackTo(_)
        )
    }

    /// The multiplexer answers it, and no server is asked to run it.
    pub(super) fn is_answered(&self) -> bool {
        matches!(
            self,
            Self::Begin
                | Self::Commit { .. }
                | Self::Rollback { .. }
                | Self::Listen(_)
                | Self::UnlistenAll
                | Self::Notify { selects: false, .. }
        )
    }

    pub(super) fn controls_transactions(&self) -> bool {
        matches!(
            self,
            Self::Begin
                | Self::Commit { .. }
                | Self::Rollback { .. }
                | Self::Savepoint(_)
                | Self::Release(_)
                | Self::RollbackTo(_)
        )
    }

    pub(super) fn returns_rows(&self) -> bool {
        matches!(
            self,
            Self::List(_) | Self::Divide | Self::Notify { selects: true, .. }
        )
    }
}
