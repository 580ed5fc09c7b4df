//! `brenier score`.

use std::collections::BTreeMap;

use brenier::eval::{Match, Phrases, ScoreOptions, ScoreReport, Subject as _, score};
use brenier::files::{self, Existing};
use brenier::model::{Prompt, PromptInput, read_answers, read_texts};
use comfy_table::{Table, presets};

use crate::args::{self, Common, Score};
use crate::console::Console;
use crate::failure::usage_error;
use crate::hub::find_model;
use crate::input::{Prompts, Subject, check_out};
use crate::maps::{Intervention, in_words};

impl From<args::Match> for Match {
    fn from(matching: args::Match) -> Self {
        match matching {
            args::Match::Exact => Self::Exact,
            args::Match::Contains => Self::Contains,
        }
    }
}

pub fn run(args: &Score, common: &Common, console: &Console) -> anyhow::Result<()> {
    let console = &match &args.out {
        Some(out) => check_out(out, args.force, console)?,
        None => *console,
    };
    if args.prompts.is_none() && args.text.is_none() && args.harmless.is_none() {
        return Err(usage_error("nothing to measure: give --prompts, --text or --harmless"));
    }
    let intervention = Intervention::open(&args.map)?;
    let subject = Subject::load(
        &find_model(&args.model, console)?,
        &args.prompt,
        intervention.date()?,
        common,
        console,
    )?;
    let read = |path| subject.read_prompts(path, args.format, 1);
    let prompts = args.prompts.as_deref().map(read).transpose()?;
    let harmless = args.harmless.as_deref().map(read).transpose()?;
    let all: Vec<&[Prompt]> = prompts.iter().chain(&harmless).map(|file| file.prompts.as_slice()).collect();
    let (edits, info) =
        intervention.edits(subject.model.model().spec(), || subject.provenance(&all), console)?;
    let answers = match (&args.answers, &prompts) {
        (Some(path), Some(prompts)) => Some(answers(path, prompts)?),
        _ => None,
    };
    let options = ScoreOptions {
        prompts: prompts.map(|prompts| prompts.prompts).unwrap_or_default(),
        answers,
        text: args.text.as_deref().map(read_texts).transpose()?.unwrap_or_default(),
        harmless: harmless.map(|prompts| prompts.prompts).unwrap_or_default(),
        phrases: match &args.refusal_phrases {
            Some(path) => Phrases::read(path)?,
            None => Phrases::default(),
        },
        matching: args.matching.into(),
        max_new_tokens: args.max_new_tokens,
        batch: common.batch.rows(),
        seed: common.seed,
    };
    let mut report = score(&subject, &edits, &options, &mut console.stages())?;
    report.intervention = info;
    let value = serde_json::to_value(&report)?;
    if let Some(out) = &args.out {
        let text = format!("{}\n", serde_json::to_string_pretty(&value)?);
        files::write_bytes(out, Existing::forced(args.force), text.as_bytes())?;
    }
    console.result(&value, || table(&report))?;
    Ok(())
}

/// The known answer of each prompt.
fn answers(path: &std::path::Path, prompts: &Prompts) -> anyhow::Result<Vec<Option<String>>> {
    let known: BTreeMap<String, String> =
        read_answers(path)?.into_iter().map(|answer| (answer.prompt, answer.answer)).collect();
    let found: Vec<Option<String>> = prompts
        .prompts
        .iter()
        .map(|prompt| match &prompt.input {
            PromptInput::Text(text) => known.get(text).cloned(),
            PromptInput::Ids(_) => None,
        })
        .collect();
    if found.iter().all(Option::is_none) {
        return Err(usage_error(format!(
            "{}: none of its prompts is among those of --prompts; they must be the same text",
            path.display()
        )));
    }
    Ok(found)
}

fn table(report: &ScoreReport) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["measure", "value", "n", "95% interval"]);
    for (name, rate) in [("refusals", report.refusal_rate), ("right answers", report.answer_rate)] {
        if let Some(rate) = rate {
            let [low, high] = rate.ci95.map(|bound| 100.0 * bound);
            table.add_row([
                name.to_owned(),
                format!("{:.1}%", 100.0 * rate.value),
                rate.n.to_string(),
                format!("{low:.1}% to {high:.1}%"),
            ]);
        }
    }
    if let Some(perplexity) = report.perplexity {
        let n = format!("{} tokens", report.perplexity_tokens);
        table.add_row(["perplexity".to_owned(), format!("{perplexity:.4}"), n, String::new()]);
    }
    for (name, mean) in
        [("KL, next token, nats", report.kl), ("KL, continuation, nats", report.kl_continuation)]
    {
        if let Some(mean) = mean {
            let [low, high] = mean.ci95;
            table.add_row([
                name.to_owned(),
                format!("{:.5}", mean.value),
                mean.n.to_string(),
                format!("{low:.5} to {high:.5}"),
            ]);
        }
    }
    let edit = report.intervention.as_ref().map_or_else(|| "untouched model".to_owned(), in_words);
    format!("{edit}\n{table}")
}
