//! Values that are not finite: one line that says where and what helps, and no file.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{brenier, cloud, done, ids, model, refused, tensor};
use tempfile::{TempDir, tempdir};

const PLACE: &str = "blocks.1.hook_resid_post";

/// A golden model, prompts, and `map`, which moves every coordinate at `PLACE` by `by`.
fn prepared(name: &str, width: usize, by: f32) -> TempDir {
    let dir = tempdir().unwrap();
    let path = dir.path();
    let to = model(path, name);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers/byte-level");
    fs::copy(golden.join("tokenizer.json"), to.join("tokenizer.json")).unwrap();
    ids(path, "prompts.jsonl", 3, 0);
    tensor(&path.join("s"), PLACE, &cloud(20, width, 0.0));
    tensor(&path.join("t"), PLACE, &cloud(20, width, by));
    done(path, &["fit", "--source", "s", "--target", "t", "--method", "mean", "--out", "map", "--quiet"]);
    dir
}

/// Runs what must succeed, whatever it warns of: returns stdout.
fn succeeds(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = brenier(dir, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn an_edit_that_overflows_f16_gives_no_completion_and_no_score() {
    for (name, width) in [("llama31", 64), ("llama2", 48), ("qwen25", 32)] {
        let dir = prepared(name, width, 1e5);
        let dir = dir.path();
        let common = ["--model", name, "--map", "map", "--max-new-tokens", "2"];
        let generate = [&["generate", "--prompts", "prompts.jsonl", "--out", "o"], &common[..]].concat();
        let score = [&["score", "--harmless", "prompts.jsonl", "--out", "o"], &common[..]].concat();
        let words = [
            "values overflow f16 in the edit at blocks.1.hook_resid_post (token ",
            "use bf16 or f32",
            "(counted from 0)",
        ];
        let half = |args: &[&'static str]| [args, &["--dtype", "f16"]].concat();
        let line = refused(dir, &half(&generate), &words);
        assert!(line.contains("after 0 new tokens"), "{line}");
        let later = [&generate[..], &["--tokens", "generated"]].concat();
        assert!(refused(dir, &half(&later), &words).contains("after 1 new tokens"));
        let line = refused(dir, &half(&score), &words);
        assert!(line.contains("harmless prompt"), "{line}");
        for dtype in ["bf16", "f32"] {
            let wide = |args: &[&'static str]| [args, &["--dtype", dtype, "--force", "--json"]].concat();
            succeeds(dir, &wide(&generate));
            let found: Value = serde_json::from_slice(&succeeds(dir, &wide(&score))).unwrap();
            assert!(found["kl"]["value"].as_f64().unwrap() > 0.0, "{found}");
        }
    }
}

#[test]
fn a_strength_beyond_f32_is_refused_before_anything_runs() {
    let dir = prepared("llama31", 64, 2.0);
    let args =
        ["score", "--harmless", "prompts.jsonl", "--model", "llama31", "--map", "map", "--strength", "3e38"];
    refused(dir.path(), &args, &[PLACE, "at strength 3e38", "6.0e38", "range of f32"]);
}

/// Multiplies a tensor of a model in f32, whichever of its files holds it.
fn scale(model: &Path, name: &str, by: f32) {
    for path in fs::read_dir(model).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let json: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
        let Some(entry) = json.get(name) else { continue };
        assert_eq!(entry["dtype"], "F32");
        let [start, end] = [0, 1].map(|i| header + entry["data_offsets"][i].as_u64().unwrap() as usize);
        for value in bytes[start..end].chunks_mut(4) {
            let scaled = f32::from_le_bytes((&*value).try_into().unwrap()) * by;
            value.copy_from_slice(&scaled.to_le_bytes());
        }
        return fs::write(&path, bytes).unwrap();
    }
    panic!("no tensor {name} in {}", model.display());
}

#[test]
fn activations_beyond_f16_are_captured_in_a_wider_dtype_or_not_at_all() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let weights = model(dir, "llama2");
    ids(dir, "prompts.jsonl", 3, 0);
    scale(&weights, "model.layers.1.mlp.down_proj.weight", 1e5);
    scale(&weights, "model.layers.1.mlp.up_proj.weight", 1e2);
    let capture = |more: &[&'static str]| {
        let args = ["capture", "--model", "llama2", "--prompts", "prompts.jsonl", "--out", "o", "--quiet"];
        [&args, more].concat()
    };
    let overflow = ["values overflow f16 at blocks.1.hook_mlp_out (token ", "use bf16 or f32"];
    for (more, tensor) in [
        (&["--layers", "1"][..], PLACE),
        (&["--layers", "2", "--position", "all"], "blocks.2.hook_resid_post"),
        (&["--sites", "mlp_out", "--layers", "1", "--position", "-2.."], "blocks.1.hook_mlp_out"),
        (&["--sites", "logits"], "logits"),
    ] {
        let args = [capture(more), vec!["--dtype", "f16"]].concat();
        let line = refused(dir, &args, &overflow);
        let named =
            line.contains(" (counted from 1): prompt ") && line.contains(&format!("tensor `{tensor}`"));
        assert!(named && line.contains("(both counted from 0)"), "{line}");
        for dtype in ["f32", "bf16"] {
            done(dir, &[capture(more), vec!["--dtype", dtype, "--force"]].concat());
        }
        fs::remove_file(dir.join("o")).unwrap();
    }
    // What comes before the overflow is sound.
    done(dir, &[capture(&["--layers", "0"]), vec!["--dtype", "f16"]].concat());
    // A weight that is no number helps no dtype.
    scale(&weights, "model.layers.1.mlp.down_proj.weight", f32::NAN);
    let args = [capture(&["--layers", "1", "--force"]), vec!["--dtype", "f32"]].concat();
    refused(dir, &args, &["values are not finite in f32 at blocks.1.hook_mlp_out", "are the weights sound?"]);
}

#[test]
fn logits_are_captured_for_every_token() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    model(dir, "llama31");
    ids(dir, "prompts.jsonl", 4, 0);
    let shape = |position: &str| -> Value {
        let args = ["capture", "--model", "llama31", "--prompts", "prompts.jsonl", "--out", "o", "--force"];
        let more = ["--json", "--sites", "logits", "resid_post", "--layers", "3", "--position", position];
        let found: Value = serde_json::from_str(&done(dir, &[&args[..], &more].concat())).unwrap();
        assert_eq!(found["tensors"]["logits"][0], found["tensors"]["blocks.3.hook_resid_post"][0]);
        found["tensors"]["logits"].clone()
    };
    // Prompts have 5, 6, 7 and 8 tokens.
    assert_eq!(shape("all"), serde_json::json!([26, 192]));
    assert_eq!(shape("-2.."), serde_json::json!([8, 192]));
    assert_eq!(shape("last"), serde_json::json!([4, 192]));
}

#[test]
fn rows_that_a_map_takes_beyond_their_range_are_not_written() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    tensor(&dir.join("s"), "x", &cloud(20, 6, 0.0));
    tensor(&dir.join("t"), "x", &cloud(20, 6, 2.0));
    done(dir, &["fit", "--source", "s", "--target", "t", "--method", "mean", "--out", "map", "--quiet"]);
    let apply =
        |strength: &'static str| ["apply", "--map", "map", "--in", "s", "--out", "o", "--strength", strength];
    let words = ["s: tensor `x`", "row 0, column 0 (counted from 0)", "leaves the range of f32"];
    let line = refused(dir, &apply("3e38"), &words);
    assert!(line.contains("strength 3e38") && line.contains("lower --strength"), "{line}");
    refused(dir, &apply("-3e38"), &["leaves the range of f32 at strength -3e38"]);
    done(dir, &apply("1e38"));
}
