//! A value that is not finite is a failure, never a score: of a measure, of a candidate, of a method.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use brenier_eval::{
    EvalError, MethodReport, Outcome, Progress, Report, ScoreOptions, Side, Study, StudyData, StudyOptions,
    Subject, SweepPoint, Timings, kl, perplexity, render, score, study,
};
use brenier_hooks::{Edit, Intervention};
use brenier_map::{Affine, LowRank, RowMap};
use brenier_model::Prompt;
use brenier_residual::{HookPoint, ResidualError, TokenSet};
use burn::tensor::DType;
use common::{BOS, Fuse, ITEMS, Numbers, Speaker, Token, data, question};
use faer::Mat;

const MODELS: [&str; 3] = ["llama2", "llama31", "qwen25"];

/// Adds the same to every coordinate after block 1.
fn shift(dim: usize, by: f64, tokens: TokenSet) -> Edit {
    let map = LowRank {
        scale: 1.0,
        mean: vec![0.0; dim],
        offset: vec![by; dim],
        u: Mat::zeros(dim, 0),
        v: Mat::zeros(dim, 0),
    };
    let map = RowMap::new(Affine::LowRank(map)).unwrap();
    Edit { at: HookPoint::resid_post(1), map, strength: 1.0, tokens }
}

/// Prompts of ids that a golden model knows, the i-th of `4 + i % 3` tokens.
fn prompts(count: usize, first: usize) -> Vec<Vec<u32>> {
    let ids = |i: usize| (0..4 + i % 3).map(move |token| (10 + (first + 7 * i + 13 * token) % 150) as u32);
    (0..count).map(|i| ids(i).collect()).collect()
}

fn as_prompts(ids: Vec<Vec<u32>>) -> Vec<Prompt> {
    ids.into_iter().map(Prompt::ids).collect()
}

#[test]
fn a_score_under_an_edit_that_overflows_f16_is_an_error() {
    for name in MODELS {
        let (half, single) = (Numbers::load(name, DType::F16), Numbers::load(name, DType::F32));
        let dim = half.model().spec().hidden;
        let edit = [shift(dim, 1e5, TokenSet::LastAndGenerated)];
        let harmless =
            ScoreOptions { harmless: as_prompts(prompts(3, 0)), max_new_tokens: 3, ..Default::default() };
        let text = ScoreOptions { text: vec!["11 12".into(), "13 14 15".into()], ..Default::default() };
        let complete =
            ScoreOptions { prompts: as_prompts(prompts(3, 0)), max_new_tokens: 3, ..Default::default() };
        for (options, what) in
            [(&harmless, "harmless prompt "), (&text, "text, passage "), (&complete, "prompt ")]
        {
            let error = score(&half, &edit, options, &mut ()).unwrap_err();
            assert!(matches!(error, EvalError::Overflow { .. }), "{name}: {error}");
            let error = error.to_string();
            assert!(error.starts_with(what), "{name}: {error}");
            let rest = "values overflow f16 in the edit at blocks.1.hook_resid_post";
            assert!(error.contains(rest) && error.contains("use bf16 or f32"), "{name}: {error}");
            assert!(!error.contains("--") && !error.contains('\n'), "{error}");
            // Without the edit, and in f32 with it, there is a score, and it is no zero.
            score(&half, &[], options, &mut ()).unwrap();
            let sound = score(&single, &edit, options, &mut ()).unwrap();
            assert!(sound.kl.is_none_or(|kl| kl.value > 0.0), "{name}");
        }
    }
}

#[test]
fn an_untouched_model_that_overflows_is_told_from_an_edit_that_does() {
    let speaker = Speaker::with_fuse(|token| token.id == question(1, 2, 5));
    let harmless = vec![Prompt::ids(vec![BOS, question(1, 0, 5)]), Prompt::ids(vec![BOS, question(1, 2, 5)])];
    let options = ScoreOptions { harmless, ..Default::default() };
    let error = score(&speaker, &[], &options, &mut ()).unwrap_err().to_string();
    assert_eq!(
        error,
        "harmless prompt 1, token 1 (counted from 0): values are not finite in f32 at blocks.1.hook_resid_pre (token \
         1, counted from 0); are the weights sound?"
    );
}

