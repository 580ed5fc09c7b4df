//! `brenier capture`.

use std::collections::BTreeMap;

use brenier::capture::{
    Activations, Fact, Former, MomentsSink, Plan, Request, ShardWriter, capture, capture_to,
};
use brenier::eval::{InterventionInfo, Subject as _};
use brenier::files::{self, Existing};
use brenier::hooks;
use brenier::residual::HookPoint;
use serde_json::{Value, json};

use crate::args::{Capture, CaptureSite, CaptureTo, Common, MapArgs};
use crate::console::Console;
use crate::failure::usage_error;
use crate::hub::find_model;
use crate::input::{Subject, check_out, prompt_hash, shown};
use crate::maps::{Intervention, in_words};
use crate::memory;
use crate::moments::Checkpoints;

pub fn run(args: &Capture, common: &Common, console: &Console) -> anyhow::Result<()> {
    let console = &check(args, console)?;
    let map = map_args(args);
    let intervention = Intervention::open(&map)?;
    let dir = find_model(&args.model, console)?;
    let subject = Subject::load(&dir, &args.prompt, intervention.date()?, common, console)?;
    let spec = subject.model.model().spec();
    let layers = args.layers.of(spec.layers).map_err(usage_error)?;
    let sites = args.sites.iter().filter_map(|site| match site {
        CaptureSite::Block(site) => Some(*site),
        CaptureSite::Logits => None,
    });
    let prompts = subject.read_prompts(&args.prompts, args.format, 0)?;
    let mut made = subject.provenance(&[&prompts.prompts])?;
    let (edits, info) = intervention.edits(spec, || Ok(made.clone()), console)?;
    let mut tap = hooks::Intervention::new(spec, &edits)?;
    if let Some(info) = &info {
        made.state(Fact::Intervention, recorded(info).to_string());
    }
    if let Some(hash) = prompt_hash(&args.prompts)? {
        made.state(Fact::Prompts, hash);
    }
    made.state(Fact::Version, env!("CARGO_PKG_VERSION"));
    let request = Request {
        points: sites.flat_map(|site| layers.iter().map(move |&layer| HookPoint { layer, site })).collect(),
        logits: args.sites.contains(&CaptureSite::Logits),
        position: args.position,
        batch: common.batch.rows(),
        share: args.shard.unwrap_or_default(),
        part: args.part,
        made,
    };

    let bar = console.bar("capturing", request.share.range(prompts.ids.len()).len());
    let (model, progress) = (subject.model.model(), &mut |done| bar.add(done));
    let locate = |error| prompts.locate(error);
    let captured = match args.to {
        None => {
            let found = capture(model, &prompts.ids, &request, &mut tap, progress).map_err(locate)?;
            found.write(&args.out, args.force)?;
            Captured::file(found)
        }
        Some(CaptureTo::Rows) => {
            let former = match (args.resume, args.force) {
                (true, _) => Former::Resume,
                (_, true) => Former::Replace,
                _ => Former::Refuse,
            };
            let mut sink = ShardWriter::new(&args.out, former);
            capture_to(model, &prompts.ids, &request, &mut tap, &mut sink, progress).map_err(locate)?;
            Captured::share(sink.plan())
        }
        Some(CaptureTo::Moments) => {
            let store = Checkpoints::new(&args.out, args.resume);
            let mut sink = MomentsSink::new(args.moments_cap, store);
            capture_to(model, &prompts.ids, &request, &mut tap, &mut sink, progress).map_err(locate)?;
            sink.moments().map(|moments| Captured::share(&moments.plan)).unwrap_or_default()
        }
    };
    drop(bar);
    report(args, prompts.ids.len(), &captured, info.as_ref(), console)
}

/// What is said of the rows that were captured.
#[derive(Default)]
struct Captured {
    shapes: BTreeMap<String, [usize; 2]>,
    metadata: BTreeMap<String, String>,
    /// Which share it is, and in how many parts, where it was captured in parts.
    parts: Option<(String, usize)>,
}

