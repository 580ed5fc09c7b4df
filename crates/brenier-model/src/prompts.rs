//! Prompt files, and the two kinds of files that stand beside them: answers and texts.

mod extra;
mod formats;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::ModelError;
use crate::files::TextFile;

pub use extra::Extra;

/// What a prompt is given as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptInput {
    /// Text, which goes through the chat template (or, raw, straight to the tokenizer).
    Text(String),
    /// Token ids, used exactly as they are: no template, nothing added.
    Ids(Vec<u32>),
}

/// One prompt of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The prompt itself.
    pub input: PromptInput,
    /// The other keys (or columns) of its line.
    pub extra: Extra,
    /// The line of its file on which it begins, counted from 1; `None` for a prompt that comes from no file.
    pub line: Option<usize>,
}

impl Prompt {
    /// A prompt of text alone.
    pub fn text(text: impl Into<String>) -> Self {
        Self::from(PromptInput::Text(text.into()))
    }

    /// A prompt of token ids alone.
    pub fn ids(ids: impl Into<Vec<u32>>) -> Self {
        Self::from(PromptInput::Ids(ids.into()))
    }

    /// The text, where the prompt is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.input {
            PromptInput::Text(text) => Some(text),
            PromptInput::Ids(_) => None,
        }
    }

    /// Where the prompt stands among those of its file, for messages:
    ///
    /// ```
    /// use brenier_model::Prompt;
    ///
    /// let mut prompt = Prompt::text("How high is the tower?");
    /// assert_eq!(prompt.place(3), "prompt 3 (counted from 0)");
    /// prompt.line = Some(5);
    /// assert_eq!(prompt.place(3), "line 5 (counted from 1), prompt 3 (counted from 0)");
    /// ```
    #[must_use]
    pub fn place(&self, index: usize) -> String {
        let line = self.line.map(|line| format!("line {line} (counted from 1), ")).unwrap_or_default();
        format!("{line}prompt {index} (counted from 0)")
    }
}

impl From<PromptInput> for Prompt {
    fn from(input: PromptInput) -> Self {
        Self { input, extra: Extra::default(), line: None }
    }
}

/// A question and its right answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The question, equal to the prompt it belongs to.
    pub prompt: String,
    /// The right answer.
    pub answer: String,
}

/// How a prompt file is written.
///
/// ```
/// use brenier_model::PromptFormat;
///
/// assert_eq!("advbench-csv".parse::<PromptFormat>()?, PromptFormat::AdvbenchCsv);
/// assert_eq!(PromptFormat::Auto.to_string(), "auto");
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PromptFormat {
    /// By extension, then by what the file begins with.
    #[default]
    Auto,
    /// One JSON object a line, `{"prompt": "..."}` or `{"ids": [1, 5]}`; where a line has both, `ids` is the
    /// prompt.
    Jsonl,
    /// AdvBench: CSV with the columns `goal,target`.
    AdvbenchCsv,
    /// HarmBench: CSV with the column `Behavior`; a `ContextString` goes before it, as HarmBench puts it.
    HarmbenchCsv,
    /// JailbreakBench: CSV with the column `Goal`.
    JailbreakbenchCsv,
    /// Alpaca: a JSON array of `{"instruction", "input", "output"}`; a non-empty input follows the
    /// instruction on a new line.
    AlpacaJson,
    /// One prompt a line.
    Lines,
}

impl PromptFormat {
    /// Every format.
    pub const ALL: [Self; 7] = [
        Self::Auto,
        Self::Jsonl,
        Self::AdvbenchCsv,
        Self::HarmbenchCsv,
        Self::JailbreakbenchCsv,
        Self::AlpacaJson,
        Self::Lines,
    ];

    /// The name, as `--format` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Jsonl => "jsonl",
            Self::AdvbenchCsv => "advbench-csv",
            Self::HarmbenchCsv => "harmbench-csv",
            Self::JailbreakbenchCsv => "jailbreakbench-csv",
            Self::AlpacaJson => "alpaca-json",
            Self::Lines => "lines",
        }
    }
}

impl fmt::Display for PromptFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PromptFormat {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| ModelError::UnknownFormat {
            name: name.to_owned(),
            expected: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// Reads a prompt file; `-` is standard input. Blank lines are skipped, a byte order mark is tolerated.
///
/// ```
/// use brenier_model::{PromptFormat, read_prompts};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("prompts.jsonl");
/// std::fs::write(&path, "{\"prompt\": \"How high is the tower?\", \"place\": \"tower\"}\n{\"ids\": [1, 5]}\n")?;
/// let prompts = read_prompts(&path, PromptFormat::Auto)?;
/// assert_eq!(prompts[0].as_text(), Some("How high is the tower?"));
/// assert_eq!(prompts[0].extra.get("place"), Some("tower".into()));
/// assert_eq!(prompts[1].line, Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ModelError::Io`]; [`ModelError::Line`] or [`ModelError::Record`] with what was expected and found there;
/// [`ModelError::Empty`].
pub fn read_prompts(path: impl AsRef<Path>, format: PromptFormat) -> Result<Vec<Prompt>, ModelError> {
    formats::prompts(&TextFile::read(path.as_ref())?, format)
}

/// Reads an answer file: JSONL of `{"prompt", "answer"}`, other keys ignored.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_answers(path: impl AsRef<Path>) -> Result<Vec<Answer>, ModelError> {
    formats::answers(&TextFile::read(path.as_ref())?)
}

/// Reads a text file: one passage a line, blank lines skipped, white space within a line kept.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_texts(path: impl AsRef<Path>) -> Result<Vec<String>, ModelError> {
    let file = TextFile::read(path.as_ref())?;
    let texts = file.lines().map(|(_, line)| line.to_owned()).collect();
    file.not_empty(texts, "one passage a line")
}
