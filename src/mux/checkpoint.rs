//! Checkpoints of the shared transaction: savepoints below the standing one, and what is to be remembered with each.
//!
//! The rows are PostgreSQL's business. What it can't know is what is written down here about its state: which settings are
//! whose, and which cursors there are. That goes back with the rows.

use std::collections::BTreeMap;

use super::deferral::Deferral;
use super::held::Held;
use super::session::SessionId;
use super::settings::Settings;

/// What a client of this crate's own asks for, by a simple query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Set(u64),
    Restore(u64),
}

impl Order {
    /// The text of the query.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Set(number) => format!("checkpoint {number}"),
            Self::Restore(number) => format!("restore {number}"),
        }
    }

    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (verb, number) = text.split_once(' ')?;
        let number = number.parse().ok()?;
        match verb {
            "checkpoint" => Some(Self::Set(number)),
            "restore" => Some(Self::Restore(number)),
            _ => None,
        }
    }

    /// The savepoint is set, or rolled back to. It stands between the outer transaction and the standing savepoint.
    pub(super) fn statement(self) -> String {
        match self {
            Self::Set(number) => format!("SAVEPOINT actix_shareddb_checkpoint_{number}"),
            Self::Restore(number) => {
                format!("ROLLBACK TO SAVEPOINT actix_shareddb_checkpoint_{number}")
            }
        }
    }
}

/// The checkpoints that can be gone back to, the latest last.
#[derive(Debug, Default)]
pub(super) struct Checkpoints(Vec<(u64, Memory)>);

/// How things stood at a checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) settings: Settings,
    pub(super) deferral: Deferral,
    pub(super) held: BTreeMap<SessionId, Held>,
}

impl Checkpoints {
    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.iter().any(|(known, _)| *known == number)
    }

    pub(super) fn push(&mut self, number: u64, memory: Memory) {
        self.0.push((number, memory));
    }

    /// Goes back to a checkpoint, which is the end of those that were set after it.
    pub(super) fn restore(&mut self, number: u64) -> Option<Memory> {
        let place = self.0.iter().position(|(known, _)| *known == number)?;
        self.0.truncate(place + 1);
        self.0.last().map(|(_, memory)| memory.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_what_its_text_says() {
        for order in [Order::Set(1), Order::Restore(20)] {
            assert_eq!(Order::of(order.text().as_bytes()), Some(order));
        }
        for text in [
            "checkpoint",
            "CHECKPOINT 1",
            "restore -1",
            "restore 1; restore 2",
            "",
        ] {
            assert_eq!(Order::of(text.as_bytes()), None, "{text}");
        }
    }
}
