//! The multiplexer: many sessions on one backend, in one transaction.

mod command;
mod lexer;
mod split;
mod value;
