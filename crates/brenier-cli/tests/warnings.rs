//! What the program says of a model that it can load though its files do not agree.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use serde_json::Value;
use support::{brenier, done, ids, model};

#[test]
fn a_warning_is_one_line_on_stderr_and_rules_change_the_completions() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let path = model(dir, "qwen25");
    ids(dir, "prompts.jsonl", 4, 0);
    let args = [
        "generate",
        "--model",
        "qwen25",
        "--prompts",
        "prompts.jsonl",
        "--max-new-tokens",
        "8",
        "--out",
        "-",
    ];
    let plain = done(dir, &args);
    let rules = r#"{"bos_token_id": 1, "eos_token_id": 4, "no_repeat_ngram_size": 1, "num_beams": 3}"#;
    fs::write(path.join("generation_config.json"), rules).unwrap();
    let output = brenier(dir, &args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("warning: ") && stderr.contains("num_beams = 3"), "{stderr}");
    let ruled = String::from_utf8(output.stdout).unwrap();
    assert_ne!(ruled, plain);
    for line in ruled.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let mut tokens = line["tokens"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>();
        let count = tokens.len();
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), count, "no token comes twice: {line}");
    }
    let output = brenier(dir, &["inspect", "--model", "qwen25", "--json", "--quiet"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warning = result["warnings"][0].as_str().unwrap();
    assert!(warning.contains("generation_config.json") && warning.contains("num_beams = 3"), "{warning}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("warning: {warning}\n"));
}
