//! The tap that edits.

use std::collections::BTreeMap;

use brenier_map::{MapError, RowMap};
use brenier_residual::{HookPoint, ResidualError, Spec, Tap, TokenSet, TokenView};
use burn::tensor::Tensor;

use crate::HookError;
use crate::device::{DeviceMap, Target};

/// One map at one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// Where the map acts.
    pub at: HookPoint,
    /// The map.
    pub map: RowMap,
    /// How strongly: 0 is off, 1 the fitted map; any finite number.
    pub strength: f64,
    /// The tokens that it acts on.
    pub tokens: TokenSet,
}

impl Edit {
    /// A map at a place, at strength 1, on the last token of the prompt and all after it.
    #[must_use]
    pub fn new(at: HookPoint, map: RowMap) -> Self {
        Self { at, map, strength: 1.0, tokens: TokenSet::LastAndGenerated }
    }

    /// Addition of a steering vector, at strength 1, to the last token of the prompt and all after it.
    ///
    /// ```
    /// use brenier_hooks::Edit;
    /// use brenier_residual::{HookPoint, TokenSet};
    ///
    /// let vector = vec![0.5, -1.0];
    /// let edit = Edit { strength: 4.0, tokens: TokenSet::All, ..Edit::add(HookPoint::resid_post(3), vector)? };
    /// # Ok::<(), brenier_map::MapError>(())
    /// ```
    ///
    /// # Errors
    /// As [`RowMap::shift`].
    pub fn add(at: HookPoint, vector: Vec<f64>) -> Result<Self, MapError> {
        Ok(Self::new(at, RowMap::shift(vector)?))
    }
}

/// Edits, ready on the model's device.
///
/// ```
/// use brenier_hooks::{Edit, Intervention};
/// use brenier_map::{Affine, Diagonal, RowMap};
/// use brenier_residual::{Batch, HookPoint, Row, Spec, Tap, TokenSet};
/// use burn::tensor::{DType, Device, Tensor};
///
/// let device = Device::flex();
/// let spec = Spec {
///     architecture: "any".into(),
///     layers: 4,
///     hidden: 2,
///     vocab: 9,
///     context: 16,
///     device: device.clone(),
///     dtype: DType::F32,
///     weights: DType::F32,
/// };
/// let twice = Diagonal { weight: vec![2.0; 2], bias: vec![0.0; 2], range: None };
/// let edit = Edit {
///     at: HookPoint::resid_post(3),
///     map: RowMap::new(Affine::Diagonal(twice))?,
///     strength: 1.0,
///     tokens: TokenSet::Last,
/// };
/// let mut intervention = Intervention::new(&spec, &[edit])?;
///
/// let batch = Batch::new(&[Row::prompt(&[5, 6])], &device)?;
/// let x = Tensor::<3>::from_data([[[1.0, 2.0], [3.0, 4.0]]], &device);
/// let y = intervention.visit(HookPoint::resid_post(3), &batch, x)?;
/// assert_eq!(y.into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 2.0, 6.0, 8.0]);
///
/// intervention.set_strength(0.0)?;
/// assert!(!intervention.wants(HookPoint::resid_post(3)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Intervention {
    edits: BTreeMap<HookPoint, Vec<Ready>>,
}

#[derive(Debug, Clone)]
struct Ready {
    map: DeviceMap,
    strength: f64,
    tokens: TokenSet,
}

impl Intervention {
    /// Puts edits on the model's device. Several at one place act in the order given; none at all is a tap that
    /// wants nothing.
    ///
    /// # Errors
    /// A map of another width than the model, a layer outside it, a strength that is not finite, or a number or a
    /// step that f32 cannot hold.
    pub fn new(spec: &Spec, edits: &[Edit]) -> Result<Self, HookError> {
        let mut ready: BTreeMap<HookPoint, Vec<Ready>> = BTreeMap::new();
        for Edit { at, map, strength, tokens } in edits {
            if at.layer >= spec.layers {
                return Err(HookError::LayerOutside { at: *at, layers: spec.layers });
            }
            if map.dim() != spec.hidden {
                return Err(HookError::Width { at: *at, expected: spec.hidden, found: map.dim() });
            }
            let map = DeviceMap::new(map, &Target::new(spec, *at))?;
            map.check_strength(*at, *strength)?;
            ready.entry(*at).or_default().push(Ready { map, strength: *strength, tokens: *tokens });
        }
        Ok(Self { edits: ready })
    }

    /// Gives every edit this strength; 0 turns the intervention off.
    ///
    /// # Errors
    /// A strength that is not finite, or steps that f32 cannot hold; no edit has changed then.
    pub fn set_strength(&mut self, strength: f64) -> Result<(), HookError> {
        for (at, edits) in &self.edits {
            edits.iter().try_for_each(|edit| edit.map.check_strength(*at, strength))?;
        }
        for edit in self.edits.values_mut().flatten() {
            edit.strength = strength;
        }
        Ok(())
    }
}

impl Tap for Intervention {
    fn wants(&self, at: HookPoint) -> bool {
        self.edits.get(&at).is_some_and(|edits| edits.iter().any(|edit| edit.strength != 0.0))
    }

    fn visit(
        &mut self,
        at: HookPoint,
        tokens: &dyn TokenView,
        x: Tensor<3>,
    ) -> Result<Tensor<3>, ResidualError> {
        let edits = self.edits.get(&at).into_iter().flatten();
        let edits = edits.filter(|edit| edit.strength != 0.0);
        Ok(edits.fold(x, |x, edit| match Choice::of(edit.tokens, tokens) {
            Choice::None => x,
            Choice::Some => edit.map.apply(x, edit.strength, Some(tokens.chosen(edit.tokens))),
            Choice::All => edit.map.apply(x, edit.strength, None),
        }))
    }
}

/// How many tokens of a step are chosen.
enum Choice {
    None,
    Some,
    All,
}

impl Choice {
    fn of(set: TokenSet, view: &dyn TokenView) -> Self {
        let chosen = |row| (0..view.tokens()).filter(move |&token| set.contains(view.kind(row, token)));
        match (0..view.rows()).flat_map(chosen).count() {
            0 => Choice::None,
            count if count == view.rows() * view.tokens() => Choice::All,
            _ => Choice::Some,
        }
    }
}
