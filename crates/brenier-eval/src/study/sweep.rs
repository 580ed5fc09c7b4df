//! Settings on validation, without generating: one pass over prompts with their right answers forced.
//!
//! Greedy decoding gives the right answer exactly when every token of the forced answer, and the end after it, is the
//! likeliest one where it stands. So a single pass says what generation would, at the cost of a prefill; the few best
//! are generated all the same.

use super::candidates::{Candidate, Use};
use crate::forward::{Case, See, argmax, divergence, log_sum_exp};
use crate::refusal::refusal_score;
use crate::{EvalError, Match, Outcome, Rate, SweepPoint, SweepScores};

/// The validation prompts of both sides, source first.
pub(super) struct Val {
    pub cases: Vec<Case>,
    pub sources: usize,
    /// Whether the case's answer is known.
    pub known: Vec<bool>,
    /// Logits of the untouched model after each prompt.
    pub base: Vec<Vec<f32>>,
    pub refusal_tokens: Vec<u32>,
    pub eos: Vec<u32>,
    pub matching: Match,
}

/// What a pass said of one prompt.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    refusal: f64,
    first_refuses: bool,
    log_prob: f64,
    tokens: usize,
    missed: bool,
    kl: f64,
}

/// What a pass said of a setting.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    pub refusal_score: Option<f64>,
    pub first_token_refusal_rate: Option<Rate>,
    pub answers: Option<Rate>,
    pub target_answers: Option<Rate>,
    pub answer_log_prob: Option<f64>,
    pub target_log_prob: Option<f64>,
    pub target_refusal_score: Option<f64>,
    pub kl: f64,
}

/// A setting that was tried.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    /// Index of the candidate.
    pub candidate: usize,
    pub usage: Use,
    /// What is known of it so far. One that failed has no value, so that it can be neither ranked nor chosen.
    pub outcome: Outcome<Scored>,
}

/// What is known of a setting that did not fail.
#[derive(Debug, Clone)]
pub(super) struct Scored {
    pub scores: SweepScores,
    /// The held-out measure by which settings are ranked; larger is better.
    pub value: f64,
}

impl Val {
    /// Measures what `run` passes through the model.
    pub fn measure(&self, run: impl FnOnce(See<'_>) -> Result<(), EvalError>) -> Result<Measured, EvalError> {
        let mut outcomes = vec![Seen::default(); self.cases.len()];
        run(&mut |index, token, logits| {
            if let (Some(case), Some(outcome)) = (self.cases.get(index), outcomes.get_mut(index)) {
                self.note(index, case, token, logits, outcome);
            }
        })?;
        let (source, target) = outcomes.split_at(self.sources);
        let (source_known, target_known) = self.known.split_at(self.sources);
        let scored = !self.refusal_tokens.is_empty();
        Ok(Measured {
            refusal_score: scored.then(|| mean(source.iter().map(|one| one.refusal))),
            first_token_refusal_rate: Rate::of(
                &source.iter().map(|one| one.first_refuses).collect::<Vec<_>>(),
            )
            .filter(|_| scored),
            answers: rate(source, source_known),
            target_answers: rate(target, target_known),
            answer_log_prob: log_prob(source, source_known),
            target_log_prob: log_prob(target, target_known),
            target_refusal_score: scored.then(|| mean(target.iter().map(|one| one.refusal))),
            kl: mean(target.iter().map(|one| one.kl)),
        })
    }

    fn note(&self, index: usize, case: &Case, token: usize, logits: &[f32], outcome: &mut Seen) {
        let choice = argmax(logits);
        if token + 1 == case.prompt {
            outcome.refusal = refusal_score(logits, &self.refusal_tokens);
            outcome.first_refuses = self.refusal_tokens.contains(&choice);
            outcome.kl = self.base.get(index).map_or(0.0, |base| divergence(base, logits));
        }
        match case.ids.get(token + 1) {
            Some(&next) => {
                // The model has embedded this id, and refuses those outside its vocabulary.
                outcome.log_prob += f64::from(logits[next as usize]) - log_sum_exp(logits);
                outcome.tokens += 1;
                outcome.missed |= choice != next;
            }
            // An answer that goes on is not equal to the right one, but contains it.
            None => outcome.missed |= self.matching == Match::Exact && !self.eos.contains(&choice),
        }
    }
}

impl Tried {
    /// The setting, as reports give it.
    pub fn point(&self, candidate: &Candidate) -> SweepPoint {
        let outcome = match &self.outcome {
            Outcome::Ok(scored) => Outcome::Ok(scored.scores.clone()),
            Outcome::Failed { reason } => Outcome::Failed { reason: reason.clone() },
        };
        let setting = candidate.setting(self.usage);
        SweepPoint { setting, heldout_w2_ratio: candidate.heldout_w2_ratio(), outcome }
    }
}

impl Scored {
    /// What a pass said, with the value given to it. Nothing has been generated yet.
    pub fn new(found: &Measured, value: f64) -> Self {
        let scores = SweepScores {
            refusal_score: found.refusal_score,
            first_token_refusal_rate: found.first_token_refusal_rate,
            forced_answer_rate: found.answers,
            forced_target_answer_rate: found.target_answers,
            answer_log_prob: found.answer_log_prob,
            target_answer_log_prob: found.target_log_prob,
            kl: Some(found.kl),
            ..SweepScores::default()
        };
        Self { scores, value }
    }

    /// The better first; equal ones by [`preference`](Self::preference), then by the refusal score.
    pub fn better_first(&self, other: &Self) -> std::cmp::Ordering {
        let key = |one: &Self| [one.value, one.preference(), -one.scores.refusal_score.unwrap_or(0.0)];
        let (a, b) = (key(self), key(other));
        b.iter()
            .zip(&a)
            .map(|(b, a)| b.total_cmp(a))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    }

    /// What decides between settings that validation cannot tell apart: how likely it makes the right answers of both
    /// sides, or, where they are not known, how little it disturbs.
    pub fn preference(&self) -> f64 {
        let scores = &self.scores;
        let likely =
            scores.answer_log_prob.map(|source| source + scores.target_answer_log_prob.unwrap_or(0.0));
        likely.unwrap_or(-scores.kl.unwrap_or(0.0))
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

fn rate(outcomes: &[Seen], known: &[bool]) -> Option<Rate> {
    let right = outcomes.iter().zip(known).filter(|(_, known)| **known).map(|(one, _)| !one.missed);
    Rate::of(&right.collect::<Vec<_>>())
}

fn log_prob(outcomes: &[Seen], known: &[bool]) -> Option<f64> {
    let known = outcomes.iter().zip(known).filter(|(_, known)| **known);
    let (sum, tokens) = known.fold((0.0, 0), |(sum, n), (one, _)| (sum + one.log_prob, n + one.tokens));
    (tokens > 0).then(|| sum / tokens as f64)
}
