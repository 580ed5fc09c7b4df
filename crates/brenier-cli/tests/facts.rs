//! How activations were made is stated, compared and honoured.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{
    chatty, cloud, done, ids, json as result, lines, metadata, model, noted, refused, short_study, tensor,
    tensor_stating,
};
use tempfile::{TempDir, tempdir};

const NAME: &str = "blocks.1.hook_resid_post";

/// A template that takes a system message.
const PLAIN: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
/// A template that shows the date.
const DATED: &str = "{{ strftime_now('%d %B %Y') }}\n{% for m in messages %}{{ m.content }}\n{% endfor %}";

/// How activations were made, with one fact changed.
fn but<'a>(facts: &BTreeMap<&'a str, &'a str>, key: &'a str, value: &'a str) -> BTreeMap<&'a str, &'a str> {
    let mut facts = facts.clone();
    facts.insert(key, value);
    facts
}

fn stated() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("model.sha256", "aa"),
        ("model.architecture", "LlamaForCausalLM"),
        ("model.layers", "4"),
        ("model.dtype", "f32"),
        ("template.sha256", "bb"),
        ("prompts.system", "null"),
        ("prompts.raw", "false"),
        ("prompts.date", "2026-01-31T00:00:00"),
        ("position", "last"),
    ])
}

const FIT: [&str; 7] = ["fit", "--source", "s", "--target", "t", "--out", "map"];
const VAL: [&str; 4] = ["--source-val", "sv", "--target-val", "tv"];

/// Files of a fit that state the same, but for one of them.
fn files(dir: &Path, other: &str, facts: &BTreeMap<&str, &str>) {
    for (name, shift) in [("s", 0.0), ("t", 2.0), ("sv", 0.1), ("tv", 2.1)] {
        let facts = if name == other { facts } else { &stated() };
        tensor_stating(&dir.join(name), NAME, &cloud(12, 6, shift), facts);
    }
}

#[test]
fn a_fit_refuses_activations_that_were_made_in_other_ways() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let fit = [&FIT[..], &VAL].concat();
    for (key, value) in stated() {
        for file in ["t", "sv", "tv"] {
            files(dir, file, &but(&stated(), key, "otherwise"));
            let message =
                refused(dir, &fit, &[key, "`otherwise`", &format!("`{value}`"), "--allow-mismatch"]);
            assert!(message.contains(&format!("`otherwise` in {file}")), "{message}");
        }
    }
    // What does not make two sets of activations of different kinds.
    for key in ["prompts.sha256", "brenier.version", "mine"] {
        files(dir, "t", &but(&stated(), key, "otherwise"));
        done(dir, &[&fit[..], &["--force"]].concat());
    }
    files(dir, "", &stated());
    let plain = result(dir, &[&fit[..], &["--force"]].concat());
    assert_eq!((&plain["mismatch"], &plain["unstated"]), (&json!([]), &json!({})));
    let recorded = metadata(&dir.join("map"));
    for (key, value) in stated() {
        assert_eq!(recorded[key], value);
    }
    assert_eq!((&recorded["tokens"], &recorded["strength"]), (&"last+generated".into(), &"1".into()));
    assert!(recorded["mismatch"].is_null() && recorded["fitted_at"].is_null());
}

#[test]
fn a_mismatch_that_is_allowed_is_said_everywhere() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    files(dir, "t", &but(&stated(), "position", "all"));
    let (out, note) = noted(dir, &[&FIT[..], &["--allow-mismatch", "--json"]].concat());
    assert!(note.contains("position is `last` in s and `all` in t"), "{note}");
    let expected = json!([{"fact": "position", "values": {"s": "last", "t": "all"}}]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["mismatch"], expected);
    let recorded = metadata(&dir.join("map"));
    assert_eq!(serde_json::from_str::<Value>(recorded["mismatch"].as_str().unwrap()).unwrap(), expected);
    assert_eq!(recorded["position"], "last");
}

#[test]
fn what_one_file_does_not_state_is_taken_from_the_others() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    files(dir, "t", &BTreeMap::from([("position", "last")]));
    let (out, note) = noted(dir, &[&FIT[..], &["--json"]].concat());
    assert!(note.contains("t does not state model.sha256, ") && !note.contains("position"), "{note}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["unstated"]["model.sha256"], json!(["t"]));
    assert_eq!(metadata(&dir.join("map"))["model.sha256"], "aa");
    // Files of other programs state nothing at all, and nothing is made of it.
    for (name, shift) in [("s", 0.0), ("t", 2.0)] {
        tensor(&dir.join(name), NAME, &cloud(12, 6, shift));
    }
    done(dir, &[&FIT[..], &["--force"]].concat());
}

