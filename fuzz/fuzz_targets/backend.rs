//! Whatever a server answers, each session is told in the end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| actix_shareddb::__fuzzing::backend(data));
