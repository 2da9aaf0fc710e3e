//! Fuzzes `sync::fuzz`: csv_page. What it runs is in that crate, where the tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(init: servant_fuzz::begin("csv_page"), |bytes: &[u8]| servant_fuzz::run("csv_page", bytes));