#[test]
fn the_prompt_that_overflows_is_named() {
    let speaker = Speaker::with_fuse(|token| token.is_edited() && token.id == question(1, 2, 5));
    let at = |at| Edit { at, ..shift(common::HIDDEN, 1.0, TokenSet::Last) };
    let first = at(HookPoint::resid_post(0));
    let mut taps = [
        Intervention::new(speaker.model().spec(), &[first]).unwrap(),
        Intervention::new(speaker.model().spec(), &[at(HookPoint::resid_post(1))]).unwrap(),
    ];
    let prompts: Vec<Vec<u32>> = (0..4).map(|item| vec![BOS, question(1, item, 5)]).collect();
    let continuations = vec![vec![]; 4];
    let [one, other] = &mut taps;
    let error = kl(speaker.model(), &prompts, &continuations, &mut [other, one], Some(1)).unwrap_err();
    let EvalError::Overflow { what: "prompt", index: 2, token: 1, overflow } = error else {
        panic!("{error}")
    };
    assert!(
        overflow.to_string().contains("blocks.1.hook_resid_pre (token 1, counted from 0), after an edit"),
        "{overflow}"
    );
    let found = kl(speaker.model(), &prompts, &continuations, &mut [other], None).unwrap();
    assert!(found[0].prompt.iter().all(|value| *value > 0.0 && value.is_finite()));
}

#[test]
fn a_perplexity_beyond_f64_is_an_error() {
    // Some 1e5 nats a token.
    let mut edit = shift(common::HIDDEN, 0.0, TokenSet::All);
    let offset = (0..common::HIDDEN).map(|j| if j == 2 { 1e5 } else { 0.0 }).collect();
    let (u, v) = (Mat::zeros(common::HIDDEN, 0), Mat::zeros(common::HIDDEN, 0));
    let map = LowRank { scale: 1.0, mean: vec![0.0; common::HIDDEN], offset, u, v };
    edit.map = RowMap::new(Affine::LowRank(map)).unwrap();
    let text = vec!["w3 w4".to_owned()];
    let sums = perplexity(&Speaker::new(), &text, std::slice::from_ref(&edit), None).unwrap();
    assert!(sums.nll > 1e4 && sums.nll.is_finite());
    let options = ScoreOptions { text, ..Default::default() };
    let error = score(&Speaker::new(), &[edit], &options, &mut ()).unwrap_err();
    assert!(matches!(error, EvalError::NotFinite { found: f64::INFINITY, .. }), "{error}");
    assert!(error.to_string().contains("perplexity of 3 tokens"), "{error}");
}

/// A study of a golden model, whose prompts are ids and whose words are numbers.
fn numbers() -> StudyData {
    let side = |first: usize| Side {
        train: as_prompts(prompts(24, first)),
        val: as_prompts(prompts(6, first + 3)),
        test: as_prompts(prompts(6, first + 5)),
        val_answers: None,
        test_answers: None,
    };
    StudyData {
        source: side(0),
        target: side(60),
        text: Some(vec!["11 12 13".to_owned()]),
        phrases: brenier_eval::Phrases::new("sevens", &["7".to_owned()]).unwrap(),
        sha256: Default::default(),
    }
}

fn options(methods: &[&str]) -> StudyOptions {
    let mut options = StudyOptions::default();
    options.methods = methods.iter().map(|&name| name.to_owned()).collect();
    options.components = vec![1, 2];
    options.max_new_tokens = 4;
    options
}

/// The same report but for the seconds.
fn timeless(mut report: Report) -> Report {
    report.timings = Timings::default();
    report.methods.iter_mut().for_each(|method| method.seconds = 0.0);
    report
}

fn failed(report: &Report) -> Vec<&SweepPoint> {
    report.sweep.iter().filter(|point| point.outcome.ok().is_none()).collect()
}

fn method<'a>(report: &'a Report, name: &str) -> &'a MethodReport {
    report.methods.iter().find(|method| method.setting.method == name).unwrap()
}

