//! Fuzzes `sync::fuzz`: record_json. What it runs is in that crate, where the tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(init: servant_fuzz::begin("record_json"), |bytes: &[u8]| servant_fuzz::run("record_json", bytes));
