//! Chat templates: the Jinja programs that turn messages into the text a model was trained on.

mod jinja;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::one_line;
use crate::fields::kind;
use crate::tokenizer_config::TokenizerConfig;
use crate::{ModelError, Tokenizer};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// A message of the system.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// The chat template of a model, with the special tokens it may name.
///
/// Rendering follows Hugging Face transformers (`apply_chat_template`): jinja2's language with the functions
/// that transformers adds (`raise_exception`, `strftime_now`, `generation` blocks), Python's methods and
/// operators, and values printed as Python prints them. What is not supported is an error, never another text.
///
/// A template cannot take the program down: the steps, the bytes and the recursion of a rendering are bounded,
/// generously for published templates and in proportion to the size of the messages.
///
/// ```
/// use brenier_model::{ChatTemplate, Message};
///
/// let source = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}\
///               {% if add_generation_prompt %}<assistant>{% endif %}";
/// let template = ChatTemplate::new(source, Default::default())?;
/// let text = template.render(&[Message::user(" How high is the tower? ")], true)?;
/// assert_eq!(text, "<user>How high is the tower?</><assistant>");
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    program: Arc<jinja::Template>,
    source: String,
    path: PathBuf,
    tokens: Map<String, Value>,
}

/// How to render, beyond the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// End where the model's turn begins.
    pub add_generation_prompt: bool,
    /// The moment that `strftime_now` writes. A template that asks for it fails where there is none.
    pub now: Option<NaiveDateTime>,
    /// More variables, e.g. `tools`, `documents` (both none unless given here) or `enable_thinking`. They take
    /// precedence over the special tokens.
    pub variables: Map<String, Value>,
}

impl ChatTemplate {
    /// A template from its source; `tokens` are the variables it sees besides the messages (`bos_token`, ...).
    ///
    /// # Errors
    /// [`ModelError::Template`] when the source does not parse.
    pub fn new(source: impl Into<String>, tokens: Map<String, Value>) -> Result<Self, ModelError> {
        Self::parse(source.into(), PathBuf::from("chat template"), tokens)
    }

    /// The template of a model directory: `chat_template.jinja`, else `chat_template` in
    /// `tokenizer_config.json` (of several, the one named `default`); `None` when there is neither.
    ///
    /// # Errors
    /// Unreadable files, and templates that do not parse.
    pub fn read(dir: impl AsRef<Path>) -> Result<Option<Self>, ModelError> {
        let dir = dir.as_ref();
        let config = TokenizerConfig::read(dir)?;
        let own = dir.join("chat_template.jinja");
        match brenier_files::read_to_string(&own) {
            Ok(source) => return Self::parse(source, own, config.tokens()).map(Some),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(ModelError::io(&own)(e)),
        }
        let Some(field) = config.field("chat_template") else { return Ok(None) };
        let source = match field {
            Value::String(source) => source.clone(),
            Value::Array(named) => default_of(named, config.path())?,
            other => return Err(wrong_template(config.path(), "a string or a list", &kind(other))),
        };
        Self::parse(source, config.path().to_owned(), config.tokens()).map(Some)
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the model's turn begins.
    ///
    /// # Errors
    /// [`ModelError::TemplateRefused`] when the template itself objects (many refuse a system message, or two
    /// of the same role in a row); [`ModelError::Template`] when it fails.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, ModelError> {
        self.render_with(messages, &RenderOptions { add_generation_prompt, ..RenderOptions::default() })
    }

    /// As [`render`](Self::render), for any messages (with tool calls, say) and with all options.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_with<M: Serialize>(
        &self,
        messages: &[M],
        options: &RenderOptions,
    ) -> Result<String, ModelError> {
        let messages = serde_json::to_value(messages).map_err(|e| ModelError::Template {
            path: self.path.clone(),
            reason: format!("the messages cannot be written as JSON: {}", one_line(&e.to_string())),
        })?;
        let generation = Value::Bool(options.add_generation_prompt);
        let mut variables = vec![
            ("messages", &messages),
            ("tools", &Value::Null),
            ("documents", &Value::Null),
            ("add_generation_prompt", &generation),
        ];
        let more = self.tokens.iter().chain(&options.variables);
        variables.extend(more.map(|(name, value)| (name.as_str(), value)));
        self.program.render(&variables, options.now).map_err(|fault| on(&self.path, &fault))
    }

    /// Token ids of one user prompt, after an optional system message, ready for the model to answer; `now` is
    /// [`RenderOptions::now`].
    ///
    /// The template writes bos itself, so the tokenizer adds nothing.
    ///
    /// # Errors
    /// As [`render`](Self::render) and [`Tokenizer::encode`].
    pub fn chat_ids(
        &self,
        tokenizer: &Tokenizer,
        prompt: &str,
        system: Option<&str>,
        now: Option<NaiveDateTime>,
    ) -> Result<Vec<u32>, ModelError> {
        let mut messages = Vec::with_capacity(2);
        messages.extend(system.map(Message::system));
        messages.push(Message::user(prompt));
        let options = RenderOptions { add_generation_prompt: true, now, ..RenderOptions::default() };
        tokenizer.encode(&self.render_with(&messages, &options)?, false)
    }

    /// Whether the text may depend on the date: the source names `strftime_now`.
    #[must_use]
    pub fn uses_date(&self) -> bool {
        self.program.names("strftime_now")
    }

    /// The template's source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 of the source, in lower-case hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> String {
        crate::files::hex(&Sha256::digest(&self.source))
    }

    /// The file this came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn parse(source: String, path: PathBuf, tokens: Map<String, Value>) -> Result<Self, ModelError> {
        match jinja::Template::parse(&source) {
            Ok(program) => Ok(Self { program: Arc::new(program), source, path, tokens }),
            Err(fault) => Err(on(&path, &fault)),
        }
    }
}

/// The error of a template that a file holds.
fn on(path: &Path, fault: &jinja::Fault) -> ModelError {
    let path = path.to_owned();
    match (&fault.reason, fault.line) {
        (jinja::Reason::Refused(message), _) => ModelError::TemplateRefused { path, message: shown(message) },
        (jinja::Reason::Failed(reason), Some(line)) => {
            ModelError::Template { path, reason: format!("line {line} (counted from 1): {}", shown(reason)) }
        }
        (jinja::Reason::Failed(reason), None) => ModelError::Template { path, reason: shown(reason) },
    }
}

/// The template's words on one line, which is no longer than a screen.
fn shown(words: &str) -> String {
    const LONGEST: usize = 1000;
    let line = one_line(words);
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// The template named `default` of a list of `{"name", "template"}`.
fn default_of(named: &[Value], path: &Path) -> Result<String, ModelError> {
    let name = |t: &Value| t.get("name").and_then(Value::as_str).unwrap_or("?").to_owned();
    let default = named.iter().find(|t| name(t) == "default");
    match default.and_then(|t| t.get("template")).and_then(Value::as_str) {
        Some(source) => Ok(source.to_owned()),
        None => {
            let names: Vec<_> = named.iter().map(name).collect();
            Err(wrong_template(path, "a template named `default` in the list", &names.join(", ")))
        }
    }
}

fn wrong_template(path: &Path, expected: &str, found: &str) -> ModelError {
    ModelError::Field {
        path: path.to_owned(),
        field: "chat_template".to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
