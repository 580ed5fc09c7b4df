//! Perplexity, KL and scores against definitions, on a model whose logits are known.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_eval::{Match, Phrases, ScoreOptions, Subject, kl, perplexity, score};
use brenier_hooks::{Edit, Intervention};
use brenier_map::{Affine, LowRank, RowMap};
use brenier_model::{LogitsRules, Prompt};
use brenier_residual::{HookPoint, Tap, TokenSet};
use common::{BOS, EOS, HIDDEN, NO, Speaker, Town, VOCAB, question};
use faer::Mat;

/// Sums of a few hundred exponentials of f32 logits, in f64.
const TOLERANCE: f64 = 1e3 * f64::EPSILON;

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let z = logits.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
    logits.iter().map(|&l| f64::from(l) - z).collect()
}

/// Adds `by` to the refusal coordinate after block 1.
fn shift(by: f64, tokens: TokenSet) -> Edit {
    let mut offset = vec![0.0; HIDDEN];
    offset[0] = by;
    let map = LowRank {
        scale: 1.0,
        mean: vec![0.0; HIDDEN],
        offset,
        u: Mat::zeros(HIDDEN, 0),
        v: Mat::zeros(HIDDEN, 0),
    };
    Edit {
        at: HookPoint::resid_post(1),
        map: RowMap::new(Affine::LowRank(map)).unwrap(),
        strength: 1.0,
        tokens,
    }
}

fn logits_after(id: u32, by: f32) -> Vec<f32> {
    let mut x = Town::embedding(id);
    x[0] += by;
    Town::logits(&x)
}

#[test]
fn perplexity_is_what_its_definition_says() {
    let text = ["w3 w4".to_owned(), "no".to_owned()];
    // The refusal coordinate is moved by 3 on which tokens?
    let moved = |tokens: Option<TokenSet>, id: u32| match tokens {
        Some(TokenSet::All) => 3.0,
        Some(TokenSet::Generated | TokenSet::LastAndGenerated) if id != BOS => 3.0,
        _ => 0.0,
    };
    let policies = [
        None,
        Some(TokenSet::All),
        Some(TokenSet::Generated),
        Some(TokenSet::LastAndGenerated),
        Some(TokenSet::Last),
        Some(TokenSet::Prompt),
    ];
    for tokens in policies {
        let mut nll = 0.0;
        for row in [vec![BOS, 3, 4, EOS], vec![BOS, NO, EOS]] {
            for pair in row.windows(2) {
                nll -= log_softmax(&logits_after(pair[0], moved(tokens, pair[0])))[pair[1] as usize];
            }
        }
        let edits: Vec<Edit> = tokens.map(|tokens| shift(3.0, tokens)).into_iter().collect();
        let found = perplexity(&Speaker::new(), &text, &edits, None).unwrap();
        assert_eq!(found.tokens, 5);
        assert!((found.nll - nll).abs() < TOLERANCE * nll, "{tokens:?}: {} {nll}", found.nll);
        assert!((found.value().unwrap().unwrap() - (nll / 5.0).exp()).abs() < TOLERANCE * (nll / 5.0).exp());
    }
}

#[test]
fn a_line_longer_than_the_context_is_scored_whole() {
    // A model without memory does not care where a window begins.
    let words = vec!["w3"; 40].join(" ");
    let found = perplexity(&Speaker::new(), &[words], &[], Some(3)).unwrap();
    let p = |from: u32, to: u32| -log_softmax(&logits_after(from, 0.0))[to as usize];
    let nll = p(BOS, 3) + 39.0 * p(3, 3) + p(3, EOS);
    assert_eq!(found.tokens, 41);
    assert!((found.nll - nll).abs() < TOLERANCE * nll);
    assert_eq!(perplexity(&Speaker::new(), &[], &[], None).unwrap().value().unwrap(), None);
}

