//! `tokenizer_config.json` and the older files beside it, as far as tokenizer and chat template need them.
//!
//! What counts is what counts in transformers: where `tokenizer_config.json` has `added_tokens_decoder`, the older
//! `special_tokens_map.json` and `added_tokens.json` are not read; where it has none, the former replaces what
//! `tokenizer_config.json` says.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::ModelError;
use crate::error::excerpt;
use crate::fields::{Fields, kind};

/// The named special tokens of every tokenizer; others end in `_token` too.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What stands in `tokenizer_config.json`; empty where a directory has none.
#[derive(Debug, Default)]
pub(crate) struct TokenizerConfig {
    path: PathBuf,
    fields: Map<String, Value>,
    /// Special tokens with a name; chat templates see them as variables.
    named: Vec<(String, AddedToken)>,
    /// Special tokens without one.
    extra: Vec<AddedToken>,
    declared: Vec<Declared>,
    /// Whether the older files count.
    older: bool,
    warnings: Vec<String>,
}

/// A token and the id that a file gives it.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub id: u32,
    pub token: AddedToken,
}

impl TokenizerConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("tokenizer_config.json");
        let mut config = Self { fields: object(&path)?, path, ..Self::default() };
        config.older = !config.fields.contains_key("added_tokens_decoder");
        config.read_special(&config.path.clone(), &config.fields.clone())?;
        let map = dir.join("special_tokens_map.json");
        if config.older {
            config.replace_special(&map)?;
            config.declared = config.added_tokens(&dir.join("added_tokens.json"))?;
        } else {
            config.compare_special(&map);
            config.declared = config.decoder()?;
        }
        Ok(config)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A field, `null` read as absent.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|v| !v.is_null())
    }

    /// A special token by its name.
    pub(crate) fn token(&self, name: &str) -> Option<&str> {
        Some(self.named.iter().find(|(other, _)| other == name)?.1.content.as_str())
    }

    /// All named special tokens that are set.
    pub(crate) fn tokens(&self) -> Map<String, Value> {
        self.named.iter().map(|(name, token)| (name.clone(), token.content.as_str().into())).collect()
    }

    /// The special tokens, named ones first.
    pub(crate) fn special(&self) -> impl Iterator<Item = &AddedToken> {
        self.named.iter().map(|(_, token)| token).chain(&self.extra)
    }

    pub(crate) fn is_named(&self, content: &str) -> bool {
        self.named.iter().any(|(_, token)| token.content == content)
    }

    /// The tokens that these files declare, by their ids.
    pub(crate) fn declared(&self) -> &[Declared] {
        &self.declared
    }

    /// The file that declares tokens.
    pub(crate) fn declaring(&self) -> PathBuf {
        if self.older { self.path.with_file_name("added_tokens.json") } else { self.path.clone() }
    }

    /// Whether `tokenizer.json` is among the files that declare tokens.
    pub(crate) fn older(&self) -> bool {
        self.older
    }

    /// The class that transformers would make of the tokenizer, without the `Fast` that older files append.
    pub(crate) fn class(&self) -> Option<&str> {
        let class = self.field("tokenizer_class")?.as_str()?;
        Some(class.strip_suffix("Fast").unwrap_or(class))
    }

    /// Whether special tokens that are written out in a text are plain text.
    pub(crate) fn splits_special(&self) -> Result<bool, ModelError> {
        Ok(Fields::new(&self.path, &self.fields).flag("split_special_tokens")?.unwrap_or(false))
    }

    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes in the special tokens that a file names.
    fn read_special(&mut self, path: &Path, fields: &Map<String, Value>) -> Result<(), ModelError> {
        for (name, value) in fields {
            let named = NAMED.contains(&name.as_str())
                || name.ends_with("_token") && (value.is_string() || value.get("content").is_some());
            if named && !value.is_null() {
                self.name(name, special(path, name, value)?);
            }
        }
        let given = |name: &str| fields.get(name).filter(|value| !is_empty(value));
        let (newer, older) = ("extra_special_tokens", "additional_special_tokens");
        let extra = match (given(newer), given(older)) {
            (Some(value), _) => Some((newer, value)),
            (None, Some(value)) if self.extra.is_empty() => Some((older, value)),
            _ => None,
        };
        match extra {
            None => {}
            Some((_, Value::Object(tokens))) => {
                for (name, value) in tokens {
                    self.name(name, special(path, name, value)?);
                }
            }
            Some((field, Value::Array(tokens))) => {
                for value in tokens {
                    // What was saved as a whole says itself whether it is special.
                    let token = match value.get("__type") {
                        Some(_) => {
                            token(value, false).ok_or_else(|| wrong(path, field, "tokens", &kind(value)))?
                        }
                        None => special(path, field, value)?,
                    };
                    if self.extra.iter().all(|other| other.content != token.content) {
                        self.extra.push(token);
                    }
                }
            }
            Some((field, other)) => return Err(wrong(path, field, "a list of tokens", &kind(other))),
        }
        // The order of ids for tokens that no file gives one.
        self.named
            .sort_by_key(|(name, _)| NAMED.iter().position(|other| other == name).unwrap_or(NAMED.len()));
        Ok(())
    }

    fn name(&mut self, name: &str, token: AddedToken) {
        match self.named.iter_mut().find(|(other, _)| other == name) {
            Some((_, other)) => *other = token,
            None => self.named.push((name.to_owned(), token)),
        }
    }

    fn replace_special(&mut self, map: &Path) -> Result<(), ModelError> {
        let fields = object(map)?;
        let before = self.named.clone();
        self.read_special(map, &fields)?;
        for (name, token) in before {
            let other = self.token(&name).filter(|other| *other != token.content);
            if let Some(warning) = other.map(|other| disagreement(map, &name, other, &token.content)) {
                self.warnings.push(warning);
            }
        }
        Ok(())
    }

    fn compare_special(&mut self, map: &Path) {
        let mut older = Self::default();
        // A file that does not count may be broken.
        if object(map).and_then(|fields| older.read_special(map, &fields)).is_err() {
            return;
        }
        for (name, token) in &self.named {
            let other = older.token(name).filter(|other| *other != token.content);
            self.warnings.extend(other.map(|other| disagreement(&self.path, name, &token.content, other)));
        }
    }

    /// The tokens of `added_tokens_decoder`, an object of ids and tokens.
    fn decoder(&self) -> Result<Vec<Declared>, ModelError> {
        const FIELD: &str = "added_tokens_decoder";
        let tokens = match self.fields.get(FIELD) {
            Some(Value::Object(tokens)) => tokens,
            Some(other) => return Err(wrong(&self.path, FIELD, "an object of ids and tokens", &kind(other))),
            None => return Ok(Vec::new()),
        };
        let declared = tokens.iter().map(|(id, value)| {
            let number = id.parse().map_err(|_| wrong(&self.path, FIELD, "token ids", id))?;
            let named =
                value.get("content").and_then(Value::as_str).is_some_and(|token| self.is_named(token));
            let token = token(value, named).ok_or_else(|| {
                wrong(&self.path, &format!("{FIELD}.{id}"), "an object with `content`", &kind(value))
            })?;
            Ok(Declared { id: number, token })
        });
        sorted(declared)
    }

    /// The tokens of `added_tokens.json`, an object of tokens and ids.
    fn added_tokens(&self, path: &Path) -> Result<Vec<Declared>, ModelError> {
        let declared = object(path)?.into_iter().map(|(content, value)| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| wrong(path, &content, "a token id", &kind(&value)))?;
            let special = self.special().any(|token| token.content == content);
            Ok(Declared { id, token: AddedToken::from(content, special) })
        });
        sorted(declared)
    }
}

