//! What several commands read and check in the same way.

use std::path::Path;

use brenier::capture::{CaptureError, Fact, Provenance};
use brenier::eval::{self, prompt_ids};
use brenier::files::{self, Existing};
use brenier::model::{
    ChatTemplate, LanguageModel, LogitsRules, ModelDirectory, ModelError, Prompt, PromptFormat,
    PromptOptions, read_prompts, sha256_file,
};
use brenier::residual::ResidualModel;

use crate::args::{Common, Format, PromptArgs};
use crate::console::Console;
use crate::failure::Usage;
use crate::memory::Plan;
use crate::values::Date;

/// The model in a directory, on the device that was asked for.
pub fn load_model(dir: &Path, common: &Common, console: &Console) -> anyhow::Result<LanguageModel> {
    let device = brenier::device::by_name(&common.device)?;
    let directory = ModelDirectory::open(dir)?;
    let plan = Plan::new(&directory, &device, common.dtype);
    plan.check()?;
    let bar = console.bar("loading the model", 0);
    let model = directory.load(&device, Some(plan.dtype))?;
    drop(bar);
    model.warnings().iter().for_each(|warning| console.warn(warning));
    Ok(model)
}

impl From<Format> for PromptFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Auto => Self::Auto,
            Format::Jsonl => Self::Jsonl,
            Format::AdvbenchCsv => Self::AdvbenchCsv,
            Format::HarmbenchCsv => Self::HarmbenchCsv,
            Format::JailbreakbenchCsv => Self::JailbreakbenchCsv,
            Format::AlpacaJson => Self::AlpacaJson,
            Format::Lines => Self::Lines,
        }
    }
}

/// A model and how prompts are put to it.
pub struct Subject {
    pub model: LanguageModel,
    options: PromptOptions,
    /// The date that prompts are rendered with.
    date: Date,
}

impl Subject {
    /// Loads the model in a directory. Without a date of the user, prompts are rendered with the `recorded` one, else with
    /// the local time, which is read here and nowhere else.
    pub fn load(
        dir: &Path,
        prompt: &PromptArgs,
        recorded: Option<Date>,
        common: &Common,
        console: &Console,
    ) -> anyhow::Result<Self> {
        let date = prompt.date.or(recorded).unwrap_or_else(Date::now);
        let options = PromptOptions { raw: prompt.raw, system: prompt.system.clone(), now: Some(date.0) };
        Ok(Self { model: load_model(dir, common, console)?, options, date })
    }

    /// Reads a prompt file and renders each prompt, which has to leave room for `room` more tokens.
    pub fn read_prompts(&self, path: &Path, format: Format, room: usize) -> anyhow::Result<Prompts> {
        let prompts = read_prompts(path, format.into())?;
        let ids = prompt_ids(self, &shown(path), &prompts, room)?;
        Ok(Prompts { path: shown(path), prompts, ids })
    }
}

impl eval::Subject for Subject {
    fn model(&self) -> &dyn ResidualModel {
        self.model.model()
    }

    fn eos(&self) -> &[u32] {
        self.model.eos()
    }

    fn rules(&self) -> LogitsRules {
        self.model.rules().clone()
    }

    fn bos(&self) -> Option<u32> {
        self.model.bos()
    }

    fn prompt_ids(&self, prompt: &Prompt) -> Result<Vec<u32>, ModelError> {
        self.model.prompt_ids(prompt, &self.options)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.model.require_tokenizer()?.encode(text, false)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.model.require_tokenizer()?.decode(ids, true)
    }

    fn sha256(&self) -> Result<&str, ModelError> {
        self.model.sha256()
    }

    fn rendering(&self, made: &mut Provenance) {
        let template = self.model.template().filter(|_| !self.options.raw);
        made.state(Fact::Template, template.map_or_else(|| "none".to_owned(), ChatTemplate::sha256))
            .state(Fact::Raw, self.options.raw.to_string())
            .state_system(self.options.system.as_deref());
        if template.is_some_and(ChatTemplate::uses_date) {
            made.state(Fact::Date, self.date.to_string());
        }
    }
}

/// Prompts and what the model reads of them.
pub struct Prompts {
    path: String,
    pub prompts: Vec<Prompt>,
    pub ids: Vec<Vec<u32>>,
}

impl Prompts {
    /// Says on which line of its file the prompt stands that an error counts.
    pub fn locate(&self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        let error = error.into();
        let index = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(CaptureError::ShortPrompt { prompt, .. } | CaptureError::NotFinite { prompt, .. }), _) => {
                Some(*prompt)
            }
            (_, Some(ModelError::NotFinite { prompt, .. } | ModelError::NoTokenLeft { prompt, .. })) => {
                Some(*prompt)
            }
            _ => None,
        };
        match index.and_then(|index| self.prompts.get(index)?.line) {
            Some(line) => error.context(Usage(format!("{}, line {line} (counted from 1)", self.path))),
            None => error,
        }
    }
}

/// SHA-256 of a prompt file; `None` for standard input or a FIFO, whose content is gone.
pub fn prompt_hash(path: &Path) -> anyhow::Result<Option<String>> {
    if path.as_os_str() != "-" && path.is_file() { Ok(Some(sha256_file(path)?)) } else { Ok(None) }
}

/// A path as the user knows it.
pub fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// Refuses an output that cannot be written, before any work is done for it. Returns where the command is to report:
/// an output that goes to stdout has it for itself.
pub fn check_out(path: &Path, force: bool, console: &Console) -> anyhow::Result<Console> {
    files::check(path, Existing::forced(force))?;
    console.beside(path)
}
