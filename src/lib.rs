//! Live-server tests for actix-web on one PostgreSQL transaction.

mod error;

pub use error::{Error, Result};
