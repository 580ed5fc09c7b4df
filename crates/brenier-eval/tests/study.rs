//! The whole study on a model whose answers are known by construction.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use brenier_capture::{Activations, Fact};
use brenier_eval::{EvalError, MapRecord, Progress, Report, STUDIED, Study, StudyOptions, Timings, study};
use brenier_files::WriteError;
use brenier_map::MapFile;
use brenier_model::Prompt;
use brenier_residual::HookPoint;
use serde_json::Value;

use common::{ITEMS, LAYERS, Speaker, VOCAB, data};

const TEST: usize = 14 * ITEMS as usize;

fn options() -> StudyOptions {
    let mut options = StudyOptions::default();
    options.components = vec![1, 2];
    options.max_new_tokens = 4;
    options
}

fn run() -> Study {
    study(&Speaker::new(), &data(), &options(), &mut ()).unwrap()
}

/// The same report but for the seconds.
fn timeless(mut report: Report) -> Report {
    report.timings = Timings::default();
    report.methods.iter_mut().for_each(|method| method.seconds = 0.0);
    report
}

#[test]
fn what_is_known_by_construction_is_reported() {
    let Study { report, maps, completions } = run();
    let baseline = &report.baseline;
    assert_eq!((baseline.refusal_rate.count, baseline.refusal_rate.n), (TEST, TEST));
    assert_eq!(baseline.answer_rate.unwrap().count, 0);
    assert_eq!(baseline.latent_answer_rate.unwrap().count, TEST);
    assert_eq!((baseline.target_refusal_rate.count, baseline.target_answer_rate.unwrap().count), (0, TEST));
    // w3 w4 eos, no w5 w6 no eos.
    assert_eq!(baseline.perplexity_tokens, 8);

    let names: Vec<String> = STUDIED.iter().map(ToString::to_string).collect();
    assert_eq!(report.methods.iter().map(|m| m.setting.method.clone()).collect::<Vec<_>>(), names);
    assert_eq!(maps.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names);
    // The refusal coordinate alone separates the sides: each of these takes it away and leaves the items be.
    for method in
        report.methods.iter().filter(|m| ["gated", "mean", "rfa", "ace"].contains(&m.setting.method.as_str()))
    {
        let name = &method.setting.method;
        let scores = method.outcome.ok().unwrap();
        assert_eq!(scores.refusal_rate.count, 0, "{name}");
        assert_eq!(scores.answer_rate.unwrap().count, TEST, "{name}");
        assert_eq!(scores.target_answer_rate.unwrap().count, TEST, "{name}");
        let versus = scores.versus_baseline.answer.unwrap();
        assert_eq!((versus.gained, versus.lost, versus.difference), (TEST, 0, 1.0), "{name}");
        assert!(versus.p < 1e-9 && method.val.as_ref().unwrap().within_bounds, "{name}");
    }
    assert_eq!(report.settings.refusal_tokens, [common::NO]);
    assert_eq!(report.layers.len(), usize::from(LAYERS));
    assert!(report.layers.iter().all(|layer| layer.auc == 1.0 && layer.refusal_rate.is_some()));
    assert_eq!((report.model.vocab, report.data.answers["source_test_answers"]), (VOCAB, TEST));
    // Each prompt once for the untouched model and once for each method.
    assert_eq!(completions.len(), 2 * TEST * (1 + names.len()));
    let scatter = report.scatter.unwrap();
    assert_eq!((scatter.source.len(), scatter.transported.len()), (6 * ITEMS as usize, 6 * ITEMS as usize));
}

#[test]
fn forcing_answers_says_what_generating_does() {
    let report = run().report;
    let scores = report.sweep.iter().map(|point| (&point.setting, point.outcome.ok().unwrap()));
    let generated: Vec<_> = scores.filter(|(_, scores)| scores.target_answer_rate.is_some()).collect();
    assert!(generated.len() >= STUDIED.len());
    for (setting, scores) in generated {
        assert_eq!(scores.forced_answer_rate, scores.answer_rate, "{setting}");
        assert_eq!(scores.forced_target_answer_rate, scores.target_answer_rate, "{setting}");
    }
}

