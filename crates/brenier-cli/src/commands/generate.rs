//! `brenier generate`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use brenier::eval::InterventionInfo;
use brenier::eval::Subject as _;
use brenier::files::{self, Existing, Journal};
use brenier::hooks;
use brenier::model::{
    Event, Extra, Finish, GenerateOptions, Generation, LanguageModel, PromptInput, generate_with, sha256,
};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::args::{Common, Generate};
use crate::console::Console;
use crate::failure::usage_error;
use crate::hub::find_model;
use crate::input::{Subject, check_out, shown};
use crate::maps::{Intervention, in_words};
use crate::memory::rows_that_fit;

pub fn run(args: &Generate, common: &Common, console: &Console) -> anyhow::Result<()> {
    let console = &check_out(&args.out, args.force, console)?;
    let intervention = Intervention::open(&args.map)?;
    let subject = Subject::load(
        &find_model(&args.model, console)?,
        &args.prompt,
        intervention.date()?,
        common,
        console,
    )?;
    let spec = subject.model.model().spec();
    let prompts = subject.read_prompts(&args.prompts, args.format, 1)?;
    let (edits, info) = intervention.edits(spec, || subject.provenance(&[&prompts.prompts]), console)?;
    let mut tap = hooks::Intervention::new(spec, &edits)?;
    let mut options = options(args, common, &subject.model, &prompts.ids);

    let run = || fingerprint(&subject, &prompts.ids, &options, &info);
    let mut earlier = Earlier::open(&args.out, run, args.force)?;
    options.skip = earlier.done.keys().copied().collect();
    if !earlier.done.is_empty() {
        let (done, all) = (earlier.done.len(), prompts.ids.len());
        console.note(&format!("{done} of {all} completions are there already; going on with the others"));
    }

    let bar = console.bar("completing prompts", prompts.ids.len());
    bar.add(earlier.done.len());
    let mut failed = None;
    let found = generate_with(subject.model.model(), &prompts.ids, &options, &mut tap, &mut |event| {
        if let Event::Ended { prompt, generation } = event {
            bar.add(1);
            if let Err(error) = earlier.keep(prompt, generation) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    drop(bar);
    let resumed = earlier.done.len();
    let mut done = match (found, failed) {
        (Ok(done), _) => done,
        (Err(_), Some(error)) => return Err(error),
        (Err(error), None) => {
            earlier.remove_if_empty()?;
            return Err(prompts.locate(error));
        }
    };
    for (prompt, generation) in std::mem::take(&mut earlier.done) {
        done[prompt] = generation;
    }

    let mut lines = Vec::new();
    let mut finishes: BTreeMap<String, usize> = BTreeMap::new();
    for (prompt, generation) in prompts.prompts.iter().zip(&done) {
        // Prompts given as ids need no tokenizer; without one there is no text.
        let completion =
            subject.model.tokenizer().map(|tokenizer| tokenizer.decode(&generation.ids, true)).transpose()?;
        let line = Line {
            prompt: &prompt.input,
            completion,
            tokens: &generation.ids,
            finish: generation.finish.to_string(),
            extra: &prompt.extra,
        };
        serde_json::to_writer(&mut lines, &line)?;
        lines.push(b'\n');
        *finishes.entry(line.finish).or_default() += 1;
    }
    files::write_bytes(&args.out, Existing::forced(args.force), &lines)?;
    earlier.remove()?;
    let result = json!({
        "out": shown(&args.out), "completions": done.len(), "resumed": resumed, "finish": finishes, "intervention": info,
    });
    console.result(&result, || {
        let finishes =
            finishes.iter().map(|(finish, n)| format!("{n} {finish}")).collect::<Vec<_>>().join(", ");
        let edit = info.as_ref().map(|info| format!("\n{}", in_words(info))).unwrap_or_default();
        format!("{}: {} completions (ended by: {finishes}){edit}", args.out.display(), done.len())
    })?;
    if let Some(info) = info.filter(|_| console.stdout_taken()) {
        console.note(&in_words(&info));
    }
    Ok(())
}

/// What tells one run from another: the model, the prompts as it reads them, the options and the edits.
fn fingerprint(
    subject: &Subject,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    info: &Option<InterventionInfo>,
) -> anyhow::Result<String> {
    let GenerateOptions { max_new_tokens, temperature, top_k, top_p, seed, rules, eos, .. } = options;
    let spec = subject.model.model().spec();
    let facts = json!({
        "version": env!("CARGO_PKG_VERSION"), "model": subject.model.sha256()?, "dtype": spec.dtype_name(),
        "prompts": prompts, "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k,
        "top_p": top_p, "seed": seed, "rules": format!("{rules:?}"), "eos": eos, "intervention": info,
    });
    Ok(sha256(facts.to_string().as_bytes()))
}

/// The completions that an interrupted run has left, and those of this one as they come.
struct Earlier {
    /// None where the output is no file.
    journal: Option<Journal>,
    done: BTreeMap<usize, Generation>,
    /// How many this run has added.
    added: usize,
}

/// A line of the journal; the first is the run's fingerprint.
#[derive(Serialize, Deserialize)]
struct Done {
    prompt: usize,
    tokens: Vec<u32>,
    finish: Finish,
}

impl Earlier {
    /// Opens the journal of an output. That of another run is refused, or with `force` thrown away.
    /// The fingerprint, which takes reading the weights, is made only where there is a journal.
    fn open(out: &Path, run: impl FnOnce() -> anyhow::Result<String>, force: bool) -> anyhow::Result<Self> {
        let Some((mut journal, lines)) = Journal::beside(out)? else {
            return Ok(Self { journal: None, done: BTreeMap::new(), added: 0 });
        };
        let run = run()?;
        let mut done = BTreeMap::new();
        match lines.split_first() {
            Some((first, lines)) if *first == run => {
                for (number, line) in lines.iter().enumerate() {
                    let Done { prompt, tokens, finish } = serde_json::from_str(line).map_err(|error| {
                        let path = journal.path().display();
                        usage_error(format!("{path}, line {} (counted from 1): {error}", number + 2))
                    })?;
                    done.insert(prompt, Generation { ids: tokens, finish });
                }
            }
            Some(_) if !force => {
                return Err(usage_error(format!(
                    "{}: it holds completions of another run (other prompts, options, map or model); remove it, or throw \
                     it away with --force",
                    journal.path().display()
                )));
            }
            _ => {
                journal.clear()?;
                journal.append(&run)?;
            }
        }
        Ok(Self { journal: Some(journal), done, added: 0 })
    }

    fn keep(&mut self, prompt: usize, generation: &Generation) -> anyhow::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let done = Done { prompt, tokens: generation.ids.clone(), finish: generation.finish };
        journal.append(&serde_json::to_string(&done)?)?;
        self.added += 1;
        Ok(())
    }

    fn remove_if_empty(self) -> anyhow::Result<()> {
        if self.done.is_empty() && self.added == 0 { self.remove() } else { Ok(()) }
    }

    fn remove(self) -> anyhow::Result<()> {
        Ok(self.journal.map_or(Ok(()), Journal::remove)?)
    }
}

/// Keys of a line that are ours.
const OURS: [&str; 3] = ["completion", "tokens", "finish"];
/// What the input has under one of our keys, or under this one.
const INPUT: &str = "input";

/// A line of the output: the prompt, what became of it, and the other keys of its line. Those that have the name of one of
/// ours are put under [`INPUT`], so that both can be read.
struct Line<'a> {
    prompt: &'a PromptInput,
    completion: Option<String>,
    tokens: &'a [u32],
    finish: String,
    extra: &'a Extra,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        let ours = match self.prompt {
            PromptInput::Text(text) => {
                line.serialize_entry("prompt", text)?;
                "prompt"
            }
            PromptInput::Ids(ids) => {
                line.serialize_entry("ids", ids)?;
                "ids"
            }
        };
        line.serialize_entry("completion", &self.completion)?;
        line.serialize_entry("tokens", &self.tokens)?;
        line.serialize_entry("finish", &self.finish)?;
        let clashes = |key: &str| OURS.contains(&key) || key == ours || key == INPUT;
        for (key, value) in self.extra.iter().filter(|(key, _)| !clashes(key)) {
            line.serialize_entry(key, value)?;
        }
        let input: Vec<_> = self.extra.iter().filter(|(key, _)| clashes(key)).collect();
        if !input.is_empty() {
            line.serialize_entry(INPUT, &Keys(&input))?;
        }
        line.end()
    }
}

/// Keys and values as an object.
struct Keys<'a>(&'a [(&'a str, &'a RawValue)]);

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

fn options(args: &Generate, common: &Common, model: &LanguageModel, prompts: &[Vec<u32>]) -> GenerateOptions {
    let sampling = &args.sampling;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0).saturating_add(sampling.max_new_tokens);
    GenerateOptions {
        max_new_tokens: sampling.max_new_tokens,
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        seed: common.seed,
        batch: common.batch.rows().or_else(|| rows_that_fit(model, longest)),
        ..model.generate_options()
    }
}
