//! Captures of many prompts: shards, moments, interruptions, maps in the forward pass, and fits from what comes of them.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{brenier, done, ids, json, listing, metadata, model, refused};

/// Prompts one by one: the numbers do not depend on what else is in a batch.
const CAPTURE: [&str; 9] =
    ["capture", "--model", "llama2", "--layers", "1", "--batch", "1", "--prompts", "source.jsonl"];
const TENSOR: &str = "blocks.1.hook_resid_post";

fn set_up() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), "llama2");
    ids(dir.path(), "source.jsonl", 23, 0);
    ids(dir.path(), "target.jsonl", 23, 40);
    dir
}

fn capture(dir: &Path, more: &[&str]) -> Value {
    json(dir, &[&CAPTURE, more].concat())
}

#[test]
fn shards_of_rows_make_the_file_of_one_run() {
    let dir = set_up();
    let dir = dir.path();
    for (name, position) in [("last", "last"), ("all", "all")] {
        let more = ["--position", position, "--out"];
        capture(dir, &[&more[..], &[name]].concat());
        let rows = format!("{name}-rows");
        for shard in ["1/3", "0/3", "2/3"] {
            let shares = ["--to", "rows", "--shard", shard, "--part", "3"];
            let found = capture(dir, &[&more[..], &[&rows], &shares].concat());
            assert_eq!((&found["shard"], &found["parts"]), (&shard.into(), &3.into()));
        }
        done(dir, &["merge", "--in", &rows, "--out", "merged", "--force"]);
        assert_eq!(fs::read(dir.join("merged")).unwrap(), fs::read(dir.join(name)).unwrap(), "{position}");
    }
    // Fits and maps take the directory as they take the file.
    let fit = |source: &str, out: &str| {
        let args =
            ["fit", "--source", source, "--target", "target", "--method", "pca-ot", "--components", "2"];
        done(dir, &[&args[..], &["--out", out]].concat());
        brenier::map::MapFile::read(&dir.join(out)).unwrap().entries
    };
    let target =
        ["capture", "--model", "llama2", "--layers", "1", "--prompts", "target.jsonl", "--out", "target"];
    done(dir, &[&target[..], &["--position", "all"]].concat());
    assert_eq!(fit("all-rows", "a"), fit("all", "b"));
}

/// Mean and covariance factor of a moments file.
fn moments(path: &Path) -> brenier::transport::Moments {
    brenier::transport::MomentsFile::read(path).unwrap().entries.remove(TENSOR).unwrap()
}

#[test]
fn moments_of_shards_merge_into_those_of_one_run_and_fit_what_rows_fit() {
    let dir = set_up();
    let dir = dir.path();
    for side in ["source", "target"] {
        let prompts = format!("{side}.jsonl");
        let base =
            ["capture", "--model", "llama2", "--layers", "1", "--batch", "1", "--prompts", &prompts, "--out"];
        let run = |more: &[&str]| json(dir, &[&base, more].concat());
        run(&[side]);
        run(&[&format!("{side}.moments"), "--to", "moments"]);
        fs::create_dir(dir.join(format!("{side}-shards"))).unwrap();
        for shard in 0..3 {
            let (out, share) = (format!("{side}-shards/{shard}.safetensors"), format!("{shard}/3"));
            let found = run(&[&out, "--to", "moments", "--shard", &share, "--part", "2"]);
            assert!(found["tensors"][TENSOR][0].as_u64().unwrap() >= 7);
            #[cfg(target_os = "linux")]
            assert!(found["peak_memory"].as_u64().unwrap() > 1 << 20);
        }
        done(dir, &["merge", "--in", &format!("{side}-shards"), "--out", &format!("{side}.merged")]);
        let (one, merged) =
            (moments(&dir.join(format!("{side}.moments"))), moments(&dir.join(format!("{side}.merged"))));
        assert_eq!((one.count(), merged.count()), (23, 23));
        let largest = one.mean().iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let apart = one.mean().iter().zip(merged.mean()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart <= 1e-14 * largest.max(1.0), "{apart:e}");
        let stated = metadata(&dir.join(format!("{side}.merged")));
        for key in ["model.sha256", "prompts.sha256", "position", "brenier.version"] {
            assert_eq!(stated[key], metadata(&dir.join(side))[key], "{key}");
        }
    }
    let fit = |name: &str, source: &str, target: &str| {
        let args = [
            "fit",
            "--source",
            source,
            "--target",
            target,
            "--method",
            "pca-ot",
            "--components",
            "2",
            "--out",
        ];
        json(dir, &[&args[..], &[name]].concat())["maps"][TENSOR].clone()
    };
    let rows = fit("rows", "source", "target");
    for (name, source, target) in [
        ("one", "source.moments", "target.moments"),
        ("dir", "source-shards", "target-shards"),
        ("merged", "source.merged", "target-shards"),
    ] {
        let found = fit(name, source, target);
        for measure in ["w2_before", "w2_after"] {
            let number = |of: &Value| of["train"][measure].as_f64().unwrap();
            let (found, wanted) = (number(&found), number(&rows));
            assert!((found - wanted).abs() <= 1e-6 * wanted.max(1.0), "{name} {measure}: {found} {wanted}");
        }
    }
    refused(
        dir,
        &["fit", "--source", "source", "--target", "target-shards", "--out", "m"],
        &["rows", "moments"],
    );
    let auto = ["--components", "auto", "--out", "m"];
    refused(
        dir,
        &[&["fit", "--source", "source.moments", "--target", "target-shards"], &auto[..]].concat(),
        &["--components auto", "rows"],
    );
    let val = ["--source-val", "source", "--target-val", "target", "--out", "m"];
    refused(
        dir,
        &[&["fit", "--source", "source.moments", "--target", "target.moments"], &val[..]].concat(),
        &["--source-val", "rows"],
    );
    fs::remove_file(dir.join("source-shards/1.safetensors")).unwrap();
    refused(
        dir,
        &["merge", "--in", "source-shards", "--out", "m"],
        &["source-shards", "share 1/3 is missing"],
    );
    let one = ["fit", "--source", "source-shards/0.safetensors", "--target", "target.moments", "--out", "m"];
    refused(dir, &one, &["source-shards/0.safetensors", "share 1/3 is missing"]);
}

