//! What in the statements of a test is likely to be a mistake of the application.
//!
//! All of it is about the application's statements for one HTTP exchange each, so what can't be attributed isn't looked at.

use std::collections::BTreeMap;
use std::fmt;

use super::print::on_one_line;
use super::{Queries, Query};
use crate::exchange::Exchange;

/// How often a statement is run in one HTTP request before it is called repeated.
const REPEATED: usize = 4;

/// How much of a statement a hint quotes, in characters.
const LONGEST_SQL: usize = 100;

/// Something in how an application uses its database that is likely to be a mistake.
///
/// [`Config::hint`](crate::Config::hint) has a test tell of it, [`Config::deny`](crate::Config::deny) makes it a failure.
///
/// ```
/// use actix_shareddb::{Config, Hint};
///
/// let config = Config::new().hint(Hint::SecondConnection).deny(Hint::RepeatedStatement);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Hint {
    /// The same statement was run four times or more for one HTTP request, whatever its parameters: a query for each row of
    /// another one, for instance ("N+1").
    RepeatedStatement,
    /// Two statements for one HTTP request have written rows, and weren't in a transaction block. If the second fails, the
    /// first stays.
    UnguardedWrites,
    /// While a client of the pool was in a transaction block, another one was used for the same HTTP request. That needs two
    /// connections, and where each request holds one and waits for the next, the pool is exhausted.
    SecondConnection,
    /// A transaction block went on when the response had been sent: somebody else keeps its rows locked, and the client was
    /// told of something that may still fail.
    OpenAcrossResponse,
    /// A client of the pool was in a transaction block when the next HTTP request got it.
    LeftInBlock,
}

impl Hint {
    /// All that there are.
    ///
    /// ```
    /// use actix_shareddb::{Config, Hint};
    ///
    /// let config = Hint::ALL.iter().fold(Config::new(), |config, &hint| config.deny(hint));
    /// ```
    pub const ALL: &'static [Self] = &[
        Self::RepeatedStatement,
        Self::UnguardedWrites,
        Self::SecondConnection,
        Self::OpenAcrossResponse,
        Self::LeftInBlock,
    ];
}

/// Where there is cause for a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) hint: Hint,
    exchange: String,
    words: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({:?})", self.exchange, self.words, self.hint)
    }
}

/// All causes, in the order of the exchanges.
pub(super) fn causes(queries: &Queries) -> Vec<Cause> {
    let mut causes = Vec::new();
    for exchange in &queries.exchanges {
        let of_exchange: Vec<_> = queries
            .list
            .iter()
            .filter(|query| query.is_of(exchange))
            .collect();
        let found = [
            (Hint::RepeatedStatement, repeated(&of_exchange)),
            (Hint::UnguardedWrites, unguarded(&of_exchange)),
            (Hint::SecondConnection, second_connection(&of_exchange)),
            (
                Hint::OpenAcrossResponse,
                open_across_response(exchange, &of_exchange),
            ),
            (Hint::LeftInBlock, left_in_block(exchange, &of_exchange)),
        ];
        causes.extend(found.into_iter().filter_map(|(hint, words)| {
            Some(Cause {
                hint,
                exchange: exchange.to_string(),
                words: words?,
            })
        }));
    }
    causes
}

impl Query {
    fn is_of(&self, exchange: &Exchange) -> bool {
        self.exchange()
            .is_some_and(|known| known.number == exchange.number)
    }

    fn quoted(&self) -> String {
        on_one_line(&self.sql, LONGEST_SQL)
    }

    fn writes(&self) -> bool {
        let tag = self.tag().unwrap_or_default();
        let verb = tag.split(' ').next().unwrap_or_default();
        ["INSERT", "UPDATE", "DELETE", "MERGE"].contains(&verb) && self.rows() != Some(0)
    }

    fn is_rollback(&self) -> bool {
        let mut words = self.sql.split_whitespace();
        let verb = words.next().unwrap_or_default();
        self.is_transaction_control()
            && ["ROLLBACK", "ABORT"]
                .iter()
                .any(|word| verb.eq_ignore_ascii_case(word))
    }
}

fn repeated(queries: &[&Query]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for query in queries.iter().filter(|query| query.counts()) {
        *counts.entry(&query.sql).or_default() += 1;
    }
    let first = queries.iter().find(|query| {
        counts
            .get(&query.sql[..])
            .is_some_and(|&count| count >= REPEATED)
    })?;
    let count = counts[&first.sql[..]];
    Some(format!(
        "the same statement {count} times: {}",
        first.quoted()
    ))
}

fn unguarded(queries: &[&Query]) -> Option<String> {
    // Those of one text are one transaction.
    let mut writes = queries
        .iter()
        .filter(|query| query.block.is_none() && query.is_alone && query.writes());
    let (first, second) = (writes.next()?, writes.next()?);
    Some(format!(
        "two writes that aren't in one transaction: {} and {}",
        first.quoted(),
        second.quoted()
    ))
}

fn second_connection(queries: &[&Query]) -> Option<String> {
    let mut open: Option<(u32, u32)> = None;
    for query in queries {
        match (open, query.block) {
            (Some((session, _)), _) if session != query.session && !query.is_rollback() => {
                return Some(format!(
                    "session {session} is in a transaction block, and session {} runs: {}",
                    query.session,
                    query.quoted()
                ));
            }
            (_, Some(block)) => open = Some((query.session, block)),
            (Some(_), None) => open = None,
            (None, None) => {}
        }
        if query.ends_block {
            open = None;
        }
    }
    None
}

fn open_across_response(exchange: &Exchange, queries: &[&Query]) -> Option<String> {
    let late = queries.iter().find(|query| {
        query.block.is_some()
            && !query.is_rollback()
            && !query.is_of_next
            && exchange.was_answered_before(query.sent)
    })?;
    Some(format!(
        "after the response, in its transaction block: {}",
        late.quoted()
    ))
}

fn left_in_block(exchange: &Exchange, queries: &[&Query]) -> Option<String> {
    let next = queries.iter().find(|query| {
        query.is_of_next && !query.is_rollback() && exchange.was_answered_before(query.sent)
    })?;
    Some(format!(
        "session {} was left in a transaction block, and the next request ran: {}",
        next.session,
        next.quoted()
    ))
}
