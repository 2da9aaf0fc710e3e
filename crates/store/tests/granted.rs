//! Whoever changes the ledger for somebody has asked whether they may: what does not ask does not compile.

#[test]
fn acting_without_leave_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
