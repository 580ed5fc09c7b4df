//! Chat templates: the Jinja programs that turn messages into the text a model was trained on.

mod engine;
mod python;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chrono::NaiveDateTime;
use minijinja::Environment;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

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
/// Rendering follows Hugging Face transformers (`apply_chat_template`): the same whitespace rules, the same
/// functions (`raise_exception`, `strftime_now`, `namespace`), Python's string and dict methods, and values
/// printed as Python prints them.
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
    engine: Environment<'static>,
    source: String,
    path: PathBuf,
    tokens: Map<String, Value>,
}

/// How to render, beyond the messages.
#[derive(Debug, Clone, Default)]
pub struct RenderOptions {
    /// End where the model's turn begins.
    pub add_generation_prompt: bool,
    /// What `strftime_now` takes for now; the local time if `None`.
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
        engine::render(&self.engine, messages, &self.tokens, options)
            .map_err(|failure| failure.on(self.path.clone()))
    }

    /// Token ids of one user prompt, after an optional system message, ready for the model to answer.
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

    /// The template's source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether what the template renders depends on the date.
    #[must_use]
    pub fn uses_date(&self) -> bool {
        self.source.contains("strftime_now")
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
        match engine::compile(&source) {
            Ok(engine) => Ok(Self { engine, source, path, tokens }),
            Err(failure) => Err(failure.on(path)),
        }
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
