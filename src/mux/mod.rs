//! The multiplexer: many virtual sessions on one transaction of one real backend connection.
//!
//! ```text
//!   client A --bytes--> message --> session A --+                       +--> backend
//!   client B --bytes--> message --> session B --+--> state (the Mux) ---+
//!   client C --bytes--> message --> session C --+    lease, guard,      |
//!                                                    routing  <---------+
//! ```
//!
//! The words are those of PostgreSQL's protocol chapter: frontend message, backend message, session, statement, portal,
//! savepoint, transaction block, transaction status (`I`, `T`, `E`), command tag, simple query, extended query, Sync,
//! ReadyForQuery. Three are our own:
//!
//! * the **shared transaction** is the outer one, in which all sessions live and which is rolled back at the end;
//! * the **lease** is a session's turn on the backend, for a batch or for a whole block;
//! * a **batch** is what a client sends up to and including a Query or a Sync.
//!
//! | file | what it knows |
//! |---|---|
//! | [`message`], [`shape`] | where a message begins and ends, and whether its fields add up |
//! | [`encoding`] | what the lexer couldn't read |
//! | [`lexer`], [`value`], [`split`], [`command`] | what tokens mean, where statements begin and end, and what they are |
//! | [`block`], [`modes`] | where a session stands in its transaction, and what the standing savepoint must do |
//! | [`reads`] | which statements can do nothing but read |
//! | [`control`] | which statements are answered or refused here |
//! | [`own`], [`deferral`], [`garbage`], [`on_commit`] | what is sent on the multiplexer's own account |
//! | [`refcursor`] | which cursors nobody named in a statement |
//! | [`naming`], [`held`], [`redirect`], [`rewrite`] | how a statement is sent with names other than its client's |
//! | [`journal`], [`notify`] | what counts when a transaction is kept, and what sessions say to each other then |
//! | [`session`] | what a client has sent, and the names that it has given |
//! | [`settings`], [`initial`] | which settings are whose, and what a session started with |
//! | [`parameters`] | what of its settings a client was told |
//! | [`belongings`] | what else of a session the backend keeps |
//! | [`checkpoint`] | what is remembered with a checkpoint |
//! | [`fault`] | which statement meets a fault that a test has ordered |
//! | [`flight`] | what the backend still owes |
//! | [`state`] | who speaks to the backend, and what it is told |
//! | [`record`], [`log`] | what the clients have run, and what came of it |
//! | [`report`] | what a session is told when something goes wrong |
//! | [`driver`] | the only I/O |

mod belongings;
mod block;
pub(crate) mod checkpoint;
pub(crate) mod command;
mod control;
mod deferral;
pub(crate) mod driver;
pub(crate) mod encoding;
pub(crate) mod fault;
mod flight;
mod garbage;
mod held;
mod initial;
mod journal;
pub(crate) mod lexer;
mod log;
pub(crate) mod message;
mod modes;
mod naming;
mod notify;
mod on_commit;
pub(crate) mod own;
mod parameters;
mod reads;
pub(crate) mod record;
pub(crate) mod redirect;
mod refcursor;
mod report;
mod rewrite;
mod session;
mod settings;
mod shape;
pub(crate) mod split;
mod state;
mod value;

pub(crate) use deferral::Deferral;
pub(crate) use flight::Reach;
pub(crate) use initial::Initial;
pub(crate) use reads::Reads;
pub(crate) use session::SessionId;
pub(crate) use state::{Ending, Mux, Transmit};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(any(test, fuzzing))]
#[cfg_attr(
    not(test),
    allow(
        dead_code,
        unused_imports,
        reason = "the fuzz targets need a part of it"
    )
)]
mod tests;
