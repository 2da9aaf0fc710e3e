//! Fuzzes `salesforce::fuzz`: result_pages. What it runs is in that crate, where the tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(init: servant_fuzz::begin("result_pages"), |bytes: &[u8]| servant_fuzz::run("result_pages", bytes));