/// Runs a capture and kills it when `begun` says so; without mercy, so that nothing can be tidied up.
fn killed(dir: &Path, more: &[&str], begun: impl Fn() -> bool) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_brenier"))
        .args([&CAPTURE, more].concat())
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..6000 {
        if begun() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_capture_that_was_killed_goes_on_to_the_same_files() {
    let dir = set_up();
    let dir = dir.path();
    ids(dir, "source.jsonl", 400, 0);
    let rows = |out| ["--to", "rows", "--part", "1", "--out", out];
    capture(dir, &rows("whole"));
    killed(dir, &rows("broken"), || fs::read_dir(dir.join("broken")).is_ok_and(|files| files.count() > 5));
    let before = listing(&dir.join("broken")).len();
    capture(dir, &[&rows("broken")[..], &["--resume"]].concat());
    assert!(before > 5, "{before}");
    let content = |name: &str| {
        let of = |(path, bytes): (std::path::PathBuf, Vec<u8>)| (path.file_name().unwrap().to_owned(), bytes);
        let all = listing(&dir.join(name)).into_iter().map(of);
        all.filter(|(name, _)| !name.to_string_lossy().ends_with(".tmp")).collect::<Vec<_>>()
    };
    assert_eq!(content("broken"), content("whole"));
    refused(dir, &[&CAPTURE[..], &rows("whole")].concat(), &["manifest.0-of-1.json", "--force"]);
    let other = [&CAPTURE[..], &rows("whole"), &["--resume", "--position", "all"]].concat();
    refused(dir, &other, &["another capture", "position was `last` and is `all`"]);

    let moments = |out| ["--to", "moments", "--part", "1", "--out", out];
    capture(dir, &moments("whole.moments"));
    killed(dir, &moments("broken.moments"), || dir.join("broken.moments.partial").exists());
    assert!(dir.join("broken.moments.partial").exists() && !dir.join("broken.moments").exists());
    refused(
        dir,
        &[&CAPTURE[..], &moments("broken.moments")].concat(),
        &["broken.moments.partial", "--resume", "--force"],
    );
    for _ in 0..2 {
        // The second time everything is there already.
        capture(dir, &[&moments("broken.moments")[..], &["--resume"]].concat());
        assert!(!dir.join("broken.moments.partial").exists());
        let read = |name: &str| fs::read(dir.join(name)).unwrap();
        assert_eq!(read("broken.moments"), read("whole.moments"));
    }
    let cap = [&CAPTURE[..], &moments("broken.moments"), &["--resume", "--moments-cap", "7"]].concat();
    refused(dir, &cap, &["another capture", "the cap of the moments was `512` and is `7`"]);
}

#[test]
fn activations_are_captured_under_a_map() {
    let dir = set_up();
    let dir = dir.path();
    let out = |name| ["--out", name];
    capture(dir, &out("source"));
    json(
        dir,
        &["capture", "--model", "llama2", "--layers", "1", "--prompts", "target.jsonl", "--out", "target"],
    );
    let fit = [
        "fit",
        "--source",
        "source",
        "--target",
        "target",
        "--layers",
        "1",
        "--components",
        "2",
        "--out",
        "map",
    ];
    done(dir, &fit);
    let both =
        ["capture", "--model", "llama2", "--layers", "1,2", "--batch", "1", "--prompts", "source.jsonl"];
    let found = json(dir, &[&both[..], &["--map", "map", "--out", "edited"]].concat());
    assert!(found["intervention"]["edits"].as_str().unwrap().contains("blocks.1"), "{found}");
    // Captured under the map; and captured without it, then mapped.
    done(dir, &["apply", "--map", "map", "--in", "source", "--out", "applied"]);
    let rows = |name: &str| {
        brenier::capture::ActivationFile::open(&dir.join(name)).unwrap().rows(TENSOR).unwrap().to_f64()
    };
    let (edited, applied, source) = (rows("edited"), rows("applied"), rows("source"));
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart(edited.values(), applied.values()) < 1e-4);
    assert!(apart(edited.values(), source.values()) > 1e-2);
    capture(dir, &["--map", "map", "--strength", "0", "--out", "off"]);
    assert_eq!(rows("off"), source);
    // It is stated, in shards too, and a capture under another map is another capture.
    let stated = metadata(&dir.join("edited"))["intervention"].clone();
    assert!(stated.as_str().unwrap().contains("map.sha256"), "{stated}");
    assert!(metadata(&dir.join("source"))["intervention"].is_null());
    let shards = ["--map", "map", "--to", "rows", "--out", "shards"];
    capture(dir, &shards);
    let again = [&CAPTURE[..], &["--to", "rows", "--out", "shards", "--resume"]].concat();
    refused(dir, &again, &["intervention was", "is `not stated`"]);
    // A sequential fit: the source as the first map leaves it, the target as it is.
    json(
        dir,
        &["capture", "--model", "llama2", "--layers", "2", "--prompts", "target.jsonl", "--out", "target2"],
    );
    done(
        dir,
        &[
            "fit",
            "--source",
            "edited",
            "--target",
            "target2",
            "--layers",
            "2",
            "--components",
            "2",
            "--out",
            "map2",
        ],
    );
    let made = metadata(&dir.join("map2"));
    assert_eq!(made["source.intervention"], stated);
    assert!(made["target.intervention"].is_null());
    for bad in [["--strength", "2"], ["--tokens", "all"], ["--map-layers", "1"]] {
        refused(dir, &[&CAPTURE[..], &bad, &out("x")].concat(), &["--map"]);
    }
}

