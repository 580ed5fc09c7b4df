//! A model, run over prompts for the sake of its activations.

use std::collections::{BTreeMap, BTreeSet};

use brenier_residual::{Batch, HookPoint, ResidualModel, Row, Tap};
use faer::Mat;

use crate::{
    Activations, CaptureError, Fact, Position, Provenance, Recorder, RowIndex, Rows, batches, to_matrix,
};

/// Name of the logits after the last token of each prompt among captured tensors.
pub const LOGITS: &str = "logits";

/// What to capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The places.
    pub points: Vec<HookPoint>,
    /// Whether to keep the logits after the last token of each prompt too, as [`LOGITS`], `[prompts, vocab]`.
    pub logits: bool,
    /// The tokens.
    pub position: Position,
    /// Rows at once; `None` sizes batches by their tokens.
    pub batch: Option<usize>,
}

/// Runs `model` over `prompts` and keeps what `request` asks for, rows in the order of the prompts.
///
/// `before` runs ahead of the recorder: with `&mut ()` the model is as it is, with an intervention the edited
/// activations are recorded, as a fit of later layers needs them. Blocks after the last wanted one are not
/// run. The metadata state what is known here of how the activations were made ([`Provenance`]): architecture, layers,
/// dtype and position. `progress` is told the number of prompts done by each batch.
///
/// # Errors
/// No prompt, no place, a layer outside the model, a prompt that is empty, too long, too short for
/// [`Position::FromEnd`], or holds an unknown id.
///
/// # Shapes
/// Each tensor: `[rows, hidden]`; a row a prompt for [`Position::Last`], else several.
pub fn capture(
    model: &dyn ResidualModel,
    prompts: &[Vec<u32>],
    request: &Request,
    before: &mut dyn Tap,
    progress: &mut dyn FnMut(usize),
) -> Result<Activations, CaptureError> {
    let points: BTreeSet<HookPoint> = request.points.iter().copied().collect();
    check(model, prompts, &points, request)?;
    let spec = model.spec();
    let counts: Vec<usize> = prompts.iter().map(|ids| request.position.count(ids.len())).collect();
    let starts: Vec<usize> = counts
        .iter()
        .scan(0, |next, &count| {
            let start = *next;
            *next += count;
            Some(start)
        })
        .collect();
    let total = counts.iter().sum();
    let mut tensors: BTreeMap<HookPoint, Mat<f32>> =
        points.iter().map(|&at| (at, Mat::zeros(total, spec.hidden))).collect();
    let mut logits = request.logits.then(|| Mat::<f32>::zeros(prompts.len(), spec.vocab));

    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let (order, ranges) = batches(&lengths, request.batch);
    let last = points.iter().map(|at| at.layer + 1).max().unwrap_or(0);
    let end = if request.logits { spec.layers } else { last };
    let mut recorder = Recorder::new(points.iter().copied(), request.position);
    for range in ranges {
        let chosen = &order[range];
        let rows: Vec<Row<'_>> = chosen.iter().map(|&prompt| Row::prompt(&prompts[prompt])).collect();
        let batch = Batch::new(&rows, &spec.device)?;
        let x =
            model.blocks(0..end, model.embed(&batch)?, &batch, None, &mut (&mut *before, &mut recorder))?;
        for (at, seen) in recorder.take() {
            let seen = to_matrix(seen)?;
            let Some(all) = tensors.get_mut(&at) else { continue };
            let mut next = 0;
            for &prompt in chosen {
                let (start, count) = (starts[prompt], counts[prompt]);
                all.subrows_mut(start, count).copy_from(seen.subrows(next, count));
                next += count;
            }
        }
        if let Some(all) = logits.as_mut() {
            let width = x.dims()[1];
            let seen = to_matrix(model.unembed(x.narrow(1, width - 1, 1)).squeeze_dim(1))?;
            for (row, &prompt) in chosen.iter().enumerate() {
                all.row_mut(prompt).copy_from(seen.row(row));
            }
        }
        progress(chosen.len());
    }

    let mut named: BTreeMap<String, Rows> =
        tensors.into_iter().map(|(at, rows)| (at.to_string(), Rows::F32(rows))).collect();
    named.extend(logits.map(|rows| (LOGITS.to_owned(), Rows::F32(rows))));
    let rows = (request.position != Position::Last).then(|| index(&lengths, &counts));
    let mut metadata = BTreeMap::new();
    Provenance::default()
        .state(Fact::Architecture, spec.architecture.as_str())
        .state(Fact::Layers, spec.layers.to_string())
        .state(Fact::Dtype, spec.dtype_name())
        .state(Fact::Position, request.position.to_string())
        .write(&mut metadata);
    Ok(Activations { tensors: named, rows, metadata })
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

fn index(lengths: &[usize], counts: &[usize]) -> RowIndex {
    let mut index = RowIndex::default();
    for (prompt, (&length, &count)) in lengths.iter().zip(counts).enumerate() {
        for position in length - count..length {
            index.prompt.push(prompt as u32);
            index.position.push(position as u32);
        }
    }
    index
}
