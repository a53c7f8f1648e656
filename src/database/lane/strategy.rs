//! How PostgreSQL is to copy a database.

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Client;

use crate::error::Result;

/// Since PostgreSQL 15 there are two ways, and which of them is faster by far depends on whether the server is durable:
/// copying files needs two checkpoints, which cost little where nothing is synced to disk, and writing pages to the log costs
/// the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::database) enum Strategy {
    /// As the server does by itself.
    Default,
    FileCopy,
}

impl Strategy {
    pub(in crate::database) async fn of(client: &Client) -> Result<Self> {
        let rows = client
            .query_typed(
                "SELECT current_setting('fsync') = 'off' AND current_setting('server_version_num')::int >= 150000",
                &[],
            )
            .await?;
        Ok(match rows.first().map(|row| row.get(0)) {
            Some(true) => Self::FileCopy,
            _ => Self::Default,
        })
    }

    /// The statement that makes a copy.
    pub(in crate::database) fn create(self, name: &str, template: &str) -> String {
        let strategy = match self {
            Self::Default => "",
            Self::FileCopy => " STRATEGY file_copy",
        };
        format!(
            "CREATE DATABASE {} TEMPLATE {}{strategy}",
            escape_identifier(name),
            escape_identifier(template)
        )
    }
}
