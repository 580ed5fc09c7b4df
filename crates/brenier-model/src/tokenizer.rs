//! `tokenizer.json` of a model directory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tokenizers::{ModelWrapper, Tokenizer as Inner};

use crate::ModelError;
use crate::added_tokens::{self, Stated};
use crate::error::one_line;
use crate::fields::few;
use crate::tokenizer_config::TokenizerConfig;

/// The tokenizer of a model: text to token ids and back.
///
/// `tokenizer.json` decides, with the tokens that `tokenizer_config.json` declares beside it, as in transformers 5
/// (where `add_bos_token` of the latter has no say). Truncation and padding that it may ask for are switched off: a
/// prompt is never cut silently, and padding is the business of [`Batch`](brenier_residual::Batch). So is dropout:
/// the same text always gives the same ids.
///
/// ```
/// use brenier_model::Tokenizer;
///
/// # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/tokenizers/byte-level");
/// let tokenizer = Tokenizer::read(dir)?; // the model's directory
/// let ids = tokenizer.encode("The tower", true)?;
/// assert_eq!(ids.first().copied(), tokenizer.id_of("<|begin|>"));
/// assert_eq!(tokenizer.decode(&ids, true)?, "The tower");
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Inner,
    path: PathBuf,
    warnings: Vec<String>,
    /// The token that ends a text by `tokenizer_config.json`.
    eos: Option<String>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` alone, or that of a model directory with the files beside it.
    ///
    /// # Errors
    /// [`ModelError::NotFound`], [`ModelError::Io`]; [`ModelError::Tokenizer`] when the file is broken;
    /// [`ModelError::Contradiction`] when two files give a token different ids.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let (path, config) = match path.is_dir() {
            true => (path.join("tokenizer.json"), Some(path)),
            false => (path.to_owned(), None),
        };
        let bytes = match brenier_files::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(ModelError::NotFound { hint: hint(&path), path });
            }
            Err(source) => return Err(ModelError::Io { path, source }),
        };
        let config = config.map(TokenizerConfig::read).transpose()?.unwrap_or_default();
        let broken = |reason: String| ModelError::Tokenizer { path: path.clone(), reason: one_line(&reason) };
        let made = guarded(|| Ok(make(&bytes, &path, &config)));
        let (inner, mut warnings) = made.map_err(broken)??;
        // A template that names what the tokenizer does not have shows when a text is encoded, whatever it is.
        let around = guarded(|| Ok(inner.encode_fast("", true).ok().map(|found| found.get_ids().to_vec())));
        let around = around.map_err(|reason| {
            broken(format!(
                "{reason}; does its post_processor name a special token or a sequence that it does not define?"
            ))
        })?;
        for (switch, token) in [("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")] {
            let id = config.token(token).and_then(|token| inner.token_to_id(token));
            let (Some(wanted), Some(id), Some(around)) = (config.field(switch), id, &around) else {
                continue;
            };
            let added = around.contains(&id);
            if wanted.as_bool().is_some_and(|wanted| wanted != added) {
                let does = if added { "adds the token" } else { "does not add the token" };
                warnings.push(format!(
                    "{}: `{switch}` is {wanted}, but tokenizer.json {does}; the latter counts, as in transformers",
                    config.path().display()
                ));
            }
        }
        let eos = config.token("eos_token").map(str::to_owned);
        Ok(Self { inner, path: path.clone(), warnings, eos })
    }

    /// Token ids of a text. Special tokens written out in the text (`<s>`, `<|eot_id|>`) become their ids.
    ///
    /// With `add_special` the tokenizer also adds what it adds around a raw text, e.g. the bos token. A text
    /// rendered by a chat template already holds these, so it is encoded with `add_special = false`.
    ///
    /// # Errors
    /// [`ModelError::Tokenize`] when the tokenizer has no id for a piece of the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, ModelError> {
        self.call("encode", |inner| Ok(inner.encode_fast(text, add_special)?.get_ids().to_vec()))
    }

    /// The text of token ids; `skip_special` leaves out special tokens.
    ///
    /// # Errors
    /// [`ModelError::Tokenize`].
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, ModelError> {
        self.call("decode", |inner| inner.decode(ids, skip_special))
    }

    /// The id of a token, e.g. `<s>`.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.call("look up a token", |inner| Ok(inner.token_to_id(token))).ok().flatten()
    }

    /// The token of an id, as the vocabulary writes it.
    #[must_use]
    pub fn token_of(&self, id: u32) -> Option<String> {
        self.call("look up an id", |inner| Ok(inner.id_to_token(id))).ok().flatten()
    }

    /// Number of tokens, added ones included.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.call("count tokens", |inner| Ok(inner.get_vocab_size(true))).unwrap_or(0)
    }

    /// The file this came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is worth a warning beside a model of `vocab` embeddings whose texts end with one of `eos`.
    pub(crate) fn warnings(&self, vocab: usize, eos: &[u32]) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        let path = self.path.display();
        let beyond = (vocab..vocab.max(self.vocab())).filter_map(|id| self.token_of(u32::try_from(id).ok()?));
        let beyond: Vec<String> = beyond.collect();
        if !beyond.is_empty() {
            let names = few(beyond.iter().map(String::as_str));
            warnings
                .push(format!("{path}: the model has no embedding for {names}; its vocab_size is {vocab}"));
        }
        if let Some(token) = &self.eos {
            let id = self.id_of(token).filter(|id| !eos.contains(id));
            warnings.extend(id.map(|id| {
                format!(
                    "{}: `eos_token` is `{token}` ({id}), which does not end a text here: eos_token_id is {eos:?}",
                    self.path.with_file_name("tokenizer_config.json").display()
                )
            }));
        }
        warnings
    }

    /// Every use of the tokenizer goes through here.
    fn call<T>(
        &self,
        action: &'static str,
        call: impl FnOnce(&Inner) -> tokenizers::Result<T>,
    ) -> Result<T, ModelError> {
        let done = guarded(|| call(&self.inner).map_err(|error| error.to_string()));
        let path = || self.path.clone();
        done.map_err(|reason| ModelError::Tokenize { path: path(), action, reason: one_line(&reason) })
    }
}

/// Calls the tokenizers library, which panics on some files that it has read: at once on character maps that do not
/// decode, or when a text comes that some part of it cannot take.
fn guarded<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        Err(format!("a part of it cannot be used ({text})"))
    })
}

fn make(bytes: &[u8], path: &Path, config: &TokenizerConfig) -> Result<(Inner, Vec<String>), ModelError> {
    let broken = |reason: String| ModelError::Tokenizer { path: path.to_owned(), reason: one_line(&reason) };
    // The library panics on some texts that are no JSON.
    let stated: Stated =
        serde_json::from_slice(bytes).map_err(|error| broken(format!("no valid JSON, {error}")))?;
    let mut inner = Inner::from_bytes(bytes).map_err(|error| broken(error.to_string()))?;
    inner.with_truncation(None).map_err(|error| broken(error.to_string()))?;
    inner.with_padding(None);
    stated.check(&inner, path)?;
    let mut warnings = added_tokens::add(&mut inner, &stated, config)?;
    inner.set_encode_special_tokens(config.splits_special()?);
    if config.class() == Some("LlamaTokenizer")
        && inner.get_normalizer().is_some()
        && !names_byte_level(bytes)
    {
        warnings.push(format!(
            "{}: `tokenizer_class` is LlamaTokenizer, for which transformers 5 takes little but the vocabulary from \
             tokenizer.json; here all of it counts, so that spaces at the beginning of a text or behind a special \
             token may give other ids",
            config.path().display()
        ));
    }
    let ModelWrapper::BPE(bpe) = inner.get_model() else { return Ok((inner, warnings)) };
    if bpe.dropout.is_some_and(|dropout| dropout > 0.0) {
        let mut bpe = bpe.clone();
        bpe.dropout = None;
        inner.with_model(bpe);
        warnings.push(format!("{}: dropout is switched off", path.display()));
    }
    Ok((inner, warnings))
}

/// Whether a file mentions the byte-level vocabularies, with which transformers does not build on a class.
fn names_byte_level(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"\"ByteLevel\"";
    bytes.windows(NAME.len()).any(|window| window == NAME)
}

/// A directory with a sentencepiece model alone is the usual reason for a missing file.
fn hint(path: &Path) -> String {
    if path.with_file_name("tokenizer.model").exists() {
        "only tokenizer.model lies beside it; convert it once with \
         transformers.AutoTokenizer.from_pretrained(dir).save_pretrained(dir)"
            .to_owned()
    } else {
        "a model directory must hold the Hugging Face tokenizer.json; download it with the model".to_owned()
    }
}
