//! The one way from the device to a matrix.

use brenier_residual::{ResidualError, read_back};
use burn::tensor::Tensor;
use faer::{Mat, MatRef};

/// Reads a tensor back as a matrix of the same shape, `[n, d]`; half precision is widened.
///
/// # Errors
/// A device that cannot be read, or a value that is not finite.
pub fn to_matrix(x: Tensor<2>) -> Result<Mat<f32>, ResidualError> {
    let [n, d] = x.dims();
    let values = read_back(x)?;
    Ok(MatRef::from_row_major_slice(&values, n, d).to_owned())
}
