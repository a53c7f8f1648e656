//! What the clients have run, as they sent it, and what the backend answered.
//!
//! It is written down as bytes: nothing is parsed and nothing decoded before somebody asks. The multiplexer's own
//! statements are not in it, because it is told of what clients send, not of what the backend is sent.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use super::message::Message;
use super::session::{Prepared, SessionId};
use super::split;

/// How many bytes of statements are kept of one shared transaction; the oldest are dropped first.
pub(crate) const CAPACITY: usize = 4 << 20;

/// The error of a text that can't be parsed.
const SYNTAX_ERROR: &str = "42601";

/// How much of one statement's text is kept, and of its parameters.
const LONGEST_TEXT: usize = 16 << 10;
const LONGEST_VALUES: usize = 4 << 10;

/// A statement that a client has run.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// Counts all statements of the shared transaction.
    pub(crate) number: u64,
    pub(crate) session: SessionId,
    /// The text that the client sent.
    pub(crate) text: Bytes,
    /// Which of the text's statements it is, and of how many, if it came as a simple query.
    pub(crate) place: Option<(usize, usize)>,
    /// How the text's strings are read.
    pub(crate) scs: bool,
    /// The types of its parameters and their values, as Parse and Bind have them; empty where there are none.
    pub(crate) types: Bytes,
    pub(crate) values: Bytes,
    /// It was sent in a transaction block.
    pub(crate) in_block: bool,
    pub(crate) sent: Instant,
    /// When it was answered, and how.
    pub(crate) answer: Option<(Instant, Answer)>,
}

/// How a statement was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With this command tag; it is empty where there was none, as for a portal that isn't at its end.
    Complete(Bytes),
    Failed {
        code: Bytes,
        message: Bytes,
    },
}

/// Who a session's client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The test, by a pool of the transaction.
    #[default]
    Test,
    /// The application under test.
    Server,
    /// Somebody who joined by the socket.
    Socket,
    /// This crate, whose statements are nobody's business.
    Own,
}

/// The statements of one shared transaction.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Those that were answered, in the order in which they were.
    answered: VecDeque<Statement>,
    /// How large they are.
    size: usize,
    next: u64,
    dropped: u64,
    last_tag: Bytes,
    /// Those of a session's batch that weren't answered yet.
    under_way: BTreeMap<SessionId, VecDeque<Statement>>,
    origins: BTreeMap<SessionId, Origin>,
    /// Who joins by the socket is the application.
    is_socket_of_server: bool,
}

