//! A Hugging Face directory: what can be said of its model before any weight is read.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use brenier_kernels::activation_dtype;
use burn::tensor::{DType, Device};
use chrono::NaiveDateTime;
use serde_json::{Map, Value};

use crate::checkpoint::{Checkpoint, Dtypes, Read};
use crate::config::Config;
use crate::error::ModelError;
use crate::families;
use crate::fields::{Fields, read_object};
use crate::fingerprint::{fingerprint, known};
use crate::generate::GenerateOptions;
use crate::generation_config::GenerationConfig;
use crate::lm::{LanguageModel, Model};
use crate::memory::Footprint;
use crate::prompts::{Prompt, PromptInput};
use crate::rules::LogitsRules;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// A checkpoint directory without its weights: configuration, tokenizer, chat template, and what ends a text.
/// Opening one takes milliseconds, whatever the size of the model.
///
/// ```no_run
/// use brenier_model::{ModelDirectory, Prompt, PromptOptions};
///
/// let directory = ModelDirectory::open("Llama-3.1-8B-Instruct".as_ref())?;
/// println!("{} parameters", directory.config().parameters());
/// let ids = directory.prompt_ids(&Prompt::text("Who keeps the key?"), &PromptOptions::default())?;
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
#[derive(Debug)]
pub struct ModelDirectory {
    path: PathBuf,
    config: Config,
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    generation: Map<String, Value>,
    eos: Vec<u32>,
    bos: Option<u32>,
    rules: LogitsRules,
    warnings: Vec<String>,
    sha256: OnceLock<String>,
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

impl ModelDirectory {
    /// Reads a directory: `config.json`, and where present `generation_config.json`, `tokenizer.json` and a chat
    /// template. Weights are not looked at.
    ///
    /// A tokenizer or template that is missing or broken is an error only once it is needed: prompts may be
    /// token ids.
    ///
    /// Where two files, or two fields of one, state a fact differently, what transformers does is done, with a
    /// [warning](Self::warnings); where that is undefined, the directory is refused.
    ///
    /// # Errors
    /// A file that is missing, unreadable or unsound; an architecture that is not implemented; a setting that would
    /// change the forward pass and is not implemented; statements that contradict each other.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let config_path = path.join("config.json");
        if !config_path.exists() {
            let hint =
                "expected a Hugging Face model directory with config.json, tokenizer.json and safetensors";
            return Err(ModelError::NotFound { path: config_path, hint: hint.to_owned() });
        }
        let object = read_object(&config_path)?;
        let fields = Fields::new(&config_path, &object);
        let config = Config::from_fields(&fields)?;
        let GenerationConfig { object: generation, eos, bos, rules, warnings: of_generation } =
            GenerationConfig::read(path, &config, &fields)?;
        let tokenizer = Tokenizer::read(path).ok();

        let mut warnings = fields.warnings();
        warnings.extend(of_generation);
        if let Some(tokenizer) = &tokenizer {
            warnings.extend(tokenizer.warnings(config.vocab, &eos));
        }
        let adapter = path.join("adapter_config.json");
        if adapter.exists() {
            warnings.push(format!("{}: adapters are not applied; merge them first", adapter.display()));
        }
        Ok(Self {
            template: ChatTemplate::read(path).ok().flatten(),
            path: path.to_owned(),
            config,
            tokenizer,
            generation,
            eos,
            bos,
            rules,
            warnings,
            sha256: OnceLock::new(),
        })
    }

    /// Loads the weights, one tensor after the other, as `dtype`; f32 unless given. Memory holds the weights and one
    /// tensor more.
    ///
    /// On the CPU backend, activations are f32 beside bf16 weights ([`activation_dtype`]).
    ///
    /// # Errors
    /// A weight file that is missing, unreadable or unsound; a tensor that is missing, not used, or of another shape
    /// than the configuration says; statements that contradict each other; a dtype that the device does not have.
    pub fn load(mut self, device: &Device, dtype: Option<DType>) -> Result<LanguageModel, ModelError> {
        let dtypes = Dtypes::on(device, dtype.unwrap_or(DType::F32))?;
        let (model, config, warnings) = self.build(device, dtypes, Read::Values)?;
        self.warnings.extend(warnings);
        self.config = config;
        Ok(LanguageModel::new(self, model))
    }

    /// Checks the weight files by their headers: every tensor is there, has its shape, and is used. No weight is
    /// read. Returns what is worth a warning.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn check_weights(&self) -> Result<Vec<String>, ModelError> {
        let dtypes = Dtypes { weights: DType::F32, activations: DType::F32 };
        let (_, _, warnings) = self.build(&Device::default(), dtypes, Read::Headers)?;
        Ok(warnings)
    }

    /// The dtype that `config.json` names for the weights, where it names a float type.
    #[must_use]
    pub fn stored_dtype(&self) -> Option<DType> {
        match self.config.dtype.as_deref()? {
            "float32" => Some(DType::F32),
            "bfloat16" => Some(DType::BF16),
            "float16" => Some(DType::F16),
            _ => None,
        }
    }

    /// What the model takes in memory with matrices held as `dtype` on a device.
    #[must_use]
    pub fn footprint(&self, device: &Device, dtype: DType) -> Footprint {
        Footprint::new(&self.config, dtype, activation_dtype(device, dtype))
    }

    fn build(
        &self,
        device: &Device,
        dtypes: Dtypes,
        read: Read,
    ) -> Result<(Box<Model>, Config, Vec<String>), ModelError> {
        let mut checkpoint = Checkpoint::open(&self.path, device, dtypes, read)?;
        let (model, config) = families::load(&self.config, &mut checkpoint, device, dtypes)?;
        Ok((model, config, checkpoint.finish(&self.config)?))
    }

    /// The directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration.
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
            None => Err(Tokenizer::read(&self.path).err().unwrap_or_else(|| self.changed("tokenizer.json"))),
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
            None => Err(match ChatTemplate::read(&self.path) {
                Err(error) => error,
                Ok(None) => ModelError::NoTemplate { path: self.path.clone() },
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

    /// Options of generation with what the checkpoint asks for: the [tokens that end a text](Self::eos) and the
    /// [rules](Self::rules). Greedy, 128 tokens, unless changed.
    #[must_use]
    pub fn generate_options(&self) -> GenerateOptions {
        GenerateOptions { eos: self.eos.clone(), rules: self.rules.clone(), ..GenerateOptions::default() }
    }

    /// What is worth knowing about the directory though it could be loaded, one line each: statements that lost
    /// against others, and what is not honoured.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// SHA-256 in hexadecimal of `config.json` and the weight files in the order of their names, one after the
    /// other: `cat config.json model*.safetensors | sha256sum`.
    ///
    /// Computed when first asked for, which reads all files. For large ones the result is kept beside them in
    /// `.brenier-sha256.json` (where the directory can be written to), and holds as long as their sizes and time
    /// stamps do.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sha256(&self) -> Result<&str, ModelError> {
        if let Some(known) = self.sha256.get() {
            return Ok(known);
        }
        let found = fingerprint(&self.path)?;
        Ok(self.sha256.get_or_init(|| found))
    }

    /// [`sha256`](Self::sha256) where it is known, or the files are small; `None` where it takes reading large ones.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn known_sha256(&self) -> Result<Option<String>, ModelError> {
        known(&self.path)
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

    /// A file that could not be used when the directory was opened, and now can.
    fn changed(&self, file: &str) -> ModelError {
        let hint = "it was not there (or broken) when the directory was opened; open it again".to_owned();
        ModelError::NotFound { path: self.path.join(file), hint }
    }
}
