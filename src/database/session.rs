//! Connections of the crate's own to a server, for what is done around the tests.

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::server::Server;
use crate::backend::{self, Queue};
use crate::error::Result;
use crate::outer;

/// A connection with the task that drives it.
pub(super) struct Session {
    pub(super) client: Client,
    connection: JoinHandle<()>,
}

impl Session {
    pub(super) async fn open(server: &Server, config: &tokio_postgres::Config) -> Result<Self> {
        let mut queue = Queue::new(server.patience());
        let (client, connection) = loop {
            match backend::client(config, server.tls()).await {
                Ok(connected) => break connected,
                Err(error) => queue
                    .wait(error, outer::give_up_kept)
                    .await
                    .map_err(|error| server.cannot_connect(error))?,
            }
        };
        let connection = tokio::spawn(async move {
            // Its error also ends the request in progress, which reports it.
            let _ = connection.await;
        });
        Ok(Self { client, connection })
    }

    /// Returns when the server has been told, so that it no longer counts the session as a user of the database.
    pub(super) async fn close(self) {
        drop(self.client);
        // A panic of the driver has ended the session just the same.
        let _ = self.connection.await;
    }
}

/// What the server said, without tokio-postgres' "db error" before it.
pub(super) fn into_cause(error: tokio_postgres::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error.as_db_error() {
        Some(said) => said.clone().into(),
        None => error.into(),
    }
}
