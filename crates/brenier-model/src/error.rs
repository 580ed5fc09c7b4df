//! What can be wrong with a model directory, a prompt file or a request.

use std::path::{Path, PathBuf};

use brenier_residual::{Overflow, ResidualError};

/// Errors of this crate. Each is one line: the file, the tensor or the line; what was expected and what was
/// found; the hint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file that the system does not let us read.
    #[error("cannot read {}: {source}", shown(path))]
    Io {
        /// The file, `-` for standard input.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that a model directory must have.
    #[error("{} not found: {hint}", shown(path))]
    NotFound {
        /// The file.
        path: PathBuf,
        /// What the file is for and how to get it.
        hint: String,
    },
    /// A file that is not JSON, or not the JSON it should be.
    #[error("{} is not valid JSON: {} (counted from 1)", shown(path), one_line(&source.to_string()))]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// A field of a JSON file that is missing or has a value that cannot be used.
    #[error("{}: `{field}`: expected {expected}, found {found}", shown(path))]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, dotted where nested.
        field: String,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// An architecture that this crate does not implement.
    #[error("{}: unsupported architecture `{found}`; supported are {supported}", shown(path))]
    Architecture {
        /// The configuration file.
        path: PathBuf,
        /// The architecture it names.
        found: String,
        /// Those that this crate implements.
        supported: String,
    },
    /// A shard that the index names but the directory lacks.
    #[error(
        "{}: names the shard {shard}, which is missing beside it; download the directory again",
        shown(index)
    )]
    MissingShard {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
    },
    /// A weights file that is truncated or otherwise no safetensors file.
    #[error(
        "{} is not a sound safetensors file: {reason}; it may be truncated, download it again",
        shown(path)
    )]
    SafeTensors {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// A tensor that the shard lacks to which the index gives it.
    #[error(
        "{}: tensor `{tensor}` is missing in {shard}, where the index says it is; download the directory again",
        shown(index)
    )]
    NotInShard {
        /// The index file.
        index: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shard's name.
        shard: String,
    },
    /// Tensors of the checkpoint that the architecture does not use.
    #[error(
        "{}: {architecture} with {layers} layers does not use {names}; does config.json belong to these weights?",
        shown(path)
    )]
    UnusedTensors {
        /// The weights file that holds the first of them.
        path: PathBuf,
        /// The architecture by the configuration.
        architecture: &'static str,
        /// Its layers by the configuration.
        layers: usize,
        /// The first of the names, and how many more there are.
        names: String,
    },
    /// Two statements of one fact that differ, where nothing decides between them.
    #[error("{}: {first}, but {second}; correct the one that is wrong", shown(path))]
    Contradiction {
        /// The file that makes at least one of them.
        path: PathBuf,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A tensor that the architecture needs and the checkpoint lacks.
    #[error("{}: tensor `{tensor}` is missing; does config.json belong to these weights?", shown(path))]
    MissingTensor {
        /// The weights file or its index.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor whose shape is not what the configuration says.
    #[error(
        "{}: tensor `{tensor}`: expected shape {expected:?} from config.json, found {found:?}; do they belong together?",
        shown(path)
    )]
    Shape {
        /// The weights file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor whose element type cannot be read.
    #[error("{}: tensor `{tensor}`: expected F32, F16 or BF16, found {found}", shown(path))]
    Dtype {
        /// The weights file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Element type in the file.
        found: String,
    },
    /// A text file with a line (or record) that cannot be used.
    #[error("{}, line {line} (counted from 1): expected {expected}, found {found}; {hint}", shown(path))]
    Line {
        /// The file, `-` for standard input.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
        /// What to do about it.
        hint: String,
    },
    /// A CSV file that has another header than was expected.
    #[error(
        "{}, line 1 (counted from 1): expected {expected}, found {found}; check the file, or name its format",
        shown(path)
    )]
    Header {
        /// The file, `-` for standard input.
        path: PathBuf,
        /// The header expected.
        expected: String,
        /// The header found.
        found: String,
    },
    /// A record of a JSON array that cannot be used.
    #[error(
        "{}, line {line} (counted from 1), record {record} (counted from 0): expected {expected}, found {found}",
        shown(path)
    )]
    Record {
        /// The file, `-` for standard input.
        path: PathBuf,
        /// Line on which the record begins, counted from 1.
        line: usize,
        /// Record, counted from 0.
        record: usize,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A text file with nothing in it.
    #[error("{} is empty: expected {expected}", shown(path))]
    Empty {
        /// The file, `-` for standard input.
        path: PathBuf,
        /// What should be in it.
        expected: String,
    },
    /// A tokenizer file that cannot be used.
    #[error(
        "{} is no usable tokenizer: {reason}; download the file again or export it with tokenizers >= 0.14",
        shown(path)
    )]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the tokenizers library said.
        reason: String,
    },
    /// Text that could not be encoded, or ids that could not be decoded.
    #[error("cannot {action} with {}: {reason}", shown(path))]
    Tokenize {
        /// The tokenizer's file.
        path: PathBuf,
        /// `encode` or `decode`.
        action: &'static str,
        /// What the tokenizers library said.
        reason: String,
    },
    /// A model without a chat template, asked for one.
    #[error(
        "{} has no chat template (neither chat_template.jinja nor chat_template in tokenizer_config.json)",
        shown(path)
    )]
    NoTemplate {
        /// The model's directory.
        path: PathBuf,
    },
    /// A chat template that does not parse or does not run.
    #[error("chat template of {}: {reason}", shown(path))]
    Template {
        /// The file that holds the template.
        path: PathBuf,
        /// What the engine said, with the template's line.
        reason: String,
    },
    /// A chat template that refuses these messages (`raise_exception`), e.g. a role it does not know.
    #[error("the chat template of {} refuses these messages: {message}", shown(path))]
    TemplateRefused {
        /// The file that holds the template.
        path: PathBuf,
        /// The template's own words.
        message: String,
    },
    /// A name that is no prompt format.
    #[error("unknown prompt format `{name}`: expected one of {expected}")]
    UnknownFormat {
        /// The name as given.
        name: String,
        /// All formats.
        expected: String,
    },
    /// A file that cannot be written.
    #[error("{0}")]
    Write(#[from] brenier_files::WriteError),
    /// Weights that cannot be laid out as a file.
    #[error("cannot lay out {}: {reason}", shown(path))]
    Layout {
        /// The file.
        path: PathBuf,
        /// What was in the way.
        reason: String,
    },
    /// An option out of its range.
    #[error("option `{name}`: expected {expected}, found {found}")]
    Option {
        /// The option.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A prompt that the model cannot take.
    #[error("prompt {prompt} (counted from 0): {source}")]
    Prompt {
        /// Index of the prompt.
        prompt: usize,
        /// What is wrong with it.
        source: ResidualError,
    },
    /// Logits that are not finite.
    #[error("prompt {prompt} (counted from 0), after {tokens} new tokens: {overflow}")]
    NotFinite {
        /// Index of the prompt.
        prompt: usize,
        /// Tokens generated before.
        tokens: usize,
        /// Where the pass stopped being finite.
        overflow: Overflow,
    },
    /// Rules on the logits that leave no token to pick.
    #[error(
        "prompt {prompt} (counted from 0): after {tokens} new tokens the rules of generation_config.json (bad_words_ids, \
         suppress_tokens, no_repeat_ngram_size and the like) forbid every token"
    )]
    NoTokenLeft {
        /// Index of the prompt.
        prompt: usize,
        /// Tokens generated before.
        tokens: usize,
    },
    /// A generation that was stopped by its caller.
    #[error("stopped")]
    Stopped,
    /// A batch or a step that the model cannot take, or a device that fails.
    #[error(transparent)]
    Batch(#[from] ResidualError),
}

impl ModelError {
    /// An [`ModelError::Io`] on `path`, for `map_err`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// A [`ModelError::Json`] on `path`, for `map_err`.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self + '_ {
        move |source| Self::Json { path: path.to_owned(), source }
    }
}

/// A path as the user knows it: `-` is standard input.
fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// Any message on one line: libraries below us like to draw.
pub(crate) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of a text, on one line: what was found may be a whole book.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 100;
    let line = one_line(text);
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
