//! The code of a schema: what a migration tool does with a client, or at a URL.

use std::fmt;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use tokio_postgres::Client;

use crate::error::Result;

/// Code that runs in an empty database, known by its fingerprint.
#[derive(Clone)]
pub(crate) struct Code {
    fingerprint: String,
    pub(crate) work: Work,
}

/// An async closure as an object, by what it takes.
#[derive(Clone)]
pub(crate) enum Work {
    With(Arc<dyn WithClient>),
    At(Arc<dyn AtUrl>),
}

impl Code {
    pub(super) fn with(
        fingerprint: String,
        code: impl AsyncFn(&mut Client) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            fingerprint,
            work: Work::With(Arc::new(code)),
        }
    }

    pub(super) fn at(
        fingerprint: String,
        code: impl AsyncFn(&str) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            fingerprint,
            work: Work::At(Arc::new(code)),
        }
    }

    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

pub(crate) trait WithClient: Send + Sync {
    /// The future belongs to the thread that it is made on.
    fn run<'a>(&'a self, client: &'a mut Client) -> LocalBoxFuture<'a, Result<()>>;
}

impl<F: AsyncFn(&mut Client) -> Result<()> + Send + Sync> WithClient for F {
    fn run<'a>(&'a self, client: &'a mut Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move { self(client).await })
    }
}

pub(crate) trait AtUrl: Send + Sync {
    /// As above.
    fn run<'a>(&'a self, url: &'a str) -> LocalBoxFuture<'a, Result<()>>;
}

impl<F: AsyncFn(&str) -> Result<()> + Send + Sync> AtUrl for F {
    fn run<'a>(&'a self, url: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move { self(url).await })
    }
}

/// By the word of the user: what has the same fingerprint makes the same database.
impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Code {}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Code").field(&self.fingerprint).finish()
    }
}
