//! Fuzzes `salesforce::fuzz`: token. What it runs is in that crate, where the tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(init: servant_fuzz::begin("token"), |bytes: &[u8]| servant_fuzz::run("token", bytes));