#[test]
fn a_candidate_that_overflows_f16_is_recorded_and_costs_nothing_else() {
    let subject = Numbers::load("llama31", DType::F16);
    let mut options = options(&["pca-ot", "mean", "rfa", "ace"]);
    let run =
        |options: &StudyOptions| timeless(study(&subject, &numbers(), options, &mut ()).unwrap().report);
    options.strengths = vec![1.25];
    let without = run(&options);
    assert!(failed(&without).is_empty());
    options.strengths = vec![1.25, 1e8];
    let mut with = run(&options);

    let points = failed(&with);
    // Each of the best few of each method that is tried at other strengths.
    assert_eq!(points.len(), 3 * 4);
    for point in points {
        let reason = point.outcome.reason().unwrap();
        assert_eq!(point.setting.strength, 1e8);
        let (layer, name) = (point.setting.layers[0], &point.setting.method);
        assert!(reason.starts_with(&format!("{}: ", point.setting)), "{reason}");
        for part in [
            name.as_str(),
            &format!("layer {layer}"),
            "strength 100000000",
            "tokens last+generated",
            "_val, prompt ",
            "values overflow f16 in the edit at",
            &format!("blocks.{layer}.hook_resid_post"),
            "use bf16 or f32",
        ] {
            assert!(reason.contains(part), "no `{part}` in: {reason}");
        }
    }
    with.sweep.retain(|point| point.outcome.ok().is_some());
    assert_eq!(with, without);
    assert!(with.methods.iter().all(|method| method.outcome.ok().is_some()));
}

/// Edits at block 0 are seen as they enter block 1.
fn edited(token: &Token<'_>) -> bool {
    token.is_edited()
}

#[test]
fn a_layer_at_which_everything_fails_costs_the_others_nothing() {
    let local = ["pca-ot", "gated", "ot", "mean", "ace", "act-linear"];
    let mut options = options(&local);
    options.layers = vec![1, 2];
    let without = timeless(study(&Speaker::new(), &data(), &options, &mut ()).unwrap().report);
    options.layers = vec![0, 1, 2];
    let mut with = timeless(study(&Speaker::with_fuse(edited), &data(), &options, &mut ()).unwrap().report);
    // Two methods with components, 2 of them, with 2 shifts; all but these once.
    assert_eq!(failed(&with).len(), 2 * 4 + 4);
    for point in failed(&with) {
        assert_eq!(point.setting.layers, [0]);
        let reason = point.outcome.reason().unwrap();
        assert!(reason.contains("values are not finite in f32 at blocks.1.hook_resid_pre"), "{reason}");
        assert!(reason.contains("after an edit"), "{reason}");
    }
    // No curve of the chosen method goes through that layer.
    let first = with.layers.remove(0);
    assert_eq!((first.refusal_score, first.refusal_rate, first.answer_rate), (None, None, None));
    with.sweep.retain(|point| point.outcome.ok().is_some());
    assert_eq!(with, without);
}

#[test]
fn a_method_without_a_sound_setting_is_reported_and_the_others_are_as_without_it() {
    let speaker = Speaker::with_fuse(edited);
    let run = |methods: &[&str]| {
        let mut options = options(methods);
        options.layers = vec![1, 2];
        timeless(study(&speaker, &data(), &options, &mut ()).unwrap().report)
    };
    // A projection acts at every block, block 0 among them.
    let (mut with, without) = (run(&["mean", "rfa", "ace"]), run(&["mean", "ace"]));
    let rfa = method(&with, "rfa");
    let reason = rfa.outcome.reason().unwrap();
    assert!(reason.contains("each of the 2 settings tried failed on validation"), "{reason}");
    assert!(
        reason.contains("rfa (layer 1 counted from 0, strength 1, tokens all): source_val, prompt 0"),
        "{reason}"
    );
    assert_eq!((rfa.setting.layers.len(), &rfa.map, &rfa.val), (0, &None, &None));
    assert_eq!(failed(&with).len(), 2);
    with.methods.retain(|method| method.setting.method != "rfa");
    with.sweep.retain(|point| point.outcome.ok().is_some());
    let notes = |report: &mut Report| report.notes.retain(|note| !note.starts_with("rfa"));
    notes(&mut with);
    assert_eq!(with, without);
}

