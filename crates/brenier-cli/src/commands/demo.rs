//! `brenier demo`: the study on the built-in model.

use std::fmt::Write as _;
use std::path::Path;

use brenier::eval::{Completion, EvalError, Study, StudyData, StudyOptions, render, study};
use brenier::files::WriteError;
use brenier::organism::Organism;
use serde_json::json;

use crate::args::{Common, Demo, PromptArgs};
use crate::commands::study::table;
use crate::console::Console;
use crate::failure::usage_error;
use crate::input::{Subject, shown};

pub fn run(args: &Demo, common: &Common, console: &Console) -> anyhow::Result<()> {
    check_out(&args.out)?;
    let organism = Organism::unpack(&args.out)?;
    let data = StudyData::read(&organism.study)?;
    let prompt = PromptArgs { raw: false, system: None, date: None };
    let subject = Subject::load(&organism.model, &prompt, None, common, console)?;
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

/// Refuses a directory that cannot be written, or that holds files of these names which no demo wrote. A former demo is
/// replaced, also one that was cut off.
fn check_out(out: &Path) -> anyhow::Result<()> {
    let former = Study::is_in(out);
    let in_the_way = match Study::check_out(out, former) {
        Err(EvalError::Write(WriteError::Exists { path })) => Some(path),
        checked => {
            checked?;
            if former { None } else { Organism::in_the_way(out) }
        }
    };
    match in_the_way {
        None => Ok(()),
        Some(path) => Err(usage_error(format!(
            "{} would be overwritten, and {} holds no former demo; choose another --out",
            path.display(),
            out.display()
        ))),
    }
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
