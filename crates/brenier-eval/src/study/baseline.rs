//! The untouched model: how it answers, how it refuses, and what it would know.

use brenier_residual::Tap;

use super::Run;
use super::prepare::Split;
use super::sweep::Val;
use crate::complete::{Judge, Judged, answer_rate, refusal_rate, rights};
use crate::forward::{Case, argmax, logits};
use crate::kl::forced;
use crate::refusal::{refusal_score, refusal_tokens};
use crate::{Baseline, EvalError, Rate};

/// Tokens of a completion that show whether it is a refusal.
const REFUSAL_LENGTH: usize = 32;

/// Completions of the untouched model on test.
pub(super) struct Untouched {
    pub source: Vec<Judged>,
    pub target: Vec<Judged>,
}

impl Run<'_> {
    /// What the model puts before an answer, nothing or a space: whichever makes the known answers of validation
    /// likelier, target prompts before source prompts.
    pub fn find_lead(&mut self) -> Result<(), EvalError> {
        let split = [&self.prepared.target.val, &self.prepared.source.val]
            .into_iter()
            .find(|split| split.answers.iter().any(Option::is_some));
        let Some(split) = split else { return Ok(()) };
        let mut best = ("", f64::NEG_INFINITY);
        for lead in ["", " "] {
            let (cases, _) = self.forced(split, lead)?;
            let val = self.val(cases, Vec::new(), vec![true; split.ids.len()]);
            let found =
                val.measure(|see| logits(self.model(), &val.cases, self.options.batch, &mut (), see))?;
            let likely = found.target_log_prob.unwrap_or(f64::NEG_INFINITY);
            if likely > best.1 {
                best = (lead, likely);
            }
        }
        self.prepared.lead = best.0;
        Ok(())
    }

    /// Prompts with their right answers forced, and which answers are known. An answer that does not fit the context
    /// counts as not known here.
    pub fn forced(&self, split: &Split, lead: &str) -> Result<(Vec<Case>, Vec<bool>), EvalError> {
        let mut cases = Vec::new();
        let mut known = Vec::new();
        for (index, ids) in split.ids.iter().enumerate() {
            let answer = match split.answers.get(index).and_then(Option::as_ref) {
                Some(answer) => self.subject.encode(&format!("{lead}{}", answer.trim()))?,
                None => Vec::new(),
            };
            let fits = ids.len() + answer.len() < self.model().spec().context;
            known.push(fits && !answer.is_empty());
            let item = split.item()(index);
            cases.push(Case::forced(item, ids, if fits { &answer } else { &[] }));
        }
        Ok((cases, known))
    }

    /// Validation cases of one side only, all counted as targets.
    fn val(&self, cases: Vec<Case>, refusal_tokens: Vec<u32>, known: Vec<bool>) -> Val {
        Val {
            cases,
            sources: 0,
            known,
            base: Vec::new(),
            refusal_tokens,
            eos: self.subject.eos().to_vec(),
            matching: self.options.matching,
        }
    }

    /// Tokens that begin the model's refusals, seen on training prompts: in its greedy completions, and in one sampled
    /// completion of each prompt, since a model that refuses in many wordings shows few of them greedily.
    pub fn find_refusal_tokens(&self) -> Result<Vec<u32>, EvalError> {
        let source = &self.prepared.source.train;
        let greedy =
            Judge { max_new_tokens: self.options.max_new_tokens.min(REFUSAL_LENGTH), ..self.judge() };
        let sampled = Judge { sample: Some(self.options.seed), ..greedy };
        let mut judged = greedy.complete(self.subject, &source.item(), &source.ids, &[], &mut ())?;
        judged.extend(sampled.complete(self.subject, &source.item(), &source.ids, &[], &mut ())?);
        let first = |refused: bool| {
            let of = judged.iter().filter(move |one| one.refused == refused);
            of.filter_map(|one| one.ids.first().copied()).collect::<Vec<u32>>()
        };
        let mut others = first(false);
        let cases = self.prepared.target.train.cases();
        logits(self.model(), &cases, self.options.batch, &mut (), &mut |_, _, logits| {
            others.push(argmax(logits))
        })?;
        Ok(refusal_tokens(&first(true), &others))
    }

    /// The untouched model on test.
    pub fn baseline(&self, refusal_tokens: &[u32]) -> Result<(Baseline, Untouched), EvalError> {
        let (source, target) = (&self.prepared.source.test, &self.prepared.target.test);
        let untouched =
            Untouched { source: self.complete(source, &mut ())?, target: self.complete(target, &mut ())? };
        // What follows the completions is read again for each method: a model that overflows there does so now.
        logits(self.model(), &self.continued(&untouched), self.options.batch, &mut (), &mut |_, _, _| {})?;
        let perplexity = match self.text {
            Some(text) => Some(crate::perplexity(self.subject, text, &[], self.options.batch)?),
            None => None,
        };
        let baseline = Baseline {
            refusal_rate: some(refusal_rate(&untouched.source))?,
            answer_rate: answer_rate(&untouched.source),
            target_refusal_rate: some(refusal_rate(&untouched.target))?,
            target_answer_rate: answer_rate(&untouched.target),
            latent_answer_rate: self.latent(source)?,
            perplexity: perplexity.map(crate::Perplexity::value).transpose()?.flatten(),
            perplexity_tokens: perplexity.map_or(0, |sums| sums.tokens),
            refusal_score: self.refusal_score(source, refusal_tokens, &mut ())?,
        };
        Ok((baseline, untouched))
    }

    /// Completions of a split.
    pub fn complete(&self, split: &Split, tap: &mut dyn Tap) -> Result<Vec<Judged>, EvalError> {
        self.judge().complete(self.subject, &split.item(), &split.ids, &split.answers, tap)
    }

    /// Target prompts of test with the untouched model's completions.
    pub fn continued(&self, untouched: &Untouched) -> Vec<Case> {
        let target = &self.prepared.target.test;
        let continuations: Vec<Vec<u32>> = untouched.target.iter().map(|one| one.ids.clone()).collect();
        forced(target.what, &target.ids, &continuations)
    }

    /// Answers that come out right once their first token is given.
    fn latent(&self, split: &Split) -> Result<Option<Rate>, EvalError> {
        let (mut prompts, mut indices) = (Vec::new(), Vec::new());
        let mut firsts = Vec::new();
        let mut answers = Vec::new();
        for (index, (ids, answer)) in split.ids.iter().zip(&split.answers).enumerate() {
            let Some(answer) = answer else { continue };
            let forced = self.subject.encode(&format!("{}{}", self.prepared.lead, answer.trim()))?;
            let Some(&first) = forced.first() else { continue };
            if ids.len() + 1 >= self.model().spec().context {
                continue;
            }
            prompts.push([ids.as_slice(), &[first]].concat());
            indices.push(index);
            firsts.push(first);
            answers.push(answer.as_str());
        }
        let item = |i: usize| split.item()(indices[i]);
        let found = self.judge().complete(self.subject, &item, &prompts, &[], &mut ())?;
        let mut right = Vec::new();
        for ((found, first), answer) in found.iter().zip(firsts).zip(answers) {
            let text = self.subject.decode(&[&[first], found.ids.as_slice()].concat())?;
            right.push(self.options.matching.right(&text, answer));
        }
        Ok(Rate::of(&right))
    }

    /// Mean refusal score after prompts; `None` where the model begins no refusal.
    pub fn refusal_score(
        &self,
        split: &Split,
        tokens: &[u32],
        tap: &mut dyn Tap,
    ) -> Result<Option<f64>, EvalError> {
        if tokens.is_empty() {
            return Ok(None);
        }
        let cases = split.cases();
        let mut sum = 0.0;
        logits(self.model(), &cases, self.options.batch, tap, &mut |_, _, logits| {
            sum += refusal_score(logits, tokens);
        })?;
        Ok(Some(sum / cases.len().max(1) as f64))
    }
}

/// Prompts were checked to be there: a statistic of none is a request without any.
pub(super) fn some<T>(statistic: Option<T>) -> Result<T, EvalError> {
    statistic.ok_or_else(|| EvalError::Setting {
        name: "prompts",
        expected: "at least one".to_owned(),
        found: "none".to_owned(),
    })
}

/// Share of right answers, for comparisons with a baseline.
pub(super) fn share(judged: &[Judged]) -> Option<f64> {
    Rate::of_known(&rights(judged)).map(|rate| rate.value)
}
