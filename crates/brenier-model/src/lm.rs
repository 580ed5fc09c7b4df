//! A Hugging Face directory as a whole, loaded.

use std::ops::Deref;
use std::path::Path;

use brenier_residual::ResidualModel;
use burn::tensor::{DType, Device};

use crate::directory::ModelDirectory;
use crate::error::ModelError;

/// A checkpoint directory, loaded: its model, and by dereference all that its [`ModelDirectory`] offers.
///
/// ```no_run
/// use brenier_model::{GenerateOptions, LanguageModel, Prompt, PromptOptions, generate};
/// use burn::tensor::Device;
///
/// let model = LanguageModel::load("Llama-3.1-8B-Instruct".as_ref(), &Device::flex(), None)?;
/// let ids = model.prompt_ids(&Prompt::text("Who keeps the key?"), &PromptOptions::default())?;
/// let options = GenerateOptions { max_new_tokens: 64, ..model.generate_options() };
/// let texts = generate(model.model(), &[ids], &options, &mut ())?;
/// println!("{}", model.require_tokenizer()?.decode(&texts[0].ids, true)?);
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
pub struct LanguageModel {
    directory: ModelDirectory,
    model: Box<Model>,
}

/// Any architecture.
pub(crate) type Model = dyn ResidualModel + Send + Sync;

impl LanguageModel {
    /// [Opens](ModelDirectory::open) a directory and [loads](ModelDirectory::load) its weights.
    ///
    /// # Errors
    /// As the two.
    pub fn load(path: &Path, device: &Device, dtype: Option<DType>) -> Result<Self, ModelError> {
        ModelDirectory::open(path)?.load(device, dtype)
    }

    pub(crate) fn new(directory: ModelDirectory, model: Box<Model>) -> Self {
        Self { directory, model }
    }

    /// The model itself, of whichever architecture.
    #[must_use]
    pub fn model(&self) -> &dyn ResidualModel {
        self.model.as_ref()
    }
}

impl Deref for LanguageModel {
    type Target = ModelDirectory;

    fn deref(&self) -> &ModelDirectory {
        &self.directory
    }
}

impl std::fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LanguageModel").field("directory", &self.directory).finish_non_exhaustive()
    }
}
