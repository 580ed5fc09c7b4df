//! `brenier generate`.

use std::collections::BTreeMap;

use brenier::files::{self, Existing};
use brenier::model::{GenerateOptions, LanguageModel, PromptInput, generate};
use brenier::residual::{ResidualModel, Spec};
use serde_json::{Map, Value, json};

use crate::args::{Common, Generate};
use crate::console::Console;
use crate::failure::usage_error;
use crate::input::{Subject, check_out, intervention, shown};

pub fn run(args: &Generate, common: &Common, console: &Console) -> anyhow::Result<()> {
    let console = &check_out(&args.out, args.force, console)?;
    let subject = Subject::load(&args.model.dir, &args.prompt, common, console)?;
    let spec = subject.model.decoder().spec();
    let mut tap = intervention(&args.map, spec)?;
    let prompts = subject.read_prompts(&args.prompts, args.format)?;
    if let Some(full) = prompts.ids.iter().position(|ids| ids.len() >= spec.context) {
        return Err(usage_error(format!(
            "{}, prompt {}: {} tokens fill the model's context of {}; shorten it",
            shown(&args.prompts),
            full + 1,
            prompts.ids[full].len(),
            spec.context
        )));
    }
    let options = options(args, common, &subject.model, &prompts.ids);

    let bar = console.bar("generating tokens", 0);
    let done = generate(
        subject.model.decoder(),
        &prompts.ids,
        subject.model.eos(),
        &options,
        &mut tap,
        &mut |_, _| bar.add(1),
    )?;
    drop(bar);

    let mut lines = Vec::new();
    let mut finishes: BTreeMap<String, usize> = BTreeMap::new();
    for (prompt, generation) in prompts.prompts.iter().zip(&done) {
        // Prompts given as ids need no tokenizer; without one there is no text.
        let completion =
            subject.model.tokenizer().map(|tokenizer| tokenizer.decode(&generation.ids, true)).transpose()?;
        let finish = generation.finish.to_string();
        let mut line = Map::new();
        match &prompt.input {
            PromptInput::Text(text) => line.insert("prompt".to_owned(), json!(text)),
            PromptInput::Ids(ids) => line.insert("ids".to_owned(), json!(ids)),
        };
        line.insert("completion".to_owned(), json!(completion));
        line.insert("tokens".to_owned(), json!(generation.ids));
        line.insert("finish".to_owned(), json!(finish));
        *finishes.entry(finish).or_default() += 1;
        for (key, value) in &prompt.extra {
            line.entry(key.clone()).or_insert_with(|| value.clone());
        }
        serde_json::to_writer(&mut lines, &Value::Object(line))?;
        lines.push(b'\n');
    }
    files::write_bytes(&args.out, Existing::forced(args.force), &lines)?;
    console.result(
        &json!({"out": shown(&args.out), "completions": done.len(), "finish": finishes}),
        || {
            let finishes =
                finishes.iter().map(|(finish, n)| format!("{n} {finish}")).collect::<Vec<_>>().join(", ");
            format!("{}: {} completions (ended by: {finishes})", args.out.display(), done.len())
        },
    )?;
    Ok(())
}

fn options(args: &Generate, common: &Common, model: &LanguageModel, prompts: &[Vec<u32>]) -> GenerateOptions {
    let (sampling, spec) = (&args.sampling, model.decoder().spec());
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0) + sampling.max_new_tokens;
    GenerateOptions {
        max_new_tokens: sampling.max_new_tokens,
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        seed: common.seed,
        batch: common.batch.rows().unwrap_or_else(|| rows_at_once(spec, longest)),
        rules: model.rules().clone(),
    }
}

/// As many rows as keep keys and values of all blocks within 2 GiB, counted in f32 and without shared heads; no more
/// than 64.
fn rows_at_once(spec: &Spec, tokens: usize) -> usize {
    let row = tokens.min(spec.context).max(1) * spec.hidden.max(1) * usize::from(spec.layers.max(1)) * 2 * 4;
    ((2 << 30) / row).clamp(1, 64)
}
