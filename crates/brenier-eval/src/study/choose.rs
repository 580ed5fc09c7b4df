//! Choosing on validation alone.
//!
//! Every setting is first measured without generating ([`super::sweep`]); for the best few of each method completions
//! are generated, and the best of these is the method's setting. What is maximised is
//!
//! ```text
//! share of right source answers - max(0, harm - bound)
//! ```
//!
//! where harm is the share of right target answers lost. Where source answers are not known the refusal rate, negated,
//! takes the place of the first term; where target answers are not, the next-token KL on target prompts is the harm.
//!
//! Among settings within one standard error of the best (Breiman et al. 1984), which so few prompts cannot tell apart,
//! the one that makes the right answers likeliest is taken, or, without answers, the gentlest.
//!
//! A setting that cannot be measured, because its edit overflows or for any other reason of its own, is recorded as
//! failed with its reason. It has no value, so it is in no ranking, and every other choice is what it would be if the
//! setting had never been tried.

use std::collections::BTreeMap;

use brenier_hooks::Intervention;
use brenier_transport::Method;

use super::baseline::share;
use super::candidates::{Candidate, Fitted, LayerRows, Use};
use super::sweep::{Before, Scored, Tried};
use super::{Run, outcome};
use crate::complete::{answer_rate, refusal_rate};
use crate::{EvalError, Outcome, Progress, ValScores};

/// The settings tried, and those chosen.
pub(super) struct Choice {
    pub tried: Vec<Tried>,
    /// One a method, in the order of the methods, or the reason why there is none.
    pub chosen: Vec<(Method, Result<Chosen, String>)>,
    /// Index of the best of all among the settings tried.
    pub best: usize,
}

/// A method's setting.
pub(super) struct Chosen {
    /// Index into the settings tried.
    pub tried: usize,
    pub val: ValScores,
    /// What was maximised.
    pub value: f64,
    pub selection: &'static str,
}

/// What a setting is judged by.
pub(super) struct Gain {
    pub answers: Option<f64>,
    pub refusals: Option<f64>,
    pub target_answers: Option<f64>,
    pub kl: f64,
}

const PUBLISHED: &str = "the published rule: lowest refusal score among directions below 80% depth with KL at most \
                         0.1 that induce refusals";
const BY_ANSWERS: &str =
    "right answers on validation, less the harm beyond its bound; within one standard error the likelier";

