//! Fuzzes `salesforce::fuzz`: query_page. What it runs is in that crate, where the tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(init: servant_fuzz::begin("query_page"), |bytes: &[u8]| servant_fuzz::run("query_page", bytes));
