//! What several commands read and check in the same way.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use brenier::capture::{CaptureError, Fact, Provenance};
use brenier::eval::{self, prompt_ids};
use brenier::model::{
    ChatTemplate, LanguageModel, ModelError, Prompt, PromptFormat, PromptOptions, read_prompts, sha256_file,
};
use brenier::residual::ResidualModel;

use crate::args::{Common, Format, PromptArgs};
use crate::console::Console;
use crate::failure::{Usage, usage_error};
use crate::values::Date;

/// The model in a directory, on the device that was asked for.
pub fn load_model(dir: &Path, common: &Common, console: &Console) -> anyhow::Result<LanguageModel> {
    let device = brenier::device::by_name(&common.device)?;
    let _bar = console.bar("loading the model", 0);
    Ok(LanguageModel::load(dir, &device, common.dtype.wanted())?)
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
        self.model.decoder()
    }

    fn eos(&self) -> &[u32] {
        self.model.eos()
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

    fn sha256(&self) -> &str {
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
    /// Says where in its file the prompt stands that an error counts.
    pub fn locate(&self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        let error = error.into();
        let index = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(CaptureError::ShortPrompt { prompt, .. }), _) => Some(*prompt),
            (_, Some(ModelError::NotFinite { prompt, .. })) => Some(*prompt),
            _ => None,
        };
        match index.and_then(|index| self.prompts.get(index)?.line) {
            Some(line) => error.context(Usage(format!("{}, line {line} (counted from 1)", self.path))),
            None => error,
        }
    }
}

/// SHA-256 of a prompt file; `None` for standard input, which is gone.
pub fn prompt_hash(path: &Path) -> anyhow::Result<Option<String>> {
    if path.as_os_str() == "-" { Ok(None) } else { Ok(Some(sha256_file(path)?)) }
}

/// A path as the user knows it.
pub fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// Refuses an output that cannot be written, before any work is done for it.
pub fn check_out(path: &Path, force: bool) -> anyhow::Result<()> {
    if path.is_dir() {
        return Err(usage_error(format!("{} is a directory; name a file in it", path.display())));
    }
    if path.exists() && !force {
        return Err(usage_error(format!("{} exists; choose another name or pass --force", path.display())));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent {
        Some(parent) if !parent.is_dir() => Err(usage_error(format!(
            "{} cannot be written: there is no directory {}",
            path.display(),
            parent.display()
        ))),
        _ => Ok(()),
    }
}

/// As [`check_out`] for a directory that is made when it is not there. `names` are the files that go into it.
pub fn check_out_dir(dir: &Path, names: &[&str], force: bool) -> anyhow::Result<()> {
    if dir.exists() && !dir.is_dir() {
        return Err(usage_error(format!("{} is a file; name a directory", dir.display())));
    }
    match names.iter().map(|name| dir.join(name)).find(|path| path.exists()) {
        Some(path) if !force => {
            Err(usage_error(format!("{} exists; choose another --out or pass --force", path.display())))
        }
        _ => Ok(()),
    }
}

/// Writes a file whole or not at all: beside its place first, then renamed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let doing = || format!("cannot write {}", path.display());
    let mut builder = tempfile::Builder::new();
    // As any new file: what the umask leaves of this.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(parent).with_context(doing)?;
    file.write_all(bytes).with_context(doing)?;
    file.as_file().sync_all().with_context(doing)?;
    file.persist(path).map_err(|error| error.error).with_context(doing)?;
    Ok(())
}
