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

/// The column of the largest value of each row: the likeliest token of logits. It is found on the device, so that two
/// numbers a row come back and not the vocabulary.
///
/// Of equal values the first counts on the CPU backend; elsewhere the device decides.
///
/// # Errors
/// As [`read_back`], but for the column and the value, which are not known here: those given are 0 and NaN.
pub fn read_likeliest(x: Tensor<2>) -> Result<Vec<u32>, ResidualError> {
    let finite = x.clone().is_finite().all_dim(1);
    let finite = finite.try_into_data().map_err(|error| ResidualError::device(&error))?;
    if let Some(row) = finite.iter::<bool>().position(|finite| !finite) {
        return Err(ResidualError::NotFinite { row, column: 0, value: f32::NAN });
    }
    let likeliest = x.argmax(1).try_into_data().map_err(|error| ResidualError::device(&error))?;
    Ok(likeliest.iter::<u32>().collect())
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
    let block = AT_ONCE / model.spec().vocab.max(1);
    in_blocks(model, x, columns, block.max(1), see)
}

fn in_blocks(
    model: &dyn ResidualModel,
    x: Tensor<3>,
    columns: &[usize],
    block: usize,
    see: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), ResidualError> {
    let [rows, tokens, hidden] = x.dims();
    let x = x.reshape([rows * tokens, hidden]);
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
        for (i, logits) in logits.chunks(model.spec().vocab.max(1)).enumerate() {
            see(first + i, logits);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ops::Range;

    use burn::tensor::{DType, Device};

    use super::*;
    use crate::{Batch, KvCache, Spec, Tap};

    /// Unembeds `x` to `(x, 2 x, 3 x)`; does nothing else.
    struct Thrice(Spec);

    impl ResidualModel for Thrice {
        fn spec(&self) -> &Spec {
            &self.0
        }

        fn embed(&self, _: &Batch) -> Result<Tensor<3>, ResidualError> {
            Err(ResidualError::EmptyBatch)
        }

        fn blocks(
            &self,
            _: Range<u16>,
            x: Tensor<3>,
            _: &Batch,
            _: Option<&mut KvCache>,
            _: &mut dyn Tap,
        ) -> Result<Tensor<3>, ResidualError> {
            Ok(x)
        }

        fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
            Tensor::cat(vec![x.clone(), x.clone() * 2.0, x * 3.0], 2)
        }
    }

    fn read(values: [f32; 6], block: usize) -> Result<Vec<(usize, Vec<f32>)>, ResidualError> {
        let spec = Spec {
            architecture: "Thrice".into(),
            layers: 0,
            hidden: 1,
            vocab: 3,
            context: 9,
            device: Device::flex(),
            dtype: DType::F32,
            weights: DType::F32,
        };
        let x = Tensor::from_data(TensorData::new(values.to_vec(), [2, 3, 1]), &spec.device);
        let mut seen = Vec::new();
        in_blocks(&Thrice(spec), x, &[1, 2, 3, 5], block, &mut |i, logits| seen.push((i, logits.to_vec())))?;
        Ok(seen)
    }

    #[test]
    fn the_likeliest_is_the_first_of_the_largest() {
        let x = |value: f32| Tensor::from_data([[1.0, 3.0, 3.0], [value, -2.0, -3.0]], &Device::flex());
        assert_eq!(read_likeliest(x(-1.0)), Ok(vec![1, 0]));
        assert_eq!(read_likeliest(x(-9.0)), Ok(vec![1, 1]));
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = read_likeliest(x(value)).unwrap_err();
            assert!(matches!(error, ResidualError::NotFinite { row: 1, .. }), "{error}");
        }
    }

    #[test]
    fn blocks_do_not_show() {
        for block in 1..5 {
            let found = read([0.0, 1.0, 2.0, 3.0, f32::NAN, 5.0], block);
            let wanted =
                [(0, 1.0), (1, 2.0), (2, 3.0), (3, 5.0)].map(|(i, x)| (i, vec![x, 2.0 * x, 3.0 * x]));
            assert_eq!(found, Ok(wanted.to_vec()));
            // 3 times this is too much, once and twice are not.
            let error = read([0.0, 1.0, 2.0, 1.5e38, 0.0, 5.0], block);
            assert_eq!(error, Err(ResidualError::NotFinite { row: 2, column: 2, value: f32::INFINITY }));
            let error = read([0.0, 1.0, 2.0, 3.0, 0.0, f32::NEG_INFINITY], block);
            assert_eq!(error, Err(ResidualError::NotFinite { row: 3, column: 0, value: f32::NEG_INFINITY }));
        }
    }
}
