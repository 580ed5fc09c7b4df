//! A model, run over prompts for the sake of its activations.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use brenier_residual::{
    Batch, HookPoint, Overflow, ResidualError, ResidualModel, Row, SharedStart, Tap, read_back, read_logits,
};
use sha2::{Digest, Sha256};

use crate::{
    ActivationSink, Activations, CaptureError, Fact, Part, PartPlan, Plan, Position, Provenance, Recorder,
    RowIndex, RowMatrix, Share, batches,
};

/// Name of the logits among captured tensors.
pub const LOGITS: &str = "logits";

/// What to capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The places.
    pub points: Vec<HookPoint>,
    /// Whether to keep the logits after the tokens of `position` too, as [`LOGITS`], `[rows, vocab]`.
    pub logits: bool,
    /// The tokens.
    pub position: Position,
    /// Rows at once; `None` sizes batches by their tokens.
    pub batch: Option<usize>,
    /// Which share of the prompts.
    pub share: Share,
    /// Prompts to a part; `None` leaves it to the sink.
    pub part: Option<usize>,
    /// What the caller knows of how the activations are made, for the metadata.
    pub made: Provenance,
}

/// Runs `model` over `prompts` and keeps what `request` asks for in memory, rows in the order of the prompts.
///
/// [`capture_to`] says the rest, and takes the rows elsewhere.
///
/// # Errors
/// As [`capture_to`].
///
/// # Shapes
/// Each tensor: `[rows, hidden]`, logits `[rows, vocab]`; a row a prompt for [`Position::Last`], else several.
pub fn capture(
    model: &dyn ResidualModel,
    prompts: &[Vec<u32>],
    request: &Request,
    before: &mut dyn Tap,
    progress: &mut dyn FnMut(usize),
) -> Result<Activations, CaptureError> {
    let mut activations = Activations::default();
    capture_to(model, prompts, request, before, &mut activations, progress)?;
    Ok(activations)
}

/// Runs `model` over `prompts` and gives what `request` asks for to `sink`, part after part.
///
/// `before` runs ahead of the recorder: with `&mut ()` the model is as it is, with an intervention the edited
/// activations are recorded, as a fit of later layers needs them. Blocks after the last wanted one are not
/// run. The metadata state how the activations were made ([`Provenance`]): what the request states, and architecture,
/// layers, dtype and position. `progress` is told the number of prompts done by each batch, and of those that the sink
/// has already.
///
/// Within a part, prompts are batched by length; the memory taken is that of the model, a batch and a part. What is
/// captured does not depend on the parts, up to the rounding of batches of another shape.
///
/// # Errors
/// No prompt, no place, a layer outside the model, a prompt that is empty, too long, too short for
/// [`Position::FromEnd`], or holds an unknown id; an activation that is not finite; whatever the sink refuses.
pub fn capture_to(
    model: &dyn ResidualModel,
    prompts: &[Vec<u32>],
    request: &Request,
    before: &mut dyn Tap,
    sink: &mut dyn ActivationSink,
    progress: &mut dyn FnMut(usize),
) -> Result<(), CaptureError> {
    let points: BTreeSet<HookPoint> = request.points.iter().copied().collect();
    check(model, prompts, &points, request)?;
    let plan = plan(model, prompts, &points, request, sink.part_bytes());
    sink.begin(&plan)?;
    let end = match request.logits {
        true => model.spec().layers,
        false => points.iter().map(|at| at.layer + 1).max().unwrap_or(0),
    };
    let recorder = Recorder::new(points, request.position);
    // What all prompts begin with, a template for one, is read once.
    let texts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let keep = prompts.iter().map(|ids| request.position.count(ids.len())).max().unwrap_or(1);
    let shared = SharedStart::read(model, &texts, keep, end, before)?;
    let mut run = Run { model, prompts, request, end, shared, recorder };
    for (number, part) in plan.parts.iter().enumerate() {
        if sink.has(number)? {
            progress(part.prompts.len());
            continue;
        }
        let (tensors, index) = run.part(part, &plan.tensors, before, progress)?;
        sink.put(Part { number, tensors, index })?;
    }
    Ok(())
}

fn plan(
    model: &dyn ResidualModel,
    prompts: &[Vec<u32>],
    points: &BTreeSet<HookPoint>,
    request: &Request,
    part_bytes: Option<usize>,
) -> Plan {
    let spec = model.spec();
    let mut tensors: BTreeMap<String, usize> =
        points.iter().map(|at| (at.to_string(), spec.hidden)).collect();
    if request.logits {
        tensors.insert(LOGITS.to_owned(), spec.vocab);
    }
    let row_bytes = tensors.values().sum::<usize>() * size_of::<f32>();
    let mut parts: Vec<PartPlan> = Vec::new();
    for prompt in request.share.range(prompts.len()) {
        let rows = request.position.count(prompts[prompt].len());
        let fits = |part: &PartPlan| match (request.part, part_bytes) {
            (Some(most), _) => part.prompts.len() < most,
            (None, Some(most)) => (part.rows + rows).saturating_mul(row_bytes) <= most,
            (None, None) => true,
        };
        match parts.last_mut() {
            Some(part) if fits(part) => {
                part.prompts.end = prompt + 1;
                part.rows += rows;
            }
            _ => parts.push(PartPlan { prompts: prompt..prompt + 1, rows }),
        }
    }
    let mut made = request.made.clone();
    made.state(Fact::Architecture, spec.architecture.as_str())
        .state(Fact::Layers, spec.layers.to_string())
        .state(Fact::Dtype, spec.dtype_name())
        .state(Fact::Position, request.position.to_string());
    let mut metadata = BTreeMap::new();
    made.write(&mut metadata);
    Plan { share: request.share, prompts: prompts.len(), ids: ids_sha256(prompts), tensors, parts, metadata }
}

