//! Fuzzes `salesforce::fuzz`: bulk_job. What it runs is in that crate, where the tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(init: servant_fuzz::begin("bulk_job"), |bytes: &[u8]| servant_fuzz::run("bulk_job", bytes));
