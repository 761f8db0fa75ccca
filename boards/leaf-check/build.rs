//! Hands the memory layout to the linker.

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rustc-link-arg-bins=-T{here}/memory.x");
    println!("cargo:rerun-if-changed=memory.x");
}
