//! Prompts as ids, checked before anything is computed.

use brenier_model::{Prompt, PromptInput};
use serde_json::Value;

use crate::forward::{Case, Item};
use crate::{EvalError, Side, StudyData, Subject};

/// A split of one side: ids, and the known answers.
#[derive(Debug, Clone)]
pub(super) struct Split {
    /// What messages call its prompts.
    pub what: &'static str,
    pub ids: Vec<Vec<u32>>,
    /// One a prompt, or none at all.
    pub answers: Vec<Option<String>>,
}

/// One side's splits.
#[derive(Debug, Clone)]
pub(super) struct Sides {
    pub train: Split,
    pub val: Split,
    pub test: Split,
}

/// Everything that is put to the model.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub source: Sides,
    pub target: Sides,
    /// What this subject puts before an answer: nothing, or a space.
    pub lead: &'static str,
}

impl Split {
    /// What messages call a prompt, by its index.
    pub fn item(&self) -> impl Fn(usize) -> Item + use<> {
        Item::of(self.what)
    }

    /// Its prompts, read at their last token.
    pub fn cases(&self) -> Vec<Case> {
        let item = self.item();
        self.ids.iter().enumerate().map(|(index, ids)| Case::forced(item(index), ids, &[])).collect()
    }
}

/// What follows the name of a split where messages speak of one of its prompts.
const PROMPT: &str = ", prompt";
const SOURCE: [&str; 3] = ["source_train, prompt", "source_val, prompt", "source_test, prompt"];
const TARGET: [&str; 3] = ["target_train, prompt", "target_val, prompt", "target_test, prompt"];

pub(super) fn prepare(subject: &dyn Subject, data: &StudyData) -> Result<Prepared, EvalError> {
    Ok(Prepared {
        source: side(subject, SOURCE, &data.source)?,
        target: side(subject, TARGET, &data.target)?,
        lead: "",
    })
}

fn side(
    subject: &dyn Subject,
    [train, val, test]: [&'static str; 3],
    side: &Side,
) -> Result<Sides, EvalError> {
    let split = |what: &'static str, prompts: &[Prompt], answers: &Option<Vec<Option<String>>>| {
        let file = what.strip_suffix(PROMPT).unwrap_or(what);
        let ids = prompt_ids(subject, file, prompts, 1)?;
        Ok::<_, EvalError>(Split { what, ids, answers: answers.clone().unwrap_or_default() })
    };
    Ok(Sides {
        train: split(train, &side.train, &None)?,
        val: split(val, &side.val, &side.val_answers)?,
        test: split(test, &side.test, &side.test_answers)?,
    })
}

/// Ids of prompts that leave room for `room` more tokens; `what` is the file or list that they stand in.
///
/// # Errors
/// No prompt at all; a prompt that the tokenizer, the template or the model cannot take, by its place.
pub fn prompt_ids(
    subject: &dyn Subject,
    what: &str,
    prompts: &[Prompt],
    room: usize,
) -> Result<Vec<Vec<u32>>, EvalError> {
    if prompts.is_empty() {
        return Err(EvalError::NoPrompts { what: what.to_owned() });
    }
    let spec = subject.model().spec();
    let ids = |(index, prompt): (usize, &Prompt)| {
        let ids = subject.prompt_ids(prompt);
        let ids = ids.and_then(|ids| Ok(spec.check_ids(&ids, room).map(|()| ids)?));
        ids.map_err(|source| EvalError::Prompt {
            what: what.to_owned(),
            place: prompt.place(index),
            source: Box::new(source),
        })
    };
    prompts.iter().enumerate().map(ids).collect()
}

/// A prompt as its file has it.
pub(super) fn as_given(prompt: &Prompt) -> Value {
    match &prompt.input {
        PromptInput::Text(text) => Value::from(text.as_str()),
        PromptInput::Ids(ids) => Value::from(ids.as_slice()),
    }
}