impl Recorder {
    /// The number that the next statement will have that is answered.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// How many were dropped for want of space.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The statements from this number on, and behind them those that weren't answered yet.
    pub(crate) fn since(&self, number: u64) -> Vec<Statement> {
        let first = self
            .answered
            .front()
            .map_or(self.next, |first| first.number);
        let skipped = usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX);
        self.answered
            .iter()
            .skip(skipped)
            .chain(self.under_way.values().flatten())
            .cloned()
            .collect()
    }

    /// Those that were answered from this number on.
    pub(crate) fn answered_since(&self, number: u64) -> impl Iterator<Item = &Statement> {
        let newest_first = self.answered.iter().rev();
        let count = newest_first
            .take_while(|statement| statement.number >= number)
            .count();
        self.answered.iter().skip(self.answered.len() - count)
    }

    pub(crate) fn origin(&self, id: SessionId) -> Origin {
        match self.origins.get(&id).copied().unwrap_or_default() {
            Origin::Socket if self.is_socket_of_server => Origin::Server,
            origin => origin,
        }
    }

    /// The application was given the socket's address, for connections of its own.
    pub(crate) fn give_socket_to_server(&mut self) {
        self.is_socket_of_server = true;
    }

    pub(crate) fn note_origin(&mut self, id: SessionId, origin: Origin) {
        if origin != Origin::default() {
            self.origins.insert(id, origin);
        }
    }

    /// A simple query is run, whose statements are answered one by one.
    pub(super) fn query(
        &mut self,
        id: SessionId,
        text: &[u8],
        scs: bool,
        count: usize,
        in_block: bool,
        now: Instant,
    ) {
        if count == 0 {
            return;
        }
        self.push(Statement {
            number: 0,
            session: id,
            text: shortened(text, LONGEST_TEXT),
            place: Some((0, count)),
            scs,
            types: Bytes::new(),
            values: Bytes::new(),
            in_block,
            sent: now,
            answer: None,
        });
    }

    /// A portal is run.
    pub(super) fn portal(
        &mut self,
        id: SessionId,
        portal: &Prepared,
        in_block: bool,
        now: Instant,
    ) {
        self.push(Statement {
            number: 0,
            session: id,
            text: shortened(&portal.sql, LONGEST_TEXT),
            place: None,
            scs: true,
            types: portal.types.clone(),
            values: shortened(&portal.values, LONGEST_VALUES),
            in_block,
            sent: now,
            answer: None,
        });
    }

    fn push(&mut self, statement: Statement) {
        let under_way = self.under_way.entry(statement.session).or_default();
        under_way.push_back(statement);
    }

    /// The first of the session's statements that are under way has succeeded, with this command tag.
    pub(super) fn completed(&mut self, id: SessionId, tag: &[u8], now: Instant) {
        // Most are like the one before.
        if self.last_tag != tag {
            self.last_tag = Bytes::copy_from_slice(tag);
        }
        let answer = Answer::Complete(self.last_tag.clone());
        let Some(under_way) = self.under_way.get_mut(&id) else {
            return;
        };
        let Some(first) = under_way.front_mut() else {
            return;
        };
        let statement = match first.place {
            Some((index, count)) if index + 1 < count => {
                let this = first.clone();
                first.place = Some((index + 1, count));
                first.sent = now;
                Some(this)
            }
            _ => under_way.pop_front(),
        };
        if let Some(statement) = statement {
            self.keep(statement, answer, now);
        }
    }

    /// Something of the session's batch has failed, so that what follows in it isn't run. That is what runs, or, if only
    /// this was parsed or bound, the statement with this text.
    pub(super) fn failed(
        &mut self,
        id: SessionId,
        text: Option<&Bytes>,
        error: &Message,
        now: Instant,
    ) {
        let field = |code| error.error_field(code).unwrap_or_default();
        let answer = Answer::Failed {
            code: Bytes::copy_from_slice(&field(b'C')),
            message: shortened(&what_failed(error), LONGEST_VALUES),
        };
        let under_way = self.under_way.get_mut(&id);
        let first = under_way.and_then(VecDeque::pop_front);
        self.forget(id);
        match (first, text) {
            (Some(statement), None) => return self.keep(statement, answer, now),
            (Some(statement), Some(text)) if statement.text == text => {
                return self.keep(statement, answer, now);
            }
            (_, Some(text)) => {
                let parsed = Statement {
                    number: 0,
                    session: id,
                    text: shortened(text, LONGEST_TEXT),
                    place: None,
                    scs: true,
                    types: Bytes::new(),
                    values: Bytes::new(),
                    in_block: false,
                    sent: now,
                    answer: None,
                };
                return self.keep(parsed, answer, now);
            }
            (None, None) => {}
        }
        // All of the batch had succeeded, and its end has failed: on a constraint that was deferred up to there.
        let mut latest = self.answered.iter_mut().rev();
        if let Some(last) = latest.find(|statement| statement.session == id)
            && let Some((_, Answer::Complete(_))) = last.answer
        {
            self.size -= last.size();
            last.answer = Some((now, answer));
            self.size += last.size();
        }
    }

    /// What the session has under way hasn't been run, or is over.
    pub(super) fn forget(&mut self, id: SessionId) {
        if let Some(under_way) = self.under_way.get_mut(&id) {
            under_way.clear();
        }
    }

    /// The session is over. What it has run stays.
    pub(super) fn leave(&mut self, id: SessionId) {
        self.under_way.remove(&id);
    }

    fn keep(&mut self, mut statement: Statement, answer: Answer, now: Instant) {
        statement.number = self.next;
        statement.answer = Some((now, answer));
        self.next += 1;
        self.size += statement.size();
        self.answered.push_back(statement);
        while self.size > CAPACITY {
            let Some(oldest) = self.answered.pop_front() else {
                return;
            };
            self.size -= oldest.size();
            self.dropped += 1;
        }
    }
}

impl Statement {
    /// That one of the text's statements which is meant; `None` if there is none, because all of the text was run.
    pub(crate) fn own_text(&self) -> Option<Vec<u8>> {
        let whole = || Some(self.text.trim_ascii().to_vec());
        let Some((index, _)) = self.place else {
            return whole();
        };
        // The whole text is parsed before any of it is run.
        if index == 0
            && let Some((_, Answer::Failed { code, .. })) = &self.answer
            && code == SYNTAX_ERROR
        {
            return whole();
        }
        let range = split::statements(&self.text, self.scs)
            .into_iter()
            .nth(index)?;
        Some(self.text[range].trim_ascii().to_vec())
    }

    fn size(&self) -> usize {
        let bytes = self.text.len() + self.types.len() + self.values.len();
        let answer = match &self.answer {
            Some((_, Answer::Complete(tag))) => tag.len(),
            Some((_, Answer::Failed { code, message })) => code.len() + message.len(),
            None => 0,
        };
        size_of::<Self>() + bytes + answer
    }
}

/// The message of an error. Who holds a lock that was waited for in vain is in its detail.
fn what_failed(error: &Message) -> Bytes {
    let message = error.error_field(b'M').unwrap_or_default();
    match error.error_field(b'D') {
        Some(detail)
            if error
                .error_field(b'R')
                .is_some_and(|routine| routine == "ProcessInterrupts") =>
        {
            [&message[..], &b". "[..], &detail[..]].concat().into()
        }
        _ => message,
    }
}

/// A copy of no more than so much, because what it is a part of may be large.
fn shortened(bytes: &[u8], longest: usize) -> Bytes {
    Bytes::copy_from_slice(&bytes[..bytes.len().min(longest)])
}
