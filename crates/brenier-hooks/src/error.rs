//! What can be wrong with an intervention.

use brenier_residual::HookPoint;

/// Errors of interventions. Each says where, what was expected and what was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// A map of another width than the model's residual stream.
    #[error("{at}: the map is for a width of {found}, but the model's hidden size is {expected}")]
    Width {
        /// Where the map was to act.
        at: HookPoint,
        /// Hidden size of the model.
        expected: usize,
        /// Width of the map.
        found: usize,
    },
    /// A layer that the model does not have.
    #[error("{at}: the model has {layers} layers, counted from 0")]
    LayerOutside {
        /// Where the map was to act.
        at: HookPoint,
        /// Number of layers of the model.
        layers: u16,
    },
    /// A patch of another width than the model's residual stream.
    #[error("{at}: the patch has {found} values, but the model's hidden size is {expected}")]
    PatchWidth {
        /// Where the patch was to act.
        at: HookPoint,
        /// Hidden size of the model.
        expected: usize,
        /// Values of the patch.
        found: usize,
    },
    /// A value of a patch that the model's dtype cannot hold.
    #[error(
        "{at}: value {column} of the patch (counted from 0) is {value:e}: expected a number of at most {most:e}"
    )]
    PatchValue {
        /// Where the patch was to act.
        at: HookPoint,
        /// Index of the value.
        column: usize,
        /// The value.
        value: f32,
        /// The largest number of the dtype.
        most: f32,
    },
    /// Two patches of one token.
    #[error("{at}: row {row}, token {token} (both counted from 0) is patched twice: expected one value")]
    PatchedTwice {
        /// Where the patches were to act.
        at: HookPoint,
        /// Row of the batch.
        row: usize,
        /// Token in that row.
        token: usize,
    },
    /// A patch of a row that a batch does not have.
    #[error("a patch is for row {row} (counted from 0), but the batch has {rows} rows")]
    NoRow {
        /// Row that was asked for.
        row: usize,
        /// Rows of the batch.
        rows: usize,
    },
    /// A strength that is no finite number in f32, in which maps are applied.
    #[error("the strength is {strength:e}, but a finite number was expected, at most {:e}", f32::MAX)]
    Strength {
        /// The strength.
        strength: f64,
    },
    /// A number in a map that f32, in which maps are applied, cannot hold.
    #[error(
        "{at}: `{part}` of the map comes to {value:e}, which is beyond the range of f32 ({:e})",
        f32::MAX
    )]
    BeyondF32 {
        /// Where the map was to act.
        at: HookPoint,
        /// Name of the part, as in a map file.
        part: &'static str,
        /// The value.
        value: f64,
    },
    /// A strength at which the map moves every activation out of the range of f32, in which maps are applied.
    #[error(
        "{at}: at strength {strength:e} the map moves activations by {step:.1e}, which is beyond the range of f32 ({:e})",
        f32::MAX
    )]
    TooStrong {
        /// Where the map was to act.
        at: HookPoint,
        /// The strength.
        strength: f64,
        /// The step, in one coordinate.
        step: f64,
    },
}
