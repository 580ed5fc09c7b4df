//! The invariants of docs/ARCHITECTURE.md, read off `cargo metadata` and, for what is reached through others, Cargo.lock:
//! a resolved graph from `cargo metadata` would need the packages of every platform on this machine.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Which crates a crate may use. What is not listed is not allowed.
const MAY_USE: &[(&str, &[&str])] = &[
    ("brenier-files", &[]),
    ("brenier-hub", &[]),
    ("brenier-linalg", &[]),
    ("brenier-map", &["files"]),
    ("brenier-transport", &["files", "linalg", "map"]),
    ("brenier-kernels", &[]),
    ("brenier-residual", &[]),
    ("brenier-model", &["files", "kernels", "residual"]),
    ("brenier-capture", &["files", "residual", "linalg"]),
    ("brenier-hooks", &["residual", "map"]),
    ("brenier-eval", &["files", "linalg", "map", "transport", "residual", "model", "capture", "hooks"]),
    ("brenier-organism", &["files", "residual", "model"]),
    (
        "brenier",
        &[
            "files",
            "hub",
            "linalg",
            "map",
            "transport",
            "kernels",
            "residual",
            "model",
            "capture",
            "hooks",
            "eval",
            "organism",
        ],
    ),
    ("brenier-cli", &[""]),
    ("brenier-tests", &[""]),
    ("brenier-benches", &["files", "map", "transport"]),
];

/// Crates that hold mathematics alone: no tensor library, directly or through others.
const NO_BURN: [&str; 4] = ["brenier-files", "brenier-linalg", "brenier-map", "brenier-transport"];

/// Crates for a terminal, which only the program may use.
const TERMINAL: [&str; 5] = ["anyhow", "clap", "comfy-table", "console", "indicatif"];

/// Burn's backends.
const BACKENDS: [&str; 11] =
    ["flex", "ndarray", "tch", "wgpu", "vulkan", "metal", "webgpu", "cuda", "rocm", "cpu", "remote"];

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo metadata")
}

fn members(metadata: &Metadata) -> Vec<&Package> {
    metadata.workspace_packages()
}

fn normal(package: &Package) -> impl Iterator<Item = &cargo_metadata::Dependency> {
    package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal)
}

#[test]
fn layers_point_one_way() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, BTreeSet<String>> = MAY_USE
        .iter()
        .map(|(package, uses)| {
            let full = |short: &&str| {
                if short.is_empty() { "brenier".to_owned() } else { format!("brenier-{short}") }
            };
            (*package, uses.iter().map(full).collect())
        })
        .collect();
    for package in members(&metadata) {
        let name = package.name.as_str();
        let allowed = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is in no layer: add it to MAY_USE and to the map"));
        for dependency in normal(package).filter(|dependency| dependency.name.starts_with("brenier")) {
            assert!(allowed.contains(&dependency.name), "{name} must not use {}", dependency.name);
        }
    }
    assert_eq!(members(&metadata).len(), MAY_USE.len(), "a crate of MAY_USE is gone");
}

#[test]
fn mathematics_knows_no_tensor_library() {
    let lock = metadata().workspace_root.join("Cargo.lock");
    let lock: toml::Table = std::fs::read_to_string(&lock).expect("Cargo.lock").parse().expect("a lock file");
    let text = |value: &toml::Value| value.as_str().expect("a string").to_owned();
    // A dependency is "name", or "name version" where the name alone is ambiguous: the walk goes over names, all
    // versions of one together, and over dependencies of every kind. That can only find more.
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("packages") {
        let uses = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
        let names = uses.map(|used| text(used).split(' ').next().expect("a name").to_owned());
        edges.entry(text(&package["name"])).or_default().extend(names);
    }
    let reaches_burn = |package: &str| {
        let mut open = vec![package];
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            if name.starts_with("burn") {
                return true;
            }
            if seen.insert(name) {
                open.extend(edges[name].iter().map(String::as_str));
            }
        }
        false
    };
    for package in NO_BURN {
        assert!(!reaches_burn(package), "{package} reaches burn");
    }
    // The check itself must be able to fail.
    assert!(reaches_burn("brenier-residual"), "the walk finds no burn where there is one");
}