impl Run<'_> {
    /// What is maximised, and whether the harm stays within its bound.
    pub fn value(&self, gain: &Gain, target_before: Option<f64>) -> (f64, bool) {
        let gained = gain.answers.or(gain.refusals.map(|rate| -rate)).unwrap_or(0.0);
        let (harm, bound) = match (target_before, gain.target_answers) {
            (Some(before), Some(after)) => (before - after, self.options.harm_bound),
            _ => (gain.kl, self.options.kl_bound),
        };
        // Shares are counts over counts: let rounding not decide.
        let over = (harm - bound - 1e-12).max(0.0);
        (gained - over, over == 0.0)
    }

    /// Tries every candidate and chooses a setting for each method.
    pub fn choose(
        &self,
        methods: &[Method],
        fitted: &Fitted,
        layers: &[LayerRows],
        before: &Before,
        notes: &mut Vec<String>,
        progress: &mut dyn Progress,
    ) -> Result<Choice, EvalError> {
        let candidates = &fitted.candidates;
        progress.stage("trying settings on validation", candidates.len());
        let (mut tried, published) = self.sweep(candidates, layers, before, notes, progress)?;
        if methods.contains(&Method::Rfa) && published.is_none() {
            notes.push(
                "rfa: no direction passes the published rule (layer below 80% depth, KL at most 0.1, inducing \
                 refusals), so its layer is chosen on validation like any other"
                    .to_owned(),
            );
        }

        progress.stage("generating on validation", methods.len() * self.options.generated.max(1));
        let mut chosen = Vec::new();
        for &method in methods {
            let found = self.choose_one(method, candidates, &mut tried, published, before, progress)?;
            chosen.push((method, found.ok_or_else(|| no_choice(method, fitted, &tried))));
        }
        let sound: Vec<&Chosen> = chosen.iter().filter_map(|(_, found)| found.as_ref().ok()).collect();
        let best = (0..sound.len()).max_by(|&a, &b| {
            let (one, other) = (&sound[a].val, &sound[b].val);
            let kl = |val: &ValScores| val.kl.unwrap_or(0.0);
            // Of equals the gentler, then the earlier: methods stand in the order in which they are preferred.
            one.within_bounds
                .cmp(&other.within_bounds)
                .then(sound[a].value.total_cmp(&sound[b].value))
                .then(kl(other).total_cmp(&kl(one)))
                .then(b.cmp(&a))
        });
        match best.map(|best| sound[best].tried) {
            Some(best) => Ok(Choice { tried, chosen, best }),
            None => {
                let reason = chosen.into_iter().find_map(|(_, found)| found.err()).unwrap_or_default();
                Err(EvalError::NothingMeasured { reason })
            }
        }
    }

    /// A candidate, ready to act.
    pub fn tap(&self, one: &Candidate, usage: Use) -> Result<Intervention, EvalError> {
        let spec = self.model().spec();
        Ok(Intervention::new(spec, &one.edits(spec.layers, usage))?)
    }

    /// Generates for the best few settings of a method and takes the best; `None` where every setting failed.
    fn choose_one(
        &self,
        method: Method,
        candidates: &[Candidate],
        tried: &mut [Tried],
        published: Option<usize>,
        before: &Before,
        progress: &mut dyn Progress,
    ) -> Result<Option<Chosen>, EvalError> {
        let mut generated: BTreeMap<usize, (ValScores, f64)> = BTreeMap::new();
        let wanted = self.options.generated.max(1);
        // One that fails leaves the order, as if it had not been there, and others may take its place.
        let order = loop {
            let mut order = self.order(method, candidates, tried, published);
            order.truncate(wanted);
            let Some(&next) = order.iter().find(|index| !generated.contains_key(index)) else { break order };
            let Outcome::Ok(scored) = &tried[next].outcome else { break order };
            let (one, usage) = (&candidates[tried[next].candidate], tried[next].usage);
            let found = self.generate_on_val(one, usage, scored, before);
            match outcome(&one.setting(usage), found)? {
                Outcome::Ok(found) => {
                    generated.insert(next, found);
                }
                Outcome::Failed { reason } => tried[next].outcome = Outcome::Failed { reason },
            }
        };
        progress.advance(wanted);
        let mut best: Option<Chosen> = None;
        for index in order {
            let (Some((val, value)), Outcome::Ok(scored)) =
                (generated.remove(&index), &mut tried[index].outcome)
            else {
                continue;
            };
            scored.scores.refusal_rate = val.refusal_rate;
            scored.scores.answer_rate = val.answer_rate;
            scored.scores.target_answer_rate = val.target_answer_rate;
            let settled = best.as_ref().is_some_and(|best| best.value >= value - self.standard_error(value));
            if !settled {
                let selection = if published == Some(index) { PUBLISHED } else { BY_ANSWERS };
                best = Some(Chosen { tried: index, val, value, selection });
            }
        }
        Ok(best)
    }

    /// The settings of a method that did not fail, in the order in which they are generated for.
    fn order(
        &self,
        method: Method,
        candidates: &[Candidate],
        tried: &[Tried],
        published: Option<usize>,
    ) -> Vec<usize> {
        let of = |(_, one): &(usize, &Tried)| candidates[one.candidate].method == method;
        let scored = |(index, one): (usize, &'_ Tried)| Some((index, one.outcome.ok()?.clone()));
        let mut order: Vec<(usize, Scored)> =
            tried.iter().enumerate().filter(of).filter_map(scored).collect();
        order.sort_by(|(_, a), (_, b)| a.better_first(b));
        // Those within one standard error of the best in the order of preference, before the rest.
        if let Some(best) = order.first().map(|(_, one)| one.value) {
            let least = best - self.standard_error(best);
            let near = order.iter().take_while(|(_, one)| one.value >= least).count();
            order[..near].sort_by(|(_, a), (_, b)| b.preference().total_cmp(&a.preference()));
        }
        let mut order: Vec<usize> = order.into_iter().map(|(index, _)| index).collect();
        if let Some(at) = order.iter().position(|&index| published == Some(index)) {
            order[..=at].rotate_right(1);
        }
        order
    }

    /// Standard error of a share seen on the source prompts of validation.
    fn standard_error(&self, value: f64) -> f64 {
        let share = value.abs().min(1.0);
        (share * (1.0 - share) / self.prepared.source.val.ids.len().max(1) as f64).sqrt()
    }

    fn generate_on_val(
        &self,
        one: &Candidate,
        usage: Use,
        scored: &Scored,
        before: &Before,
    ) -> Result<(ValScores, f64), EvalError> {
        let mut tap = self.tap(one, usage)?;
        let source = self.complete(&self.prepared.source.val, &mut tap)?;
        let target = self.complete(&self.prepared.target.val, &mut tap)?;
        let kl = scored.scores.kl;
        let gain = Gain {
            answers: share(&source),
            refusals: refusal_rate(&source).map(|rate| rate.value),
            target_answers: share(&target),
            kl: kl.unwrap_or(0.0),
        };
        let (value, within_bounds) = self.value(&gain, share(&before.target));
        let scores = ValScores {
            refusal_rate: refusal_rate(&source),
            answer_rate: answer_rate(&source),
            target_answer_rate: answer_rate(&target),
            target_refusal_rate: refusal_rate(&target),
            kl,
            within_bounds,
        };
        Ok((scores, value))
    }

    /// For the curves of a report: the best setting of a method at every layer, with source completions on validation.
    /// Gives the index of that setting by layer.
    pub fn by_layer(
        &self,
        method: Method,
        candidates: &[Candidate],
        tried: &mut [Tried],
        layers: &[LayerRows],
        progress: &mut dyn Progress,
    ) -> Result<Vec<Option<usize>>, EvalError> {
        progress.stage("the chosen method at every layer", layers.len());
        let mut found = Vec::new();
        for rows in layers {
            let best = loop {
                let Some((best, one)) = best_at(rows.layer, method, candidates, tried) else { break None };
                if one.scores.refusal_rate.is_some() {
                    break Some(best);
                }
                let (one, usage) = (&candidates[tried[best].candidate], tried[best].usage);
                let complete = || self.complete(&self.prepared.source.val, &mut self.tap(one, usage)?);
                match (outcome(&one.setting(usage), complete())?, &mut tried[best].outcome) {
                    (Outcome::Ok(judged), Outcome::Ok(scored)) => {
                        scored.scores.refusal_rate = refusal_rate(&judged);
                        scored.scores.answer_rate = answer_rate(&judged);
                    }
                    // The next best of the layer takes its place.
                    (Outcome::Failed { reason }, before) => *before = Outcome::Failed { reason },
                    (Outcome::Ok(_), Outcome::Failed { .. }) => {}
                }
            };
            found.push(best);
            progress.advance(1);
        }
        Ok(found)
    }
}

