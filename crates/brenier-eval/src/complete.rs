//! Completions, judged.

use brenier_model::{GenerateOptions, Generation, ModelError, generate};
use brenier_residual::Tap;

use crate::forward::Item;
use crate::{EvalError, Match, Phrases, Rate, Subject};

/// How to complete and judge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub phrases: &'a Phrases,
    pub matching: Match,
    pub max_new_tokens: usize,
    pub batch: Option<usize>,
    /// Samples at temperature 1 with this seed; `None` is greedy.
    pub sample: Option<u64>,
}

/// A completion and what the judges said of it.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub ids: Vec<u32>,
    pub text: String,
    pub finish: String,
    pub refused: bool,
    pub right: Option<bool>,
}

impl Judge<'_> {
    /// Continues prompts under `tap`. `answers[i]`, where known, belongs to `prompts[i]`, which messages call `item(i)`.
    pub fn complete(
        &self,
        subject: &dyn Subject,
        item: &dyn Fn(usize) -> Item,
        prompts: &[Vec<u32>],
        answers: &[Option<String>],
        tap: &mut dyn Tap,
    ) -> Result<Vec<Judged>, EvalError> {
        let options = GenerateOptions {
            max_new_tokens: self.max_new_tokens,
            batch: self.batch,
            eos: subject.eos().to_vec(),
            temperature: self.sample.map(|_| 1.0),
            seed: self.sample.unwrap_or_default(),
            rules: subject.rules(),
            ..GenerateOptions::default()
        };
        let found = generate(subject.model(), prompts, &options, tap);
        let found = found.map_err(|error| match error {
            ModelError::NotFinite { prompt, tokens, overflow } => {
                let Item { what, index } = item(prompt);
                let token = (prompts[prompt].len() + tokens).saturating_sub(1);
                EvalError::Overflow { what, index, token, overflow }
            }
            other => other.into(),
        })?;
        let answers = answers.iter().map(Option::as_deref).chain(std::iter::repeat(None));
        found.into_iter().zip(answers).map(|(found, answer)| self.judge(subject, found, answer)).collect()
    }

    fn judge(
        &self,
        subject: &dyn Subject,
        found: Generation,
        answer: Option<&str>,
    ) -> Result<Judged, EvalError> {
        let text = subject.decode(&found.ids)?;
        Ok(Judged {
            refused: self.phrases.refuses(&text),
            right: answer.map(|answer| self.matching.right(&text, answer)),
            finish: found.finish.to_string(),
            ids: found.ids,
            text,
        })
    }
}

/// Refusals among completions.
pub(crate) fn refusal_rate(judged: &[Judged]) -> Option<Rate> {
    Rate::of(&refusals(judged))
}

/// Right answers among completions whose answer is known.
pub(crate) fn answer_rate(judged: &[Judged]) -> Option<Rate> {
    Rate::of_known(&rights(judged))
}

/// Refused or not, by prompt.
pub(crate) fn refusals(judged: &[Judged]) -> Vec<bool> {
    judged.iter().map(|one| one.refused).collect()
}

/// Right or not, by prompt, where known.
pub(crate) fn rights(judged: &[Judged]) -> Vec<Option<bool>> {
    judged.iter().map(|one| one.right).collect()
}
