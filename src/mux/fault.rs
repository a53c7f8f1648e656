//! Faults that a test has ordered: which statement meets one, and what happens to it.
//!
//! This file decides; what a fault does to the backend is in [`state`](super::state).

use std::fmt;
use std::time::Duration;

use bytes::BufMut as _;

use super::lexer::{Kind, Tokens};
use super::message::{Message, backend};
use super::record::Origin;
use super::session::SessionId;

/// A statement that may meet a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) session: SessionId,
    pub(crate) origin: Origin,
    pub(crate) sql: &'a [u8],
    pub(crate) commits: bool,
    /// It begins, ends or divides a transaction.
    pub(crate) controls: bool,
}

/// Whether a statement is meant.
type Matcher = dyn Fn(&Candidate<'_>) -> bool + Send;

/// What a fault does to a statement.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// It fails with this error, and its transaction with it. A COMMIT that fails ends its transaction.
    Fail(Message),
    /// It begins so much later.
    Delay(Duration),
    /// Its session ends before it is run.
    Disconnect,
}

/// A fault that was ordered.
pub(crate) struct Fault {
    pub(crate) number: u64,
    pub(crate) matches: Box<Matcher>,
    pub(crate) action: Action,
    /// How many statements pass by it first.
    pub(crate) skips: usize,
    /// How many it then hits.
    pub(crate) times: usize,
    /// It need not be met.
    pub(crate) is_optional: bool,
    /// Which statements are meant, and where it was ordered, in words.
    pub(crate) words: String,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("number", &self.number)
            .field("action", &self.action)
            .field("skips", &self.skips)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// The faults that wait for a statement, in the order in which they were ordered.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    waiting: Vec<Fault>,
    /// The numbers of those that have hit, once for each hit.
    hits: Vec<u64>,
}

impl Faults {
    pub(crate) fn order(&mut self, fault: Fault) {
        if fault.times > 0 {
            self.waiting.push(fault);
        }
    }

    pub(crate) fn hits(&self, number: u64) -> usize {
        self.hits.iter().filter(|&&hit| hit == number).count()
    }

    /// Those that were never met and had to be, in words.
    pub(crate) fn unmet(&self) -> impl Iterator<Item = &str> {
        let unmet = self
            .waiting
            .iter()
            .filter(|fault| !fault.is_optional && self.hits(fault.number) == 0);
        unmet.map(|fault| &fault.words[..])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a statement may meet one, now or another time.
    pub(super) fn concern(&self, candidate: &Candidate<'_>) -> bool {
        self.waiting.iter().any(|fault| (fault.matches)(candidate))
    }

    /// What happens to a statement that is about to be run. Those are looked at that end connections, or the others:
    /// each has its time.
    pub(super) fn meet(&mut self, candidate: &Candidate<'_>, disconnects: bool) -> Option<Action> {
        let mut met = None;
        for (place, fault) in self.waiting.iter_mut().enumerate() {
            let is_disconnect = matches!(fault.action, Action::Disconnect);
            if is_disconnect != disconnects || !(fault.matches)(candidate) {
                continue;
            }
            // Each counts for itself, also while another one hits.
            if fault.skips > 0 {
                fault.skips -= 1;
            } else if met.is_none() {
                fault.times -= 1;
                met = Some(place);
            }
        }
        let place = met?;
        let fault = &self.waiting[place];
        let action = fault.action.clone();
        self.hits.push(fault.number);
        if fault.times == 0 {
            self.waiting.remove(place);
        }
        Some(action)
    }
}

/// Whether a text names this, as a table for instance.
pub(crate) fn names(sql: &[u8], identifier: &str) -> bool {
    Tokens::new(sql, true).any(|token| match token.kind {
        Kind::Word => token.text.eq_ignore_ascii_case(identifier.as_bytes()),
        Kind::QuotedIdentifier => {
            let quoted = token.text.strip_prefix(b"\"");
            quoted.and_then(|text| text.strip_suffix(b"\"")) == Some(identifier.as_bytes())
        }
        _ => false,
    })
}

/// The error of a statement that a test makes fail.
pub(crate) fn error(code: &str, message: &str, constraint: Option<&str>) -> Message {
    let hint = "The test has ordered this error, through `faults()`.";
    let fields = [
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', code),
        (b'M', message),
        (b'H', hint),
        (b'n', constraint.unwrap_or_default()),
    ];
    Message::build(backend::ERROR_RESPONSE, |body| {
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            body.put_u8(name);
            body.put_slice(value.as_bytes());
            body.put_u8(0);
        }
        body.put_u8(0);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(number: u64, word: &'static str, skips: usize, times: usize) -> Fault {
        Fault {
            number,
            matches: Box::new(move |candidate| candidate.sql.starts_with(word.as_bytes())),
            action: Action::Delay(Duration::from_secs(number)),
            skips,
            times,
            is_optional: false,
            words: word.to_owned(),
        }
    }

    fn candidate(sql: &str) -> Candidate<'_> {
        Candidate {
            session: SessionId(1),
            origin: Origin::Test,
            sql: sql.as_bytes(),
            commits: false,
            controls: false,
        }
    }

    #[test]
    fn each_statement_meets_the_first_fault_that_means_it_and_all_of_them_count() {
        let mut faults = Faults::default();
        faults.order(fault(1, "a", 1, 1));
        faults.order(fault(2, "", 0, 2));
        faults.order(fault(3, "a", 0, 0));
        let mut hits = Vec::new();
        for sql in ["a", "b", "a", "a", "a"] {
            let action = faults.meet(&candidate(sql), false);
            hits.push(match action {
                Some(Action::Delay(time)) => time.as_secs(),
                _ => 0,
            });
        }
        assert_eq!(hits, [2, 2, 1, 0, 0]);
        assert!(faults.is_empty());
        assert_eq!(faults.unmet().count(), 0);
        assert_eq!((faults.hits(1), faults.hits(2), faults.hits(3)), (1, 2, 0));
    }

    #[test]
    fn what_was_met_once_or_need_not_be_is_not_missed() {
        let mut faults = Faults::default();
        let mut optional = fault(3, "c", 0, 1);
        optional.is_optional = true;
        for fault in [fault(1, "a", 0, 2), fault(2, "b", 1, 1), optional] {
            faults.order(fault);
        }
        for sql in ["a", "b"] {
            faults.meet(&candidate(sql), false);
        }
        assert_eq!(faults.unmet().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_name_is_a_token_and_not_a_part_of_one() {
        for (sql, is_named) in [
            ("SELECT * FROM users", true),
            ("select * from USERS u", true),
            ("UPDATE public.\"users\" SET a = 1", true),
            ("SELECT * FROM users_of_old", false),
            ("SELECT 'users'", false),
            ("SELECT 1 -- users", false),
            ("SELECT * FROM \"Users\"", false),
        ] {
            assert_eq!(names(sql.as_bytes(), "users"), is_named, "{sql}");
        }
    }
}
