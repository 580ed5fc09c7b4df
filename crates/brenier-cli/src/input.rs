//! What several commands read and check in the same way.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use brenier::eval;
use brenier::hooks::{Edit, Intervention};
use brenier::map::MapFile;
use brenier::model::{
    LanguageModel, ModelError, Prompt, PromptFormat, PromptOptions, read_prompts, sha256_file,
};
use brenier::residual::{HookPoint, ResidualModel, Spec};

use crate::args::{Common, Format, MapArgs, PromptArgs};
use crate::console::Console;
use crate::failure::usage_error;

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
}

impl Subject {
    pub fn load(dir: &Path, prompt: &PromptArgs, common: &Common, console: &Console) -> anyhow::Result<Self> {
        let options = PromptOptions { raw: prompt.raw, system: prompt.system.clone(), ..PromptOptions::default() };
        Ok(Self { model: load_model(dir, common, console)?, options })
    }

    /// Reads a prompt file and renders each prompt. A prompt that does not fit the model is refused, by its number
    /// in the file.
    pub fn read_prompts(&self, path: &Path, format: Format) -> anyhow::Result<Prompts> {
        let prompts = read_prompts(path, format.into())?;
        let spec = self.model.decoder().spec();
        let mut ids = Vec::with_capacity(prompts.len());
        for (i, prompt) in prompts.iter().enumerate() {
            let row = self.model.prompt_ids(prompt, &self.options)?;
            check_ids(&row, spec)
                .map_err(|what| usage_error(format!("{}, prompt {}: {what}", shown(path), i + 1)))?;
            ids.push(row);
        }
        Ok(Prompts { prompts, ids })
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
}

/// Prompts and what the model reads of them.
pub struct Prompts {
    pub prompts: Vec<Prompt>,
    pub ids: Vec<Vec<u32>>,
}

/// SHA-256 of a prompt file; `None` for standard input, which is gone.
pub fn prompt_hash(path: &Path) -> anyhow::Result<Option<String>> {
    if path.as_os_str() == "-" { Ok(None) } else { Ok(Some(sha256_file(path)?)) }
}

fn check_ids(ids: &[u32], spec: &Spec) -> Result<(), String> {
    if ids.is_empty() {
        return Err("it has no token; give it some text".to_owned());
    }
    if ids.len() > spec.context {
        return Err(format!(
            "{} tokens, but the model's context holds {}; shorten it",
            ids.len(),
            spec.context
        ));
    }
    match ids.iter().find(|&&id| id as usize >= spec.vocab) {
        Some(id) => Err(format!("token id {id} is outside the model's vocabulary of {}", spec.vocab)),
        None => Ok(()),
    }
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

/// The edits that the options describe; none without `--map`.
pub fn edits(args: &MapArgs, spec: &Spec) -> anyhow::Result<Vec<Edit>> {
    let Some(path) = &args.map else { return Ok(Vec::new()) };
    if !args.strength.is_finite() {
        return Err(usage_error(format!("--strength {}: expected a finite number", args.strength)));
    }
    let file = MapFile::read(path)?;
    places(&file, path, args, spec)?
        .into_iter()
        .map(|(name, at)| {
            let entry = &file.entries[&name];
            Ok(Edit { at, map: entry.map.clone(), strength: args.strength, tokens: args.tokens.into() })
        })
        .collect()
}

/// Which entry acts where.
///
/// Without `--layers`, or with `all`, every entry acts at the hook point it is named after. Otherwise those of the
/// chosen layers do; a file's only entry is put at every layer asked for, wherever it was fitted.
fn places(
    file: &MapFile,
    path: &Path,
    args: &MapArgs,
    spec: &Spec,
) -> anyhow::Result<Vec<(String, HookPoint)>> {
    let named: Vec<(String, Option<HookPoint>)> =
        file.entries.keys().map(|name| (name.clone(), name.parse().ok())).collect();
    let hooked = named.iter().all(|(_, at)| at.is_some());
    let Some(layers) = args.layers.as_ref().filter(|layers| !(layers.is_all() && hooked)) else {
        return named
            .into_iter()
            .map(|(name, at)| match at {
                Some(at) if at.layer < spec.layers => Ok((name, at)),
                Some(at) => Err(usage_error(format!(
                    "{}: entry `{name}` is for block {}, but the model has {} blocks; place it with --layers",
                    path.display(),
                    at.layer,
                    spec.layers
                ))),
                None => Err(usage_error(format!(
                    "{}: entry `{name}` names no place in a model; place it with --layers",
                    path.display()
                ))),
            })
            .collect();
    };
    let chosen = layers.of(spec.layers).map_err(usage_error)?;
    let fitted = |layer: u16| named.iter().filter(move |(_, at)| at.is_some_and(|at| at.layer == layer));
    let mut out = Vec::new();
    for &layer in &chosen {
        let before = out.len();
        out.extend(fitted(layer).filter_map(|(name, at)| Some((name.clone(), (*at)?))));
        match named.as_slice() {
            _ if out.len() > before => {}
            [(name, at)] => {
                let site = at.map_or(brenier::residual::Site::ResidPost, |at| at.site);
                out.push((name.clone(), HookPoint { layer, site }));
            }
            _ => {
                let have = named.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(usage_error(format!(
                    "{} has no map for layer {layer}; it has {have}",
                    path.display()
                )));
            }
        }
    }
    Ok(out)
}

/// The tap of the options.
pub fn intervention(args: &MapArgs, spec: &Spec) -> anyhow::Result<Intervention> {
    Ok(Intervention::new(spec, &edits(args, spec)?)?)
}
