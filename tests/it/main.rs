//! What the crate does, through its public interface, on a real PostgreSQL: that of `DATABASE_URL`, or the embedded one.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod browsing;
mod checkpoints;
mod clients;
mod contract;
mod differential;
mod faq;
mod faults;
mod handlers;
mod hints;
mod kept;
mod lane;
mod live;
mod locks;
mod logs;
mod notify;
mod ordered_faults;
mod orphans;
mod pause;
mod programs;
mod queries;
mod reads;
mod reserved;
mod schema;
mod several;
mod socket;
mod stage;
mod story;
mod wire;
mod wishes;
