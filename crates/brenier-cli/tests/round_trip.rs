//! The whole way on a golden model: capture, fit, apply, generate.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{brenier, cloud, done, ids, lines, model, tensor};
use tempfile::{TempDir, tempdir};

fn prepared(name: &str) -> TempDir {
    let dir = tempdir().unwrap();
    model(dir.path(), name);
    ids(dir.path(), "source.jsonl", 12, 0);
    ids(dir.path(), "target.jsonl", 14, 40);
    dir
}

fn result(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&done(dir, args)).unwrap()
}

/// Rows of an f32 tensor in a safetensors file.
fn rows(path: &Path, name: &str) -> Vec<Vec<f64>> {
    let bytes = fs::read(path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let entry = &json[name];
    assert_eq!(entry["dtype"], "F32");
    let start = header + entry["data_offsets"][0].as_u64().unwrap() as usize;
    let [n, d] = [0, 1].map(|i| entry["shape"][i].as_u64().unwrap() as usize);
    let value =
        |i: usize| f64::from(f32::from_le_bytes(bytes[start + 4 * i..start + 4 * i + 4].try_into().unwrap()));
    (0..n).map(|row| (0..d).map(|column| value(row * d + column)).collect()).collect()
}

fn mean(rows: &[Vec<f64>]) -> Vec<f64> {
    (0..rows[0].len()).map(|j| rows.iter().map(|row| row[j]).sum::<f64>() / rows.len() as f64).collect()
}

#[test]
fn a_map_goes_from_prompts_to_completions() {
    let dir = prepared("qwen25");
    let dir = dir.path();
    for side in ["source", "target"] {
        let (prompts, out) = (format!("{side}.jsonl"), format!("{side}.safetensors"));
        let captured =
            result(dir, &["capture", "--model", "qwen25", "--prompts", &prompts, "--out", &out, "--json"]);
        assert_eq!(captured["metadata"]["model.sha256"].as_str().unwrap().len(), 64);
        assert_eq!(captured["tensors"]["blocks.0.hook_resid_post"][0], captured["prompts"]);
    }
    let args = [
        "fit",
        "--source",
        "source.safetensors",
        "--target",
        "target.safetensors",
        "--out",
        "map.safetensors",
    ];
    let fitted = result(dir, &[&args[..], &["--method", "mean", "--layers", "1-2", "--json"]].concat());
    let names: Vec<&String> = fitted["maps"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]);

    // The mean shift takes the source's mean to the target's, to the rounding of f32 rows.
    let name = "blocks.1.hook_resid_post";
    done(
        dir,
        &["apply", "--map", "map.safetensors", "--in", "source.safetensors", "--out", "moved.safetensors"],
    );
    let moved = mean(&rows(&dir.join("moved.safetensors"), name));
    let target = mean(&rows(&dir.join("target.safetensors"), name));
    let size = target.iter().fold(1.0, |size: f64, value| size.max(value.abs()));
    for (moved, target) in moved.iter().zip(&target) {
        assert!((moved - target).abs() <= 8.0 * f64::from(f32::EPSILON) * size, "{moved} {target}");
    }
    // At strength 0 nothing moves, not even by rounding.
    done(
        dir,
        &[
            "apply",
            "--map",
            "map.safetensors",
            "--in",
            "source.safetensors",
            "--out",
            "still.safetensors",
            "--strength",
            "0",
        ],
    );
    assert_eq!(rows(&dir.join("still.safetensors"), name), rows(&dir.join("source.safetensors"), name));

    let generate = |out: &str, more: &[&str]| {
        let args = [
            "generate",
            "--model",
            "qwen25",
            "--prompts",
            "source.jsonl",
            "--max-new-tokens",
            "8",
            "--out",
            out,
        ];
        done(dir, &[&args, more].concat());
        lines(&dir.join(out))
    };
    let plain = generate("plain.jsonl", &[]);
    assert_eq!(plain.len(), 12);
    assert_eq!(plain[3]["name"], "source.jsonl 3");
    assert_eq!(plain[3]["ids"], lines(&dir.join("source.jsonl"))[3]["ids"]);
    for line in &plain {
        let tokens = line["tokens"].as_array().unwrap().len();
        match line["finish"].as_str().unwrap() {
            "max_new_tokens" => assert_eq!(tokens, 8),
            finish => assert!(finish == "eos" && tokens < 8, "{line}"),
        }
    }
    assert_eq!(generate("off.jsonl", &["--map", "map.safetensors", "--strength", "0"]), plain);
    assert_eq!(generate("one.jsonl", &["--batch", "1"]), plain);
    let mapped = generate(
        "mapped.jsonl",
        &["--map", "map.safetensors", "--layers", "2", "--strength", "4", "--tokens", "all"],
    );
    assert_ne!(mapped, plain);
}

