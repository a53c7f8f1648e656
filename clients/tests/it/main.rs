//! What the crate doesn't depend on: drivers that know nothing of it, which get from the socket what they get from a plain
//! server; and a connector for TLS.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod apps;
mod ground;
mod guide;
#[path = "../../../src/backend/tests/postgres.rs"]
mod postgres;
mod python;
mod sqlx;
mod tls;
