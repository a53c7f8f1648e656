//! The one error type: what happened, why, and what to do about it.

use std::error::Error as StdError;
use std::{fmt, io};

use awc::error::{SendRequestError, WsClientError};
use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::DbError;

/// The result of everything in this crate that can fail.
///
/// ```
/// use actix_shareddb::Result;
///
/// fn title(line: &str) -> Result<String> {
///     Ok(String::from_utf8(line.into()).map_err(actix_shareddb::Error::other)?)
/// }
/// # assert_eq!(title("milk").unwrap(), "milk");
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

/// What went wrong while a test was prepared, run or torn down.
///
/// `Display` gives the event alone, as a lowercase fragment; the cause is in [`source`](StdError::source).
/// `Debug`, which the test harness prints for a test that returns `Err`, is written to be read by a person:
/// the event, its causes one a line, and what to do.
///
/// Every error that a test is likely to meet converts into it with `?`: those of `tokio_postgres`, of the pool,
/// of `awc` and of `std::io`; [`Error::other`] takes the rest.
///
/// ```
/// use actix_shareddb::Error;
///
/// let error = Error::other("the fixture has no user 'alice'");
/// assert_eq!(error.to_string(), "the fixture has no user 'alice'");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    event: Event,
    help: Option<String>,
    source: Option<Source>,
}

/// What has happened.
enum Event {
    Words(String),
    /// What somebody else calls an error, as which it is shown.
    Other(Source),
}

impl Error {
    /// An error of the test's own: a message, or any other error.
    ///
    /// ```
    /// use actix_shareddb::{Error, Result};
    ///
    /// fn port(text: &str) -> Result<u16> {
    ///     text.parse().map_err(Error::other)
    /// }
    ///
    /// assert!(port("a port").is_err());
    /// ```
    pub fn other(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Box::new(Inner {
            event: Event::Other(error.into()),
            help: None,
            source: None,
        }))
    }

    /// The error that this one was made of, by [`other`](Self::other) or with `?`, or that caused it, if it is of this type.
    ///
    /// ```
    /// use std::io;
    ///
    /// use actix_shareddb::Error;
    ///
    /// let error = Error::from(io::Error::from(io::ErrorKind::NotFound));
    /// let cause: &io::Error = error.downcast_ref().unwrap();
    /// assert_eq!(cause.kind(), io::ErrorKind::NotFound);
    /// ```
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        if let Event::Other(error) = &self.0.event
            && let Some(error) = error.downcast_ref()
        {
            return Some(error);
        }
        let mut source = self.source();
        while let Some(cause) = source {
            if let Some(cause) = cause.downcast_ref() {
                return Some(cause);
            }
            source = cause.source();
        }
        None
    }

    /// An event of this crate, named as it reads after "failed:".
    pub(crate) fn new(event: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            event: Event::Words(event.into()),
            help: None,
            source: None,
        }))
    }

    /// Says what to do about it. Shown by `Debug` only.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Says what caused it.
    pub(crate) fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }
}

