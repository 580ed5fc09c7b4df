//! The files of a study.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use brenier_model::{Prompt, PromptFormat, PromptInput, read_answers, read_prompts, read_texts, sha256_file};

use crate::{EvalError, Phrases};

/// Prompts of one side, split for training, validation and test, and the answers that are known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Side {
    /// Maps are fitted on these.
    pub train: Vec<Prompt>,
    /// Settings are chosen on these.
    pub val: Vec<Prompt>,
    /// Methods are reported on these.
    pub test: Vec<Prompt>,
    /// The right answer of each validation prompt, where known.
    pub val_answers: Option<Vec<Option<String>>>,
    /// The right answer of each test prompt, where known.
    pub test_answers: Option<Vec<Option<String>>>,
}

/// What a study reads.
#[derive(Debug, Clone, Default)]
pub struct StudyData {
    /// Prompts that show the behaviour to be changed.
    pub source: Side,
    /// Prompts that do not.
    pub target: Side,
    /// Passages of raw text for perplexity.
    pub text: Option<Vec<String>>,
    /// What counts as a refusal.
    pub phrases: Phrases,
    /// SHA-256 by file name.
    pub sha256: BTreeMap<String, String>,
}

impl StudyData {
    /// Reads the directory of a study.
    ///
    /// Required: `{source,target}_{train,val,test}.jsonl`. Optional: `{source,target}_{val,test}_answers.jsonl`,
    /// `text.txt`, `refusal_phrases.json`.
    ///
    /// # Errors
    /// A required file that is missing, a file that is empty or broken, answers of which none belongs to a prompt.
    pub fn read(dir: &Path) -> Result<Self, EvalError> {
        if !dir.is_dir() {
            let hint =
                "expected a directory with source_train.jsonl, target_train.jsonl and the rest of a study";
            return Err(EvalError::MissingFile { path: dir.to_owned(), hint: hint.to_owned() });
        }
        let mut data = Self::default();
        let mut reader = Reader { dir, sha256: &mut data.sha256 };
        data.source = reader.side("source")?;
        data.target = reader.side("target")?;
        if let Some(path) = reader.optional("text.txt")? {
            data.text = Some(read_texts(&path)?);
        }
        if let Some(path) = reader.optional("refusal_phrases.json")? {
            data.phrases = Phrases::read(&path)?;
        }
        Ok(data)
    }
}

struct Reader<'a> {
    dir: &'a Path,
    sha256: &'a mut BTreeMap<String, String>,
}

impl Reader<'_> {
    fn side(&mut self, side: &str) -> Result<Side, EvalError> {
        let train = self.prompts(&format!("{side}_train.jsonl"))?;
        let val = self.prompts(&format!("{side}_val.jsonl"))?;
        let test = self.prompts(&format!("{side}_test.jsonl"))?;
        let val_answers = self.answers(&format!("{side}_val_answers.jsonl"), &val)?;
        let test_answers = self.answers(&format!("{side}_test_answers.jsonl"), &test)?;
        Ok(Side { train, val, test, val_answers, test_answers })
    }

    fn prompts(&mut self, name: &str) -> Result<Vec<Prompt>, EvalError> {
        let hint = "a study needs source_{train,val,test}.jsonl and target_{train,val,test}.jsonl";
        let missing = || EvalError::MissingFile { path: self.dir.join(name), hint: hint.to_owned() };
        let path = self.optional(name)?.ok_or_else(missing)?;
        Ok(read_prompts(&path, PromptFormat::Jsonl)?)
    }

    fn answers(&mut self, name: &str, prompts: &[Prompt]) -> Result<Option<Vec<Option<String>>>, EvalError> {
        let Some(path) = self.optional(name)? else { return Ok(None) };
        let answers = read_answers(&path)?;
        // Prompts given as ids have no text to be found by: the answers then stand line by line.
        let in_order = answers.len() == prompts.len();
        let by_text: HashMap<&str, &str> =
            answers.iter().map(|answer| (answer.prompt.as_str(), answer.answer.as_str())).collect();
        let answer = |(line, prompt): (usize, &Prompt)| match &prompt.input {
            PromptInput::Text(text) => by_text.get(text.as_str()).map(|&answer| answer.to_owned()),
            PromptInput::Ids(_) if in_order => answers.get(line).map(|answer| answer.answer.clone()),
            PromptInput::Ids(_) => None,
        };
        let found: Vec<Option<String>> = prompts.iter().enumerate().map(answer).collect();
        if found.iter().all(Option::is_none) {
            let expected = format!("answers to the prompts of {}", name.replace("_answers", ""));
            let found =
                format!("{} answers, none to any of them (prompts must be the same text)", answers.len());
            return Err(EvalError::Content { path, expected, found });
        }
        Ok(Some(found))
    }

    /// The path of a file that is there, its hash noted.
    fn optional(&mut self, name: &str) -> Result<Option<std::path::PathBuf>, EvalError> {
        let path = self.dir.join(name);
        if !path.exists() {
            return Ok(None);
        }
        self.sha256.insert(name.to_owned(), sha256_file(&path)?);
        Ok(Some(path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn study(dir: &Path) {
        for side in ["source", "target"] {
            for split in ["train", "val", "test"] {
                let lines = "{\"prompt\": \"a?\"}\n{\"prompt\": \"b?\"}\n";
                fs::write(dir.join(format!("{side}_{split}.jsonl")), lines).unwrap();
            }
        }
    }

    #[test]
    fn optional_files_may_be_missing_and_required_ones_not() {
        let dir = tempfile::tempdir().unwrap();
        study(dir.path());
        let data = StudyData::read(dir.path()).unwrap();
        assert_eq!((data.source.val.len(), data.text, data.phrases.name()), (2, None, "built-in"));
        assert_eq!(data.sha256.len(), 6);
        fs::remove_file(dir.path().join("target_val.jsonl")).unwrap();
        let text = StudyData::read(dir.path()).unwrap_err().to_string();
        assert!(text.contains("target_val.jsonl not found") && !text.contains('\n'), "{text}");
        assert!(StudyData::read(&dir.path().join("nowhere")).is_err());
    }

    #[test]
    fn answers_find_their_prompts_by_text() {
        let dir = tempfile::tempdir().unwrap();
        study(dir.path());
        let path = dir.path().join("source_val_answers.jsonl");
        fs::write(&path, "{\"prompt\": \"b?\", \"answer\": \"yes\", \"item\": 3}\n").unwrap();
        let data = StudyData::read(dir.path()).unwrap();
        assert_eq!(data.source.val_answers, Some(vec![None, Some("yes".to_owned())]));
        assert_eq!(data.source.test_answers, None);
        fs::write(&path, "{\"prompt\": \"c?\", \"answer\": \"yes\"}\n").unwrap();
        let text = StudyData::read(dir.path()).unwrap_err().to_string();
        assert!(text.contains("source_val_answers.jsonl") && text.contains("source_val.jsonl"), "{text}");
    }

    #[test]
    fn ids_take_answers_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        study(dir.path());
        fs::write(dir.path().join("source_val.jsonl"), "{\"ids\": [1]}\n{\"ids\": [2]}\n").unwrap();
        let answers = "{\"prompt\": \"\", \"answer\": \"x\"}\n{\"prompt\": \"\", \"answer\": \"y\"}\n";
        fs::write(dir.path().join("source_val_answers.jsonl"), answers).unwrap();
        let data = StudyData::read(dir.path()).unwrap();
        assert_eq!(data.source.val_answers, Some(vec![Some("x".to_owned()), Some("y".to_owned())]));
    }
}
