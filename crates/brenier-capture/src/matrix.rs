//! The one way from the device to a matrix.

use burn::tensor::Tensor;
use faer::{Mat, MatRef};

use crate::CaptureError;

/// Reads a tensor back as a matrix of the same shape, `[n, d]`; half precision is widened.
///
/// # Errors
/// A device that cannot be read.
pub fn to_matrix(x: Tensor<2>) -> Result<Mat<f32>, CaptureError> {
    let [n, d] = x.dims();
    let data =
        x.try_into_data_as::<f32>().map_err(|error| CaptureError::Device { reason: one_line(&error) })?;
    let values = data.as_slice::<f32>().map_err(|error| CaptureError::Device { reason: one_line(&error) })?;
    Ok(MatRef::from_row_major_slice(values, n, d).to_owned())
}

fn one_line(message: &dyn std::fmt::Display) -> String {
    message.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
