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

use brenier_hooks::{Edit, Intervention};
use brenier_map::{Affine, LowRank, RowMap};
use brenier_residual::{HookPoint, TokenSet};
use brenier_transport::Method;
use faer::Mat;

use super::Run;
use super::baseline::share;
use super::candidates::{Candidate, LayerRows, Use};
use super::sweep::{Measured, Tried, Val};
use crate::complete::{Judged, answer_rate, refusal_rate};
use crate::forward::{Tails, logits};
use crate::{EvalError, Progress, ValScores};

/// Settings of a method that are tried on all tokens and at other strengths as well, once they are ranked as they are.
const TRIED_AGAIN: usize = 4;

/// Arditi et al. 2024, section 2.3 and appendix C: a direction is discarded at this share of the depth or later ...
const LATEST: f64 = 0.8;
/// ... or if it moves harmless predictions by more than this.
const LARGEST_KL: f64 = 0.1;

/// The settings tried, and those chosen.
pub(super) struct Choice {
    pub tried: Vec<Tried>,
    /// One a method, in the order of the methods; the best of all.
    pub chosen: Vec<Chosen>,
    pub best: usize,
}

/// A method's setting.
pub(super) struct Chosen {
    /// Index into the settings tried.
    pub tried: usize,
    pub val: ValScores,
    /// What was maximised.
    pub value: f64,
    pub selection: String,
}

/// What a setting is judged by.
struct Gain {
    answers: Option<f64>,
    refusals: Option<f64>,
    target_answers: Option<f64>,
    kl: f64,
}

/// The untouched model on validation.
struct Before {
    val_target: Vec<Judged>,
    forced_target: Option<f64>,
}

