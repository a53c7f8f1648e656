//! What an application may rely on, as scenarios that are played on plain sessions and on shared ones.

mod blocks;
mod control;
mod copy;
mod deferred;
mod extended;
mod held;
mod left_behind;
mod levels;
mod malformed;
mod notify;
mod on_commit;
mod pipelines;
mod prepared;
mod recycling;
mod settings;
mod timeouts;
mod unrunnable;
