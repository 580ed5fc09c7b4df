//! Where the values of a forward pass stop being finite.

use std::fmt;

use burn::tensor::{Bool, DType, Tensor};

use crate::{Batch, HookPoint, ResidualError, ResidualModel, Row, Tap, TokenView};

/// A forward pass whose values are not finite: the dtype that it ran in, and the first place where that shows.
///
/// Its text says what happened and what helps, e.g. `values overflow f16 in the edit at blocks.7.hook_resid_post (token
/// 5); use bf16 or f32, or a lower strength`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// The dtype of the activations.
    pub dtype: DType,
    /// Where it begins; `None` where the row is finite when it runs by itself, so that rounding decides.
    pub first: Option<Origin>,
}

/// Where values begin to be other than finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The first place, in the order of computation.
    pub place: Place,
    /// The first token there, from 0. Tokens before it follow: attention multiplies what it must not see by 0, and 0
    /// times infinity is no number.
    pub token: usize,
    /// What made them.
    pub cause: Cause,
}

/// A place in a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The embedded tokens.
    Embedding,
    /// A hook point.
    Hook(HookPoint),
    /// The logits.
    Logits,
}

/// What made values that are not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The model, of activations that no tap had changed.
    Model,
    /// The tap at this place, of finite activations.
    Edit,
    /// The model, of activations that a tap had changed before.
    AfterEdit,
}

impl Overflow {
    /// Runs a row once more, by itself, and finds where it begins to be other than finite. Of logits only those after
    /// `token` are looked at.
    ///
    /// This is for after a failure: it reads every hook point. `tap` acts as it did in the pass that failed.
    #[must_use]
    pub fn locate(model: &dyn ResidualModel, row: Row<'_>, token: usize, tap: &mut dyn Tap) -> Self {
        // A pass that fails in another way says nothing about where.
        let first = first(model, row, token, tap).unwrap_or_default();
        Self { dtype: model.spec().dtype, first }
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let narrow = self.dtype == DType::F16;
        match narrow {
            true => f.write_str("values overflow f16")?,
            false => write!(f, "values are not finite in {}", format!("{:?}", self.dtype).to_lowercase())?,
        }
        let edited = match self.first {
            None => false,
            Some(Origin { place, token, cause }) => {
                match (place, cause) {
                    (Place::Hook(at), Cause::Edit) => write!(f, " in the edit at {at}")?,
                    (Place::Hook(at), _) => write!(f, " at {at}")?,
                    (Place::Embedding, _) => f.write_str(" in the embedding")?,
                    (Place::Logits, _) => f.write_str(" in the logits")?,
                }
                write!(f, " (token {token}, counted from 0)")?;
                if cause == Cause::AfterEdit {
                    f.write_str(", after an edit")?;
                }
                cause != Cause::Model
            }
        };
        f.write_str(match (narrow, edited) {
            (true, false) => "; use bf16 or f32",
            (true, true) => "; use bf16 or f32, or a lower strength",
            (false, false) => "; are the weights sound?",
            (false, true) => "; use a lower strength, or another map",
        })
    }
}

fn first(
    model: &dyn ResidualModel,
    row: Row<'_>,
    token: usize,
    tap: &mut dyn Tap,
) -> Result<Option<Origin>, ResidualError> {
    let batch = Batch::new(&[row], &model.spec().device)?;
    let mut finder = Finder { tap, seen: Vec::new() };
    let x = model.embed(&batch)?;
    finder.note(Place::Embedding, &x, None);
    let x = model.blocks(0..model.spec().layers, x, &batch, None, &mut finder)?;
    finder.note(Place::Logits, &model.unembed(x.narrow(1, token, 1)), None);

    let mut edited = false;
    for Seen { place, finite, changed } in finder.seen {
        if let Some(at) = flags(finite)?.iter().position(|finite| !finite) {
            let cause = match changed {
                Some(_) => Cause::Edit,
                None if edited => Cause::AfterEdit,
                None => Cause::Model,
            };
            let token = if place == Place::Logits { token } else { at };
            return Ok(Some(Origin { place, token, cause }));
        }
        if let Some(changed) = changed {
            edited |= flags(changed)?.contains(&true);
        }
    }
    Ok(None)
}

/// What was seen at a place, as a flag a token, on the device.
struct Seen {
    place: Place,
    finite: Tensor<3, Bool>,
    /// Of what a tap returned: whether it differs from what the tap was given.
    changed: Option<Tensor<3, Bool>>,
}

/// A tap around another that watches what the other is given and what it returns.
struct Finder<'a> {
    tap: &'a mut dyn Tap,
    seen: Vec<Seen>,
}

impl Finder<'_> {
    fn note(&mut self, place: Place, x: &Tensor<3>, before: Option<Tensor<3>>) {
        let finite = x.clone().is_finite().all_dim(2);
        let changed = before.map(|before| before.not_equal(x.clone()).any_dim(2));
        self.seen.push(Seen { place, finite, changed });
    }
}

impl Tap for Finder<'_> {
    fn wants(&self, _: HookPoint) -> bool {
        true
    }

    fn visit(
        &mut self,
        at: HookPoint,
        tokens: &dyn TokenView,
        x: Tensor<3>,
    ) -> Result<Tensor<3>, ResidualError> {
        self.note(Place::Hook(at), &x, None);
        if !self.tap.wants(at) {
            return Ok(x);
        }
        let y = self.tap.visit(at, tokens, x.clone())?;
        self.note(Place::Hook(at), &y, Some(x));
        Ok(y)
    }
}

fn flags(flags: Tensor<3, Bool>) -> Result<Vec<bool>, ResidualError> {
    let data = flags.try_into_data().map_err(|error| ResidualError::device(&error))?;
    Ok(data.iter::<bool>().collect())
}