/// The best setting of a method at a layer, of those that did not fail.
fn best_at<'a>(
    layer: u16,
    method: Method,
    candidates: &[Candidate],
    tried: &'a [Tried],
) -> Option<(usize, &'a Scored)> {
    let here = |one: &Tried| {
        let candidate = &candidates[one.candidate];
        candidate.method == method && candidate.layer == layer
    };
    let scored = tried.iter().enumerate().filter(|(_, one)| here(one));
    let scored = scored.filter_map(|(index, one)| Some((index, one.outcome.ok()?)));
    scored.min_by(|(_, a), (_, b)| {
        // One that was generated for is among the best of its layer already.
        let generated = |one: &Scored| one.scores.refusal_rate.is_some();
        generated(b).cmp(&generated(a)).then(a.better_first(b))
    })
}

/// Why a method has no setting.
fn no_choice(method: Method, fitted: &Fitted, tried: &[Tried]) -> String {
    let of = tried.iter().filter(|one| fitted.candidates[one.candidate].method == method);
    let failed: Vec<&str> = of.filter_map(|one| one.outcome.reason()).collect();
    if let Some(first) = failed.first() {
        return format!(
            "each of the {} settings tried failed on validation; the first: {first}",
            failed.len()
        );
    }
    let name = method.to_string();
    let first = fitted.failed.iter().find(|point| point.setting.method == name);
    first.and_then(|point| point.outcome.reason()).unwrap_or("no setting was tried").to_owned()
}
