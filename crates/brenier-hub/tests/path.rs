//! A path that exists wins over a name. Alone in its process: it changes the current directory.

use std::fs;
use std::path::{Path, PathBuf};

use brenier_hub::{HubOptions, resolve};

#[test]
fn a_path_that_exists_wins_over_a_name() {
    let cache = tempfile::tempdir().expect("a directory");
    let here = tempfile::tempdir().expect("a directory");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let root = cache.path().join("models--org--tiny");
    let snapshot = root.join("snapshots").join(commit);
    fs::create_dir_all(root.join("refs")).expect("created");
    fs::create_dir_all(&snapshot).expect("created");
    fs::write(root.join("refs/main"), commit).expect("written");
    for file in ["config.json", "model.safetensors"] {
        fs::write(snapshot.join(file), "{}").expect("written");
    }
    let mut options = HubOptions::new(cache.path());
    options.offline = true;
    let find = |revision| resolve(Path::new("org/tiny"), revision, &options, &mut |_| {});

    std::env::set_current_dir(here.path()).expect("a directory");
    assert_eq!(find(None).expect("in the cache").dir, snapshot);
    fs::create_dir_all("org/tiny").expect("created");
    let found = find(None).expect("here");
    assert_eq!((found.dir, found.commit), (PathBuf::from("org/tiny"), None));
    let error = find(Some("main")).expect_err("a path has no revisions").to_string();
    assert!(error.contains("revision `main` was asked of org/tiny, which exists here"), "{error}");

    // A path needs no cache; a name does.
    options.cache = None;
    let found = resolve(here.path(), None, &options, &mut |_| {}).expect("here");
    assert_eq!(found.dir, here.path());
    let error =
        resolve(Path::new("org/gone"), None, &options, &mut |_| {}).expect_err("no cache").to_string();
    assert!(error.contains("org/gone: no cache directory is known"), "{error}");
}