#[test]
fn sites_positions_and_logits_are_captured() {
    let dir = prepared("llama2");
    let dir = dir.path();
    let capture = |out: &str, more: &[&str]| {
        let args = ["capture", "--model", "llama2", "--prompts", "source.jsonl", "--out", out, "--json"];
        result(dir, &[&args, more].concat())
    };
    let sites = capture("sites", &["--sites", "resid_pre,attn_out", "logits", "--layers", "1"]);
    let names: Vec<&String> = sites["tensors"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["blocks.1.hook_attn_out", "blocks.1.hook_resid_pre", "logits"]);
    assert_eq!(sites["tensors"]["logits"][0], 12);

    // Prompts have 5, 6, 7, 8 tokens in turn.
    let all = capture("all", &["--position", "all", "--layers", "0"]);
    assert_eq!(all["tensors"]["blocks.0.hook_resid_post"][0], 3 * (5 + 6 + 7 + 8));
    let two = capture("two", &["--position", "-2..", "--layers", "0"]);
    assert_eq!(two["tensors"]["blocks.0.hook_resid_post"][0], 24);
    let last = capture("last", &["--layers", "0"]);
    assert_eq!(last["tensors"]["blocks.0.hook_resid_post"][0], 12);
    // Every second of the last two is the last.
    let name = "blocks.0.hook_resid_post";
    let two: Vec<_> = rows(&dir.join("two"), name).into_iter().skip(1).step_by(2).collect();
    assert_eq!(two, rows(&dir.join("last"), name));
}

#[test]
fn tensors_of_other_names_find_their_map() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    tensor(&dir.join("s"), "x", &cloud(20, 6, 0.0));
    tensor(&dir.join("t"), "x", &cloud(25, 6, 2.0));
    tensor(&dir.join("new"), "y", &cloud(3, 6, 1.0));
    for method in ["pca-ot", "gated", "ot", "mean", "rfa", "ace", "act-linear", "act-gaussian"] {
        let held_out = ["--source-val", "s", "--target-val", "t"];
        let args = [
            "fit", "--source", "s", "--target", "t", "--method", method, "--out", "map", "--force", "--json",
        ];
        let fitted = result(dir, &[&args[..], &held_out].concat());
        assert_eq!(fitted["method"], method);
        let certificate = &fitted["maps"]["x"];
        assert_eq!(certificate["source_rows"], 20);
        assert_eq!(certificate["train"]["w2_after"], certificate["held_out"]["w2_after"]);
        done(dir, &["apply", "--map", "map", "--in", "new", "--tensor", "y", "--out", "out", "--force"]);
        assert_eq!(rows(&dir.join("out"), "y").len(), 3);
    }
}

#[test]
fn inspect_tells_what_a_directory_holds() {
    let dir = prepared("llama31");
    let told = result(dir.path(), &["inspect", "--model", "llama31", "--json"]);
    assert_eq!(told["architecture"], "LlamaForCausalLM");
    assert_eq!([&told["layers"], &told["hidden"], &told["vocab"]], [&json!(4), &json!(64), &json!(192)]);
    assert_eq!(told["eos"][1]["id"], 9);
    assert!(told["template"].is_null());
    let text = done(dir.path(), &["inspect", "--model", "llama31"]);
    assert!(text.contains("LlamaForCausalLM"));
}

#[test]
fn quiet_is_quiet_and_force_overwrites() {
    let dir = prepared("llama31");
    let dir = dir.path();
    let args = [
        "generate",
        "--model",
        "llama31",
        "--prompts",
        "source.jsonl",
        "--out",
        "o",
        "--max-new-tokens",
        "2",
    ];
    assert!(done(dir, &[&args[..], &["--quiet"]].concat()).is_empty());
    fs::write(dir.join("o"), "old").unwrap();
    done(dir, &[&args[..], &["--force"]].concat());
    assert_eq!(lines(&dir.join("o")).len(), 12);
    let streamed = brenier(
        dir,
        &[
            "generate",
            "--model",
            "llama31",
            "--prompts",
            "source.jsonl",
            "--out",
            "-",
            "--max-new-tokens",
            "2",
        ],
    );
    assert_eq!(streamed.stdout, fs::read(dir.join("o")).unwrap());
}
