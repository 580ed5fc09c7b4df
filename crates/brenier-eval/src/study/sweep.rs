//! Settings on validation, without generating: one pass over prompts with their right answers forced.
//!
//! Greedy decoding gives the right answer exactly when every token of the forced answer, and the end after it, is the
//! likeliest one where it stands. So a single pass says what generation would, at the cost of a prefill; the few best
//! are generated all the same.

use brenier_transport::Method;

use super::candidates::{Candidate, LayerRows, Use};
use super::choose::Gain;
use super::rule::Rule;
use super::{Run, outcome};
use crate::complete::Judged;
use crate::forward::{Case, See, Tails, argmax, divergence, log_sum_exp, logits};
use crate::refusal::refusal_score;
use crate::{EvalError, Match, Outcome, Progress, Rate, SweepPoint, SweepScores};

/// Settings of a method that are tried on all tokens and at other strengths as well, once they are ranked as they are.
const TRIED_AGAIN: usize = 4;

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

/// The untouched model on validation.
pub(super) struct Before {
    pub val: Val,
    pub target: Vec<Judged>,
    pub forced_target: Option<f64>,
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

impl Run<'_> {
    /// The untouched model on validation.
    pub fn before(&self, refusal_tokens: &[u32]) -> Result<Before, EvalError> {
        let val = self.validation(refusal_tokens)?;
        let base = val.measure(|see| logits(self.model(), &val.cases, self.options.batch, &mut (), see))?;
        let target = self.complete(&self.prepared.target.val, &mut ())?;
        Ok(Before { val, target, forced_target: base.target_answers.map(|rate| rate.value) })
    }

    fn validation(&self, refusal_tokens: &[u32]) -> Result<Val, EvalError> {
        let lead = self.prepared.lead;
        let (mut cases, mut known) = self.forced(&self.prepared.source.val, lead)?;
        let sources = cases.len();
        let (target, target_known) = self.forced(&self.prepared.target.val, lead)?;
        cases.extend(target);
        known.extend(target_known);
        let mut base = vec![Vec::new(); cases.len()];
        logits(self.model(), &cases, self.options.batch, &mut (), &mut |case, token, logits| {
            if token + 1 == cases[case].prompt {
                base[case] = logits.to_vec();
            }
        })?;
        let (refusal_tokens, eos) = (refusal_tokens.to_vec(), self.subject.eos().to_vec());
        Ok(Val { cases, sources, known, base, refusal_tokens, eos, matching: self.options.matching })
    }

    /// What a pass said, with its value.
    fn scored(&self, found: &Measured, before: &Before) -> Scored {
        let gain = Gain {
            answers: found.answers.map(|rate| rate.value),
            refusals: found.first_token_refusal_rate.map(|rate| rate.value),
            target_answers: found.target_answers.map(|rate| rate.value),
            kl: found.kl,
        };
        Scored::new(found, self.value(&gain, before.forced_target).0)
    }

    /// Measures all candidates without generating, and says which RFA direction the published rule takes.
    pub fn sweep(
        &self,
        candidates: &[Candidate],
        layers: &[LayerRows],
        before: &Before,
        notes: &mut Vec<String>,
        progress: &mut dyn Progress,
    ) -> Result<(Vec<Tried>, Option<usize>), EvalError> {
        let val = &before.val;
        let depth = self.model().spec().layers;
        let mut tried: Vec<Tried> = Vec::new();
        let mut rule = Rule::default();
        let mut tails = Tails::new(self.model(), &val.cases, self.options.batch)?;
        let local = |index: &usize| candidates[*index].method != Method::Rfa;
        for rows in layers {
            tails.advance_to(rows.layer)?;
            let here = || (0..candidates.len()).filter(|&index| candidates[index].layer == rows.layer);
            for index in here().filter(local) {
                tried.push(self.try_one(index, candidates, Use::PLAIN, before, Some(&tails))?);
                progress.advance(1);
            }
            for index in here().filter(|index| !local(index)) {
                let one = self.try_one(index, candidates, Use::ALL, before, None)?;
                if let Outcome::Ok(scored) = &one.outcome {
                    let adding =
                        format!("adding the direction of rfa at layer {} (counted from 0)", rows.layer);
                    match outcome(&adding, self.induced(rows, val, &tails))? {
                        Outcome::Ok(induced) => {
                            rule.consider(tried.len(), rows.layer, &scored.scores, induced, depth);
                        }
                        Outcome::Failed { reason } => notes.push(reason),
                    }
                }
                tried.push(one);
                progress.advance(1);
            }
        }
        // The best few again, on all tokens, and at other strengths.
        let mut again: Vec<usize> = Vec::new();
        for method in Method::ALL.into_iter().filter(|&method| method != Method::Rfa) {
            let of = |one: &&Tried| candidates[one.candidate].method == method;
            let mut of: Vec<(usize, &Scored)> =
                tried.iter().filter(of).filter_map(|one| Some((one.candidate, one.outcome.ok()?))).collect();
            of.sort_by(|(_, a), (_, b)| a.better_first(b));
            again.extend(of.iter().take(TRIED_AGAIN).map(|(candidate, _)| candidate));
        }
        again.sort_by_key(|&index| candidates[index].layer);
        progress.stage("trying the best on all tokens and at other strengths", again.len());
        let mut tails = Tails::new(self.model(), &val.cases, self.options.batch)?;
        for index in again {
            tails.advance_to(candidates[index].layer)?;
            let stronger = self.options.strengths.iter().filter(|&&strength| strength != 1.0);
            let stronger = stronger.map(|&strength| Use { strength, ..Use::PLAIN });
            for usage in std::iter::once(Use::ALL).chain(stronger) {
                tried.push(self.try_one(index, candidates, usage, before, Some(&tails))?);
            }
            progress.advance(1);
        }
        Ok((tried, rule.best()))
    }

    /// Measures a candidate without generating: on the tails where it acts there alone, else on the whole model.
    fn try_one(
        &self,
        index: usize,
        candidates: &[Candidate],
        usage: Use,
        before: &Before,
        tails: Option<&Tails<'_>>,
    ) -> Result<Tried, EvalError> {
        let (one, val) = (&candidates[index], &before.val);
        let measure = || {
            let mut tap = self.tap(one, usage)?;
            let found = val.measure(|see| match tails {
                Some(tails) => tails.logits(&mut tap, see),
                None => logits(self.model(), &val.cases, self.options.batch, &mut tap, see),
            })?;
            Ok(self.scored(&found, before))
        };
        Ok(Tried { candidate: index, usage, outcome: outcome(&one.setting(usage), measure())? })
    }
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
