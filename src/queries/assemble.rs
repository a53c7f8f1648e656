//! Makes [`Queries`] of what was recorded: splits, decodes, and finds out what belongs to which HTTP exchange.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::HttpMessage as _;
use tokio_postgres::error::SqlState;

use super::hints::{self, Cause, Hint};
use super::{Answer, Kind, Queries, Query, decode};
use crate::backend::Stream;
use crate::exchange::{Exchange, Exchanges, Number};
use crate::mux::SessionId;
use crate::mux::command::Command;
use crate::mux::driver::Driver;
use crate::mux::record::{self, Origin, Statement};

/// What is written down of one test.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    driver: Driver<Stream>,
    exchanges: Exchanges,
}

/// A moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    statement: u64,
    exchange: u64,
}

impl Recording {
    pub(crate) fn new(driver: Driver<Stream>) -> Self {
        Self {
            driver,
            exchanges: Exchanges::default(),
        }
    }

    pub(crate) fn exchanges(&self) -> &Exchanges {
        &self.exchanges
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            statement: self.driver.look(|mux| mux.recorder().next()),
            exchange: self.exchanges.next(),
        }
    }

    /// Everything.
    pub(super) fn so_far(&self) -> Queries {
        self.since(Mark::default())
    }

    /// Who is in the middle of something.
    pub(super) fn picture(&self) -> Vec<String> {
        self.driver.look(|mux| mux.picture(Instant::now()))
    }

    /// Where there is cause for one of these hints.
    pub(crate) fn causes(&self, hints: impl Fn(Hint) -> bool) -> Vec<Cause> {
        let mut causes = hints::causes(&self.so_far());
        causes.retain(|cause| hints(cause.hint));
        causes
    }

    /// What was run since.
    pub(super) fn since(&self, mark: Mark) -> Queries {
        let (list, exchanges) = self.all();
        let is_of_then = |exchange: &Exchange| exchange.number >= mark.exchange;
        let list: Vec<_> = list
            .into_iter()
            .filter(|(number, _)| number.is_none_or(|number| number >= mark.statement))
            .map(|(_, query)| query)
            .collect();
        Queries {
            exchanges: exchanges.into_iter().filter(is_of_then).collect(),
            dropped: self
                .driver
                .look(|mux| mux.recorder().dropped().saturating_sub(mark.statement)),
            list,
        }
    }

    /// What was run for one exchange.
    pub(super) fn of(&self, Number(number): Number) -> Queries {
        let mut queries = self.so_far();
        queries
            .exchanges
            .retain(|exchange| exchange.number == number);
        queries.list.retain(|query| {
            query
                .exchanges
                .iter()
                .any(|exchange| exchange.number == number)
        });
        queries
    }

    /// All that is known, with the numbers of what was answered. Blocks and exchanges are told from what went before, so
    /// nothing is left out before this is done.
    fn all(&self) -> (Vec<(Option<u64>, Query)>, Vec<Exchange>) {
        let statements = self.driver.look(|mux| {
            let recorder = mux.recorder();
            let with_origin = |statement: Statement| {
                let origin = recorder.origin(statement.session);
                (statement, origin)
            };
            let statements = recorder.since(0);
            statements
                .into_iter()
                .map(with_origin)
                .filter(|(_, origin)| *origin != Origin::Own)
                .collect::<Vec<_>>()
        });
        let exchanges = self.exchanges.all();
        let mut assembly = Assembly {
            exchanges: &exchanges,
            now: Instant::now(),
            blocks: BTreeMap::new(),
            block_count: 0,
        };
        let list = statements
            .into_iter()
            .filter_map(|(statement, origin)| {
                let number = statement.answer.is_some().then_some(statement.number);
                Some((number, assembly.query(&statement, origin)?))
            })
            .collect();
        (list, exchanges)
    }
}

/// Which exchange a response belongs to.
pub(super) fn number<S>(response: &awc::ClientResponse<S>) -> Option<Number> {
    response.extensions().get::<Number>().copied()
}

/// Goes through all statements in order.
struct Assembly<'a> {
    exchanges: &'a [Exchange],
    now: Instant,
    /// The blocks that are open: their numbers, and the exchanges that they may belong to.
    blocks: BTreeMap<SessionId, (u32, Vec<&'a Exchange>)>,
    block_count: u32,
}

