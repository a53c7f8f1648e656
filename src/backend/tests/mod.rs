//! Against a real server of our own, and against servers that misbehave.

mod address;
mod connect;
mod limit;
mod misbehaving;
pub(crate) mod postgres;
