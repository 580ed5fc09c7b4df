//! A Hugging Face directory as a whole: model, tokenizer, chat template, and what ends a text.

use std::path::{Path, PathBuf};

use brenier_residual::ResidualModel;
use burn::tensor::{DType, Device};
use chrono::NaiveDateTime;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, Weights};
use crate::config::Config;
use crate::error::ModelError;
use crate::families;
use crate::fields::{Fields, read_object};
use crate::generation_config::GenerationConfig;
use crate::prompts::{Prompt, PromptInput};
use crate::rules::LogitsRules;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// A checkpoint directory, loaded.
///
/// ```no_run
/// use brenier_model::{GenerateOptions, LanguageModel, Prompt, PromptOptions, generate};
/// use burn::tensor::Device;
///
/// let model = LanguageModel::load("Llama-3.1-8B-Instruct".as_ref(), &Device::flex(), None)?;
/// let ids = model.prompt_ids(&Prompt::text("Who keeps the key?"), &PromptOptions::default())?;
/// let options = GenerateOptions { rules: model.rules().clone(), ..GenerateOptions::default() };
/// let texts = generate(model.model(), &[ids], model.eos(), &options, &mut (), &mut |_, _| {})?;
/// println!("{}", model.require_tokenizer()?.decode(&texts[0].ids, true)?);
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
pub struct LanguageModel {
    dir: PathBuf,
    config: Config,
    model: Box<dyn ResidualModel + Send + Sync>,
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    generation: Map<String, Value>,
    eos: Vec<u32>,
    bos: Option<u32>,
    rules: LogitsRules,
    sha256: String,
    warnings: Vec<String>,
}

/// How a prompt becomes token ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptOptions {
    /// Leave the chat template out: the text itself, with what the tokenizer adds to a text (bos).
    pub raw: bool,
    /// A system message before the prompt; raw prompts have none.
    pub system: Option<String>,
    /// The moment that the chat template takes for now, the same for all prompts of a run. A template that asks
    /// for the date fails without it; [`ChatTemplate::uses_date`] says whether one may.
    pub now: Option<NaiveDateTime>,
}

