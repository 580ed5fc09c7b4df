//! Models by name: the cache, without any request.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::model;
use tempfile::{TempDir, tempdir};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache below `hf` with a golden model as `org/llama`.
fn cache() -> TempDir {
    let dir = tempdir().unwrap();
    let root = dir.path().join("hf/hub/models--org--llama");
    fs::create_dir_all(root.join("snapshots")).unwrap();
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), COMMIT).unwrap();
    fs::rename(model(dir.path(), "llama31"), root.join("snapshots").join(COMMIT)).unwrap();
    fs::write(root.join("snapshots").join(COMMIT).join(".gitattributes"), "").unwrap();
    dir
}

fn inspect(dir: &Path, model: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brenier"));
    command.current_dir(dir).env("HF_HOME", dir.join("hf")).env("HF_HUB_OFFLINE", "1");
    for other in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        command.env_remove(other);
    }
    command.args(["inspect", "--json", "--model"]).args(model).output().unwrap()
}

#[test]
fn a_model_of_the_cache_is_found_by_name_and_revision() {
    let dir = cache();
    for model in
        [&["org/llama"][..], &["org/llama", "--revision", "main"], &["org/llama", "--revision", COMMIT]]
    {
        let output = inspect(dir.path(), model);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["layers"], 4, "{found}");
    }
}

#[test]
fn what_the_cache_lacks_is_refused_in_one_line() {
    let dir = cache();
    for (model, words) in [
        (&["org/other"][..], "org/other, revision main: not in the cache"),
        (&["org/llama", "--revision", "v2"], "refs/v2; requests are switched off"),
        (&["org/llama", "--revision", "../x"], "cannot be a revision"),
        (&["./llama"], "neither a path that exists nor a model name"),
        (&["hf", "--revision", "main"], "hf, which exists here and has no revisions"),
    ] {
        let output = inspect(dir.path(), model);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_directory_wins_over_a_name() {
    let dir = cache();
    fs::create_dir_all(dir.path().join("org/llama")).unwrap();
    let output = inspect(dir.path(), &["org/llama"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("org/llama/config.json"), "{stderr}");
}

/// Nobody listens there, and that is no fault of what was asked for.
#[cfg(feature = "hub")]
#[test]
fn a_hub_that_is_not_reached_is_exit_code_1() {
    let dir = tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_brenier"))
        .args(["inspect", "--model", "org/llama"])
        .env_clear()
        .env("HF_HOME", dir.path())
        .env("HF_ENDPOINT", format!("http://{port}"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains("cannot be reached"), "{stderr}");
}
