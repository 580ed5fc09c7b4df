//! Scoring one setting, given from outside.

use std::collections::BTreeMap;
use std::time::Instant;

use brenier_hooks::{Edit, Intervention};
use brenier_model::Prompt;
use brenier_residual::Tap;

use crate::complete::{Judge, answer_rate, refusal_rate};
use crate::forward::Item;
use crate::kl::{divergences, forced};
use crate::study::model_info;
use crate::{
    EvalError, InterventionInfo, Match, Mean, Phrases, Progress, ScoreReport, Subject, TEXT_POLICY,
    perplexity, prompt_ids, to_json,
};

/// What messages call a prompt that is completed ...
const PROMPT: &str = "prompt";
/// ... and one for KL.
const HARMLESS: &str = "harmless prompt";

/// What to measure; what is empty is not measured.
#[derive(Debug, Clone)]
pub struct ScoreOptions {
    /// Prompts to complete.
    pub prompts: Vec<Prompt>,
    /// The right answer of each, where known.
    pub answers: Option<Vec<Option<String>>>,
    /// Passages of raw text for perplexity.
    pub text: Vec<String>,
    /// Prompts on which the edit should change nothing, for KL.
    pub harmless: Vec<Prompt>,
    /// What counts as a refusal.
    pub phrases: Phrases,
    /// When a completion is right.
    pub matching: Match,
    /// Most tokens in a completion.
    pub max_new_tokens: usize,
    /// Rows at once; `None` sizes batches by their tokens.
    pub batch: Option<usize>,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for ScoreOptions {
    /// Nothing to measure yet; 64 new tokens, as in a study.
    fn default() -> Self {
        Self {
            prompts: Vec::new(),
            answers: None,
            text: Vec::new(),
            harmless: Vec::new(),
            phrases: Phrases::default(),
            matching: Match::default(),
            max_new_tokens: 64,
            batch: None,
            seed: 0,
        }
    }
}

/// Measures a model under edits; no edit: the untouched model.
///
/// KL compares with the untouched model, over its own greedy completions; without edits it is 0 by definition and
/// measured all the same.
///
/// # Errors
/// Prompts that do not fit the model, edits that do not; values that are not finite, which are no score.
pub fn score(
    subject: &dyn Subject,
    edits: &[Edit],
    options: &ScoreOptions,
    progress: &mut dyn Progress,
) -> Result<ScoreReport, EvalError> {
    let start = Instant::now();
    let model = subject.model();
    let mut tap = Intervention::new(model.spec(), edits)?;
    let judge = Judge {
        phrases: &options.phrases,
        matching: options.matching,
        max_new_tokens: options.max_new_tokens,
        batch: options.batch,
        sample: None,
    };
    let mut report = ScoreReport {
        schema: "brenier.score/1".to_owned(),
        model: model_info(subject)?,
        intervention: InterventionInfo::of(edits),
        refusal_rate: None,
        answer_rate: None,
        perplexity: None,
        perplexity_tokens: 0,
        kl: None,
        kl_continuation: None,
        finish: BTreeMap::new(),
        text_policy: (!edits.is_empty() && !options.text.is_empty()).then(|| TEXT_POLICY.to_owned()),
        seconds: 0.0,
    };
    if !options.prompts.is_empty() {
        progress.stage("completing prompts", 0);
        let ids = prompt_ids(subject, "prompts", &options.prompts, 1)?;
        let judged = judge.complete(
            subject,
            &Item::of(PROMPT),
            &ids,
            options.answers.as_deref().unwrap_or_default(),
            &mut tap,
        )?;
        report.refusal_rate = refusal_rate(&judged);
        report.answer_rate = answer_rate(&judged);
        for one in judged {
            *report.finish.entry(one.finish).or_default() += 1;
        }
    }
    if !options.text.is_empty() {
        progress.stage("reading the text", 0);
        let sums = perplexity(subject, &options.text, edits, options.batch)?;
        report.perplexity = sums.value()?;
        report.perplexity_tokens = sums.tokens;
    }
    if !options.harmless.is_empty() {
        progress.stage("comparing predictions", 0);
        let ids = prompt_ids(subject, "harmless prompts", &options.harmless, 1)?;
        let base = judge.complete(subject, &Item::of(HARMLESS), &ids, &[], &mut ())?;
        let continuations: Vec<Vec<u32>> = base.into_iter().map(|one| one.ids).collect();
        let cases = forced(HARMLESS, &ids, &continuations);
        let mut taps: [&mut dyn Tap; 1] = [&mut tap];
        for found in divergences(model, &cases, &mut taps, options.batch)? {
            let found = found?;
            report.kl = Mean::of(&found.prompt, options.seed)?;
            report.kl_continuation = Mean::of(&found.continuation, options.seed)?;
        }
    }
    progress.done();
    report.seconds = start.elapsed().as_secs_f64();
    to_json("score", &report)?;
    Ok(report)
}
