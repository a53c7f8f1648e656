//! Whoever comes to the door is let in or told why not.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| actix_shareddb::__fuzzing::startup(data));
