//! Drivers that know nothing of this crate, over the socket: what they get there is what they get on a plain server.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod ground;
mod python;
mod sqlx;