#[test]
fn divergence_is_what_its_definition_says() {
    let speaker = Speaker::new();
    let prompts = vec![vec![BOS, question(1, 0, 0)], vec![question(1, 2, 5)]];
    let continuations = vec![vec![3], vec![]];
    let mut taps = [
        Intervention::new(speaker.model().spec(), &[]).unwrap(),
        Intervention::new(speaker.model().spec(), &[shift(2.0, TokenSet::Last)]).unwrap(),
        Intervention::new(speaker.model().spec(), &[shift(2.0, TokenSet::LastAndGenerated)]).unwrap(),
    ];
    let mut views: Vec<&mut dyn Tap> = taps.iter_mut().map(|tap| tap as &mut dyn Tap).collect();
    let found = kl(&speaker.town, &prompts, &continuations, &mut views, Some(1)).unwrap();
    assert!(found[0].prompt.iter().chain(&found[0].continuation).all(|&value| value == 0.0));
    let by_hand = |id: u32| {
        let (p, q) = (log_softmax(&logits_after(id, 0.0)), log_softmax(&logits_after(id, 2.0)));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
    };
    let (first, second, answer) = (by_hand(question(1, 0, 0)), by_hand(question(1, 2, 5)), by_hand(3));
    let wanted = [
        (first, first / 2.0),
        // The forced token counts as generated, and there the edit acts too.
        (first, (first + answer) / 2.0),
    ];
    for (found, (prompt, continuation)) in found[1..].iter().zip(wanted) {
        assert!((found.prompt[0] - prompt).abs() < TOLERANCE && (found.prompt[1] - second).abs() < TOLERANCE);
        assert!((found.continuation[0] - continuation).abs() < TOLERANCE);
        assert!((found.continuation[1] - second).abs() < TOLERANCE);
    }
}

#[test]
fn a_score_measures_what_is_asked_for() {
    let speaker = Speaker::new();
    let prompts: Vec<Prompt> = (0..4).map(|item| Prompt::ids(vec![BOS, question(0, item, 1)])).collect();
    let answers = vec![Some("w3".to_owned()), Some("w4".to_owned()), Some("w3".to_owned()), None];
    let options = ScoreOptions {
        prompts: prompts.clone(),
        answers: Some(answers),
        phrases: Phrases::new("town", &["no".to_owned()]).unwrap(),
        matching: Match::Exact,
        max_new_tokens: 4,
        ..ScoreOptions::default()
    };
    let untouched = score(&speaker, &[], &options, &mut ()).unwrap();
    assert_eq!((untouched.refusal_rate.unwrap().count, untouched.answer_rate.unwrap().n), (4, 3));
    assert_eq!((untouched.intervention, untouched.perplexity, untouched.kl), (None, None, None));
    assert_eq!(untouched.finish["eos"], 4);

    let edits = [shift(-8.0, TokenSet::Last)];
    let moved = score(&speaker, &edits, &ScoreOptions { harmless: prompts, ..options }, &mut ()).unwrap();
    // Items 0 and 1 are right, item 2 is not item 0, and the fourth is not known.
    assert_eq!((moved.refusal_rate.unwrap().count, moved.answer_rate.unwrap().count), (0, 2));
    assert!(
        moved.kl.unwrap().value > 1.0
            && moved.intervention.unwrap().edits.contains("blocks.1.hook_resid_post")
    );
}

#[test]
fn a_model_that_babbles_refuses_nothing_and_is_right_about_nothing() {
    // All coordinates pushed the same way: neither refusal nor item stands out, and the end never comes.
    let mut edit = shift(0.0, TokenSet::All);
    let offset = (0..HIDDEN).map(|j| if j == 4 { 50.0 } else { -50.0 }).collect();
    let map = LowRank {
        scale: 1.0,
        mean: vec![0.0; HIDDEN],
        offset,
        u: Mat::zeros(HIDDEN, 0),
        v: Mat::zeros(HIDDEN, 0),
    };
    edit.map = RowMap::new(Affine::LowRank(map)).unwrap();
    let options = ScoreOptions {
        prompts: vec![Prompt::ids(vec![BOS, question(0, 3, 1)])],
        answers: Some(vec![Some("w6".to_owned())]),
        text: vec!["w3 w4".to_owned()],
        phrases: Phrases::new("town", &["no".to_owned()]).unwrap(),
        max_new_tokens: 4,
        ..ScoreOptions::default()
    };
    let found = score(&Speaker::new(), &[edit], &options, &mut ()).unwrap();
    assert_eq!((found.refusal_rate.unwrap().count, found.answer_rate.unwrap().count), (0, 0));
    assert_eq!(found.finish["max_new_tokens"], 1);
    assert!(found.perplexity.unwrap() > VOCAB as f64);
}

#[test]
fn completions_follow_the_rules_of_the_subject() {
    let options = ScoreOptions {
        prompts: (0..3).map(|way| Prompt::ids(vec![BOS, question(0, 1, way)])).collect(),
        phrases: Phrases::new("town", &["no".to_owned()]).unwrap(),
        max_new_tokens: 4,
        ..ScoreOptions::default()
    };
    let refused = |rules: LogitsRules| {
        let speaker = Speaker { rules, ..Speaker::new() };
        score(&speaker, &[], &options, &mut ()).unwrap().refusal_rate.unwrap().count
    };
    assert_eq!(refused(LogitsRules::default()), 3);
    assert_eq!(refused(LogitsRules { suppress_tokens: vec![NO], ..LogitsRules::default() }), 0);
}