impl<'a> Assembly<'a> {
    /// The statement as it is shown; `None` if it isn't one, because all of its text was run.
    fn query(&mut self, statement: &Statement, origin: Origin) -> Option<Query> {
        let sql = statement.own_text()?;
        let command = Command::of(&sql, statement.scs);
        let mut exchanges = match origin {
            Origin::Server => self.under_way_at(statement.sent),
            Origin::Test | Origin::Socket | Origin::Own => Vec::new(),
        };
        let id = statement.session;
        let succeeded = matches!(statement.answer, Some((_, record::Answer::Complete(_))));
        // Behind the first statement of a text, those before it tell.
        let is_first = statement.place.is_none_or(|(index, _)| index == 0);
        let in_block = statement.in_block && is_first;
        if !in_block && is_first {
            self.blocks.remove(&id);
        }
        let begins = matches!(command, Command::Begin { .. }) && succeeded;
        if (in_block || begins) && !self.blocks.contains_key(&id) {
            self.block_count += 1;
            self.blocks
                .insert(id, (self.block_count, exchanges.clone()));
        }
        let mut is_of_next = false;
        let block = self.blocks.get_mut(&id).map(|(number, of_block)| {
            // One that has come up since can't be it. A ROLLBACK may come after the response.
            let is_under_way = |exchange: &&Exchange| {
                let mut numbers = exchanges.iter().map(|exchange| exchange.number);
                numbers.any(|number| number == exchange.number)
            };
            if of_block.iter().any(is_under_way) {
                of_block.retain(is_under_way);
            } else {
                is_of_next = !of_block.is_empty() && !exchanges.is_empty();
            }
            if !of_block.is_empty() {
                exchanges.clone_from(of_block);
            }
            *number
        });
        let ends_block = succeeded && command.ends_block();
        if ends_block {
            self.blocks.remove(&id);
        }
        let ended = statement
            .answer
            .as_ref()
            .map_or(self.now, |(answered, _)| *answered);
        Some(Query {
            parameters: decode::parameters(&statement.types, &statement.values),
            answer: answer_of(statement),
            sent: statement.sent,
            duration: ended.saturating_duration_since(statement.sent),
            session: id.0,
            origin,
            block,
            exchanges: exchanges.into_iter().cloned().collect(),
            kind: kind_of(&command, &sql),
            is_alone: statement.place.is_none_or(|(_, count)| count == 1),
            ends_block,
            is_of_next,
            sql: String::from_utf8_lossy(&sql).into_owned(),
        })
    }

    fn under_way_at(&self, time: Instant) -> Vec<&'a Exchange> {
        let mut awaited: Vec<_> = self
            .exchanges
            .iter()
            .filter(|exchange| exchange.is_awaited_at(time))
            .collect();
        if awaited.is_empty() {
            let open = self
                .exchanges
                .iter()
                .rfind(|exchange| exchange.is_open_at(time));
            awaited.extend(open);
        }
        awaited
    }
}

fn answer_of(statement: &Statement) -> Answer {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match &statement.answer {
        None => Answer::None,
        Some((_, record::Answer::Complete(tag))) => Answer::Complete(text(tag)),
        Some((_, record::Answer::Failed { code, message })) => Answer::Failed {
            code: SqlState::from_code(&text(code)),
            message: text(message),
        },
    }
}

fn kind_of(command: &Command, sql: &[u8]) -> Kind {
    if command.controls_transaction() {
        Kind::Control
    } else if LOOKUPS.iter().any(|lookup| sql.starts_with(lookup)) {
        Kind::Lookup
    } else {
        Kind::Statement
    }
}

/// How those statements begin by which `tokio_postgres` finds out what a type is.
const LOOKUPS: [&[u8]; 3] = [
    b"SELECT t.typname, t.typtype, t.typelem, ",
    b"SELECT enumlabel\nFROM pg_catalog.pg_enum\n",
    b"SELECT attname, atttypid\nFROM pg_catalog.pg_attribute\n",
];

/// Nothing that is shown in milliseconds is more exact than this.
pub(super) fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1e3;
    match milliseconds < 10.0 {
        true => format!("{milliseconds:.1} ms"),
        false => format!("{milliseconds:.0} ms"),
    }
}