impl Run<'_> {
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

    fn forced_value(&self, found: &Measured, before: &Before) -> f64 {
        let gain = Gain {
            answers: found.answers.map(|rate| rate.value),
            refusals: found.first_token_refusal_rate.map(|rate| rate.value),
            target_answers: found.target_answers.map(|rate| rate.value),
            kl: found.kl,
        };
        self.value(&gain, before.forced_target).0
    }

    /// Tries every candidate and chooses a setting for each method.
    pub fn choose(
        &self,
        methods: &[Method],
        candidates: &[Candidate],
        layers: &[LayerRows],
        refusal_tokens: &[u32],
        notes: &mut Vec<String>,
        progress: &mut dyn Progress,
    ) -> Result<Choice, EvalError> {
        let val = self.validation(refusal_tokens)?;
        let base = val.measure(|see| logits(self.model(), &val.cases, self.options.batch, &mut (), see))?;
        let target = &self.prepared.target.val;
        let before = Before {
            val_target: self.judge().complete(self.subject, &target.ids, &target.answers, &mut ())?,
            forced_target: base.target_answers.map(|rate| rate.value),
        };

        progress.stage("trying settings on validation", candidates.len());
        let (mut tried, published) = self.sweep(candidates, layers, &val, &before, progress)?;
        if methods.contains(&Method::Rfa) && published.is_none() {
            notes.push(
                "rfa: no direction passes the published rule (layer below 80% depth, KL at most 0.1, inducing \
                 refusals), so its layer is chosen on validation like any other"
                    .to_owned(),
            );
        }

        progress.stage("generating on validation", methods.len() * self.options.generated);
        let mut chosen = Vec::new();
        for &method in methods {
            let found = self.choose_one(method, candidates, &mut tried, published, &before, progress)?;
            chosen.extend(found);
        }
        let best = (0..chosen.len()).max_by(|&a, &b| {
            let (one, other) = (&chosen[a].val, &chosen[b].val);
            let kl = |val: &ValScores| val.kl.unwrap_or(0.0);
            // Of equals the gentler, then the earlier: methods stand in the order in which they are preferred.
            one.within_bounds
                .cmp(&other.within_bounds)
                .then(chosen[a].value.total_cmp(&chosen[b].value))
                .then(kl(other).total_cmp(&kl(one)))
                .then(b.cmp(&a))
        });
        let best = best.ok_or_else(|| EvalError::Setting {
            name: "methods",
            expected: "at least one that can be fitted".to_owned(),
            found: "none".to_owned(),
        })?;
        Ok(Choice { tried, chosen, best })
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
        val: &Val,
        before: &Before,
        progress: &mut dyn Progress,
    ) -> Result<(Vec<Tried>, Option<usize>), EvalError> {
        let mut tried: Vec<Tried> = Vec::new();
        let mut rule = Rule::default();
        let mut tails = Tails::new(self.model(), &val.cases, self.options.batch)?;
        let local = |index: &usize| candidates[*index].method != Method::Rfa;
        for rows in layers {
            tails.advance_to(rows.layer)?;
            let here = || (0..candidates.len()).filter(|&index| candidates[index].layer == rows.layer);
            for index in here().filter(local) {
                let found = self.try_tail(&candidates[index], Use::PLAIN, val, &tails)?;
                let value = self.forced_value(&found, before);
                tried.push(Tried::new(index, &candidates[index], Use::PLAIN, &found, value));
                progress.advance(1);
            }
            for index in here().filter(|index| !local(index)) {
                let found = self.try_whole(&candidates[index], val)?;
                let value = self.forced_value(&found, before);
                rule.consider(
                    tried.len(),
                    rows,
                    &found,
                    self.induced(rows, val, &tails)?,
                    self.model().spec().layers,
                );
                tried.push(Tried::new(index, &candidates[index], Use::ALL, &found, value));
                progress.advance(1);
            }
        }
        // The best few again, on all tokens, and at other strengths.
        let mut again: Vec<usize> = Vec::new();
        for method in Method::ALL.into_iter().filter(|&method| method != Method::Rfa) {
            let mut of: Vec<&Tried> =
                tried.iter().filter(|one| candidates[one.candidate].method == method).collect();
            of.sort_by(|a, b| a.better_first(b));
            again.extend(of.iter().take(TRIED_AGAIN).map(|one| one.candidate));
        }
        again.sort_by_key(|&index| candidates[index].layer);
        progress.stage("trying the best on all tokens and at other strengths", again.len());
        let mut tails = Tails::new(self.model(), &val.cases, self.options.batch)?;
        for index in again {
            let candidate = &candidates[index];
            tails.advance_to(candidate.layer)?;
            let stronger = self.options.strengths.iter().filter(|&&strength| strength != 1.0);
            let stronger = stronger.map(|&strength| Use { strength, ..Use::PLAIN });
            for usage in std::iter::once(Use::ALL).chain(stronger) {
                let found = self.try_tail(candidate, usage, val, &tails)?;
                let value = self.forced_value(&found, before);
                tried.push(Tried::new(index, candidate, usage, &found, value));
            }
            progress.advance(1);
        }
        Ok((tried, rule.best.map(|(index, _)| index)))
    }

    fn try_tail(
        &self,
        one: &Candidate,
        usage: Use,
        val: &Val,
        tails: &Tails<'_>,
    ) -> Result<Measured, EvalError> {
        let spec = self.model().spec();
        let mut tap = Intervention::new(spec, &one.edits(spec.layers, usage))?;
        val.measure(|see| tails.logits(&mut tap, see))
    }

    fn try_whole(&self, one: &Candidate, val: &Val) -> Result<Measured, EvalError> {
        let spec = self.model().spec();
        let mut tap = Intervention::new(spec, &one.edits(spec.layers, Use::ALL))?;
        val.measure(|see| logits(self.model(), &val.cases, self.options.batch, &mut tap, see))
    }

    /// Mean refusal score on target prompts when `m_s - m_t` is added at this layer.
    fn induced(&self, rows: &LayerRows, val: &Val, tails: &Tails<'_>) -> Result<Option<f64>, EvalError> {
        let d = rows.source.ncols();
        let mean = |rows: &Mat<f64>, j: usize| rows.col(j).iter().sum::<f64>() / rows.nrows().max(1) as f64;
        let offset = (0..d).map(|j| mean(&rows.source, j) - mean(&rows.target, j)).collect();
        let add =
            LowRank { scale: 1.0, mean: vec![0.0; d], offset, u: Mat::zeros(d, 0), v: Mat::zeros(d, 0) };
        let edit = Edit {
            at: HookPoint::resid_post(rows.layer),
            map: RowMap::new(Affine::LowRank(add))?,
            strength: 1.0,
            tokens: TokenSet::All,
        };
        let mut tap = Intervention::new(self.model().spec(), &[edit])?;
        Ok(val.measure(|see| tails.logits(&mut tap, see))?.target_refusal_score)
    }

    /// Generates for the best few settings of a method and takes the best.
    fn choose_one(
        &self,
        method: Method,
        candidates: &[Candidate],
        tried: &mut [Tried],
        published: Option<usize>,
        before: &Before,
        progress: &mut dyn Progress,
    ) -> Result<Option<Chosen>, EvalError> {
        let mut order: Vec<usize> =
            (0..tried.len()).filter(|&index| candidates[tried[index].candidate].method == method).collect();
        order.sort_by(|&a, &b| tried[a].better_first(&tried[b]));
        self.prefer_within_error(&mut order, tried);
        if let (Method::Rfa, Some(published)) = (method, published) {
            order.retain(|&index| index != published);
            order.insert(0, published);
        }
        order.truncate(self.options.generated.max(1));
        let mut best: Option<Chosen> = None;
        for index in order {
            let (val, value) =
                self.generate_on_val(&candidates[tried[index].candidate], &mut tried[index], before)?;
            progress.advance(1);
            let settled = best.as_ref().is_some_and(|best| best.value >= value - self.standard_error(value));
            if !settled {
                let selection = if published == Some(index) {
                    "the published rule: lowest refusal score among directions below 80% depth with KL at most 0.1 \
                     that induce refusals"
                } else {
                    "right answers on validation, less the harm beyond its bound; within one standard error the likelier"
                };
                best = Some(Chosen { tried: index, val, value, selection: selection.to_owned() });
            }
        }
        Ok(best)
    }

    /// Standard error of a share seen on the source prompts of validation.
    fn standard_error(&self, value: f64) -> f64 {
        let share = value.abs().min(1.0);
        (share * (1.0 - share) / self.prepared.source.val.ids.len().max(1) as f64).sqrt()
    }

    /// Puts settings within one standard error of the best in the order of preference, before the rest.
    fn prefer_within_error(&self, order: &mut [usize], tried: &[Tried]) {
        let Some(best) = order.first().map(|&index| tried[index].value) else { return };
        let least = best - self.standard_error(best);
        let near = order.iter().take_while(|&&index| tried[index].value >= least).count();
        order[..near].sort_by(|&a, &b| tried[b].preference().total_cmp(&tried[a].preference()));
    }

    fn generate_on_val(
        &self,
        candidate: &Candidate,
        tried: &mut Tried,
        before: &Before,
    ) -> Result<(ValScores, f64), EvalError> {
        let spec = self.model().spec();
        let mut tap = Intervention::new(spec, &candidate.edits(spec.layers, tried.usage))?;
        let (source, target) = (&self.prepared.source.val, &self.prepared.target.val);
        let source = self.judge().complete(self.subject, &source.ids, &source.answers, &mut tap)?;
        let target = self.judge().complete(self.subject, &target.ids, &target.answers, &mut tap)?;
        tried.point.refusal_rate = refusal_rate(&source);
        tried.point.answer_rate = answer_rate(&source);
        tried.point.target_answer_rate = answer_rate(&target);
        let gain = Gain {
            answers: share(&source),
            refusals: refusal_rate(&source).map(|rate| rate.value),
            target_answers: share(&target),
            kl: tried.point.kl.unwrap_or(0.0),
        };
        let (value, within_bounds) = self.value(&gain, share(&before.val_target));
        let scores = ValScores {
            refusal_rate: refusal_rate(&source),
            answer_rate: answer_rate(&source),
            target_answer_rate: answer_rate(&target),
            target_refusal_rate: refusal_rate(&target),
            kl: tried.point.kl,
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
        let spec = self.model().spec();
        let mut found = Vec::new();
        for rows in layers {
            let here = |one: &Tried| {
                let candidate = &candidates[one.candidate];
                candidate.method == method && candidate.layer == rows.layer
            };
            let best = (0..tried.len()).filter(|&i| here(&tried[i])).min_by(|&a, &b| {
                // One that was generated for is among the best of its layer already.
                let generated = |one: &Tried| one.point.refusal_rate.is_some();
                generated(&tried[b]).cmp(&generated(&tried[a])).then(tried[a].better_first(&tried[b]))
            });
            if let Some(index) = best
                && tried[index].point.refusal_rate.is_none()
            {
                let one = &candidates[tried[index].candidate];
                let mut tap = Intervention::new(spec, &one.edits(spec.layers, tried[index].usage))?;
                let source = &self.prepared.source.val;
                let judged = self.judge().complete(self.subject, &source.ids, &source.answers, &mut tap)?;
                tried[index].point.refusal_rate = refusal_rate(&judged);
                tried[index].point.answer_rate = answer_rate(&judged);
            }
            found.push(best);
            progress.advance(1);
        }
        Ok(found)
    }
}

/// The published rule for the direction of a projection.
#[derive(Default)]
struct Rule {
    /// Index and bypass score of the best so far.
    best: Option<(usize, f64)>,
}

impl Rule {
    fn consider(
        &mut self,
        index: usize,
        rows: &LayerRows,
        found: &Measured,
        induced: Option<f64>,
        layers: u16,
    ) {
        let (Some(bypass), Some(induced)) = (found.refusal_score, induced) else { return };
        let late = f64::from(rows.layer) >= (LATEST * f64::from(layers)).floor();
        // A NaN fails every comparison that would let it in.
        let sound = bypass.is_finite() && found.kl <= LARGEST_KL && induced >= 0.0;
        if sound && !late && self.best.is_none_or(|(_, best)| bypass < best) {
            self.best = Some((index, bypass));
        }
    }
}
