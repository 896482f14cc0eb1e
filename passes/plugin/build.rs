//! A symbol that is missing shows when the plugin is linked, not as "Failed to load dialect plugin" at a user's.

fn main() {
    println!("cargo:rustc-link-arg-cdylib=-Wl,-z,defs");
    println!("cargo:rerun-if-changed=build.rs");
}
