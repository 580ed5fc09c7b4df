//! `brenier merge`.

use brenier::capture::Activations;
use serde_json::json;

use crate::args::Merge;
use crate::console::Console;
use crate::data::Data;
use crate::input::{check_out, shown};

pub fn run(args: &Merge, console: &Console) -> anyhow::Result<()> {
    let console = &check_out(&args.out, args.force, console)?;
    let data = Data::open(&args.input)?;
    let (what, rows) = match &data {
        Data::Rows(file) => {
            let mut all = Activations::read(&args.input)?;
            all.drop_plain_index();
            all.metadata.retain(|key, _| key != "format");
            all.write(&args.out, args.force)?;
            let first = file.names().first().map(|name| file.shape(name)).transpose()?;
            ("rows", first.map_or(0, |[rows, _]| rows))
        }
        Data::Moments { file, .. } => {
            file.write(&args.out, args.force)?;
            ("moments", file.entries.values().next().map_or(0, |moments| moments.count()))
        }
    };
    let tensors = data.names().len();
    let result = json!({
        "out": shown(&args.out), "in": shown(&args.input), "what": what, "rows": rows, "tensors": data.names(),
        "metadata": data.metadata(),
    });
    console.result(&result, || {
        format!("{}: {what} of {tensors} tensors, {rows} rows each", args.out.display())
    })?;
    Ok(())
}