#[test]
fn a_study_is_the_same_twice_and_whatever_the_batch() {
    let one = timeless(run().report);
    assert_eq!(one, timeless(run().report));
    let mut small = options();
    small.batch = Some(5);
    let other = study(&Speaker::new(), &data(), &small, &mut ()).unwrap().report;
    assert_eq!(one.baseline.refusal_rate, other.baseline.refusal_rate);
    let rates = |report: &Report| {
        let scores = report.methods.iter().map(|m| m.outcome.ok().unwrap());
        scores.map(|m| (m.answer_rate, m.refusal_rate)).collect::<Vec<_>>()
    };
    assert_eq!(rates(&one), rates(&other));
}

/// Equal, up to the last bit of a number: serde_json's parser is fast rather than correctly rounded.
fn assert_same(a: &Value, b: &Value) {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| assert_same(a, b));
        }
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()));
            a.values().zip(b.values()).for_each(|(a, b)| assert_same(a, b));
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 2.0 * f64::EPSILON * a.abs(), "{a} {b}");
        }
        _ => assert_eq!(a, b),
    }
}

#[test]
fn what_is_written_can_be_read_and_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let found = run();
    found.write(&out, false).unwrap();
    let report: Report = serde_json::from_str(&fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    assert_same(&serde_json::to_value(&report).unwrap(), &serde_json::to_value(&found.report).unwrap());
    for method in &report.methods {
        let maps = MapFile::read(&out.join(method.map.as_ref().unwrap())).unwrap();
        let setting = &method.setting;
        let rfa = setting.method == "rfa";
        assert_eq!(maps.entries.len(), if rfa { 3 * usize::from(LAYERS) } else { 1 }, "{}", setting.method);
        // The file says how the map was measured, and where it was fitted if it acts elsewhere.
        let record = MapRecord::read(&maps, Path::new("map")).unwrap();
        assert_eq!(record.tokens.unwrap().to_string(), setting.tokens);
        assert_eq!(record.strength, Some(setting.strength));
        let fitted = HookPoint::resid_post(setting.layers[0]).to_string();
        assert_eq!(record.fitted_at, rfa.then(|| fitted.clone()));
        assert!(rfa || maps.entries.contains_key(&fitted));
        let stated = [Fact::Model, Fact::Layers, Fact::Position, Fact::Dtype, Fact::Template];
        let stated = stated.map(|fact| record.provenance.get(fact));
        // These prompts are ids: nobody knows their template.
        assert_eq!(stated, [Some("town"), Some("3"), Some("last"), Some("f32"), None]);
    }
    let lines = fs::read_to_string(out.join("completions.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), found.completions.len());
    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["outputs"]["report.json"].as_str().unwrap().len(), 64);
    assert!(matches!(found.write(&out, false), Err(EvalError::Write(WriteError::Exists { .. }))));
    found.write(&out, true).unwrap();
}

#[test]
fn without_answers_refusals_and_divergence_decide() {
    let mut data = data();
    for side in [&mut data.source, &mut data.target] {
        (side.val_answers, side.test_answers) = (None, None);
    }
    data.text = None;
    let report = study(&Speaker::new(), &data, &options(), &mut ()).unwrap().report;
    assert_eq!((report.baseline.answer_rate, report.baseline.latent_answer_rate), (None, None));
    assert_eq!(report.baseline.perplexity, None);
    let best = report.methods.iter().find(|m| m.setting == report.selected).unwrap();
    let scores = best.outcome.ok().unwrap();
    assert_eq!(scores.refusal_rate.count, 0);
    assert!(scores.answer_rate.is_none() && best.val.as_ref().unwrap().within_bounds);
}

#[test]
fn a_model_that_refuses_nothing_has_no_refusal_score() {
    let mut data = data();
    data.phrases = brenier_eval::Phrases::new("none", &["never said".to_owned()]).unwrap();
    let report = study(&Speaker::new(), &data, &options(), &mut ()).unwrap().report;
    assert_eq!((report.baseline.refusal_score, report.baseline.refusal_rate.count), (None, 0));
    assert!(report.notes.iter().any(|note| note.contains("no refusal score")));
}

#[test]
fn more_components_than_directions_are_failed_fits_and_a_note() {
    let mut options = options();
    options.components = vec![1, 500];
    let report = study(&Speaker::new(), &data(), &options, &mut ()).unwrap().report;
    let notes: Vec<_> = report.notes.iter().filter(|note| note.contains("500 components")).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    // Two methods with two shifts at three layers.
    let failed: Vec<_> = report.sweep.iter().filter(|point| point.outcome.ok().is_none()).collect();
    assert_eq!(failed.len(), 2 * 2 * usize::from(LAYERS));
    let reason = failed[0].outcome.reason().unwrap();
    assert!(
        reason.contains("pca-ot (K 500, shift subspace, layer 0 counted from 0")
            && reason.contains("not be fitted"),
        "{reason}"
    );
    assert!(report.methods.iter().all(|method| method.outcome.ok().is_some()));
    options.components = vec![500];
    options.methods = vec!["pca-ot".to_owned()];
    let error = study(&Speaker::new(), &data(), &options, &mut ()).unwrap_err().to_string();
    assert!(error.contains("pca-ot at layer 0") && error.contains("500"), "{error}");
}

#[test]
fn bad_options_and_prompts_get_one_line() {
    let failure = |change: &dyn Fn(&mut StudyOptions), prompts: Option<Vec<u32>>| {
        let (mut options, mut data) = (options(), data());
        change(&mut options);
        if let Some(ids) = prompts {
            data.target.val[1] = Prompt::ids(ids);
        }
        let text = study(&Speaker::new(), &data, &options, &mut ()).unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    };
    assert!(failure(&|o| o.layers = vec![1, 3], None).contains("layers from 0 to 2, found 3"));
    assert!(failure(&|o| o.components = vec![], None).contains("components"));
    assert!(failure(&|o| o.components = vec![0], None).contains("components"));
    assert!(failure(&|o| o.methods = vec!["magic".into()], None).contains("magic"));
    assert!(failure(&|o| o.harm_bound = f64::NAN, None).contains("harm bound"));
    assert!(failure(&|o| o.kl_bound = f64::INFINITY, None).contains("KL bound"));
    assert!(failure(&|o| o.batch = Some(0), None).contains("batch"));
    assert!(failure(&|o| o.max_new_tokens = 0, None).contains("max-new-tokens"));
    let long = failure(&|_| {}, Some(vec![1; 12]));
    assert!(
        long.contains("target_val, prompt 1 (counted from 0)") && long.contains("context holds 12"),
        "{long}"
    );
    assert!(failure(&|_| {}, Some(vec![])).contains("prompt 1 (counted from 0): it has no token"));
    assert!(failure(&|_| {}, Some(vec![9999])).contains("id 9999"));
}

/// Stages and their steps.
#[derive(Default)]
struct Told {
    stages: Vec<(String, usize, usize)>,
    done: bool,
}

impl Progress for Told {
    fn stage(&mut self, name: &str, total: usize) {
        self.stages.push((name.to_owned(), total, 0));
    }

    fn advance(&mut self, n: usize) {
        self.stages.last_mut().unwrap().2 += n;
    }

    fn done(&mut self) {
        self.done = true;
    }
}

#[test]
fn progress_adds_up() {
    let mut told = Told::default();
    study(&Speaker::new(), &data(), &options(), &mut told).unwrap();
    assert!(told.done);
    for (name, total, steps) in told.stages.iter().filter(|(_, total, _)| *total > 0) {
        assert_eq!(total, steps, "{name}");
    }
}

#[test]
fn a_map_of_the_study_applies_to_captured_rows() {
    // The file's entry is named as the tensor that `capture` writes.
    let found = run();
    let (_, maps) = found.maps.iter().find(|(name, _)| name == "gated").unwrap();
    let entry = maps.entries.keys().next().unwrap();
    let request = brenier_capture::Request {
        points: vec![entry.parse().unwrap()],
        ..brenier_capture::Request::default()
    };
    let ids = vec![vec![common::BOS, common::question(0, 1, 3)]];
    let rows: Activations =
        brenier_capture::capture(&common::Town::new(), &ids, &request, &mut (), &mut |_| {}).unwrap();
    let mut rows = rows.tensors[entry].to_f64();
    let before = rows[(0, 0)];
    maps.entries[entry].map.apply_rows(rows.as_mut(), 1.0).unwrap();
    // 4 and 0, each with half a unit of noise: the map takes refusal away.
    assert!(before > 3.5 && rows[(0, 0)] < 1.0);
}
