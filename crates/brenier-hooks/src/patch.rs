//! The tap that replaces activations.

use std::collections::{BTreeMap, BTreeSet};

use brenier_residual::{
    Bool, DType, Device, HookPoint, Int, ResidualError, Spec, Tap, Tensor, TensorData, TokenView,
};

use crate::HookError;

/// One activation to be replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// The place.
    pub at: HookPoint,
    /// Row of the batch, from 0.
    pub row: usize,
    /// Token in that row, from 0, padding not counted.
    pub token: usize,
    /// What the model goes on with there; `[hidden]`.
    pub value: Vec<f32>,
}

/// Patches, ready on the model's device: activation patching.
///
/// A patch acts in the step that reads its token, the first or a later one of a generation. Rows are those of the batch
/// that is run: programs that sort prompts by length, or drop rows that have ended, change them. Where no step has come
/// to the token of a patch, it is [`pending`](Patches::pending).
///
/// ```
/// use brenier_hooks::{Patch, Patches};
/// use brenier_residual::{Batch, DType, Device, HookPoint, Row, Spec, Tap, Tensor};
///
/// # let device = Device::flex();
/// # let spec = Spec {
/// #     architecture: "any".into(),
/// #     layers: 4,
/// #     hidden: 2,
/// #     vocab: 9,
/// #     context: 16,
/// #     device: device.clone(),
/// #     dtype: DType::F32,
/// #     weights: DType::F32,
/// # };
/// let at = HookPoint::resid_pre(3);
/// let mut patches = Patches::new(&spec, &[Patch { at, row: 0, token: 1, value: vec![7.0, 8.0] }])?;
///
/// let batch = Batch::new(&[Row::prompt(&[5, 6])], &device)?;
/// let x = Tensor::<3>::from_data([[[1.0, 2.0], [3.0, 4.0]]], &device);
/// let y = patches.visit(at, &batch, x)?;
/// assert_eq!(y.into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 2.0, 7.0, 8.0]);
/// assert_eq!(patches.pending().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Patches {
    of: BTreeMap<HookPoint, Ready>,
    device: Device,
}

/// The patches of one place.
#[derive(Debug, Clone)]
struct Ready {
    /// Row and token of each, in the order of `values`.
    tokens: Vec<(usize, usize)>,
    /// `[patches, hidden]`, in the model's dtype.
    values: Tensor<2>,
    pending: BTreeSet<usize>,
}

impl Patches {
    /// Puts patches on the model's device.
    ///
    /// # Errors
    /// A layer outside the model, a value of another width or that is not finite in the model's dtype, two patches of
    /// one token.
    pub fn new(spec: &Spec, patches: &[Patch]) -> Result<Self, HookError> {
        let mut of: BTreeMap<HookPoint, Vec<&Patch>> = BTreeMap::new();
        for patch in patches {
            check(spec, patch)?;
            of.entry(patch.at).or_default().push(patch);
        }
        let ready = |(at, patches): (HookPoint, Vec<&Patch>)| {
            let mut seen = BTreeSet::new();
            if let Some(twice) = patches.iter().find(|patch| !seen.insert((patch.row, patch.token))) {
                return Err(HookError::PatchedTwice { at, row: twice.row, token: twice.token });
            }
            let tokens: Vec<_> = patches.iter().map(|patch| (patch.row, patch.token)).collect();
            let shape = [tokens.len(), spec.hidden];
            let values: Vec<f32> = patches.iter().flat_map(|patch| patch.value.iter().copied()).collect();
            let values = Tensor::from_data(TensorData::new(values, shape), (&spec.device, spec.dtype));
            Ok((at, Ready { pending: (0..tokens.len()).collect(), tokens, values }))
        };
        let of = of.into_iter().map(ready).collect::<Result<_, _>>()?;
        Ok(Self { of, device: spec.device.clone() })
    }

    /// Place, row and token of the patches that have not acted yet.
    pub fn pending(&self) -> impl Iterator<Item = (HookPoint, usize, usize)> {
        self.of.iter().flat_map(|(&at, ready)| {
            ready.pending.iter().map(move |&i| (at, ready.tokens[i].0, ready.tokens[i].1))
        })
    }
}

impl Tap for Patches {
    fn wants(&self, at: HookPoint) -> bool {
        self.of.contains_key(&at)
    }

    fn visit(
        &mut self,
        at: HookPoint,
        view: &dyn TokenView,
        x: Tensor<3>,
    ) -> Result<Tensor<3>, ResidualError> {
        let Some(ready) = self.of.get_mut(&at) else { return Ok(x) };
        let [rows, tokens, hidden] = x.dims();
        let mut source = vec![None; rows * tokens];
        for (i, &(row, token)) in ready.tokens.iter().enumerate() {
            if row >= rows {
                match ready.pending.contains(&i) {
                    true => return Err(ResidualError::tap(at, HookError::NoRow { row, rows })),
                    false => continue,
                }
            }
            // Tokens of a row stand side by side, the last of them in the last column.
            let last = view.position(row, tokens - 1);
            if token <= last && last - token < tokens {
                source[row * tokens + tokens - 1 - (last - token)] = Some(i);
                ready.pending.remove(&i);
            }
        }
        if source.iter().all(Option::is_none) {
            return Ok(x);
        }
        let index: Vec<i64> = source.iter().map(|i| i.unwrap_or(0) as i64).collect();
        let chosen: Vec<bool> = source.iter().map(Option::is_some).collect();
        let index = Tensor::<1, Int>::from_data(TensorData::new(index, [rows * tokens]), &self.device);
        let chosen = Tensor::<3, Bool>::from_data(TensorData::new(chosen, [rows, tokens, 1]), &self.device);
        let values = ready.values.clone().select(0, index).reshape([rows, tokens, hidden]);
        Ok(x.mask_where(chosen.expand([rows, tokens, hidden]), values))
    }
}

fn check(spec: &Spec, patch: &Patch) -> Result<(), HookError> {
    let at = patch.at;
    if at.layer >= spec.layers {
        return Err(HookError::LayerOutside { at, layers: spec.layers });
    }
    if patch.value.len() != spec.hidden {
        return Err(HookError::PatchWidth { at, expected: spec.hidden, found: patch.value.len() });
    }
    let most = if spec.dtype == DType::F16 { 65504.0 } else { f32::MAX };
    match patch.value.iter().position(|value| value.is_nan() || value.abs() > most) {
        Some(column) => Err(HookError::PatchValue { at, column, value: patch.value[column], most }),
        None => Ok(()),
    }
}
