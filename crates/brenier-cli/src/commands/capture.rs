//! `brenier capture`.

use brenier::capture::{Fact, Request, capture};
use brenier::eval::Subject as _;
use brenier::residual::HookPoint;
use serde_json::json;

use crate::args::{Capture, CaptureSite, Common};
use crate::console::Console;
use crate::failure::usage_error;
use crate::hub::find_model;
use crate::input::{Subject, check_out, prompt_hash, shown};

pub fn run(args: &Capture, common: &Common, console: &Console) -> anyhow::Result<()> {
    let console = &check_out(&args.out, args.force, console)?;
    let subject = Subject::load(&find_model(&args.model, console)?, &args.prompt, None, common, console)?;
    let spec = subject.model.model().spec();
    let layers = args.layers.of(spec.layers).map_err(usage_error)?;
    let sites = args.sites.iter().filter_map(|site| match site {
        CaptureSite::Block(site) => Some(*site),
        CaptureSite::Logits => None,
    });
    let request = Request {
        points: sites.flat_map(|site| layers.iter().map(move |&layer| HookPoint { layer, site })).collect(),
        logits: args.sites.contains(&CaptureSite::Logits),
        position: args.position,
        batch: common.batch.rows(),
    };
    let prompts = subject.read_prompts(&args.prompts, args.format, 0)?;

    let bar = console.bar("capturing", prompts.ids.len());
    let mut activations =
        capture(subject.model.model(), &prompts.ids, &request, &mut (), &mut |done| bar.add(done))
            .map_err(|error| prompts.locate(error))?;
    drop(bar);
    let mut made = subject.provenance(&[&prompts.prompts])?;
    if let Some(hash) = prompt_hash(&args.prompts)? {
        made.state(Fact::Prompts, hash);
    }
    made.state(Fact::Version, env!("CARGO_PKG_VERSION")).write(&mut activations.metadata);
    activations.write(&args.out, args.force)?;

    let shapes: serde_json::Map<_, _> = activations
        .tensors
        .iter()
        .map(|(name, rows)| (name.clone(), json!([rows.nrows(), rows.ncols()])))
        .collect();
    let result = json!({
        "out": shown(&args.out), "prompts": prompts.ids.len(), "position": args.position.to_string(),
        "tensors": shapes, "metadata": activations.metadata,
    });
    console.result(&result, || {
        let first = activations.tensors.iter().next();
        let (name, rows) = first.map_or((String::new(), 0), |(name, rows)| (name.clone(), rows.nrows()));
        let more = match activations.tensors.len() {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        format!(
            "{}: {rows} rows of {name}{more}, from {} prompts of {}",
            args.out.display(),
            prompts.ids.len(),
            shown(&args.prompts)
        )
    })?;
    Ok(())
}
