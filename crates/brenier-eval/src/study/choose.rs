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
use super::rule::Rule;
use super::sweep::{Measured, Scored, Tried, Val};
use super::{Run, outcome};
use crate::complete::{Judged, answer_rate, refusal_rate};
use crate::forward::{Tails, logits};
use crate::{EvalError, Outcome, Progress, ValScores, to_json};

/// Settings of a method that are tried on all tokens and at other strengths as well, once they are ranked as they are.
const TRIED_AGAIN: usize = 4;

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
struct Gain {
    answers: Option<f64>,
    refusals: Option<f64>,
    target_answers: Option<f64>,
    kl: f64,
}

/// The untouched model on validation.
pub(super) struct Before {
    val: Val,
    target: Vec<Judged>,
    forced_target: Option<f64>,
}

const PUBLISHED: &str = "the published rule: lowest refusal score among directions below 80% depth with KL at most 0.1 that induce refusals";
const BY_ANSWERS: &str =
    "right answers on validation, less the harm beyond its bound; within one standard error the likelier";

impl Run<'_> {
    /// The untouched model on validation.
    pub fn before(&self, refusal_tokens: &[u32]) -> Result<Before, EvalError> {
        let val = self.validation(refusal_tokens)?;
        let base = val.measure(|see| logits(self.model(), &val.cases, self.options.batch, &mut (), see))?;
        let target = self.complete(&self.prepared.target.val, &mut ())?;
        Ok(Before { val, target, forced_target: base.target_answers.map(|rate| rate.value) })
    }

    /// What is maximised, and whether the harm stays within its bound.
    fn value(&self, gain: &Gain, target_before: Option<f64>) -> (f64, bool) {
        let gained = gain.answers.or(gain.refusals.map(|rate| -rate)).unwrap_or(0.0);
        let (harm, bound) = match (target_before, gain.target_answers) {
            (Some(before), Some(after)) => (before - after, self.options.harm_bound),
            _ => (gain.kl, self.options.kl_bound),
        };
        // Shares are counts over counts: let rounding not decide.
        let over = (harm - bound - 1e-12).max(0.0);
        (gained - over, over == 0.0)
    }

    fn scored(&self, found: &Measured, before: &Before) -> Result<Scored, EvalError> {
        let gain = Gain {
            answers: found.answers.map(|rate| rate.value),
            refusals: found.first_token_refusal_rate.map(|rate| rate.value),
            target_answers: found.target_answers.map(|rate| rate.value),
            kl: found.kl,
        };
        let scored = Scored::new(found, self.value(&gain, before.forced_target).0);
        to_json("validation", &scored.scores)?;
        Ok(scored)
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

    /// Measures all candidates without generating, and says which RFA direction the published rule takes.
    fn sweep(
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
                    let adding = format!("adding the direction of rfa at layer {}", rows.layer);
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
            self.scored(&found, before)
        };
        Ok(Tried { candidate: index, usage, outcome: outcome(&one.setting(usage), measure())? })
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
