//! `tokenizer.json` of a model directory.

use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use tokenizers::Tokenizer as Inner;

use crate::ModelError;
use crate::error::one_line;

/// The tokenizer of a model: text to token ids and back.
///
/// `tokenizer.json` alone decides, as in transformers 5 (where `add_bos_token` of `tokenizer_config.json` has no
/// say beside it). Truncation and padding that it may ask for are switched off: a prompt is never cut silently,
/// and padding is the business of [`Batch`](brenier_residual::Batch).
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
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or the one in a model directory.
    ///
    /// # Errors
    /// [`ModelError::NotFound`], [`ModelError::Io`]; [`ModelError::Tokenizer`] when the file is broken.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
        let bytes = match brenier_files::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(ModelError::NotFound { hint: hint(&path), path });
            }
            Err(source) => return Err(ModelError::Io { path, source }),
        };
        let broken = |reason: String| ModelError::Tokenizer { path: path.clone(), reason: one_line(&reason) };
        let mut inner = parse(&bytes).map_err(broken)?;
        inner.with_truncation(None).map_err(|e| broken(e.to_string()))?;
        inner.with_padding(None);
        Ok(Self { inner, path })
    }

    /// Token ids of a text. Special tokens written out in the text (`<s>`, `<|eot_id|>`) become their ids.
    ///
    /// With `add_special` the tokenizer also adds what it adds around a raw text, e.g. the bos token. A text
    /// rendered by a chat template already holds these, so it is encoded with `add_special = false`.
    ///
    /// # Errors
    /// [`ModelError::Tokenize`] when the tokenizer has no id for a piece of the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode_fast(text, add_special).map_err(|e| failed("encode", &e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids; `skip_special` leaves out special tokens.
    ///
    /// # Errors
    /// [`ModelError::Tokenize`].
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, ModelError> {
        self.inner.decode(ids, skip_special).map_err(|e| failed("decode", &e))
    }

    /// The id of a token, e.g. `<s>`.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as the vocabulary writes it.
    #[must_use]
    pub fn token_of(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Number of tokens, added ones included.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The file this came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The tokenizers library panics on some broken files: on what is no JSON beyond a certain point, hence the look
/// beforehand; on character maps that do not decode; and, when a text is encoded, on a template that names a special
/// token or a sequence which it does not have, hence the trial.
fn parse(bytes: &[u8]) -> Result<Inner, String> {
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|e| format!("no valid JSON, {e}"))?;
    let parsed = std::panic::catch_unwind(|| Inner::from_bytes(bytes));
    let inner =
        parsed.map_err(|_| "a part of it cannot be decoded".to_owned())?.map_err(|e| e.to_string())?;
    let trial =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| inner.encode_fast("", true).is_ok()));
    trial.map_err(|_| {
        "its post_processor names a special token or a sequence that it does not define".to_owned()
    })?;
    Ok(inner)
}

fn failed(action: &'static str, e: &tokenizers::Error) -> ModelError {
    ModelError::Tokenize { action, reason: one_line(&e.to_string()) }
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
