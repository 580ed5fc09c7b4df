//! Perplexity and KL against transformers in float64, on tiny models of every family.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_eval::{Subject, kl, perplexity};
use brenier_hooks::{Edit, Intervention};
use brenier_map::{Affine, LowRank, RowMap};
use brenier_residual::{HookPoint, Tap, TokenSet};
use burn::tensor::DType;
use common::{Numbers, golden};
use faer::Mat;
use serde_json::Value;

/// A forward pass in f32 against one in f64: a hundred roundings, relative to 1 nat or the sum.
const TOLERANCE: f64 = 1e2 * f32::EPSILON as f64;

fn rows(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn close(what: &str, found: f64, wanted: f64) {
    assert!((found - wanted).abs() <= TOLERANCE * wanted.abs().max(1.0), "{what}: {found} {wanted}");
}

#[test]
fn perplexity_and_kl_are_those_of_transformers() {
    let text = std::fs::read_to_string(golden("eval/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    for (name, case) in expected.as_object().unwrap() {
        let subject = Numbers::load(name, DType::F32);
        let spec = subject.model().spec();
        let offset: Vec<f64> = serde_json::from_value(case["shift"].clone()).unwrap();
        let d = offset.len();
        let shift =
            LowRank { scale: 1.0, mean: vec![0.0; d], offset, u: Mat::zeros(d, 0), v: Mat::zeros(d, 0) };
        let edit = Edit {
            at: HookPoint::resid_post(1),
            map: RowMap::new(Affine::LowRank(shift)).unwrap(),
            strength: 1.0,
            tokens: TokenSet::All,
        };
        let lines: Vec<String> = rows(&case["text"]).iter().map(|ids| subject.decode(ids).unwrap()).collect();
        for (label, edits) in [("untouched", &[][..]), ("shifted", std::slice::from_ref(&edit))] {
            let found = perplexity(&subject, &lines, edits, Some(3)).unwrap();
            assert_eq!(found.tokens as u64, case[label]["tokens"].as_u64().unwrap());
            close(name, found.nll, case[label]["nll"].as_f64().unwrap());
        }
        let mut tap = Intervention::new(spec, &[edit]).unwrap();
        let mut taps: [&mut dyn Tap; 1] = [&mut tap];
        let (prompts, continuations) = (rows(&case["prompts"]), rows(&case["continuations"]));
        let found = kl(subject.model(), &prompts, &continuations, &mut taps, None).unwrap();
        for (key, values) in [("kl_prompt", &found[0].prompt), ("kl_continuation", &found[0].continuation)] {
            let wanted: Vec<f64> = serde_json::from_value(case[key].clone()).unwrap();
            assert_eq!(values.len(), wanted.len());
            values.iter().zip(wanted).for_each(|(found, wanted)| close(key, *found, wanted));
        }
    }
}
