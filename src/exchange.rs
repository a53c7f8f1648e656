//! The HTTP exchanges of a test's client: what was asked for, when, and what came of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::{Method, StatusCode};
use tracing::{Level, debug, enabled};

/// The target of the events for those who log.
const TARGET: &str = "actix_shareddb::exchange";

/// How many exchanges are remembered; the oldest are forgotten first.
const CAPACITY: usize = 2000;

/// How much of a response's body is remembered.
const LONGEST_BODY: usize = 1 << 10;

/// An HTTP request that a test has made through its [`LiveServer`](crate::LiveServer), and how it was answered.
///
/// Where a test looks at the SQL of an exchange, it goes the other way, from a response to its
/// [`queries`](crate::LiveServer::queries_of), or from a [query](crate::Query::exchange) to what it ran for.
///
/// ```no_run
/// # use actix_shareddb::{LiveServer, Result};
/// # async fn example(live: &LiveServer) -> Result<()> {
/// live.get("/todos").send().await?;
/// let queries = live.queries();
/// let exchange = queries[0].exchange().unwrap();
/// assert_eq!(exchange.to_string(), "GET /todos");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Exchange {
    pub(crate) number: u64,
    method: Method,
    path: String,
    pub(crate) begun: Instant,
    /// The head of the response was received, or the request was given up.
    answered: Option<Instant>,
    /// The response was read to its end, or dropped.
    ended: Option<Instant>,
    outcome: Option<Result<StatusCode, String>>,
    /// The beginning of the response's body, as far as it was read or came with the head.
    body: Vec<u8>,
}

impl Exchange {
    /// The request's method.
    ///
    /// ```no_run
    /// # fn example(exchange: &actix_shareddb::Exchange) {
    /// assert_eq!(exchange.method(), actix_web::http::Method::GET);
    /// # }
    /// ```
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request's path, with its query string.
    ///
    /// ```no_run
    /// # fn example(exchange: &actix_shareddb::Exchange) {
    /// assert_eq!(exchange.path(), "/todos?owner=7");
    /// # }
    /// ```
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The response's status, if there was a response.
    ///
    /// ```no_run
    /// # fn example(exchange: &actix_shareddb::Exchange) {
    /// assert!(exchange.status().is_none_or(|status| !status.is_server_error()));
    /// # }
    /// ```
    pub fn status(&self) -> Option<StatusCode> {
        self.outcome.as_ref()?.as_ref().ok().copied()
    }

    /// How long it took until the head of the response had come.
    pub(crate) fn duration(&self) -> Option<Duration> {
        Some(self.answered?.saturating_duration_since(self.begun))
    }

    /// The head of the response had come.
    pub(crate) fn was_answered_before(&self, time: Instant) -> bool {
        self.answered.is_some_and(|answered| answered < time)
    }

    /// The test was waiting for the head of the response.
    pub(crate) fn is_awaited_at(&self, time: Instant) -> bool {
        self.begun <= time && self.answered.is_none_or(|answered| time <= answered)
    }

    /// The body of the response was still to be read.
    pub(crate) fn is_open_at(&self, time: Instant) -> bool {
        self.begun <= time && self.ended.is_none_or(|ended| time <= ended)
    }

    /// The beginning of the response's body, if it is text.
    pub(crate) fn body(&self) -> Option<&str> {
        let body = match std::str::from_utf8(&self.body) {
            Ok(body) => body,
            // It may have been cut off amid a character.
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&self.body[..error.valid_up_to()]).ok()?
            }
            Err(_) => return None,
        };
        (!body.is_empty()).then_some(body)
    }

    /// What came of it, in words.
    pub(crate) fn outcome(&self) -> String {
        match &self.outcome {
            Some(Ok(status)) => status.to_string(),
            Some(Err(error)) => error.clone(),
            None if self.answered.is_some() => "given up".to_owned(),
            None => "no response yet".to_owned(),
        }
    }
}

/// The request line, as in a log.
impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// The exchanges of one test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchanges(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    exchanges: VecDeque<Exchange>,
    next: u64,
}

/// Found in the extensions of each response: which exchange it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(pub(crate) u64);

impl Exchanges {
    /// A request is sent; it is over when the guard is dropped.
    pub(crate) fn begin(&self, method: Method, path: String) -> Awaited {
        let mut log = self.log();
        let number = log.next;
        log.next += 1;
        if log.exchanges.len() == CAPACITY {
            log.exchanges.pop_front();
        }
        log.exchanges.push_back(Exchange {
            number,
            method,
            path,
            begun: Instant::now(),
            answered: None,
            ended: None,
            outcome: None,
            body: Vec::new(),
        });
        drop(log);
        Awaited(Open {
            exchanges: self.clone(),
            number,
        })
    }

    /// The number that the next exchange will have.
    pub(crate) fn next(&self) -> u64 {
        self.log().next
    }

    pub(crate) fn all(&self) -> Vec<Exchange> {
        self.log().exchanges.iter().cloned().collect()
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Exchange)) {
        let mut log = self.log();
        // Nearly always the last.
        let mut latest = log.exchanges.iter_mut().rev();
        if let Some(exchange) = latest.find(|exchange| exchange.number == number) {
            change(exchange);
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request whose response is awaited.
#[derive(Debug)]
pub(crate) struct Awaited(Open);

impl Awaited {
    pub(crate) fn number(&self) -> Number {
        Number(self.0.number)
    }

    /// The head of the response has come; the body may be read as long as what is returned lives.
    pub(crate) fn answered(self, status: StatusCode) -> Open {
        self.0.answered(Ok(status));
        self.0
    }

    pub(crate) fn failed(self, error: &dyn std::error::Error) {
        self.0.answered(Err(error.to_string()));
    }
}

/// An exchange that isn't over.
#[derive(Debug)]
pub(crate) struct Open {
    exchanges: Exchanges,
    number: u64,
}

impl Open {
    fn answered(&self, outcome: Result<StatusCode, String>) {
        let mut answered = None;
        self.exchanges.change(self.number, |exchange| {
            exchange.answered = Some(Instant::now());
            exchange.outcome = Some(outcome);
            if enabled!(target: TARGET, Level::DEBUG) {
                answered = Some(exchange.clone());
            }
        });
        if let Some(exchange) = answered {
            let (method, path) = (exchange.method.as_str(), &exchange.path[..]);
            let duration = exchange.duration().unwrap_or_default();
            debug!(target: TARGET, method, path, ?duration, outcome = exchange.outcome());
        }
    }
}

impl Open {
    /// A part of the body has come.
    pub(crate) fn note(&self, chunk: &[u8]) {
        self.exchanges.change(self.number, |exchange| {
            let space = LONGEST_BODY - exchange.body.len();
            exchange
                .body
                .extend_from_slice(&chunk[..chunk.len().min(space)]);
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.exchanges.change(self.number, |exchange| {
            let now = Instant::now();
            exchange.answered.get_or_insert(now);
            exchange.ended = Some(now);
        });
    }
}
