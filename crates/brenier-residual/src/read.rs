//! Numbers on their way back from the device.

use burn::tensor::{Int, Tensor, TensorData};

use crate::{ResidualError, ResidualModel};

/// Logits that are on the host at once, so that a large vocabulary does not fill the memory: 64 MiB of f32.
const AT_ONCE: usize = 1 << 24;

/// Reads a tensor back from the device in f32, row after row. No value that is not finite gets through: whatever is
/// computed from a model's numbers is computed from finite ones.
///
/// ```
/// use brenier_residual::{ResidualError, read_back};
/// use burn::tensor::{Device, Tensor};
///
/// let x = |value: f32| Tensor::<2>::from_data([[1.0, 2.0], [value, 4.0]], &Device::flex());
/// assert_eq!(read_back(x(3.0))?, [1.0, 2.0, 3.0, 4.0]);
/// let error = read_back(x(f32::INFINITY)).unwrap_err();
/// assert_eq!(error, ResidualError::NotFinite { row: 1, column: 0, value: f32::INFINITY });
/// # Ok::<(), ResidualError>(())
/// ```
///
/// # Errors
/// [`ResidualError::Device`] where the device fails, [`ResidualError::NotFinite`] at the first NaN or infinity.
pub fn read_back(x: Tensor<2>) -> Result<Vec<f32>, ResidualError> {
    let width = x.dims()[1].max(1);
    let values = x.try_into_vec_as::<f32>().map_err(|error| ResidualError::device(&error))?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(ResidualError::NotFinite { row: at / width, column: at % width, value: values[at] }),
        None => Ok(values),
    }
}

/// Unembeds tokens of a residual stream and hands their logits on, one token after the other, a few at a time.
///
/// `columns` are the tokens, as `row * tokens + token`; `see` is told the index in `columns` and the logits.
///
/// # Shapes
/// `x`: `[rows, tokens, hidden]`; logits: `vocab`.
///
/// # Errors
/// As [`read_back`]; the row of a [`ResidualError::NotFinite`] is an index in `columns`.
pub fn read_logits(
    model: &dyn ResidualModel,
    x: Tensor<3>,
    columns: &[usize],
    see: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), ResidualError> {
    let [rows, tokens, hidden] = x.dims();
    let x = x.reshape([rows * tokens, hidden]);
    let vocab = model.spec().vocab.max(1);
    let block = (AT_ONCE / vocab).max(1);
    for (count, columns) in columns.chunks(block).enumerate() {
        let index: Vec<i64> = columns.iter().map(|&column| column as i64).collect();
        let index = Tensor::<1, Int>::from_data(TensorData::new(index, [columns.len()]), &x.device());
        let logits = model.unembed(x.clone().select(0, index).unsqueeze_dim(1)).squeeze_dim(1);
        let first = count * block;
        let logits = read_back(logits).map_err(|error| match error {
            ResidualError::NotFinite { row, column, value } => {
                ResidualError::NotFinite { row: first + row, column, value }
            }
            other => other,
        })?;
        for (i, logits) in logits.chunks(vocab).enumerate() {
            see(first + i, logits);
        }
    }
    Ok(())
}
