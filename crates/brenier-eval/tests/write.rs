//! What a study leaves in its directory, and what it leaves alone there.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use brenier_eval::{EvalError, Study, StudyOptions, study};
use brenier_files::WriteError;
use brenier_model::sha256_file;
use serde_json::{Value, json};
use tempfile::tempdir;

use common::{Speaker, data};

fn run(methods: &[&str]) -> Study {
    let mut options = StudyOptions::default();
    options.components = vec![1];
    options.layers = vec![1];
    options.strengths = Vec::new();
    options.max_new_tokens = 4;
    options.methods = methods.iter().map(|&name| name.to_owned()).collect();
    study(&Speaker::new(), &data(), &options, &mut ()).unwrap()
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap()
}

/// Every file but the manifest, by its path below `dir`.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for below in ["", "maps"] {
        for entry in fs::read_dir(dir.join(below)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("manifest.json") {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, sha256_file(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_manifest_lists_what_is_there() {
    let dir = tempdir().unwrap();
    let out = dir.path().join("new/out");
    Study::check_out(&out, false).unwrap();
    assert!(!dir.path().join("new").exists());
    run(&["mean", "ace"]).write(&out, false).unwrap();
    assert_eq!(manifest(&out)["outputs"], json!(files(&out)));
    assert_eq!(
        files(&out).into_keys().collect::<Vec<_>>(),
        ["completions.jsonl", "maps/ace.safetensors", "maps/mean.safetensors", "report.html", "report.json"]
    );
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("<svg"));
}

#[test]
fn each_output_that_is_there_is_refused() {
    for name in ["report.json", "report.html", "manifest.json", "completions.jsonl", "maps"] {
        let dir = tempdir().unwrap();
        if name == "maps" {
            fs::create_dir(dir.path().join(name)).unwrap();
        } else {
            fs::write(dir.path().join(name), "mine").unwrap();
        }
        let refused = Study::check_out(dir.path(), false).unwrap_err();
        let EvalError::Write(WriteError::Exists { path }) = refused else { panic!("{refused}") };
        assert_eq!(path, dir.path().join(name));
        Study::check_out(dir.path(), true).unwrap();
    }
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("report.html")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(Study::check_out(dir.path(), true).is_err());
    assert!(Study::check_out(&dir.path().join("file"), true).is_err());
}

#[test]
fn a_study_that_replaces_another_leaves_nothing_of_it() {
    let dir = tempdir().unwrap();
    let out = dir.path();
    run(&["mean", "ace", "rfa"]).write(out, false).unwrap();
    assert!(out.join("maps/ace.safetensors").exists());
    // What is not the program's, or is no longer as it was written, stays.
    fs::write(out.join("notes.txt"), "mine").unwrap();
    fs::write(out.join("maps/mine.safetensors"), "mine").unwrap();
    fs::write(out.join("maps/rfa.safetensors"), "mine").unwrap();
    run(&["mean"]).write(out, true).unwrap();
    let mut found = files(out);
    for mine in ["notes.txt", "maps/mine.safetensors", "maps/rfa.safetensors"] {
        assert!(found.remove(mine).is_some(), "{mine}");
        assert_eq!(fs::read(out.join(mine)).unwrap(), b"mine");
    }
    assert_eq!(manifest(out)["outputs"], json!(found));
    assert!(!found.contains_key("maps/ace.safetensors"));
    assert!(manifest(out)["unfinished"].is_null());
}

#[test]
fn a_study_that_was_cut_off_is_known_to_the_next() {
    let dir = tempdir().unwrap();
    let out = dir.path();
    run(&["mean", "ace"]).write(out, false).unwrap();
    // A directory in the way stops the second study between its maps.
    fs::create_dir(out.join("maps/ot.safetensors")).unwrap();
    let cut_off = run(&["rfa", "ot", "gated", "mean"]).write(out, true).unwrap_err();
    assert!(cut_off.to_string().contains("maps/ot.safetensors"), "{cut_off}");
    assert_eq!(manifest(out)["outputs"], json!({}));
    let left = files(out);
    assert!(left.contains_key("maps/ace.safetensors"));
    for (name, hash) in &left {
        let known = manifest(out)["unfinished"][name].as_array().unwrap().clone();
        assert!(known.contains(&json!(hash)), "{name}");
    }
    fs::remove_dir(out.join("maps/ot.safetensors")).unwrap();
    run(&["act-linear"]).write(out, true).unwrap();
    assert_eq!(manifest(out)["outputs"], json!(files(out)));
    assert_eq!(files(out).keys().filter(|name| name.starts_with("maps/")).count(), 1);
}

/// A manifest may come from anywhere, so it must not be able to name a file to delete.
#[test]
fn no_manifest_can_have_another_file_removed() {
    let dir = tempdir().unwrap();
    let out = dir.path().join("out");
    fs::create_dir_all(out.join("maps/sub")).unwrap();
    let victims = ["../victim.safetensors", "victim", "maps/sub/victim.safetensors", "maps/victim.txt"];
    let mut outputs = BTreeMap::new();
    for victim in victims {
        fs::write(out.join(victim), "mine").unwrap();
        let hash = sha256_file(out.join(victim)).unwrap();
        outputs.insert(victim.to_owned(), hash.clone());
        outputs.insert(out.join(victim).to_str().unwrap().to_owned(), hash.clone());
        outputs.insert("maps/../../victim.safetensors".to_owned(), hash);
    }
    let forged = json!({"schema": "brenier.manifest/1", "outputs": outputs});
    fs::write(out.join("manifest.json"), forged.to_string()).unwrap();
    let study = run(&["mean"]);
    study.write(&out, true).unwrap();
    for victim in victims {
        assert_eq!(fs::read(out.join(victim)).unwrap(), b"mine", "{victim}");
    }
    for other in ["[]", "{", "{\"schema\": \"brenier.manifest/1\", \"outputs\": 3, \"unfinished\": [1]}"] {
        fs::write(out.join("manifest.json"), other).unwrap();
        study.write(&out, true).unwrap();
    }
}
