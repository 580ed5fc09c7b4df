//! Settings on validation, without generating: one pass over prompts with their right answers forced.
//!
//! Greedy decoding gives the right answer exactly when every token of the forced answer, and the end after it, is the
//! likeliest one where it stands. So a single pass says what generation would, at the cost of a prefill; the few best
//! are generated all the same.

use super::candidates::{Candidate, Use};
use crate::forward::{Case, See, argmax, divergence, log_sum_exp};
use crate::refusal::refusal_score;
use crate::{EvalError, Match, Rate, SweepPoint};

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
struct Outcome {
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

/// A setting with what is known of it so far.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    /// Index of the candidate.
    pub candidate: usize,
    pub usage: Use,
    pub point: SweepPoint,
    /// The held-out measure by which settings are ranked; larger is better.
    pub value: f64,
}

impl Val {
    /// Measures what `run` passes through the model.
    pub fn measure(&self, run: impl FnOnce(See<'_>) -> Result<(), EvalError>) -> Result<Measured, EvalError> {
        let mut outcomes = vec![Outcome::default(); self.cases.len()];
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

    fn note(&self, index: usize, case: &Case, token: usize, logits: &[f32], outcome: &mut Outcome) {
        let choice = argmax(logits);
        if token + 1 == case.prompt {
            outcome.refusal = refusal_score(logits, &self.refusal_tokens);
            outcome.first_refuses = self.refusal_tokens.contains(&choice);
            outcome.kl = self.base.get(index).map_or(0.0, |base| divergence(base, logits));
        }
        match case.ids.get(token + 1) {
            Some(&next) => {
                let logit = logits.get(next as usize).copied().map_or(f64::NEG_INFINITY, f64::from);
                outcome.log_prob += logit - log_sum_exp(logits);
                outcome.tokens += 1;
                outcome.missed |= choice != next;
            }
            // An answer that goes on is not equal to the right one, but contains it.
            None => outcome.missed |= self.matching == Match::Exact && !self.eos.contains(&choice),
        }
    }
}

impl Tried {
    pub fn new(index: usize, candidate: &Candidate, usage: Use, found: &Measured, value: f64) -> Self {
        let point = SweepPoint {
            setting: candidate.setting(usage),
            heldout_w2_ratio: candidate.heldout_w2_ratio(),
            refusal_score: found.refusal_score,
            first_token_refusal_rate: found.first_token_refusal_rate,
            forced_answer_rate: found.answers,
            forced_target_answer_rate: found.target_answers,
            answer_log_prob: found.answer_log_prob,
            target_answer_log_prob: found.target_log_prob,
            kl: Some(found.kl),
            refusal_rate: None,
            answer_rate: None,
            target_answer_rate: None,
        };
        Self { candidate: index, usage, point, value }
    }

    /// The better first; equal ones by [`preference`](Self::preference), then by the refusal score.
    pub fn better_first(&self, other: &Self) -> std::cmp::Ordering {
        let key = |one: &Self| [one.value, one.preference(), -one.point.refusal_score.unwrap_or(0.0)];
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
        let point = &self.point;
        let likely = point.answer_log_prob.map(|source| source + point.target_answer_log_prob.unwrap_or(0.0));
        likely.unwrap_or(-point.kl.unwrap_or(0.0))
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

fn rate(outcomes: &[Outcome], known: &[bool]) -> Option<Rate> {
    let right = outcomes.iter().zip(known).filter(|(_, known)| **known).map(|(one, _)| !one.missed);
    Rate::of(&right.collect::<Vec<_>>())
}

fn log_prob(outcomes: &[Outcome], known: &[bool]) -> Option<f64> {
    let known = outcomes.iter().zip(known).filter(|(_, known)| **known);
    let (sum, tokens) = known.fold((0.0, 0), |(sum, n), (one, _)| (sum + one.log_prob, n + one.tokens));
    (tokens > 0).then(|| sum / tokens as f64)
}