#[test]
fn a_setting_that_fails_only_while_generating_is_passed_over() {
    let speaker = Speaker::with_fuse(|token| token.decoded && token.is_edited());
    let found = study(&speaker, &data(), &options(&["mean", "ace"]), &mut ()).unwrap();
    let report = &found.report;
    assert!(!failed(report).is_empty());
    for point in failed(report) {
        assert_eq!(point.setting.layers, [0], "{}", point.setting);
    }
    for method in &report.methods {
        assert!(method.outcome.ok().is_some() && method.setting.layers != [0], "{}", method.setting);
        assert_eq!(method.outcome.ok().unwrap().answer_rate.unwrap().count, 14 * ITEMS as usize);
    }
    // Every setting of the chosen method at layer 0 was tried for its curve, and failed.
    assert_eq!((report.layers[0].refusal_score, report.layers[0].refusal_rate), (None, None));
    let first =
        |point: &&SweepPoint| point.setting.layers == [0] && point.setting.method == report.selected.method;
    assert!(report.sweep.iter().filter(first).all(|point| point.outcome.ok().is_none()));
    assert!(report.layers[1].refusal_rate.is_some());
}

#[test]
fn what_fails_on_test_alone_is_reported_and_nothing_is_chosen_anew() {
    // Of target prompts, which gated and ACE leave alone, the mean shift moves every one. Ways from 26 on are test's.
    let fuse = |token: &Token<'_>| token.edit[0].abs() > 1.0 && token.id == question(1, 2, 30);
    let mut options = options(&["gated", "mean"]);
    options.layers = vec![0];
    let sound = study(&Speaker::new(), &data(), &options, &mut ()).unwrap();
    let found = study(&Speaker::with_fuse(fuse), &data(), &options, &mut ()).unwrap();
    let (before, after) = (timeless(sound.report), timeless(found.report.clone()));
    assert!(failed(&after).is_empty());
    let mean = method(&after, "mean");
    let reason = mean.outcome.reason().unwrap();
    let setting = &mean.setting;
    // The 18th prompt of the side's test: ways 26 to 29 with four items each, and item 2.
    let wanted =
        format!("{setting}: target_test, prompt {}, token 1 (counted from 0): values", 4 * ITEMS + 2);
    assert!(reason.starts_with(&wanted), "{reason}");
    assert_eq!(setting, &method(&before, "mean").setting);
    assert!(mean.map.is_some() && mean.val == method(&before, "mean").val);
    assert_eq!(method(&after, "gated"), method(&before, "gated"));
    assert_eq!(
        (&after.selected, &after.baseline, &after.sweep),
        (&before.selected, &before.baseline, &before.sweep)
    );
    assert!(found.completions.iter().all(|line| line.method != "mean"));
    assert_eq!(found.completions.len(), 4 * 14 * ITEMS as usize);

    // With the mean shift alone the one that validation chose is the one that fails.
    options.methods = vec!["mean".to_owned()];
    let found = study(&Speaker::with_fuse(fuse), &data(), &options, &mut ()).unwrap();
    let report = &found.report;
    assert_eq!(report.selected, report.methods[0].setting);
    assert!(report.methods[0].outcome.ok().is_none());
    assert!(report.notes.iter().any(|note| note.contains("failed on test") && note.contains("prompt 18")));
    assert!(render::html(report, &[]).contains("It failed on test"));
    written_and_read(&found);
}