impl Captured {
    fn file(found: Activations) -> Self {
        let shapes = found.tensors.iter().map(|(name, rows)| (name.clone(), [rows.nrows(), rows.ncols()]));
        Self { shapes: shapes.collect(), metadata: found.metadata, parts: None }
    }

    fn share(plan: &Plan) -> Self {
        let shapes = plan.tensors.iter().map(|(name, &width)| (name.clone(), [plan.rows(), width]));
        Self {
            shapes: shapes.collect(),
            metadata: plan.metadata.clone(),
            parts: Some((plan.share.to_string(), plan.parts.len())),
        }
    }
}

fn report(
    args: &Capture,
    prompts: usize,
    captured: &Captured,
    info: Option<&InterventionInfo>,
    console: &Console,
) -> anyhow::Result<()> {
    let peak = memory::peak();
    let mut result = json!({
        "out": shown(&args.out), "prompts": prompts, "position": args.position.to_string(),
        "tensors": captured.shapes, "metadata": captured.metadata, "peak_memory": peak,
    });
    if let Some((share, parts)) = &captured.parts {
        result["shard"] = json!(share);
        result["parts"] = json!(parts);
    }
    if let Some(info) = info {
        result["intervention"] = json!(info);
    }
    console.result(&result, || {
        let first = captured.shapes.iter().next();
        let (name, rows) = first.map_or((String::new(), 0), |(name, &[rows, _])| (name.clone(), rows));
        let more = match captured.shapes.len() {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let what = if args.to == Some(CaptureTo::Moments) { "moments of " } else { "" };
        let of = match &captured.parts {
            Some((share, parts)) if args.shard.is_some() => format!(", shard {share} in {parts} part(s)"),
            Some((_, parts)) => format!(", in {parts} part(s)"),
            None => String::new(),
        };
        let edit = info.map(|info| format!("\n{}", in_words(info))).unwrap_or_default();
        let peak = peak.map(|bytes| format!("\npeak memory {}", memory::size(bytes))).unwrap_or_default();
        format!(
            "{}: {what}{rows} rows of {name}{more}, from {prompts} prompts of {}{of}{edit}{peak}",
            args.out.display(),
            shown(&args.prompts)
        )
    })?;
    Ok(())
}

/// Refuses an output that cannot be written, before any work is done for it.
fn check(args: &Capture, console: &Console) -> anyhow::Result<Console> {
    match args.to {
        Some(CaptureTo::Rows) if files::is_stdout(&args.out) => Err(usage_error(format!(
            "--to rows writes a directory: name one instead of {}",
            args.out.display()
        ))),
        Some(CaptureTo::Rows) => {
            files::check_dir(&args.out)?;
            let former = ShardWriter::manifest(&args.out, args.shard.unwrap_or_default());
            if !args.resume && former.exists() {
                files::check(&former, Existing::forced(args.force))?;
            }
            Ok(*console)
        }
        Some(CaptureTo::Moments) => {
            let unfinished = Checkpoints::path(&args.out);
            if !args.resume && !args.force && unfinished.exists() {
                return Err(usage_error(format!(
                    "{} is of a capture that was interrupted: go on with --resume, or begin anew with --force",
                    unfinished.display()
                )));
            }
            check_out(&args.out, args.force || args.resume, console)
        }
        None => check_out(&args.out, args.force, console),
    }
}

/// The map of the run. `--layers` are those that are captured.
fn map_args(args: &Capture) -> MapArgs {
    MapArgs {
        map: args.map.clone(),
        layers: args.map_layers.clone(),
        strength: args.strength,
        tokens: args.tokens,
        allow_mismatch: args.allow_mismatch,
    }
}

/// What a file of activations states of the maps in the forward pass.
fn recorded(info: &InterventionInfo) -> Value {
    let map = info.map.as_ref().map(|map| map.map_sha256.as_str());
    json!({"map.sha256": map, "edits": info.edits})
}
