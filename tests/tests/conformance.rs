//! The conformance suite on the CPU backend; `cargo run -p brenier-tests --bin conformance` runs it elsewhere.

use std::path::Path;

use brenier_tests::conformance::{CHECKS, Case, models};

#[test]
fn the_cpu_conforms() {
    let device = brenier::device::by_name("cpu").expect("a CPU");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/models");
    for path in models(&root).expect("models") {
        let case = Case::load(&path, &device).expect("a model");
        for (name, check) in CHECKS {
            check(&case).unwrap_or_else(|error| panic!("{}: {name}: {error:#}", case.name()));
        }
    }
}
