//! What the targets in the folder `fuzz` call: this crate's own code behind the sockets, which nobody else can.
//!
//! It is there only under `--cfg fuzzing`, which `cargo fuzz` sets, and is no part of the public interface. Each function
//! takes what the fuzzer makes up and panics if something is wrong. The unit tests call them, too, with what the
//! transcripts hold and with what was found before.

use std::ops::Range;

/// Sessions that must not notice what another one sends: these bytes.
pub fn frontend(data: &[u8]) {
    crate::mux::fuzzing::frontend(data);
}

/// Sessions of a server that answers with these bytes.
pub fn backend(data: &[u8]) {
    crate::mux::fuzzing::backend(data);
}

/// What is known of any text, be it SQL or not.
pub fn sql(data: &[u8]) {
    crate::mux::fuzzing::sql(data);
}

/// A client at the door, which sends these bytes.
pub fn startup(data: &[u8]) {
    crate::socket::fuzzing::startup(data);
}

/// Where the statements of a text stand.
pub fn statements(sql: &str) -> Vec<Range<usize>> {
    crate::mux::fuzzing::oracle::statements(sql)
}

/// Where the tokens of a text stand.
pub fn tokens(sql: &str) -> Vec<Range<usize>> {
    crate::mux::fuzzing::oracle::tokens(sql)
}

/// What a statement is, if it is of a kind that is dealt with here.
pub fn command(statement: &str) -> String {
    crate::mux::fuzzing::oracle::command(statement)
}
