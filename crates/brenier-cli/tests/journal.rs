//! `generate` interrupted and run again.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{done, model, noted, refused};
use tempfile::{TempDir, tempdir};

const PROMPTS: usize = 60;

fn study() -> TempDir {
    let dir = tempdir().unwrap();
    model(dir.path(), "llama31");
    let line = |i: usize| format!("{{\"ids\": [{}, {}, 7], \"name\": {i}}}\n", 11 + i % 30, 12 + i % 17);
    fs::write(dir.path().join("prompts.jsonl"), (0..PROMPTS).map(line).collect::<String>()).unwrap();
    dir
}

fn args<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["generate", "--model", "llama31", "--prompts", "prompts.jsonl", "--max-new-tokens", "60"];
    [&args[..], &["--temperature", "0.9", "--batch", "1", "--out", out], more].concat()
}

/// Runs until some completions are there, and ends the program then.
fn interrupted(dir: &Path) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_brenier"))
        .args(args("out", &[]))
        .current_dir(dir)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let partial = dir.join("out.partial");
    let lines = || fs::read_to_string(&partial).unwrap_or_default().lines().count();
    while lines() < 5 {
        assert!(child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(!child.wait().unwrap().success() && !dir.join("out").exists());
    fs::read_to_string(partial).unwrap()
}

#[test]
fn an_interrupted_generation_is_gone_on_with() {
    let dir = study();
    let dir = dir.path();
    done(dir, &args("whole", &[]));
    let partial = interrupted(dir);
    assert!(partial.lines().count() < PROMPTS, "the signal came too late");
    // What was being written when the program ended is done again.
    fs::write(dir.join("out.partial"), format!("{partial}{{\"prompt\": 5, \"tok")).unwrap();

    let (_, notes) = noted(dir, &args("out", &[]));
    let there = partial.lines().count() - 1;
    assert!(notes.contains(&format!("{there} of {PROMPTS} completions are there already")), "{notes}");
    assert_eq!(fs::read_to_string(dir.join("out")).unwrap(), fs::read_to_string(dir.join("whole")).unwrap());
    assert!(!dir.join("out.partial").exists());
}

#[test]
fn completions_of_another_run_are_not_mixed_in() {
    let dir = study();
    let dir = dir.path();
    interrupted(dir);
    refused(dir, &args("out", &["--seed", "1"]), &["out.partial", "another run", "--force"]);
    done(dir, &args("out", &["--seed", "1", "--force"]));
    done(dir, &args("whole", &["--seed", "1"]));
    assert_eq!(fs::read_to_string(dir.join("out")).unwrap(), fs::read_to_string(dir.join("whole")).unwrap());
}
