//! What stands in an input line stands in the output line too.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::{done, model, refused};
use tempfile::tempdir;

const GENERATE: [&str; 11] = [
    "generate",
    "--model",
    "llama2",
    "--prompts",
    "p.jsonl",
    "--max-new-tokens",
    "2",
    "--out",
    "o",
    "--force",
    "--quiet",
];

#[test]
fn keys_of_an_input_line_survive() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    model(dir, "llama2");
    let lines = [
        r#"{"zeta": 1, "ids": [5, 6], "alpha": {"b": [1, 2], "a": null}, "n": 123456789012345678901234567890.10}"#,
        r#"{"ids": [5, 6], "completion": "theirs", "tokens": 12e400, "finish": null, "prompt": "shown", "x": "caf\u00e9"}"#,
        r#"{"input": {"completion": 1}, "ids": [7]}"#,
        r#"{"ids": [7]}"#,
    ];
    fs::write(dir.join("p.jsonl"), lines.join("\n")).unwrap();
    done(dir, &GENERATE);
    let text = fs::read_to_string(dir.join("o")).unwrap();
    let out: Vec<&str> = text.lines().collect();
    // In their order, number for number.
    assert!(
        out[0].ends_with(r#""zeta":1,"alpha":{"b":[1,2],"a":null},"n":123456789012345678901234567890.10}"#),
        "{}",
        out[0]
    );
    assert!(out[0].starts_with(r#"{"ids":[5,6],"completion":null,"tokens":["#), "{}", out[0]);
    // Ours keep their names; theirs go under `input`, whatever they hold.
    assert!(out[1].contains(r#""prompt":"shown","x":"caf\u00e9","input":{"completion":"theirs","tokens":12e400,"finish":null}"#), "{}", out[1]);
    let third: Value = serde_json::from_str(out[2]).unwrap();
    assert_eq!(third["input"], json!({"input": {"completion": 1}}));
    let fourth: Value = serde_json::from_str(out[3]).unwrap();
    assert_eq!(
        fourth.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["ids", "completion", "tokens", "finish"]
    );
    // What was written is read again, with ours as theirs.
    fs::copy(dir.join("o"), dir.join("p.jsonl")).unwrap();
    done(dir, &GENERATE);
    let again = fs::read_to_string(dir.join("o")).unwrap();
    assert!(again.lines().nth(3).unwrap().contains(r#""input":{"completion":null,"tokens":["#), "{again}");
}

#[test]
fn two_values_of_one_key_are_refused() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    model(dir, "llama2");
    for line in [r#"{"ids": [1], "ids": [2]}"#, r#"{"ids": [1], "a": 1, "\u0061": 1}"#] {
        fs::write(dir.join("p.jsonl"), format!("{{\"ids\": [1]}}\n\n{line}\n")).unwrap();
        refused(dir, &GENERATE, &["p.jsonl, line 3 (counted from 1)", "twice"]);
    }
}
