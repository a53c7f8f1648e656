//! Live-server tests for actix-web on one PostgreSQL transaction.

mod backend;
mod case;
mod cluster;
mod config;
mod database;
mod error;
mod in_flight;
mod live;
mod macros;
mod mux;
mod panics;
mod pool;
mod schema;
mod secret;
mod server;
mod signals;
mod socket;
mod transaction;
mod verdict;

pub use case::LiveServerTestCase;
pub use config::Config;
pub use deadpool_postgres::Pool;
pub use error::{Error, Result};
pub use live::LiveServer;
pub use schema::Schema;
pub use transaction::SharedTransaction;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