#[test]
fn options_of_many_prompts_are_checked() {
    let dir = set_up();
    let dir = dir.path();
    let bad = |more: &[&str], words: &[&str]| {
        refused(dir, &[&CAPTURE[..], more].concat(), words);
    };
    for option in [&["--shard", "0/2"][..], &["--part", "2"], &["--resume"]] {
        bad(&[option, &["--out", "o"]].concat(), &["--to"]);
    }
    for share in ["2/2", "x", "-1/2", "1"] {
        bad(&["--to", "rows", "--shard", share, "--out", "o"], &["--shard", "0/4"]);
    }
    bad(&["--to", "rows", "--shard", "0/24", "--out", "o"], &["share 0/24", "23 prompts"]);
    bad(&["--to", "rows", "--out", "-"], &["--to rows", "directory"]);
    bad(&["--to", "rows", "--out", "source.jsonl"], &["source.jsonl", "directory"]);
    bad(&["--to", "rows", "--resume", "--force", "--out", "o"], &["--resume", "--force"]);
    bad(&["--to", "moments", "--moments-cap", "0", "--out", "o"], &["--moments-cap"]);
    fs::create_dir(dir.join("empty")).unwrap();
    refused(dir, &["merge", "--in", "empty", "--out", "o"], &["empty", "manifest"]);
    assert!(!brenier(dir, &["merge", "--in", "source.jsonl", "--out", "o"]).status.success());
}
