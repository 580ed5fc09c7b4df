//! Rows that a map moves in place, whatever holds them.

use crate::coordinates::{Number, RowViewMut};
use faer::{Mat, MatMut};

/// Something that holds rows of f32 or f64 which can be changed in place.
///
/// For faer's `Mat` and `MatMut`, for `(slice, width)`, and, behind the features of their names, for `ndarray`'s arrays of two
/// dimensions and `nalgebra`'s dynamic matrices, all of f32 and f64.
pub trait RowsMut {
    /// The rows, `[n, d]`; none where they do not lie in regular steps.
    fn rows_mut(&mut self) -> Option<RowViewMut<'_>>;
}

impl<T: Number> RowsMut for MatMut<'_, T> {
    fn rows_mut(&mut self) -> Option<RowViewMut<'_>> {
        Some(T::view_mut(self.as_mut()))
    }
}

impl<T: Number> RowsMut for Mat<T> {
    fn rows_mut(&mut self) -> Option<RowViewMut<'_>> {
        Some(T::view_mut(self.as_mut()))
    }
}

impl<T: Number> RowsMut for (&mut [T], usize) {
    fn rows_mut(&mut self) -> Option<RowViewMut<'_>> {
        let (values, width) = (&mut *self.0, self.1);
        let n = values.len().checked_div(width)?;
        (n * width == values.len()).then(|| T::view_mut(MatMut::from_row_major_slice_mut(values, n, width)))
    }
}

#[cfg(feature = "ndarray")]
impl<T: Number, S: ndarray::DataMut<Elem = T>> RowsMut for ndarray::ArrayBase<S, ndarray::Ix2> {
    fn rows_mut(&mut self) -> Option<RowViewMut<'_>> {
        let (n, d) = self.dim();
        if self.is_standard_layout() {
            return Some(T::view_mut(MatMut::from_row_major_slice_mut(self.as_slice_mut()?, n, d)));
        }
        let values = self.view_mut().reversed_axes().into_slice()?;
        Some(T::view_mut(MatMut::from_column_major_slice_mut(values, n, d)))
    }
}

#[cfg(feature = "nalgebra")]
impl<T: Number + nalgebra::Scalar> RowsMut for nalgebra::DMatrix<T> {
    fn rows_mut(&mut self) -> Option<RowViewMut<'_>> {
        let (n, d) = self.shape();
        Some(T::view_mut(MatMut::from_column_major_slice_mut(self.as_mut_slice(), n, d)))
    }
}
