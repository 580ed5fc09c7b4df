//! Bad input: exit code 2, one line that says what is wrong, and nothing half-written.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use support::{brenier, cloud, ids, model, refused, tensor};
use tempfile::{TempDir, tempdir};

#[test]
fn wrong_usage_is_one_line() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    refused(dir, &[], &["brenier demo"]);
    refused(dir, &["frobnicate"], &["frobnicate"]);
    refused(dir, &["capture"], &["--model", "--prompts", "--out"]);
    refused(dir, &["inspect", "--model", ".", "--modle", "x"], &["--modle"]);
    refused(dir, &["inspect", "--model", ".", "--dtype", "f99"], &["f99", "bf16"]);
    refused(
        dir,
        &["fit", "--source", "a", "--target", "b", "--out", "c", "--method", "magic"],
        &["magic", "pca-ot"],
    );
    refused(dir, &["fit", "--source", "a", "--target", "b", "--out", "c", "--shrinkage", "2"], &["0 to 1"]);
    refused(dir, &["apply", "--map", "a", "--in", "b", "--out", "c", "--strength", "NaN"], &["finite"]);
}

#[test]
fn numbers_out_of_range_are_refused_by_the_parser() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let fit = ["fit", "--source", "a", "--target", "b", "--out", "c"];
    let generate = ["generate", "--model", "m", "--prompts", "p", "--out", "o"];
    let score = ["score", "--model", "m", "--prompts", "p"];
    let study = ["study", "--model", "m", "--data", "d", "--out", "o"];
    let huge = "18446744073709551615";
    let cases: [(&[&str], &str, &[&str]); 16] = [
        (&fit, "--bootstrap", &["0", "100001", huge, "-1", "1.5"]),
        (&fit, "--sliced", &["0", "10001", huge, "-1"]),
        (&fit, "--components", &["0", "65537", huge, "-1", "NaN"]),
        (&fit, "--folds", &["1", "10001", huge, "-1"]),
        (&fit, "--gate-calibrate", &["1", "10001", huge, "-1"]),
        (
            &fit,
            "--mixture-components",
            &["0", "1001", "bic:0", "bic:1001", "held-out:0", "held-out:1001", "-1"],
        ),
        (&fit, "--latent", &["0", "65537", huge, "-1"]),
        (&fit, "--shrinkage", &["NaN", "inf", "-0.1", "1.1"]),
        (&fit, "--act-quantiles", &["0", "1,0", "0,2", "NaN,1", "-1,1", "0,1,2"]),
        (&fit, "--strength", &["NaN", "inf", "-inf", "1e39"]),
        (&generate, "--max-new-tokens", &["0", "1000001", huge, "-1"]),
        (&generate, "--temperature", &["NaN", "inf", "-1"]),
        (&generate, "--batch", &["0", "65537", huge, "-1"]),
        (&score, "--max-new-tokens", &["0", "1000001", huge]),
        (&study, "--max-new-tokens", &["0", "1000001", huge]),
        (&study, "--components", &["0", "65537", "1,0", "-1", huge]),
    ];
    for (args, option, values) in cases {
        for value in values {
            let args = [args, &[option, value]].concat();
            refused(dir, &args, &[option, "expected"]);
        }
    }
    for (option, values) in [("--top-k", ["0", huge]), ("--top-p", ["0", "NaN"])] {
        for value in values {
            refused(
                dir,
                &[&generate[..], &["--temperature", "1", option, value]].concat(),
                &[option, "expected"],
            );
        }
    }
    // The rest is checked by the library, before anything is read.
    for (option, value) in [
        ("--reg-abs", "inf"),
        ("--reg-abs", "NaN"),
        ("--gate-temperature", "0"),
        ("--gate-temperature", "inf"),
        ("--gate-threshold", "NaN"),
        ("--gate-threshold", "2"),
        ("--gate-prior", "1"),
        ("--gate-prior", "NaN"),
        ("--entropic-sigma", "inf"),
        ("--entropic-sigma-abs", "NaN"),
        ("--entropic-sigma", "0"),
    ] {
        let name = option.trim_start_matches("--").split('-').next().unwrap();
        refused(dir, &[&fit[..], &[option, value]].concat(), &["option", name]);
    }
    // An option that would do nothing is no option.
    for (option, value) in [("--tokens", "all"), ("--strength", "2"), ("--layers", "1")] {
        refused(dir, &[&generate[..], &[option, value]].concat(), &["--map"]);
    }
    refused(dir, &[&generate[..], &["--allow-mismatch"]].concat(), &["--map"]);
}

