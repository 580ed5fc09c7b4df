//! `brenier study`, and what `brenier demo` shares with it.

use brenier::eval::{self, Report, StudyData, StudyOptions, render, study};
use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};

use crate::args::{Common, Study};
use crate::console::Console;
use crate::failure::usage_error;
use crate::hub::find_model;
use crate::input::Subject;

pub fn run(args: &Study, common: &Common, console: &Console) -> anyhow::Result<()> {
    eval::Study::check_out(&args.out, args.force)?;
    let data = StudyData::read(&args.data)?;
    let subject = Subject::load(&find_model(&args.model, console)?, &args.prompt, None, common, console)?;
    let mut options = StudyOptions::default();
    options.methods = args.methods.iter().map(|method| method.name().to_owned()).collect();
    options.layers = args.layers.of(subject.model.model().spec().layers).map_err(usage_error)?;
    if !args.components.is_empty() {
        options.components = args.components.clone();
    }
    options.max_new_tokens = args.max_new_tokens;
    options.matching = args.matching.into();
    options.batch = common.batch.rows();
    options.seed = common.seed;

    let finished = study(&subject, &data, &options, &mut console.stages())?;
    finished.write(&args.out, args.force)?;
    let value = serde_json::to_value(&finished.report)?;
    console.result(&value, || {
        format!("{}\n{}", table(&finished.report), args.out.join("report.html").display())
    })?;
    Ok(())
}

/// The headline table for a terminal.
pub fn table(report: &Report) -> String {
    let data = render::table(report);
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(data.heads.iter().map(|(name, of)| {
        Cell::new(format!("{name}\n{}", of.replace(", ", "\n"))).add_attribute(Attribute::Bold)
    }));
    for row in &data.rows {
        let text = |top: &str, below: &str| match below {
            "" => top.to_owned(),
            below => format!("{top}\n{below}"),
        };
        let mark = if row.selected { "\u{25b8} " } else { "" };
        let failed = if row.failed.is_some() { " failed" } else { "" };
        let mut cells = vec![Cell::new(text(&format!("{mark}{}{failed}", row.name), &row.setting))];
        cells.extend(row.cells.iter().map(|(value, interval)| {
            let value = if value.is_empty() { "\u{2013}" } else { value };
            Cell::new(text(value, interval)).set_alignment(CellAlignment::Right)
        }));
        if row.selected {
            cells = cells.into_iter().map(|cell| cell.add_attribute(Attribute::Bold)).collect();
        }
        table.add_row(cells);
    }
    for column in 1..table.column_count() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let failed = data.rows.iter().filter_map(|row| Some((&row.name, row.failed.as_ref()?)));
    let reasons: String = failed.map(|(name, reason)| format!("\n{name} failed: {reason}")).collect();
    format!("{table}\n\u{25b8} chosen on validation; below each rate its 95% interval (Wilson){reasons}")
}
