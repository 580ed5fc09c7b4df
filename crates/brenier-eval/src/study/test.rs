//! Every method on test, each at the setting that validation chose for it.

use std::collections::BTreeMap;
use std::time::Instant;

use brenier_hooks::Edit;
use brenier_map::{MapEntry, MapFile};
use brenier_model::Prompt;
use brenier_residual::Tap;
use brenier_transport::Method;
use serde_json::Value;

use super::baseline::{Untouched, some};
use super::candidates::{Candidate, Use, no_setting};
use super::choose::Choice;
use super::prepare::{Split, as_given};
use super::{Run, outcome};
use crate::complete::{Judged, answer_rate, refusal_rate, refusals, rights};
use crate::kl::divergences;
use crate::{
    Completion, EvalError, Kl, MapRecord, Mean, MethodReport, MethodScores, Outcome, Paired, Perplexity,
    Progress, StudyData, Versus, perplexity, places, to_json,
};

/// What testing gives.
pub(super) struct Tested {
    pub methods: Vec<MethodReport>,
    pub maps: Vec<(String, MapFile)>,
    pub completions: Vec<Completion>,
}

/// What a method gave on test.
struct Measured {
    scores: MethodScores,
    source: Vec<Judged>,
    target: Vec<Judged>,
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
        let layers = self.model().spec().layers;
        let mut completions = self.completions("baseline", data, &untouched.source, &untouched.target);
        let mut taps = Vec::new();
        for chosen in choice.chosen.iter().filter_map(|(_, found)| found.as_ref().ok()) {
            let tried = &choice.tried[chosen.tried];
            taps.push(self.tap(&candidates[tried.candidate], tried.usage)?);
        }
        let mut views: Vec<&mut dyn Tap> = taps.iter_mut().map(|tap| tap as &mut dyn Tap).collect();
        let cases = self.continued(untouched);
        let divergences = divergences(self.model(), &cases, &mut views, self.options.batch)?;
        progress.advance(1);

        let (mut methods, mut maps) = (Vec::new(), Vec::new());
        let mut ready = taps.iter_mut().zip(divergences);
        for (method, found) in &choice.chosen {
            match found {
                Err(reason) => methods.push(unmeasured(*method, reason)),
                Ok(chosen) => {
                    let Some((tap, divergence)) = ready.next() else { break };
                    let clock = Instant::now();
                    let tried = &choice.tried[chosen.tried];
                    let candidate = &candidates[tried.candidate];
                    let (name, setting) = (method.to_string(), candidate.setting(tried.usage));
                    let edits = candidate.edits(layers, tried.usage);
                    let found = self.measure(&edits, tap, divergence, untouched, refusal_tokens);
                    let outcome = match outcome(&setting, found)? {
                        Outcome::Ok(Measured { scores, source, target }) => {
                            completions.extend(self.completions(&name, data, &source, &target));
                            Outcome::Ok(scores)
                        }
                        Outcome::Failed { reason } => Outcome::Failed { reason },
                    };
                    maps.push((name.clone(), self.map_file(candidate, tried.usage)?));
                    methods.push(MethodReport {
                        setting,
                        outcome,
                        val: Some(chosen.val.clone()),
                        heldout_w2_ratio: candidate.heldout_w2_ratio(),
                        certificate: to_json("certificate", &candidate.fit.certificate)?,
                        map: Some(format!("maps/{name}.safetensors")),
                        selection: chosen.selection.to_owned(),
                        seconds: clock.elapsed().as_secs_f64(),
                    });
                }
            }
            progress.advance(1);
        }
        Ok(Tested { methods, maps, completions })
    }

    /// A method on test.
    fn measure(
        &self,
        edits: &[Edit],
        tap: &mut dyn Tap,
        divergence: Result<Kl, EvalError>,
        untouched: &Untouched,
        refusal_tokens: &[u32],
    ) -> Result<Measured, EvalError> {
        let (seed, divergence) = (self.options.seed, divergence?);
        let (source, target) = self.both(&self.prepared.source.test, &self.prepared.target.test, tap)?;
        let text =
            self.text.map(|text| perplexity(self.subject, text, edits, self.options.batch)).transpose()?;
        let kl_prompt = some(Mean::of(&divergence.prompt, seed)?)?;
        let scores = MethodScores {
            refusal_rate: some(refusal_rate(&source))?,
            answer_rate: answer_rate(&source),
            target_refusal_rate: some(refusal_rate(&target))?,
            target_answer_rate: answer_rate(&target),
            perplexity: text.map(Perplexity::value).transpose()?.flatten(),
            kl: kl_prompt.value,
            kl_prompt,
            kl_continuation: Mean::of(&divergence.continuation, seed)?,
            refusal_score: self.refusal_score(&self.prepared.source.test, refusal_tokens, tap)?,
            versus_baseline: versus(untouched, &source, &target, seed)?,
        };
        Ok(Measured { scores, source, target })
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
        let item = |index: usize| match index.checked_sub(source.ids.len()) {
            None => source.item()(index),
            Some(index) => target.item()(index),
        };
        let mut all = self.judge().complete(self.subject, &item, &ids, &answers, tap)?;
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
    fn map_file(&self, candidate: &Candidate, usage: Use) -> Result<MapFile, EvalError> {
        let certificate = to_json("certificate", &candidate.fit.certificate)?;
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
        Ok(MapFile { entries: entries.collect(), metadata })
    }
}

/// A method of which validation could measure no setting.
fn unmeasured(method: Method, reason: &str) -> MethodReport {
    MethodReport {
        setting: no_setting(method),
        outcome: Outcome::Failed { reason: reason.to_owned() },
        val: None,
        heldout_w2_ratio: None,
        certificate: Value::Null,
        map: None,
        selection: "nothing: no setting could be measured on validation".to_owned(),
        seconds: 0.0,
    }
}

fn versus(
    untouched: &Untouched,
    source: &[Judged],
    target: &[Judged],
    seed: u64,
) -> Result<Versus, EvalError> {
    let refused =
        |with: &[Judged], without: &[Judged]| some(Paired::of(&refusals(with), &refusals(without), seed));
    let right = |with: &[Judged], without: &[Judged]| Paired::of_known(&rights(with), &rights(without), seed);
    Ok(Versus {
        refusal: refused(source, &untouched.source)?,
        answer: right(source, &untouched.source),
        target_refusal: refused(target, &untouched.target)?,
        target_answer: right(target, &untouched.target),
    })
}