fn sorted(declared: impl Iterator<Item = Result<Declared, ModelError>>) -> Result<Vec<Declared>, ModelError> {
    let mut declared = declared.collect::<Result<Vec<_>, _>>()?;
    declared.sort_by_key(|declared| declared.id);
    Ok(declared)
}

fn disagreement(used: &Path, name: &str, first: &str, second: &str) -> String {
    let other = match used.ends_with("tokenizer_config.json") {
        true => "special_tokens_map.json",
        false => "tokenizer_config.json",
    };
    let (first, second) = (excerpt(first), excerpt(second));
    format!(
        "{}: `{name}` is `{first}`, in {other} `{second}`; the former is used, as in transformers",
        used.display()
    )
}

/// A special token, written as a string or as `{"content": "..."}`.
fn special(path: &Path, field: &str, value: &Value) -> Result<AddedToken, ModelError> {
    let token = match value {
        Value::String(content) => Some(AddedToken::from(content.as_str(), true)),
        value => token(value, true),
    };
    token.ok_or_else(|| wrong(path, field, "a token", &kind(value)))
}

/// `{"content": "...", "lstrip": false, ...}`; a token that is special, for itself or by its use, is not normalised
/// unless that is said.
fn token(value: &Value, special: bool) -> Option<AddedToken> {
    let content = value.get("content")?.as_str()?;
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let is = |name: &str| flag(name).unwrap_or(false);
    let token = AddedToken::from(content, special || is("special"));
    let normalized = flag("normalized").unwrap_or(token.normalized);
    let token = token.normalized(normalized).lstrip(is("lstrip")).rstrip(is("rstrip"));
    Some(token.single_word(is("single_word")))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

fn wrong(path: &Path, field: &str, expected: &str, found: &str) -> ModelError {
    let (path, field) = (path.to_owned(), excerpt(field));
    ModelError::Field { path, field, expected: expected.to_owned(), found: found.to_owned() }
}

/// A JSON object from a file that need not exist.
fn object(path: &Path) -> Result<Map<String, Value>, ModelError> {
    let bytes = match brenier_files::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(ModelError::io(path)(e)),
    };
    serde_json::from_slice(&bytes).map_err(ModelError::json(path))
}