#[test]
fn only_the_program_knows_a_terminal() {
    let programs = ["brenier-cli", "brenier-tests"];
    for package in
        members(&metadata()).into_iter().filter(|package| !programs.contains(&package.name.as_str()))
    {
        for dependency in normal(package) {
            assert!(
                !TERMINAL.contains(&dependency.name.as_str()),
                "{} must not use {}",
                package.name,
                dependency.name
            );
        }
    }
}

/// Writing is done by `brenier-files`: nobody else has what it takes, or calls the standard library for it. Except the
/// cache of models, whose files go on where they broke off and are shared with other programs, under their locks.
#[test]
fn one_crate_writes_files() {
    const WRITES: [&str; 6] =
        ["fs::write(", "fs::rename(", "fs::copy(", "File::create", "File::options", "OpenOptions"];
    let metadata = metadata();
    let writers = ["brenier-files", "brenier-hub"];
    for package in members(&metadata).into_iter().filter(|package| !writers.contains(&package.name.as_str()))
    {
        assert!(
            !normal(package).any(|dependency| dependency.name == "tempfile"),
            "{} uses tempfile",
            package.name
        );
        let mut open = vec![package.manifest_path.with_file_name("src").into_std_path_buf()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(
                    std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("a file").path()),
                );
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            // Unit tests and examples in the documentation may write as they like.
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                assert!(
                    !WRITES.iter().any(|call| line.contains(call)),
                    "{}: {}",
                    path.display(),
                    line.trim()
                );
            }
        }
    }
}

#[test]
fn no_tokenizer_below_model_and_no_faer_in_the_seam() {
    let metadata = metadata();
    let uses = |package: &str, what: &str| {
        members(&metadata)
            .into_iter()
            .filter(|p| p.name.as_str() == package)
            .any(|p| normal(p).any(|d| d.name == what))
    };
    for package in [
        "brenier-linalg",
        "brenier-map",
        "brenier-transport",
        "brenier-residual",
        "brenier-capture",
        "brenier-hooks",
    ] {
        assert!(!uses(package, "tokenizers"), "{package} knows a tokenizer");
    }
    for package in ["brenier-residual", "brenier-model"] {
        assert!(!uses(package, "faer"), "{package} knows faer");
    }
    assert!(uses("brenier-model", "tokenizers") && uses("brenier-linalg", "faer"));
}

/// Backends are chosen in the facade. Two other places name one: the organism's training program, which is no library
/// and trains on the CPU; and the kernels, whose feature `flex` the facade turns on, because they read the memory of
/// that backend's tensors.
#[test]
fn only_the_facade_names_a_backend() {
    let names_backend = |feature: &str| BACKENDS.contains(&feature);
    for package in members(&metadata()) {
        let name = package.name.as_str();
        for dependency in normal(package).filter(|dependency| dependency.name == "burn") {
            let backend = dependency.features.iter().find(|feature| names_backend(feature));
            assert!(backend.is_none(), "{name} asks burn for {backend:?}");
            assert!(!dependency.uses_default_features, "{name} takes burn's default features");
        }
        for (feature, enables) in &package.features {
            let backend = enables.iter().find(|e| e.strip_prefix("burn/").is_some_and(names_backend));
            let excepted = name == "brenier"
                || (name == "brenier-organism" && feature == "train")
                || (name == "brenier-kernels" && feature == "flex");
            assert!(backend.is_none() || excepted, "feature {feature} of {name} names {backend:?}");
        }
    }
}

#[test]
fn a_crate_is_named_as_its_directory() {
    for package in members(&metadata()) {
        let directory = package.manifest_path.parent().and_then(|dir| dir.file_name()).expect("a directory");
        let name = package.name.as_str();
        assert!(name == directory || name == format!("brenier-{directory}"), "{name} lies in {directory}");
    }
}