#[test]
fn tensors_of_one_file_alone_are_named() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    ids(dir, "prompts", 8, 0);
    model(dir, "llama2");
    for (out, layers) in [("s", "0-1"), ("t", "1-2")] {
        done(
            dir,
            &["capture", "--model", "llama2", "--prompts", "prompts", "--layers", layers, "--out", out],
        );
    }
    let found = result(dir, &[&FIT[..], &["--method", "ot"]].concat());
    assert_eq!(found["left_out"], json!(["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]));
}

/// A directory with a small model, prompts, activations and a map.
fn mapped() -> TempDir {
    let dir = tempdir().unwrap();
    let here = dir.path();
    model(here, "llama2");
    for (name, first) in [("source", 0), ("target", 40)] {
        ids(here, &format!("{name}.jsonl"), 12, first);
        capture(here, "llama2", name, name, &[]);
    }
    fit(here, &["--method", "mean", "--tokens", "all", "--strength", "-0.5"]);
    dir
}

fn capture(dir: &Path, model: &str, prompts: &str, out: &str, more: &[&str]) -> Value {
    let (prompts, out) = (format!("{prompts}.jsonl"), format!("{out}.st"));
    let args =
        ["capture", "--model", model, "--prompts", &prompts, "--layers", "1", "--out", &out, "--force"];
    result(dir, &[&args, more].concat())
}

fn fit(dir: &Path, more: &[&str]) -> Value {
    let args = ["fit", "--source", "source.st", "--target", "target.st", "--out", "map", "--force"];
    result(dir, &[&args, more].concat())
}

const GENERATE: [&str; 8] =
    ["generate", "--prompts", "source.jsonl", "--max-new-tokens", "4", "--out", "o", "--force"];

#[test]
fn generate_and_score_do_as_the_map_file_says_unless_told_otherwise() {
    let dir = mapped();
    let dir = dir.path();
    let generate = |more: &[&str]| {
        let found = result(dir, &[&GENERATE[..], &["--model", "llama2"], more].concat());
        (found["intervention"].clone(), lines(&dir.join("o")))
    };
    let (info, recorded) = generate(&["--map", "map"]);
    assert_eq!(info["tokens"], json!({"value": "all", "from": "recorded", "recorded": "all"}));
    assert_eq!(info["strength"], json!({"value": -0.5, "from": "recorded", "recorded": -0.5}));
    let (info, given) = generate(&["--map", "map", "--tokens", "all", "--strength", "-0.5"]);
    assert_eq!((&info["tokens"]["from"], &info["strength"]["from"]), (&"given".into(), &"given".into()));
    assert_eq!(given, recorded);
    assert_ne!(generate(&["--map", "map", "--strength", "8"]).1, recorded);
    assert_eq!(generate(&[]).0, Value::Null);
    // Where the lines go to stdout, how they come about is told apart.
    let args =
        ["generate", "--prompts", "source.jsonl", "--max-new-tokens", "1", "--out", "-", "--model", "llama2"];
    let (_, note) = noted(dir, &[&args[..], &["--map", "map"]].concat());
    assert!(note.contains("tokens all (recorded), strength -0.5 (recorded)"), "{note}");

    // A map file that says nothing acts as the default does.
    let bytes = fs::read(dir.join("map")).unwrap();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    header["__metadata__"].as_object_mut().unwrap().retain(|key, _| key == "format" || key == "entries");
    let bare = [&bytes[..8], format!("{:size$}", header.to_string()).as_bytes(), &bytes[8 + size..]].concat();
    fs::write(dir.join("map"), bare).unwrap();
    let (info, silent) = generate(&["--map", "map"]);
    assert_eq!(info["tokens"], json!({"value": "last+generated", "from": "default", "recorded": null}));
    assert_eq!(info["strength"], json!({"value": 1.0, "from": "default", "recorded": null}));
    assert_eq!(info["unstated"][0], "model.sha256");
    assert_eq!(generate(&["--map", "map", "--tokens", "last+generated", "--strength", "1"]).1, silent);
}

#[test]
fn a_map_of_another_model_is_refused() {
    let dir = mapped();
    let dir = dir.path();
    fs::rename(dir.join("llama2"), dir.join("other")).unwrap();
    let config = dir.join("other/config.json");
    fs::write(&config, format!("{}\n", fs::read_to_string(&config).unwrap())).unwrap();
    let generate = [&GENERATE[..], &["--model", "other", "--map", "map"]].concat();
    let message = refused(dir, &generate, &["model.sha256", " in map", "in this run", "--allow-mismatch"]);
    assert!(!message.contains("model.architecture"), "{message}");
    let score = ["score", "--model", "other", "--harmless", "target.jsonl", "--map", "map"];
    refused(dir, &score, &["model.sha256", "--allow-mismatch"]);
    let (out, note) = noted(dir, &[&generate[..], &["--allow-mismatch", "--json"]].concat());
    assert!(note.contains("model.sha256"), "{note}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["intervention"]["differences"][0]["fact"], "model.sha256");

    capture(dir, "other", "source", "others", &[]);
    let apply = ["apply", "--map", "map", "--in", "others.st", "--out", "moved"];
    refused(dir, &apply, &["model.sha256", "in map", "in others.st", "--allow-mismatch"]);
    let (out, _) = noted(dir, &[&apply[..], &["--allow-mismatch", "--json"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["mismatch"][0]["fact"], "model.sha256");
    assert!(metadata(&dir.join("moved"))["map.mismatch"].as_str().unwrap().contains("model.sha256"));
}

#[test]
fn another_dtype_or_position_than_that_of_the_fit_is_said() {
    let dir = mapped();
    let dir = dir.path();
    let generate = [&GENERATE[..], &["--model", "llama2", "--map", "map", "--dtype", "bf16"]].concat();
    let (_, note) = noted(dir, &generate);
    assert!(note.contains("model.dtype is `f32` in map and `bf16` in this run"), "{note}");
    capture(dir, "llama2", "source", "all", &["--position", "all"]);
    let (out, note) = noted(dir, &["apply", "--map", "map", "--in", "all.st", "--out", "moved", "--json"]);
    assert!(note.contains("position is `last` in map and `all` in all.st"), "{note}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&found["strength"], &found["intervention"]["strength"]["from"]),
        (&json!(-0.5), &json!("recorded"))
    );
    assert_eq!(metadata(&dir.join("moved"))["map.strength"], "-0.5");
}

#[test]
fn what_a_map_records_badly_is_refused() {
    let dir = mapped();
    let dir = dir.path();
    let whole = fs::read(dir.join("map")).unwrap();
    let with = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(dir.join("map"), bytes).unwrap();
    };
    let generate = [&GENERATE[..], &["--model", "llama2", "--map", "map"]].concat();
    with("\"tokens\":\"all\"", "\"tokens\":\"few\"");
    refused(dir, &generate, &["map", "`tokens`", "`few`", "last+generated"]);
    with("\"strength\":\"-0.5\"", "\"strength\":\"-inf\"");
    refused(dir, &generate, &["map", "`strength`", "`-inf`", "finite"]);
    refused(dir, &["apply", "--map", "map", "--in", "source.st", "--out", "x"], &["`strength`", "`-inf`"]);
}

#[test]
fn prompts_are_put_to_the_model_as_at_the_fit() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let paths = chatty(dir, PLAIN);
    short_study(&paths.study, &dir.join("data"), [8, 4, 4]);
    for (side, name) in [("source", "source"), ("target", "target")] {
        fs::copy(dir.join(format!("data/{side}_train.jsonl")), dir.join(format!("{name}.jsonl"))).unwrap();
    }
    let system = ["--system", "Be brief."];
    let captured = capture(dir, "model", "source", "source", &system);
    let facts = &captured["metadata"];
    assert_eq!((&facts["prompts.system"], &facts["prompts.raw"]), (&json!("\"Be brief.\""), &json!("false")));
    assert_eq!(facts["template.sha256"].as_str().unwrap().len(), 64);
    assert!(facts["prompts.date"].is_null());

    capture(dir, "model", "target", "target", &[]);
    let args = ["fit", "--source", "source.st", "--target", "target.st", "--out", "map"];
    refused(dir, &args, &["prompts.system", "`null` in target.st"]);
    let raw = capture(dir, "model", "target", "target", &["--raw"]);
    assert_eq!(raw["metadata"]["template.sha256"], "none");
    refused(dir, &args, &["prompts.raw", "template.sha256", "`none` in target.st"]);
    capture(dir, "model", "target", "target", &system);
    fit(dir, &["--method", "mean"]);

    let generate = [&GENERATE[..], &["--model", "model", "--map", "map"]].concat();
    done(dir, &[&generate[..], &system].concat());
    refused(dir, &generate, &["prompts.system", "Be brief.", "`null` in this run", "--allow-mismatch"]);
    refused(dir, &[&generate[..], &["--raw"]].concat(), &["prompts.raw", "template.sha256"]);
    let score = ["score", "--model", "model", "--map", "map", "--max-new-tokens", "2"];
    refused(dir, &[&score[..], &["--harmless", "target.jsonl"]].concat(), &["prompts.system"]);
    // A text has no prompt, and so no way to put it.
    result(dir, &[&score[..], &["--text", "data/text.txt"]].concat());
    let (out, _) = noted(dir, &[&generate[..], &["--allow-mismatch", "--json"]].concat());
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["intervention"]["differences"][0]["fact"], "prompts.system");

    // The same model with another template.
    fs::write(dir.join("model/chat_template.jinja"), format!("{PLAIN} ")).unwrap();
    refused(dir, &[&generate[..], &system].concat(), &["template.sha256"]);
}

#[test]
fn the_date_of_a_template_is_fixed_and_recorded() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let paths = chatty(dir, DATED);
    short_study(&paths.study, &dir.join("data"), [8, 6, 4]);
    for side in ["source", "target"] {
        fs::copy(dir.join(format!("data/{side}_train.jsonl")), dir.join(format!("{side}.jsonl"))).unwrap();
    }
    let shown = |more: &[&str]| {
        let args = ["inspect", "--model", "model", "--prompt", "Where is the mill?"];
        result(dir, &[&args, more].concat())["prompt"].clone()
    };
    let dated = shown(&["--date", "2024-02-29"]);
    assert!(dated["rendered"].as_str().unwrap().starts_with("29 February 2024\n"), "{dated}");
    assert_eq!(dated["date"], "2024-02-29T00:00:00");
    let today = shown(&[]);
    assert_eq!(shown(&["--date", today["date"].as_str().unwrap()])["ids"], today["ids"]);
    refused(
        dir,
        &["inspect", "--model", "model", "--prompt", "x", "--date", "tomorrow"],
        &["--date", "2026-01-31"],
    );

    // Captured now and, at the recorded date, again: the same bytes.
    let captured = capture(dir, "model", "source", "source", &[]);
    let date = captured["metadata"]["prompts.date"].as_str().unwrap();
    let bytes = fs::read(dir.join("source.st")).unwrap();
    capture(dir, "model", "source", "source", &["--date", date]);
    assert_eq!(fs::read(dir.join("source.st")).unwrap(), bytes);
    capture(dir, "model", "target", "target", &["--date", "2024-02-29"]);
    let args = ["fit", "--source", "source.st", "--target", "target.st", "--out", "map"];
    refused(dir, &args, &["prompts.date", "`2024-02-29T00:00:00` in target.st"]);

    // A map brings its date along.
    capture(dir, "model", "source", "source", &["--date", "2024-02-29"]);
    fit(dir, &["--method", "mean"]);
    let generate = |more: &[&str]| {
        let args = [&GENERATE[..], &["--model", "model", "--map", "map", "--json"], more].concat();
        let output = support::brenier(dir, &args);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        (lines(&dir.join("o")), found["intervention"]["differences"].clone())
    };
    assert_eq!(generate(&[]), generate(&["--date", "2024-02-29"]));
    let (_, differences) = generate(&["--date", "2025-03-01"]);
    assert_eq!(differences[0]["values"]["this run"], "2025-03-01T00:00:00");

    // So does a study, in its report, its manifest and its maps.
    let study = |out: &str, more: &[&str]| {
        let args = [
            "study",
            "--model",
            "model",
            "--data",
            "data",
            "--out",
            out,
            "--layers",
            "3",
            "--methods",
            "mean",
            "--max-new-tokens",
            "4",
        ];
        let mut report = result(dir, &[&args, more].concat());
        report["timings"] = Value::Null;
        report["methods"][0]["seconds"] = Value::Null;
        report
    };
    let first = study("one", &[]);
    let date = first["settings"]["date"].as_str().unwrap();
    assert_eq!(study("two", &["--date", date]), first);
    let manifest: Value = serde_json::from_slice(&fs::read(dir.join("one/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["settings"]["date"], date);
    assert_eq!(metadata(&dir.join("one/maps/mean.safetensors"))["prompts.date"], date);
    assert_eq!(study("three", &["--date", "2024-02-29"])["settings"]["date"], "2024-02-29T00:00:00");
}

#[test]
fn a_template_without_a_date_records_none() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    chatty(dir, PLAIN);
    fs::write(dir.join("p.jsonl"), "{\"prompt\": \"Where is the mill?\"}\n").unwrap();
    let captured = capture(dir, "model", "p", "p", &["--date", "2024-02-29"]);
    assert!(captured["metadata"]["prompts.date"].is_null());
    // Prompts that come as ids went through no template that anybody knows of.
    fs::write(dir.join("p.jsonl"), "{\"ids\": [5, 6]}\n").unwrap();
    let facts = &capture(dir, "model", "p", "p", &[])["metadata"];
    assert!(
        facts["template.sha256"].is_null()
            && facts["prompts.system"].is_null()
            && facts["prompts.raw"].is_null()
    );
    assert!(facts["model.sha256"].is_string());
}