/// SHA-256 of all token ids, each prompt with its length before it.
fn ids_sha256(prompts: &[Vec<u32>]) -> String {
    let mut hash = Sha256::new();
    for ids in prompts {
        hash.update((ids.len() as u64).to_le_bytes());
        ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One run of a model over prompts.
struct Run<'a> {
    model: &'a dyn ResidualModel,
    prompts: &'a [Vec<u32>],
    request: &'a Request,
    /// The first block that is not run.
    end: u16,
    shared: Option<SharedStart>,
    recorder: Recorder,
}

impl Run<'_> {
    /// The rows of a part.
    fn part(
        &mut self,
        part: &PartPlan,
        widths: &BTreeMap<String, usize>,
        before: &mut dyn Tap,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(BTreeMap<String, RowMatrix<f32>>, RowIndex), CaptureError> {
        let Self { model, prompts, request, .. } = *self;
        let zeros = |&width: &usize| RowMatrix::new(vec![0.0; part.rows * width], part.rows, width);
        let mut tensors: BTreeMap<String, RowMatrix<f32>> =
            widths.iter().map(|(name, width)| (name.clone(), zeros(width))).collect();
        let (index, starts) = index(prompts, part.prompts.clone(), request.position);

        let lengths: Vec<usize> = prompts[part.prompts.clone()].iter().map(Vec::len).collect();
        let (order, ranges) = batches(&lengths, request.batch);
        for range in ranges {
            let chosen: Vec<usize> = order[range].iter().map(|&i| part.prompts.start + i).collect();
            let rows: Vec<Row<'_>> = chosen.iter().map(|&prompt| Row::prompt(&prompts[prompt])).collect();
            let batch = Batch::new(&rows, &model.spec().device)?;
            let (batch, mut cache) = match &self.shared {
                Some(shared) => shared.rest(model, batch),
                None => (batch, None),
            };
            // The rows of the part that the kept tokens of the batch are, in the order of the batch.
            let kept: Vec<usize> =
                chosen.iter().flat_map(|&prompt| starts[prompt - part.prompts.start].clone()).collect();
            let failed = |error, tensor: &str, before: &mut dyn Tap| match error {
                ResidualError::NotFinite { row, .. } => {
                    let row = kept[row];
                    let (prompt, token) = (index.prompt[row] as usize, index.position[row] as usize);
                    let overflow = Overflow::locate(model, Row::prompt(&prompts[prompt]), token, before);
                    CaptureError::NotFinite { prompt, token, tensor: tensor.to_owned(), overflow }
                }
                other => other.into(),
            };
            let x = model.embed(&batch)?;
            let mut tap = (&mut *before, &mut self.recorder);
            let x = model.blocks(0..self.end, x, &batch, cache.as_mut(), &mut tap)?;
            for (at, seen) in self.recorder.take() {
                let name = at.to_string();
                let Some(all) = tensors.get_mut(&name) else { continue };
                let seen = read_back(seen).map_err(|error| failed(error, &name, before))?;
                for (&row, seen) in kept.iter().zip(seen.chunks_exact(all.ncols().max(1))) {
                    all.row_mut(row).copy_from_slice(seen);
                }
            }
            if let Some(all) = tensors.get_mut(LOGITS) {
                let columns = request.position.chosen(&batch);
                let see = &mut |i: usize, logits: &[f32]| all.row_mut(kept[i]).copy_from_slice(logits);
                read_logits(model, x, &columns, see).map_err(|error| failed(error, LOGITS, before))?;
            }
            progress(chosen.len());
        }
        Ok((tensors, index))
    }
}

/// Prompt and token of each row, and the rows of each prompt.
fn index(prompts: &[Vec<u32>], of: Range<usize>, position: Position) -> (RowIndex, Vec<Range<usize>>) {
    let (mut index, mut starts) = (RowIndex::default(), Vec::new());
    for prompt in of {
        let length = prompts[prompt].len();
        let start = index.prompt.len();
        for token in length - position.count(length)..length {
            index.prompt.push(prompt as u32);
            index.position.push(token as u32);
        }
        starts.push(start..index.prompt.len());
    }
    (index, starts)
}

/// Everything that can be wrong before anything is computed.
fn check(
    model: &dyn ResidualModel,
    prompts: &[Vec<u32>],
    points: &BTreeSet<HookPoint>,
    request: &Request,
) -> Result<(), CaptureError> {
    let spec = model.spec();
    if prompts.is_empty() {
        return Err(CaptureError::NoPrompts);
    }
    if request.share.range(prompts.len()).is_empty() {
        return Err(CaptureError::EmptyShare { share: request.share, prompts: prompts.len() });
    }
    if points.is_empty() && !request.logits {
        return Err(CaptureError::NoPoints);
    }
    if let Some(at) = points.iter().find(|at| at.layer >= spec.layers) {
        return Err(CaptureError::LayerOutside { point: at.to_string(), layers: spec.layers });
    }
    for (prompt, ids) in prompts.iter().enumerate() {
        if let Position::FromEnd(wanted) = request.position
            && ids.len() < wanted
        {
            return Err(CaptureError::ShortPrompt { prompt, wanted, found: ids.len() });
        }
        spec.check_ids(ids, 0).map_err(|source| CaptureError::Prompt { prompt, source })?;
    }
    Ok(())
}
