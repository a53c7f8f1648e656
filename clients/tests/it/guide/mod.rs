//! The code of the guide that needs more than the crate has.

mod from_sqlx_test;
mod from_zero_to_production;
