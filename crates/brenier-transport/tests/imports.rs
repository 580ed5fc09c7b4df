//! No file of the numeric crates imports an item from `lib.rs`: `use crate::module::Item`, never `use crate::Item`.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

const CRATES: [&str; 3] = ["brenier-linalg", "brenier-map", "brenier-transport"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The first name after `crate::` of a line that imports from the crate.
fn imported(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("use crate::")?;
    Some(rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default())
}

#[test]
fn no_file_imports_from_the_root_of_its_crate() {
    let mut seen = 0;
    for name in CRATES {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let mut files = Vec::new();
        sources(&src, &mut files);
        for file in files {
            for (number, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
                let Some(module) = imported(line) else { continue };
                seen += 1;
                let is_module = src.join(module).is_dir() || src.join(module).with_extension("rs").is_file();
                assert!(is_module, "{}:{}: `{line}` imports from lib.rs", file.display(), number + 1);
            }
        }
    }
    assert!(seen > 100, "imports were looked at: {seen}");
}
