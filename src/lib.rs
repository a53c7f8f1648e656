//! Live-server tests for actix-web on one PostgreSQL transaction.

mod backend;
mod cluster;
mod config;
mod database;
mod error;
mod mux;
mod schema;

pub use config::Config;
pub use error::{Error, Result};
pub use schema::Schema;