fn written_and_read(found: &Study) {
    let dir = tempfile::tempdir().unwrap();
    found.write(dir.path(), false).unwrap();
    let text = fs::read_to_string(dir.path().join("report.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let method = &value["methods"][0];
    assert_eq!(method["status"], "failed");
    assert!(method["reason"].as_str().unwrap().contains("target_test"));
    assert!(method.get("refusal_rate").is_none() && method["method"] == "mean");
    assert_eq!(value["sweep"][0]["status"], "ok");
    let read: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(read.methods[0].outcome, found.report.methods[0].outcome);
    assert_eq!(read.sweep[0].outcome.ok().is_some(), found.report.sweep[0].outcome.ok().is_some());
}

/// Stages begun.
#[derive(Default)]
struct Stages(Vec<String>);

impl Progress for Stages {
    fn stage(&mut self, name: &str, _: usize) {
        self.0.push(name.to_owned());
    }

    fn advance(&mut self, _: usize) {}

    fn done(&mut self) {}
}

#[test]
fn an_untouched_model_that_overflows_ends_a_study_at_once() {
    // A prompt of each split in turn; 20, 6 and 14 ways with four items each.
    let splits: [(Fuse, &str); 6] = [
        (|token| token.id == question(0, 1, 3), "source_train, prompt 13"),
        (|token| token.id == question(0, 1, 21), "source_val, prompt 5"),
        (|token| token.id == question(0, 1, 27), "source_test, prompt 5"),
        (|token| token.id == question(1, 1, 3), "target_train, prompt 13"),
        (|token| token.id == question(1, 1, 21), "target_val, prompt 5"),
        (|token| token.id == question(1, 1, 27), "target_test, prompt 5"),
    ];
    for (fuse, what) in splits {
        let mut stages = Stages::default();
        let error = study(&Speaker::with_fuse(fuse), &data(), &options(&["mean"]), &mut stages).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{what}, token 1 (counted from 0): values are not finite in f32 at blocks.1.hook_resid_pre (token 1, counted from 0); \
                 are the weights sound?"
            )
        );
        assert_eq!(stages.0, ["the untouched model"]);
    }
    // Of refusals, which only the text forces, and of answers, which are forced as the target's completions.
    let forced: [(Fuse, &str); 2] = [
        (|token| token.id == common::NO && !token.decoded, "text, passage 1, token 1"),
        (|token| token.id == 5 && !token.decoded, "target_test, prompt 2, token 2"),
    ];
    for (fuse, what) in forced {
        let (mut stages, mut data) = (Stages::default(), data());
        for side in [&mut data.source, &mut data.target] {
            (side.val_answers, side.test_answers) = (None, None);
        }
        let speaker = Speaker::with_fuse(fuse);
        let error = study(&speaker, &data, &options(&["mean"]), &mut stages).unwrap_err().to_string();
        assert!(error.starts_with(what), "{error}");
        assert_eq!(stages.0, ["the untouched model"]);
    }
}

#[test]
fn a_study_in_which_nothing_can_be_measured_is_an_error() {
    let mut options = options(&["mean", "ace"]);
    options.layers = vec![0];
    let error = study(&Speaker::with_fuse(edited), &data(), &options, &mut ()).unwrap_err();
    assert!(matches!(error, EvalError::NothingMeasured { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("mean (layer 0 counted from 0")
            && error.contains("not finite")
            && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn a_machine_that_fails_ends_a_study_and_any_other_error_is_the_candidates_own() {
    let mut options = options(&["mean", "ace"]);
    options.layers = vec![0, 2];
    let run = |refusal| study(&Speaker::refusing(edited, refusal), &data(), &options, &mut ());
    let error = run(ResidualError::Device { reason: "lost".to_owned() }).unwrap_err();
    assert!(matches!(error, EvalError::Batch(ResidualError::Device { .. })), "{error}");
    let report = run(ResidualError::StepWidth { expected: 7, found: 1 }).unwrap().report;
    assert_eq!(failed(&report).len(), 2);
    assert!(
        failed(&report).iter().all(|point| point.outcome.reason().unwrap().contains("the batch has 7 rows"))
    );
    assert!(report.methods.iter().all(|method| method.outcome.ok().is_some()));
}

#[test]
fn a_report_with_a_number_that_json_does_not_have_is_not_written() {
    let mut found = study(&Speaker::new(), &data(), &options(&["mean"]), &mut ()).unwrap();
    let Outcome::Ok(scores) = &mut found.report.methods[0].outcome else { panic!("a sound method") };
    scores.kl = f64::NAN;
    let dir = tempfile::tempdir().unwrap();
    let error = found.write(dir.path(), false).unwrap_err().to_string();
    assert_eq!(error, "report.methods[0].kl: found NaN, expected a finite number");
    assert!(!dir.path().join("report.json").exists() && !dir.path().join("manifest.json").exists());
}

#[test]
fn progress_adds_up_when_settings_fail() {
    #[derive(Default)]
    struct Steps(Vec<(String, usize, usize)>);
    impl Progress for Steps {
        fn stage(&mut self, name: &str, total: usize) {
            self.0.push((name.to_owned(), total, 0));
        }
        fn advance(&mut self, n: usize) {
            self.0.last_mut().unwrap().2 += n;
        }
        fn done(&mut self) {}
    }
    for fuse in [edited, |token: &Token<'_>| token.decoded && token.is_edited()] {
        let mut steps = Steps::default();
        let mut options = options(&["mean", "rfa"]);
        options.layers = vec![0, 2];
        study(&Speaker::with_fuse(fuse), &data(), &options, &mut steps).unwrap();
        for (name, total, steps) in steps.0.iter().filter(|(_, total, _)| *total > 0) {
            assert_eq!(total, steps, "{name}");
        }
    }
}
