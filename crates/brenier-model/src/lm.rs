//! A Hugging Face directory as a whole, loaded.

use std::ops::Deref;
use std::path::Path;

use burn::tensor::{DType, Device};

use crate::decoder::Decoder;
use crate::directory::ModelDirectory;
use crate::error::ModelError;

/// A checkpoint directory, loaded: its decoder, and by dereference all that its [`ModelDirectory`] offers.
///
/// ```no_run
/// use brenier_model::{GenerateOptions, LanguageModel, Prompt, PromptOptions, generate};
/// use burn::tensor::Device;
///
/// let model = LanguageModel::load("Llama-3.1-8B-Instruct".as_ref(), &Device::flex(), None)?;
/// let ids = model.prompt_ids(&Prompt::text("Who keeps the key?"), &PromptOptions::default())?;
/// let options = GenerateOptions { rules: model.rules().clone(), ..GenerateOptions::default() };
/// let texts = generate(model.decoder(), &[ids], model.eos(), &options, &mut (), &mut |_, _| {})?;
/// println!("{}", model.require_tokenizer()?.decode(&texts[0].ids, true)?);
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
#[derive(Debug)]
pub struct LanguageModel {
    directory: ModelDirectory,
    decoder: Decoder,
}

impl LanguageModel {
    /// [Opens](ModelDirectory::open) a directory and [loads](ModelDirectory::load) its weights.
    ///
    /// # Errors
    /// As the two.
    pub fn load(path: &Path, device: &Device, dtype: Option<DType>) -> Result<Self, ModelError> {
        ModelDirectory::open(path)?.load(device, dtype)
    }

    pub(crate) fn new(directory: ModelDirectory, decoder: Decoder) -> Self {
        Self { directory, decoder }
    }

    /// The decoder.
    #[must_use]
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }
}

impl Deref for LanguageModel {
    type Target = ModelDirectory;

    fn deref(&self) -> &ModelDirectory {
        &self.directory
    }
}
