//! The application's pool: deadpool's own, whose clients speak to a session instead of to a server.

use std::future::Future;
use std::pin::Pin;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, NoTls};

use crate::backend::Stream;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::mux::driver::Driver;

/// Builds a pool whose clients all live in the driver's transaction.
pub(crate) fn build(
    driver: &Driver<Stream>,
    target: &tokio_postgres::Config,
    config: &Config,
) -> Result<Pool> {
    let manager = Manager::from_connect(
        target.clone(),
        Sessions(driver.clone()),
        ManagerConfig {
            recycling_method: config.recycling().clone(),
        },
    );
    Pool::builder(manager)
        .max_size(config.size())
        .wait_timeout(Some(config.wait()))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::new("the pool could not be built").because(error))
}

/// Opens a session where deadpool would open a connection.
struct Sessions(Driver<Stream>);

impl Connect for Sessions {
    fn connect(
        &self,
        config: &tokio_postgres::Config,
    ) -> Pin<Box<dyn Future<Output = Result<Connected, tokio_postgres::Error>> + Send + '_>> {
        let mut config = config.clone();
        // A session's stream is in memory: there is nobody to hide from, and nothing to bind a password to.
        config
            .ssl_mode(SslMode::Disable)
            .channel_binding(ChannelBinding::Disable);
        Box::pin(async move {
            let (client, connection) = config.connect_raw(self.0.connect(), NoTls).await?;
            // Its error reaches whoever uses the client.
            let task = tokio::spawn(async move { drop(connection.await) });
            Ok((client, task))
        })
    }
}

type Connected = (Client, JoinHandle<()>);
