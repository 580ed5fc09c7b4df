//! A map acts as it was measured: what a study reports is what its maps do afterwards.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use brenier::organism::Organism;
use brenier::transport::Method;
use serde_json::Value;
use support::{done, json, metadata, short_study};
use tempfile::tempdir;

const LAYER: &str = "3";

fn score(dir: &Path, map: &str, more: &[&str]) -> Value {
    let args = [
        "score",
        "--model",
        "model",
        "--prompts",
        "data/source_test.jsonl",
        "--answers",
        "data/source_test_answers.jsonl",
        "--refusal-phrases",
        "data/refusal_phrases.json",
        "--harmless",
        "data/target_test.jsonl",
        "--text",
        "data/text.txt",
        "--max-new-tokens",
        "12",
        "--map",
        map,
    ];
    json(dir, &[&args, more].concat())
}

/// What both a study and a score measure.
fn same(row: &Value, found: &Value) {
    let method = &row["method"];
    for rate in ["refusal_rate", "answer_rate"] {
        assert_eq!(row[rate]["count"], found[rate]["count"], "{method} {rate}");
    }
    assert_eq!(row["perplexity"], found["perplexity"], "{method}");
    // The same prompts in the same batches.
    assert_eq!(row["kl"], found["kl"]["value"], "{method}");
}

#[test]
fn what_a_study_reports_is_what_its_maps_do() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let organism = Organism::unpack(dir).unwrap();
    short_study(&organism.study, &dir.join("data"), [24, 20, 12]);
    let methods = Method::ALL.map(Method::name).join(",");
    let report = json(
        dir,
        &[
            "study",
            "--model",
            "model",
            "--data",
            "data",
            "--out",
            "out",
            "--layers",
            LAYER,
            "--components",
            "2",
            "--methods",
            &methods,
            "--max-new-tokens",
            "12",
        ],
    );
    let rows = report["methods"].as_array().unwrap();
    assert_eq!(rows.len(), Method::ALL.len());
    let row = |method: &str| rows.iter().find(|row| row["method"] == method).unwrap();
    // The test says something only where other policies than the default were measured.
    assert_eq!((&row("ace")["strength"], &row("ace")["tokens"]), (&1.25.into(), &"last+generated".into()));
    assert_eq!((&row("rfa")["strength"], &row("rfa")["tokens"]), (&1.0.into(), &"all".into()));
    for row in rows {
        let found = score(dir, &format!("out/{}", row["map"].as_str().unwrap()), &[]);
        same(row, &found);
        let info = &found["intervention"];
        assert_eq!(
            (&info["tokens"]["value"], &info["strength"]["value"]),
            (&row["tokens"], &row["strength"])
        );
        assert_eq!(
            (&info["tokens"]["from"], &info["strength"]["from"]),
            (&"recorded".into(), &"recorded".into())
        );
    }
    // Told otherwise, another thing is measured, and said.
    let found = score(dir, "out/maps/ace.safetensors", &["--strength", "1"]);
    assert_ne!(found["kl"]["value"], row("ace")["kl"]);
    assert_eq!(
        found["intervention"]["strength"],
        serde_json::json!({"value": 1.0, "from": "given", "recorded": 1.25})
    );

    // A map of one's own does the same, once it is told how.
    for side in ["source", "target"] {
        let (prompts, out) = (format!("data/{side}_train.jsonl"), format!("{side}.safetensors"));
        done(dir, &["capture", "--model", "model", "--prompts", &prompts, "--layers", LAYER, "--out", &out]);
    }
    let fit = |more: &[&str]| {
        let args = [
            "fit",
            "--source",
            "source.safetensors",
            "--target",
            "target.safetensors",
            "--out",
            "map",
            "--force",
        ];
        json(dir, &[&args, more].concat())
    };
    fit(&["--method", "rfa"]);
    same(row("rfa"), &score(dir, "map", &[]));
    fit(&["--method", "ace", "--strength", "1.25"]);
    same(row("ace"), &score(dir, "map", &[]));
}

#[test]
fn a_projection_of_every_block_still_maps_the_rows_it_was_fitted_on() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    support::model(dir, "llama2");
    for (name, first) in [("source", 0), ("target", 40)] {
        support::ids(dir, name, 12, first);
        done(
            dir,
            &[
                "capture",
                "--model",
                "llama2",
                "--prompts",
                name,
                "--layers",
                "1-2",
                "--out",
                &format!("{name}.st"),
            ],
        );
    }
    let fit = [
        "fit",
        "--source",
        "source.st",
        "--target",
        "target.st",
        "--method",
        "rfa",
        "--out",
        "map",
        "--force",
    ];
    let fitted = json(dir, &[&fit[..], &["--layers", "1"]].concat());
    let name = "blocks.1.hook_resid_post";
    // One certificate, for the tensor that was fitted.
    assert_eq!(fitted["maps"].as_object().unwrap().keys().collect::<Vec<_>>(), [name]);
    assert_eq!(
        fitted["intervention"],
        serde_json::json!({"tokens": "all", "strength": 1.0, "fitted_at": name})
    );
    let stated = metadata(&dir.join("map"));
    let entries: Value = serde_json::from_str(stated["entries"].as_str().unwrap()).unwrap();
    assert_eq!(entries.as_object().unwrap().len(), 3 * 3);
    assert!(entries["blocks.2.hook_mlp_out"].is_object() && entries[name].is_null());
    let applied = json(dir, &["apply", "--map", "map", "--in", "source.st", "--out", "moved"]);
    assert_eq!(applied["tensors"].as_object().unwrap().keys().collect::<Vec<_>>(), [name]);

    // Several directions are not one: each is kept for where it was fitted, and that is said.
    let (out, note) = support::noted(dir, &[&fit[..], &["--json"]].concat());
    assert!(note.contains("--layers") && note.contains("2 maps"), "{note}");
    let fitted: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(fitted["intervention"]["fitted_at"], Value::Null);
    let entries: Value =
        serde_json::from_str(metadata(&dir.join("map"))["entries"].as_str().unwrap()).unwrap();
    assert_eq!(entries.as_object().unwrap().keys().collect::<Vec<_>>(), [name, "blocks.2.hook_resid_post"]);
}
