//! The pass reference in the book is what the table says. `ICD_BLESS=1` writes it.

#[test]
fn the_pass_reference_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/passes.md");
    let want = icd_passes::markdown();
    if std::env::var_os("ICD_BLESS").is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    let got = std::fs::read_to_string(&path).unwrap();
    assert!(got == want, "docs/src/passes.md is stale: ICD_BLESS=1 cargo test --release -p icd-passes --test docs");
}
