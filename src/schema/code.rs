//! The code of a schema: what a migration tool does with a client.

use std::fmt;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use tokio_postgres::Client;

use crate::error::Result;

/// Code that runs in an empty database, known by its fingerprint.
#[derive(Clone)]
pub(crate) struct Code {
    fingerprint: String,
    run: Arc<dyn Run>,
}

impl Code {
    pub(super) fn new(
        fingerprint: String,
        code: impl AsyncFn(&mut Client) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            fingerprint,
            run: Arc::new(code),
        }
    }

    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Its future belongs to the thread that it is made on.
    pub(crate) async fn run(&self, client: &mut Client) -> Result<()> {
        self.run.run(client).await
    }
}

/// An async closure as an object.
trait Run: Send + Sync {
    fn run<'a>(&'a self, client: &'a mut Client) -> LocalBoxFuture<'a, Result<()>>;
}

impl<F: AsyncFn(&mut Client) -> Result<()> + Send + Sync> Run for F {
    fn run<'a>(&'a self, client: &'a mut Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move { self(client).await })
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
