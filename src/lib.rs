//! Live-server tests for actix-web on one PostgreSQL transaction.

mod backend;
mod cluster;
mod config;
mod database;
mod error;
mod mux;
mod pool;
mod schema;
mod secret;
mod socket;
mod transaction;

pub use config::Config;
pub use deadpool_postgres::Pool;
pub use error::{Error, Result};
pub use schema::Schema;
pub use transaction::SharedTransaction;
