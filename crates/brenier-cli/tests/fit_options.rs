//! Every way to fit that the command line offers, on small files.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{cloud, done, refused, tensor};
use tempfile::{TempDir, tempdir};

const NAME: &str = "blocks.0.hook_resid_post";

fn files() -> TempDir {
    let dir = tempdir().unwrap();
    tensor(&dir.path().join("source.safetensors"), NAME, &cloud(60, 6, 0.0));
    tensor(&dir.path().join("target.safetensors"), NAME, &cloud(50, 6, 5.0));
    dir
}

/// The result of `fit` with these arguments besides.
fn fit(dir: &Path, more: &[&str]) -> Value {
    let args =
        ["fit", "--source", "source.safetensors", "--target", "target.safetensors", "--out", "m.safetensors"];
    let args = [&args, more, &["--force", "--json"]].concat();
    serde_json::from_str(&done(dir, &args)).unwrap()
}

fn certificate(dir: &Path, more: &[&str]) -> Value {
    fit(dir, more)["maps"][NAME].clone()
}

#[test]
fn components_are_chosen_on_rows_kept_out_if_asked_for() {
    let dir = files();
    let found = fit(dir.path(), &["--components", "auto", "--folds", "4"]);
    let table = &found["components"][NAME];
    assert_eq!(table["table"].as_array().unwrap().len(), 5); // 1, 2, 3, 4 and 6 of a width of 6
    assert_eq!(table["table"][0]["folds"].as_array().unwrap().len(), 4);
    assert_eq!(found["maps"][NAME]["components"], table["components"]);
    // The difference of the means is nearly all there is, and one axis holds it.
    assert_eq!(table["components"], 1);
    // A method without components has none to choose.
    assert!(fit(dir.path(), &["--method", "ot", "--components", "auto"])["components"].is_null());
}

#[test]
fn each_method_takes_its_options() {
    let dir = files();
    let dir = dir.path();
    let sigma = |more: &[&str]| {
        let found = certificate(dir, &[&["--method", "entropic"], more].concat());
        found["entropic"]["sigma"].as_f64().unwrap()
    };
    assert!((sigma(&["--entropic-sigma", "0.4"]) / sigma(&[]) - 4.0).abs() < 1e-12);
    assert_eq!(sigma(&["--entropic-sigma-abs", "0.25"]), 0.25);

    let mixture =
        certificate(dir, &["--method", "mixture", "--mixture-components", "bic:2", "--mixture-gated"]);
    assert!(mixture["mixture"].is_object());
    let gated = certificate(dir, &["--method", "gated", "--gate-calibrate", "3"]);
    assert!(gated["calibration"].is_object());
    let latent = certificate(dir, &["--method", "ot", "--latent", "2"]);
    assert_eq!(latent["latent"], 2);
    let oas = certificate(dir, &["--method", "ot", "--shrinkage", "oas"]);
    assert!(oas["shrinkage"][0].as_f64().unwrap() > 0.0);
    assert_ne!(oas["shrinkage"], certificate(dir, &["--method", "ot", "--shrinkage", "auto"])["shrinkage"]);
}

#[test]
fn intervals_and_the_sliced_distance_come_on_request_and_follow_the_seed() {
    let dir = files();
    let plain = certificate(dir.path(), &[]);
    assert!(plain["bootstrap"].is_null() && plain["train"]["sliced"].is_null());
    let asked = |seed| certificate(dir.path(), &["--bootstrap", "30", "--sliced", "16", "--seed", seed]);
    let first = asked("1");
    let [low, high] = [0, 1].map(|i| first["bootstrap"]["w2_before"][i].as_f64().unwrap());
    let w2 = first["train"]["w2_before"].as_f64().unwrap();
    assert!(low < high && (low..high).contains(&w2), "{low} {w2} {high}");
    assert_eq!(first["bootstrap"]["resamples"], 30);
    assert_eq!(first["train"]["sliced"]["directions"], 16);
    assert_eq!(first, asked("1"));
    assert_ne!(first["bootstrap"], asked("2")["bootstrap"]);
}

#[test]
fn options_out_of_range_are_refused_in_one_line() {
    let dir = files();
    let refuse = |more: &[&str], words: &[&str]| {
        let args = [
            "fit",
            "--source",
            "source.safetensors",
            "--target",
            "target.safetensors",
            "--out",
            "m.safetensors",
        ];
        refused(dir.path(), &[&args, more].concat(), words);
    };
    refuse(&["--components", "some"], &["components", "auto"]);
    refuse(&["--components", "0"], &["components", "1 or more"]);
    refuse(&["--components", "auto", "--folds", "26"], &["folds", NAME]);
    refuse(&["--method", "mixture", "--mixture-components", "aic:3"], &["aic", "bic:M"]);
    refuse(&["--method", "entropic", "--entropic-sigma", "-1"], &["entropic sigma", "above 0"]);
    refuse(&["--method", "ot", "--latent", "2", "--shrinkage", "0.1"], &["latent"]);
    refuse(&["--method", "gated", "--gate-calibrate", "1"], &["folds", "2 or more"]);
    refuse(&["--bootstrap", "0"], &["bootstrap", "1 or more"]);
    refuse(&["--sliced", "0"], &["sliced", "1 or more"]);
}
