//! `brenier generate`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use brenier::eval::Subject as _;
use brenier::files::{self, Existing};
use brenier::hooks;
use brenier::model::{Event, Extra, GenerateOptions, LanguageModel, PromptInput, generate_with};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;
use serde_json::value::RawValue;

use crate::args::{Common, Generate};
use crate::console::Console;
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
    let options = options(args, common, &subject.model, &prompts.ids);

    let bar = console.bar("generating tokens", 0);
    let done = generate_with(subject.model.model(), &prompts.ids, &options, &mut tap, &mut |event| {
        if let Event::Token { .. } = event {
            bar.add(1);
        }
        ControlFlow::Continue(())
    })
    .map_err(|error| prompts.locate(error))?;
    drop(bar);

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
    let result = json!({
        "out": shown(&args.out), "completions": done.len(), "finish": finishes, "intervention": info,
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
