//! Whoever changes the ledger for somebody has asked whether they may: what does not ask does not compile.

#[test]
#[ignore = "compiles what the ledger depends on once more, for minutes; examples in the documentation of `Store` say the same"]
fn acting_without_leave_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
