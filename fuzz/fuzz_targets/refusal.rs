//! Fuzzes `salesforce::fuzz`: refusal. What it runs is in that crate, where the tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(init: servant_fuzz::begin("refusal"), |bytes: &[u8]| servant_fuzz::run("refusal", bytes));
