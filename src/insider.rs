//! A client of this crate's own in a shared transaction. Nothing that it does is recorded as anybody's.

use tokio_postgres::{Client, NoTls};

use crate::backend::Stream;
use crate::error::Result;
use crate::mux::driver::Driver;
use crate::mux::record::Origin;

/// Lets the crate itself into a shared transaction.
#[derive(Clone, Debug)]
pub(crate) struct Insider {
    driver: Driver<Stream>,
    target: tokio_postgres::Config,
}

impl Insider {
    pub(crate) fn new(driver: &Driver<Stream>, target: &tokio_postgres::Config) -> Self {
        let mut target = target.clone();
        target.ssl_mode(tokio_postgres::config::SslMode::Disable);
        Self {
            driver: driver.for_clients_of(Origin::Own),
            target,
        }
    }

    pub(crate) fn driver(&self) -> &Driver<Stream> {
        &self.driver
    }

    /// Connects, and is gone when the client is dropped.
    pub(crate) async fn client(&self) -> Result<Client> {
        let stream = self.driver.connect();
        let (client, connection) = self.target.connect_raw(stream, NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }
}
