//! A model, run over prompts for the sake of its activations.

use std::collections::{BTreeMap, BTreeSet};

use brenier_residual::{
    Batch, HookPoint, Overflow, ResidualError, ResidualModel, Row, SharedStart, Tap, read_logits,
};
use faer::Mat;

use crate::{
    Activations, CaptureError, Fact, Position, Provenance, Recorder, RowIndex, Rows, batches, to_matrix,
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
/// [`Position::FromEnd`], or holds an unknown id; an activation that is not finite.
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
    let mut logits = request.logits.then(|| Mat::<f32>::zeros(total, spec.vocab));

    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let (order, ranges) = batches(&lengths, request.batch);
    let last = points.iter().map(|at| at.layer + 1).max().unwrap_or(0);
    let end = if request.logits { spec.layers } else { last };
    let mut recorder = Recorder::new(points.iter().copied(), request.position);
    // What all prompts begin with, a template for one, is read once.
    let texts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let keep = counts.iter().copied().max().unwrap_or(1);
    let shared = SharedStart::read(model, &texts, keep, end, before)?;
    for range in ranges {
        let chosen = &order[range];
        let rows: Vec<Row<'_>> = chosen.iter().map(|&prompt| Row::prompt(&prompts[prompt])).collect();
        let batch = Batch::new(&rows, &spec.device)?;
        let (batch, mut cache) = match &shared {
            Some(shared) => shared.rest(model, batch),
            None => (batch, None),
        };
        // The tokens that are kept, in the order of the batch.
        let tokens = |&prompt: &usize| {
            let (start, count) = (starts[prompt], counts[prompt]);
            let token = lengths[prompt] - count;
            (0..count).map(move |i| Kept { prompt, token: token + i, row: start + i })
        };
        let kept: Vec<Kept> = chosen.iter().flat_map(tokens).collect();
        let failed = |error, tensor: &str, before: &mut dyn Tap| match error {
            ResidualError::NotFinite { row, .. } => {
                let Kept { prompt, token, .. } = kept[row];
                let overflow = Overflow::locate(model, Row::prompt(&prompts[prompt]), token, before);
                CaptureError::NotFinite { prompt, token, tensor: tensor.to_owned(), overflow }
            }
            other => other.into(),
        };
        let mut tap = (&mut *before, &mut recorder);
        let x = model.blocks(0..end, model.embed(&batch)?, &batch, cache.as_mut(), &mut tap)?;
        for (at, seen) in recorder.take() {
            let Some(all) = tensors.get_mut(&at) else { continue };
            let seen = to_matrix(seen).map_err(|error| failed(error, &at.to_string(), before))?;
            for (from, mut to) in seen.col_iter().zip(all.col_iter_mut()) {
                from.iter().zip(&kept).for_each(|(&value, kept)| to[kept.row] = value);
            }
        }
        if let Some(all) = logits.as_mut() {
            let columns = request.position.chosen(&batch);
            let see = &mut |i: usize, logits: &[f32]| {
                all.row_mut(kept[i].row).iter_mut().zip(logits).for_each(|(to, &logit)| *to = logit);
            };
            read_logits(model, x, &columns, see).map_err(|error| failed(error, LOGITS, before))?;
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

/// A token that is kept, and its row among all that are.
#[derive(Clone, Copy)]
struct Kept {
    prompt: usize,
    token: usize,
    row: usize,
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
