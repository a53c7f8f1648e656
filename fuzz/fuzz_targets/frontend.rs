//! What one client sends, whatever it is, other sessions don't notice.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| actix_shareddb::__fuzzing::frontend(data));
