//! Every method on test, each at the setting that validation chose for it.

use std::collections::BTreeMap;
use std::time::Instant;

use brenier_hooks::Intervention;
use brenier_map::{MapEntry, MapFile};
use brenier_model::Prompt;
use brenier_residual::Tap;

use super::Run;
use super::baseline::{Untouched, some};
use super::candidates::{Candidate, Use};
use super::choose::Choice;
use super::prepare::{Split, as_given};
use crate::complete::{Judged, answer_rate, refusal_rate, refusals, rights};
use crate::{
    Completion, EvalError, MapRecord, Mean, MethodReport, Paired, Perplexity, Progress, StudyData, Versus,
    kl, perplexity, places,
};

/// What testing gives.
pub(super) struct Tested {
    pub methods: Vec<MethodReport>,
    pub maps: Vec<(String, MapFile)>,
    pub completions: Vec<Completion>,
}

impl Run<'_> {
    pub fn test(
        &self,
        candidates: &[Candidate],
        choice: &Choice,
        data: &StudyData,
        untouched: &Untouched,
        refusal_tokens: &[u32],
        progress: &mut dyn Progress,
    ) -> Result<Tested, EvalError> {
        progress.stage("measuring on test", choice.chosen.len() + 1);
        let spec = self.model().spec();
        let layers = spec.layers;
        let mut completions = self.completions("baseline", data, &untouched.source, &untouched.target);
        let mut taps = Vec::new();
        for chosen in &choice.chosen {
            let tried = &choice.tried[chosen.tried];
            taps.push(Intervention::new(spec, &candidates[tried.candidate].edits(layers, tried.usage))?);
        }
        let continuations: Vec<Vec<u32>> = untouched.target.iter().map(|one| one.ids.clone()).collect();
        let mut views: Vec<&mut dyn Tap> = taps.iter_mut().map(|tap| tap as &mut dyn Tap).collect();
        let batch = self.options.batch;
        let divergences =
            kl(self.model(), &self.prepared.target.test.ids, &continuations, &mut views, batch)?;
        progress.advance(1);

        let (mut methods, mut maps) = (Vec::new(), Vec::new());
        for ((chosen, tap), divergence) in choice.chosen.iter().zip(&mut taps).zip(divergences) {
            let clock = Instant::now();
            let tried = &choice.tried[chosen.tried];
            let candidate = &candidates[tried.candidate];
            let name = candidate.method.to_string();
            let (source, target) = self.both(&self.prepared.source.test, &self.prepared.target.test, tap)?;
            let text = match self.text {
                Some(text) => {
                    Some(perplexity(self.subject, text, &candidate.edits(layers, tried.usage), batch)?)
                }
                None => None,
            };
            completions.extend(self.completions(&name, data, &source, &target));
            let seed = self.options.seed;
            let kl_prompt = Mean::of(&divergence.prompt, seed);
            let kl_prompt =
                kl_prompt.ok_or_else(|| EvalError::NotFinite { what: "KL".to_owned(), found: f64::NAN })?;
            if !kl_prompt.value.is_finite() {
                let what = format!("KL of {name} on target prompts of test");
                return Err(EvalError::NotFinite { what, found: kl_prompt.value });
            }
            methods.push(MethodReport {
                setting: tried.point.setting.clone(),
                refusal_rate: some(refusal_rate(&source))?,
                answer_rate: answer_rate(&source),
                target_refusal_rate: some(refusal_rate(&target))?,
                target_answer_rate: answer_rate(&target),
                perplexity: text.and_then(Perplexity::value),
                kl: kl_prompt.value,
                kl_prompt,
                kl_continuation: Mean::of(&divergence.continuation, seed),
                refusal_score: self.refusal_score(&self.prepared.source.test.ids, refusal_tokens, tap)?,
                versus_baseline: versus(untouched, &source, &target, seed)?,
                val: chosen.val.clone(),
                heldout_w2_ratio: candidate.heldout_w2_ratio(),
                certificate: serde_json::to_value(&candidate.fit.certificate).unwrap_or_default(),
                map: Some(format!("maps/{name}.safetensors")),
                selection: chosen.selection.clone(),
                seconds: clock.elapsed().as_secs_f64(),
            });
            maps.push((name, self.map_file(candidate, tried.usage)));
            progress.advance(1);
        }
        Ok(Tested { methods, maps, completions })
    }

    /// Completions of both sides in one go: a larger batch is a faster one.
    fn both(
        &self,
        source: &Split,
        target: &Split,
        tap: &mut dyn Tap,
    ) -> Result<(Vec<Judged>, Vec<Judged>), EvalError> {
        let answers = |split: &Split| {
            let mut answers = split.answers.clone();
            answers.resize(split.ids.len(), None);
            answers
        };
        let ids = [source.ids.as_slice(), &target.ids].concat();
        let answers = [answers(source), answers(target)].concat();
        let mut all = self.judge().complete(self.subject, &ids, &answers, tap)?;
        let target = all.split_off(source.ids.len());
        Ok((all, target))
    }

    fn completions(
        &self,
        method: &str,
        data: &StudyData,
        source: &[Judged],
        target: &[Judged],
    ) -> Vec<Completion> {
        let side = |side: &'static str, prompts: &[Prompt], answers: &[Option<String>], judged: &[Judged]| {
            let one = |(index, (prompt, judged)): (usize, (&Prompt, &Judged))| Completion {
                method: method.to_owned(),
                side: side.to_owned(),
                index,
                prompt: as_given(prompt),
                completion: judged.text.clone(),
                finish: judged.finish.clone(),
                refused: judged.refused,
                right: judged.right,
                answer: answers.get(index).cloned().flatten(),
            };
            prompts.iter().zip(judged).enumerate().map(one).collect::<Vec<_>>()
        };
        let mut all = side("source", &data.source.test, &self.prepared.source.test.answers, source);
        all.extend(side("target", &data.target.test, &self.prepared.target.test.answers, target));
        all
    }

    /// The map at every place where it was measured, with how it was fitted and measured.
    fn map_file(&self, candidate: &Candidate, usage: Use) -> MapFile {
        let certificate = serde_json::to_value(&candidate.fit.certificate).unwrap_or_default();
        let entry =
            MapEntry { map: candidate.fit.map.clone(), certificate, method: candidate.method.to_string() };
        let fitted = candidate.fitted_at();
        let places = places(candidate.method, fitted, self.model().spec().layers);
        let elsewhere = places != [fitted];
        let record = MapRecord {
            provenance: self.provenance.clone(),
            fitted_at: elsewhere.then(|| fitted.to_string()),
            ..usage.into()
        };
        let mut metadata = BTreeMap::new();
        record.write(&mut metadata);
        let entries = places.into_iter().map(|at| (at.to_string(), entry.clone()));
        MapFile { entries: entries.collect(), metadata }
    }
}

fn versus(
    untouched: &Untouched,
    source: &[Judged],
    target: &[Judged],
    seed: u64,
) -> Result<Versus, EvalError> {
    let refused = |with: &[Judged], without: &[Judged]| {
        let paired = Paired::of(&refusals(with), &refusals(without), seed);
        paired.ok_or_else(|| EvalError::Setting {
            name: "prompts",
            expected: "at least one".to_owned(),
            found: "none".to_owned(),
        })
    };
    let right = |with: &[Judged], without: &[Judged]| Paired::of_known(&rights(with), &rights(without), seed);
    Ok(Versus {
        refusal: refused(source, &untouched.source)?,
        answer: right(source, &untouched.source),
        target_refusal: refused(target, &untouched.target)?,
        target_answer: right(target, &untouched.target),
    })
}
