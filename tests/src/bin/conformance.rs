//! Runs the conformance suite on a device: `conformance --device wgpu [--models DIR]`. Prints a line a check.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use brenier_tests::conformance::{CHECKS, Case, models};

fn main() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/models");
    let (mut device, mut dir) = ("auto".to_owned(), root);
    let mut args = std::env::args().skip(1);
    while let Some(option) = args.next() {
        match (option.as_str(), args.next()) {
            ("--device", Some(value)) => device = value,
            ("--models", Some(value)) => dir = PathBuf::from(value),
            _ => bail!("expected --device NAME or --models DIR, found `{option}`"),
        }
    }
    let target = brenier::device::by_name(&device)?;
    println!("device {device}, models of {}", dir.display());
    let (mut passed, mut failed) = (0, 0);
    for path in models(&dir)? {
        let case = Case::load(&path, &target)?;
        for (name, check) in CHECKS {
            let start = Instant::now();
            let result = check(&case);
            let seconds = start.elapsed().as_secs_f32();
            match result {
                Ok(()) => {
                    passed += 1;
                    println!("ok      {:<12} {name} ({seconds:.1} s)", case.name());
                }
                Err(error) => {
                    failed += 1;
                    println!("FAILED  {:<12} {name} ({seconds:.1} s): {error:#}", case.name());
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