impl LanguageModel {
    /// Loads a directory: `config.json`, safetensors, and where present `generation_config.json`,
    /// `tokenizer.json` and a chat template. Weights are cast to `dtype`, f32 unless given.
    ///
    /// A tokenizer or template that is missing or broken is an error only once it is needed: prompts may be
    /// token ids.
    ///
    /// Where two files, or two fields of one, state a fact differently, what transformers does is done, with a
    /// [warning](Self::warnings); where that is undefined, the directory is refused.
    ///
    /// # Errors
    /// A file that is missing, unreadable or unsound; an architecture that is not implemented; a setting that would
    /// change the forward pass and is not implemented; a tensor that is missing, not used, or of another shape than
    /// the configuration says; statements that contradict each other; a dtype that the device does not have.
    pub fn load(dir: &Path, device: &Device, dtype: Option<DType>) -> Result<Self, ModelError> {
        let dtype = dtype.unwrap_or(DType::F32);
        if !matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
            || !device.supports_dtype(dtype)
        {
            let expected = "a float type that the device has, e.g. f32".to_owned();
            return Err(ModelError::Option { name: "dtype", expected, found: format!("{dtype:?}") });
        }
        let config_path = dir.join("config.json");
        if !config_path.exists() {
            let hint =
                "expected a Hugging Face model directory with config.json, tokenizer.json and safetensors";
            return Err(ModelError::NotFound { path: config_path, hint: hint.to_owned() });
        }
        let object = read_object(&config_path)?;
        let fields = Fields::new(&config_path, &object);
        let config = Config::from_fields(&fields)?;
        let mut checkpoint = Checkpoint::open(dir, device, dtype)?;
        // Hashing reads the files once more: beside the loading, from the page cache.
        let (model, sha256) = std::thread::scope(|scope| {
            let hash = scope.spawn(|| hash(dir));
            let model = families::load(&config, &mut checkpoint, device, dtype);
            (model, hash.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let ((model, config), sha256) = (model?, sha256?);
        let of_weights = checkpoint.finish(&config)?;
        let GenerationConfig { object: generation, eos, bos, rules, warnings: of_generation } =
            GenerationConfig::read(dir, &config, &fields)?;
        let tokenizer = Tokenizer::read(dir).ok();

        let mut warnings = fields.warnings();
        warnings.extend(of_weights);
        warnings.extend(of_generation);
        if let Some(tokenizer) = &tokenizer {
            warnings.extend(tokenizer.warnings(config.vocab, &eos));
        }
        if dir.join("adapter_config.json").exists() {
            let adapter = dir.join("adapter_config.json");
            warnings.push(format!("{}: adapters are not applied; merge them first", adapter.display()));
        }
        Ok(Self {
            tokenizer,
            template: ChatTemplate::read(dir).ok().flatten(),
            dir: dir.to_owned(),
            config,
            model,
            generation,
            eos,
            bos,
            rules,
            sha256,
            warnings,
        })
    }

    /// The directory that this was loaded from.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The model itself, of whichever architecture.
    #[must_use]
    pub fn model(&self) -> &dyn ResidualModel {
        self.model.as_ref()
    }

    /// The configuration, as the weights bear it out.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tokenizer, where the directory has a usable one.
    #[must_use]
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn require_tokenizer(&self) -> Result<&Tokenizer, ModelError> {
        match &self.tokenizer {
            Some(tokenizer) => Ok(tokenizer),
            // Reading anew gives the error that loading put off.
            None => Err(Tokenizer::read(&self.dir).err().unwrap_or_else(|| self.changed("tokenizer.json"))),
        }
    }

    /// The chat template, where the directory has a usable one.
    #[must_use]
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// The chat template.
    ///
    /// # Errors
    /// Why there is none.
    pub fn require_template(&self) -> Result<&ChatTemplate, ModelError> {
        match &self.template {
            Some(template) => Ok(template),
            None => Err(match ChatTemplate::read(&self.dir) {
                Err(error) => error,
                Ok(None) => ModelError::NoTemplate { path: self.dir.clone() },
                Ok(Some(_)) => self.changed("chat_template.jinja"),
            }),
        }
    }

    /// Tokens that end a text: those of `generation_config.json`, else those of `config.json`.
    #[must_use]
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// The token that begins a text, where there is one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The content of `generation_config.json`; empty without one.
    #[must_use]
    pub fn generation_config(&self) -> &Map<String, Value> {
        &self.generation
    }

    /// What the checkpoint asks of the logits in generation, for [`GenerateOptions`](crate::GenerateOptions).
    #[must_use]
    pub fn rules(&self) -> &LogitsRules {
        &self.rules
    }

    /// What is worth knowing about the directory though it could be loaded, one line each: statements that lost
    /// against others, and what is not honoured.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// SHA-256 in hexadecimal of `config.json` and the weight files in the order of their names, one after the
    /// other: `cat config.json model*.safetensors | sha256sum`.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Token ids of a prompt, ready for [`generate`](crate::generate). Ids are taken as they are.
    ///
    /// # Errors
    /// A text where the directory has no tokenizer, or no chat template and the prompt is not raw; a template
    /// that refuses the messages.
    pub fn prompt_ids(&self, prompt: &Prompt, options: &PromptOptions) -> Result<Vec<u32>, ModelError> {
        match &prompt.input {
            PromptInput::Ids(ids) => Ok(ids.clone()),
            PromptInput::Text(text) if options.raw => self.require_tokenizer()?.encode(text, true),
            PromptInput::Text(text) => {
                let (template, tokenizer) = (self.require_template()?, self.require_tokenizer()?);
                template.chat_ids(tokenizer, text, options.system.as_deref(), options.now)
            }
        }
    }

    /// A file that could not be used when the model was loaded, and now can.
    fn changed(&self, file: &str) -> ModelError {
        let hint = "it was not there (or broken) when the model was loaded; load the model again".to_owned();
        ModelError::NotFound { path: self.dir.join(file), hint }
    }
}

impl std::fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LanguageModel")
            .field("dir", &self.dir)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn hash(dir: &Path) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    for path in std::iter::once(dir.join("config.json")).chain(Weights::find(dir)?.files) {
        let mut file = brenier_files::open(&path).map_err(ModelError::io(&path))?;
        std::io::copy(&mut file, &mut hash).map_err(ModelError::io(&path))?;
    }
    Ok(crate::files::hex(&hash.finalize()))
}
