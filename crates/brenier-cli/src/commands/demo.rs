//! `brenier demo`: the study on the built-in model.

use std::fmt::Write as _;

use brenier::eval::{Completion, Study, StudyData, StudyOptions, render, study};
use brenier::organism::Organism;
use serde_json::json;

use crate::args::{Common, Demo, PromptArgs};
use crate::commands::study::table;
use crate::console::Console;
use crate::input::{Subject, shown};

pub fn run(args: &Demo, common: &Common, console: &Console) -> anyhow::Result<()> {
    Study::check_out(&args.out, true)?;
    let organism = Organism::unpack(&args.out)?;
    let data = StudyData::read(&organism.study)?;
    let prompt = PromptArgs { raw: false, system: None };
    let subject = Subject::load(&organism.model, &prompt, common, console)?;
    let mut options = StudyOptions::default();
    options.batch = common.batch.rows();
    options.seed = common.seed;
    let finished = study(&subject, &data, &options, &mut console.stages())?;
    finished.write(&args.out, true)?;

    let value = json!({"out": shown(&args.out), "report": finished.report});
    console.result(&value, || {
        let mut text = table(&finished.report);
        text.push_str("\n\n");
        text.push_str(&before_and_after(&finished.examples(3)));
        let _ = write!(text, "The report, with its plots: {}", args.out.join("report.html").display());
        text
    })?;
    Ok(())
}

fn before_and_after(pairs: &[(Completion, Completion)]) -> String {
    let mut text = String::new();
    for (before, after) in pairs {
        let prompt = before.prompt.as_str().map_or_else(|| before.prompt.to_string(), str::to_owned);
        let right = if after.right == Some(true) { "  (right)" } else { "" };
        let _ = writeln!(text, "> {prompt}");
        let (untouched, method) = (render::method_name(&before.method), render::method_name(&after.method));
        let wide = untouched.chars().count().max(method.chars().count());
        let _ = writeln!(text, "  {untouched:wide$}  {}", before.completion.trim());
        let _ = writeln!(text, "  {method:wide$}  {}{right}\n", after.completion.trim());
    }
    text
}