#[test]
fn help_and_version_are_no_errors() {
    let dir = tempdir().unwrap();
    for args in [&["--help"][..], &["--version"], &["fit", "--help"], &["help", "study"]] {
        let output = brenier(dir.path(), args);
        assert!(output.status.success() && output.stderr.is_empty() && !output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn inspect_refuses_what_is_broken_but_not_what_is_missing() {
    let dir = with_model("llama31");
    let dir = dir.path();
    support::done(dir, &["inspect", "--model", "llama31"]);
    let config = dir.join("llama31/tokenizer_config.json");
    fs::write(&config, "{\"chat_template\": \"{% if %}\"}").unwrap();
    refused(dir, &["inspect", "--model", "llama31"], &["tokenizer_config.json"]);
    fs::remove_file(&config).unwrap();
    fs::write(dir.join("llama31/tokenizer.json"), "{").unwrap();
    refused(dir, &["inspect", "--model", "llama31"], &["tokenizer.json"]);
}

fn with_model(name: &str) -> TempDir {
    let dir = tempdir().unwrap();
    model(dir.path(), name);
    ids(dir.path(), "prompts.jsonl", 3, 0);
    dir
}

fn capture_refused(dir: &Path, model: &str, words: &[&str]) {
    refused(dir, &["inspect", "--model", model], words);
    refused(
        dir,
        &["capture", "--model", model, "--prompts", "prompts.jsonl", "--out", "acts.safetensors"],
        words,
    );
    refused(dir, &["generate", "--model", model, "--prompts", "prompts.jsonl", "--out", "out.jsonl"], words);
}

#[test]
fn broken_checkpoints_are_named() {
    let dir = with_model("llama2");
    let dir = dir.path();
    capture_refused(dir, "nowhere", &["nowhere"]);

    let shard = dir.join("llama2/model-00002-of-00002.safetensors");
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() / 2]).unwrap();
    capture_refused(dir, "llama2", &["model-00002-of-00002.safetensors"]);
    fs::write(&shard, &whole[..4]).unwrap();
    capture_refused(dir, "llama2", &["model-00002-of-00002.safetensors"]);
    fs::remove_file(&shard).unwrap();
    capture_refused(dir, "llama2", &["model-00002-of-00002.safetensors"]);
    fs::write(&shard, &whole).unwrap();

    let config = dir.join("llama2/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("LlamaForCausalLM", "OtherForCausalLM")).unwrap();
    capture_refused(dir, "llama2", &["config.json", "OtherForCausalLM", "LlamaForCausalLM"]);
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let width = json["intermediate_size"].as_u64().unwrap();
    json["intermediate_size"] = (width + 8).into();
    fs::write(&config, json.to_string()).unwrap();
    capture_refused(dir, "llama2", &["mlp.", &width.to_string(), &(width + 8).to_string()]);
    fs::write(&config, &text[..text.len() / 2]).unwrap();
    capture_refused(dir, "llama2", &["config.json"]);
}

#[test]
fn broken_prompts_are_named_by_line() {
    let dir = with_model("llama31");
    let dir = dir.path();
    let capture = |words: &[&str]| {
        refused(
            dir,
            &["capture", "--model", "llama31", "--prompts", "prompts.jsonl", "--out", "acts.safetensors"],
            words,
        );
        refused(
            dir,
            &["generate", "--model", "llama31", "--prompts", "prompts.jsonl", "--out", "out.jsonl"],
            words,
        );
    };
    let prompts = dir.join("prompts.jsonl");
    fs::write(&prompts, "{\"ids\": [5, 6]}\n{\"ids\": [5, 6\n{\"ids\": [7]}\n").unwrap();
    capture(&["prompts.jsonl", "line 2"]);
    fs::write(&prompts, "{\"ids\": [5, 6]}\n{\"id\": [5]}\n").unwrap();
    capture(&["prompts.jsonl", "line 2"]);
    fs::write(&prompts, "").unwrap();
    capture(&["prompts.jsonl", "empty"]);
    fs::write(&prompts, format!("{{\"ids\": [5]}}\n{{\"ids\": {:?}}}\n", vec![7; 300])).unwrap();
    capture(&["prompts.jsonl, line 2 (counted from 1), prompt 1 (counted from 0)", "300", "256"]);
    // A prompt that fills the context can be captured, but leaves no room for a completion.
    fs::write(&prompts, format!("{{\"ids\": [5]}}\n{{\"ids\": {:?}}}\n", vec![7; 256])).unwrap();
    let generate = ["generate", "--model", "llama31", "--prompts", "prompts.jsonl", "--out", "out.jsonl"];
    refused(dir, &generate, &["prompts.jsonl, line 2", "prompt 1 (counted from 0)", "256"]);
    fs::write(&prompts, "{\"ids\": [5, 192]}\n").unwrap();
    capture(&["prompts.jsonl, line 1", "prompt 0 (counted from 0)", "token 1 (counted from 0)", "192"]);
    fs::write(&prompts, "{\"ids\": []}\n").unwrap();
    capture(&["prompts.jsonl"]);
    fs::write(&prompts, "\n{\"prompt\": \"Where is the key?\"}\n").unwrap();
    capture(&["prompts.jsonl, line 2 (counted from 1), prompt 0 (counted from 0)", "llama31", "--raw"]);
    fs::write(&prompts, b"{\"prompt\": \"\xff\xfe\"}\n").unwrap();
    capture(&["prompts.jsonl"]);
    fs::remove_file(&prompts).unwrap();
    capture(&["prompts.jsonl"]);
}

#[test]
fn what_is_asked_of_a_model_must_be_there() {
    let dir = with_model("llama31");
    let dir = dir.path();
    let capture = |more: &[&str], words: &[&str]| {
        let args =
            ["capture", "--model", "llama31", "--prompts", "prompts.jsonl", "--out", "acts.safetensors"];
        refused(dir, &[&args, more].concat(), words);
    };
    capture(&["--layers", "2,9"], &["--layers", "9", "4"]);
    capture(&["--layers", "9-2"], &["9-2"]);
    capture(&["--sites", "nowhere"], &["nowhere", "resid_post"]);
    capture(&["--position", "first"], &["first", "last"]);
    capture(&["--position", "-50.."], &["line 1 (counted from 1)", "prompt 0 (counted from 0)", "50"]);
    capture(&["--batch", "0"], &["auto"]);
    capture(&["--device", "abacus"], &["abacus", "cpu"]);
    capture(&["--device", "cpu:3"], &["cpu:3"]);
    let elsewhere = ["--out", "no/such/directory/acts.safetensors"];
    let args = [&["capture", "--model", "llama31", "--prompts", "prompts.jsonl"], &elsewhere[..]].concat();
    refused(dir, &args, &["no/such/directory"]);

    fs::write(dir.join("acts.safetensors"), "mine").unwrap();
    capture(&[], &["acts.safetensors", "--force"]);
}

fn fit_refused(dir: &Path, more: &[&str], words: &[&str]) {
    let args = ["fit", "--source", "s.safetensors", "--target", "t.safetensors", "--out", "map.safetensors"];
    refused(dir, &[&args, more].concat(), words);
}

#[test]
fn activations_that_make_no_map_are_named() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let (s, t) = (dir.join("s.safetensors"), dir.join("t.safetensors"));
    fit_refused(dir, &[], &["s.safetensors"]);
    tensor(&s, "x", &cloud(12, 6, 0.0));
    tensor(&t, "x", &cloud(12, 6, 2.0));
    fit_refused(dir, &["--components", "0"], &["components"]);
    fit_refused(dir, &["--components", "7"], &["`x`", "7"]);
    fit_refused(dir, &["--layers", "3"], &["--layers"]);
    fit_refused(dir, &["--reg-abs", "-1"], &["reg-abs"]);

    let mut holed = cloud(12, 6, 0.0);
    holed[4][2] = f32::NAN;
    tensor(&s, "x", &holed);
    for method in ["pca-ot", "gated", "ot", "mean", "rfa", "ace", "act-linear", "act-gaussian"] {
        fit_refused(dir, &["--method", method], &["`x`", "row 4", "column 2"]);
    }
    tensor(&s, "x", &cloud(12, 5, 0.0));
    fit_refused(dir, &[], &["5", "6"]);
    tensor(&s, "x", &cloud(1, 6, 0.0));
    fit_refused(dir, &[], &["`x`", "1", "2"]);
    tensor(&s, "y", &cloud(12, 6, 0.0));
    fit_refused(dir, &[], &["s.safetensors", "y", "t.safetensors", "x"]);
    tensor(&s, "x", &[]);
    fit_refused(dir, &[], &["s.safetensors"]);
    let whole = fs::read(&t).unwrap();
    fs::write(&s, &whole[..whole.len() - 8]).unwrap();
    fit_refused(dir, &[], &["s.safetensors"]);
    fs::write(&s, "").unwrap();
    fit_refused(dir, &[], &["s.safetensors"]);
}

#[test]
fn maps_that_do_not_fit_are_named() {
    let dir = with_model("llama31");
    let dir = dir.path();
    tensor(&dir.join("s.safetensors"), "x", &cloud(12, 6, 0.0));
    tensor(&dir.join("t.safetensors"), "x", &cloud(12, 6, 2.0));
    support::done(
        dir,
        &["fit", "--source", "s.safetensors", "--target", "t.safetensors", "--out", "m", "--method", "mean"],
    );

    let apply = |input: &str, more: &[&str], words: &[&str]| {
        let args = ["apply", "--map", "m", "--in", input, "--out", "mapped.safetensors"];
        refused(dir, &[&args, more].concat(), words);
    };
    tensor(&dir.join("wide.safetensors"), "x", &cloud(4, 7, 0.0));
    apply("wide.safetensors", &[], &["`x`", "7", "6"]);
    tensor(&dir.join("other.safetensors"), "y", &cloud(4, 6, 0.0));
    apply("other.safetensors", &[], &["y", "x", "--tensor"]);
    apply("other.safetensors", &["--tensor", "z"], &["z", "y"]);
    let mut holed = cloud(4, 6, 0.0);
    holed[3][1] = f32::INFINITY;
    tensor(&dir.join("holed.safetensors"), "x", &holed);
    apply("holed.safetensors", &[], &["`x`", "row 3", "column 1"]);
    refused(
        dir,
        &["apply", "--map", "s.safetensors", "--in", "s.safetensors", "--out", "o"],
        &["s.safetensors"],
    );
    refused(
        dir,
        &["fit", "--source", "s.safetensors", "--target", "t.safetensors", "--out", "m"],
        &["--force"],
    );

    let generate = |more: &[&str], words: &[&str]| {
        let args = ["generate", "--model", "llama31", "--prompts", "prompts.jsonl", "--out", "out.jsonl"];
        refused(dir, &[&args, more].concat(), words);
    };
    generate(&["--map", "m"], &["`x`", "--layers"]);
    generate(&["--map", "m", "--layers", "1"], &["blocks.1.hook_resid_post", "6", "64"]);
    generate(&["--map", "m", "--layers", "4"], &["--layers 4"]);
    generate(&["--map", "m", "--layers", "1", "--strength", "inf"], &["--strength"]);
    generate(&["--map", "prompts.jsonl"], &["prompts.jsonl"]);
    generate(&["--layers", "1"], &["--map"]);
    generate(&["--tokens", "some"], &["some", "last+generated"]);
    generate(&["--temperature", "-1"], &["temperature"]);
    let streamed = ["generate", "--model", "llama31", "--prompts", "prompts.jsonl", "--out", "-", "--json"];
    refused(dir, &streamed, &["stdout"]);
}

#[test]
fn a_study_names_the_file_that_is_missing() {
    let dir = with_model("llama31");
    let dir = dir.path();
    let study = |words: &[&str]| {
        refused(dir, &["study", "--model", "llama31", "--data", "data", "--out", "result"], words);
    };
    study(&["data"]);
    fs::create_dir(dir.join("data")).unwrap();
    study(&["source_train.jsonl"]);
    for side in ["source", "target"] {
        for split in ["train", "val", "test"] {
            ids(&dir.join("data"), &format!("{side}_{split}.jsonl"), 8, side.len());
        }
    }
    fs::write(dir.join("data/target_val.jsonl"), "{\"ids\": [3]}\n{]\n").unwrap();
    study(&["target_val.jsonl", "line 2"]);
    fs::remove_file(dir.join("data/target_val.jsonl")).unwrap();
    study(&["target_val.jsonl"]);
}
