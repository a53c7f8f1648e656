//! Any text is cut into tokens and statements that hold together.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| actix_shareddb::__fuzzing::sql(data));