impl Error {
    fn http(error: &(dyn StdError + 'static)) -> Self {
        Self::new("the HTTP request failed").because(flatten(error))
    }

    /// Says in the course of what it happened. The help stays.
    pub(crate) fn during(mut self, event: impl Into<String>) -> Self {
        let help = self.0.help.take();
        let mut outer = Self::new(event).because(self);
        outer.0.help = help;
        outer
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.event {
            Event::Words(words) => f.write_str(words),
            Event::Other(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut source = self.source();
        while let Some(cause) = source {
            source = cause.source();
            match cause.downcast_ref::<DbError>() {
                Some(said) => write!(f, "\n  caused by: {}", SaidByServer(said))?,
                // "db error", and nothing else.
                None if is_wrapper(cause) => {}
                None => write!(f, "\n  caused by: {cause}")?,
            }
        }
        if let Some(help) = &self.0.help {
            write!(f, "\n  help: {}", help.replace('\n', "\n        "))?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match (&self.0.source, &self.0.event) {
            (Some(source), _) => Some(&**source),
            (None, Event::Other(error)) => error.source(),
            (None, Event::Words(_)) => None,
        }
    }
}

/// An error of the server's, with its SQLSTATE.
struct SaidByServer<'a>(&'a DbError);

impl fmt::Display for SaidByServer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.0;
        let (severity, code) = (said.severity(), said.code().code());
        write!(f, "{severity} {code}: {}", said.message())?;
        if let Some(detail) = said.detail() {
            write!(f, "\nDETAIL: {detail}")?;
        }
        if let Some(hint) = said.hint() {
            write!(f, "\nHINT: {hint}")?;
        }
        Ok(())
    }
}

/// Whether it says no more than that the server said something, which is its own cause.
fn is_wrapper(cause: &(dyn StdError + 'static)) -> bool {
    let of_client = cause.downcast_ref::<tokio_postgres::Error>();
    of_client.is_some_and(|error| error.as_db_error().is_some())
}

/// A borrowed cause, kept as its words: an error's own source can't be moved out of it.
fn flatten(cause: &(dyn StdError + 'static)) -> Source {
    let mut words = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        words = format!("{words}: {cause}");
        next = cause.source();
    }
    words.into()
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::other(error)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::new("the database refused or failed a request").because(error)
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        let yielded_none = Self::new("the pool yielded no client");
        match error {
            // Its words are those of its cause, with less in them.
            PoolError::Backend(error) => yielded_none.because(error),
            PoolError::Timeout(TimeoutType::Wait) => yielded_none
                .because("all of its clients are in use, and none has come back within Config::pool_wait_timeout")
                .help(
                    "drop a client before another one is awaited, and look for one that is held in a struct or by a task \
                     that waits; or give the pool more clients (Config::pool_max_size)",
                ),
            error => yielded_none.because(error),
        }
    }
}

impl From<Source> for Error {
    fn from(error: Source) -> Self {
        Self::other(error)
    }
}

/// The errors of `awc` can't cross threads, so they are kept as their words.
macro_rules! from_awc {
    ($($error:ty),*) => { $(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::http(&error)
            }
        }
    )* };
}

from_awc!(
    awc::error::PayloadError,
    awc::error::JsonPayloadError,
    awc::error::WsProtocolError
);

impl From<SendRequestError> for Error {
    fn from(error: SendRequestError) -> Self {
        match error {
            SendRequestError::Timeout => Self::new("the HTTP request failed")
                .because("no response has come within Config::request_timeout")
                .help("see what its handler waits for; if it is merely slow, raise Config::request_timeout"),
            error => Self::http(&error),
        }
    }
}

impl From<WsClientError> for Error {
    fn from(error: WsClientError) -> Self {
        match error {
            WsClientError::SendRequest(error) => error.into(),
            error => Self::http(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_whose_clients_are_all_in_use_says_what_to_do() {
        let error = Error::from(PoolError::Timeout(TimeoutType::Wait));
        assert_eq!(
            format!("{error:?}"),
            "the pool yielded no client\n  \
             caused by: all of its clients are in use, and none has come back within Config::pool_wait_timeout\n  \
             help: drop a client before another one is awaited, and look for one that is held in a struct or by a task that \
             waits; or give the pool more clients (Config::pool_max_size)"
        );
        let error = Error::from(PoolError::Closed);
        assert_eq!(
            format!("{error:?}"),
            "the pool yielded no client\n  caused by: Pool has been closed"
        );
    }

    #[test]
    fn a_response_that_does_not_come_in_time_names_the_setting() {
        let words = "the HTTP request failed\n  \
             caused by: no response has come within Config::request_timeout\n  \
             help: see what its handler waits for; if it is merely slow, raise Config::request_timeout";
        let error = Error::from(SendRequestError::Timeout);
        assert_eq!(format!("{error:?}"), words);
        let error = Error::from(WsClientError::SendRequest(SendRequestError::Timeout));
        assert_eq!(format!("{error:?}"), words);
    }
}
