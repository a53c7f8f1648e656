//! What the macro and this crate's own tests need; no part of the public interface.

use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::case::{run, run_in};
use crate::isolation::Isolation;
use crate::mux::Reads;
pub use crate::queries::Capture;
pub use crate::verdict::Outcome;
use crate::{Config, Result, Schema, SharedTransaction, database};

/// The stream of a new session, on which its client speaks the protocol from the StartupMessage on.
pub fn session(
    transaction: &SharedTransaction,
) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    transaction.session()
}

/// The database that a shared transaction would be opened in.
pub async fn resolve(schema: &Schema, config: &Config) -> Result<tokio_postgres::Config> {
    database::resolve(schema, config).await
}

/// Opens a shared transaction in a database as it is, of which its user says that nothing in it writes when it's read.
pub async fn open_trusted(config: &Config) -> Result<SharedTransaction> {
    let mut found = database::find(&Schema::existing(), Isolation::Transaction, config).await?;
    found.reads = Reads::Pure;
    SharedTransaction::open_in(found, config, config.connection_limit()).await
}
