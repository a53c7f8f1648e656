//! Live-server tests for actix-web on one PostgreSQL transaction.

mod backend;
mod cluster;
mod error;
mod mux;

pub use error::{Error, Result};
