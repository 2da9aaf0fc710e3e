//! Fuzzes `salesforce::fuzz`: composite. What it runs is in that crate, where the tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(init: servant_fuzz::begin("composite"), |bytes: &[u8]| servant_fuzz::run("composite", bytes));
