//! Rows of numbers, whatever holds them.

use crate::error::LinalgError;
use faer::{Mat, MatRef};

/// Something that holds rows of f32 or f64: samples in rows, coordinates in columns.
///
/// For faer's `Mat` and `MatRef`, for [`RowMajor`] slices, and, behind the features of their names, for `ndarray`'s arrays of
/// two dimensions and `nalgebra`'s dynamic matrices, all of f32 and f64. A container of one's own gives a view of what it
/// holds, or a copy:
///
/// ```
/// use brenier_linalg::{RowSource, RowView};
///
/// struct Probes(Vec<[f64; 3]>);
///
/// impl RowSource for Probes {
///     fn rows(&self) -> RowView<'_> {
///         RowView::F64(faer::MatRef::from_row_major_slice(self.0.as_flattened(), self.0.len(), 3))
///     }
/// }
///
/// assert_eq!(Probes(vec![[1.0, 2.0, 3.0]; 4]).rows().shape(), (4, 3));
/// ```
pub trait RowSource {
    /// The rows. `[n, d]`.
    fn rows(&self) -> RowView<'_>;

    /// Their weights, `[n]`, if they have any.
    fn weights(&self) -> Option<&[f64]> {
        None
    }
}

/// Rows as they lie, or a copy where they lie in no regular steps. `[n, d]`.
#[derive(Debug, Clone)]
pub enum RowView<'a> {
    /// Of f32.
    F32(MatRef<'a, f32>),
    /// Of f64.
    F64(MatRef<'a, f64>),
    /// A copy.
    Owned(Mat<f64>),
}

impl<'a> RowView<'a> {
    /// Numbers of rows and of columns.
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::F32(rows) => rows.shape(),
            Self::F64(rows) => rows.shape(),
            Self::Owned(rows) => rows.shape(),
        }
    }

    /// The rows in f64: as they lie, or f32 rows copied, each number as it is.
    #[must_use]
    pub fn widened(self) -> Wide<'a> {
        match self {
            Self::F32(rows) => {
                Wide::Owned(Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| f64::from(rows[(i, j)])))
            }
            Self::F64(rows) => Wide::View(rows),
            Self::Owned(rows) => Wide::Owned(rows),
        }
    }
}

/// Rows in f64. `[n, d]`.
#[derive(Debug, Clone)]
pub enum Wide<'a> {
    /// As they lie.
    View(MatRef<'a, f64>),
    /// A copy.
    Owned(Mat<f64>),
}

impl Wide<'_> {
    /// The rows.
    #[must_use]
    pub fn as_ref(&self) -> MatRef<'_, f64> {
        match self {
            Self::View(rows) => *rows,
            Self::Owned(rows) => rows.as_ref(),
        }
    }
}

/// Rows one after the other in a slice, each of one width.
///
/// ```
/// use brenier_linalg::{RowMajor, RowSource};
///
/// let activations: Vec<f32> = vec![0.5; 12];
/// assert_eq!(RowMajor::new(&activations, 4)?.rows().shape(), (3, 4));
/// assert!(RowMajor::new(&activations, 5).is_err());
/// # Ok::<(), brenier_linalg::LinalgError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RowMajor<'a, T> {
    values: &'a [T],
    width: usize,
}

impl<'a, T> RowMajor<'a, T> {
    /// A slice as rows of this width.
    ///
    /// # Errors
    /// [`LinalgError::RaggedRows`] for a slice that does not hold whole rows, [`LinalgError::NoColumns`] for a width of 0.
    pub fn new(values: &'a [T], width: usize) -> Result<Self, LinalgError> {
        match values.len().checked_rem(width) {
            None => Err(LinalgError::NoColumns),
            Some(0) => Ok(Self { values, width }),
            Some(rest) => {
                Err(LinalgError::RaggedRows { row: values.len() / width, found: rest, expected: width })
            }
        }
    }

    fn view(&self) -> MatRef<'a, T> {
        MatRef::from_row_major_slice(self.values, self.values.len() / self.width, self.width)
    }
}

/// Rows of any source with a weight each, `[n]`.
#[derive(Debug, Clone, Copy)]
pub struct Weighted<'a, S> {
    /// The rows.
    pub rows: S,
    /// Their weights; they are checked where they are used.
    pub weights: &'a [f64],
}

impl<S: RowSource> RowSource for Weighted<'_, S> {
    fn rows(&self) -> RowView<'_> {
        self.rows.rows()
    }

    fn weights(&self) -> Option<&[f64]> {
        Some(self.weights)
    }
}

/// Rows that are vectors of their own, as a matrix. `[n, d]`.
///
/// ```
/// use brenier_linalg::matrix_of_rows;
///
/// let rows: Vec<Vec<f32>> = vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0, 6.0]];
/// assert_eq!(matrix_of_rows(&rows)?.shape(), (3, 2));
/// assert!(matrix_of_rows(&[vec![1.0], vec![2.0, 3.0]]).is_err());
/// # Ok::<(), brenier_linalg::LinalgError>(())
/// ```
///
/// # Errors
/// [`LinalgError::RaggedRows`] names the first row that is not as wide as the first.
pub fn matrix_of_rows<T: Copy>(rows: &[impl AsRef<[T]>]) -> Result<Mat<T>, LinalgError> {
    let expected = rows.first().map_or(0, |row| row.as_ref().len());
    match rows.iter().map(|row| row.as_ref().len()).enumerate().find(|&(_, found)| found != expected) {
        Some((row, found)) => Err(LinalgError::RaggedRows { row, found, expected }),
        None => Ok(Mat::from_fn(rows.len(), expected, |i, j| rows[i].as_ref()[j])),
    }
}

impl<S: RowSource + ?Sized> RowSource for &S {
    fn rows(&self) -> RowView<'_> {
        (**self).rows()
    }

    fn weights(&self) -> Option<&[f64]> {
        (**self).weights()
    }
}

/// f32 or f64.
pub trait Number: Copy + Into<f64> {
    /// A view of rows of such numbers.
    fn view(rows: MatRef<'_, Self>) -> RowView<'_>;
}

impl Number for f32 {
    fn view(rows: MatRef<'_, Self>) -> RowView<'_> {
        RowView::F32(rows)
    }
}

impl Number for f64 {
    fn view(rows: MatRef<'_, Self>) -> RowView<'_> {
        RowView::F64(rows)
    }
}

impl<T: Number> RowSource for MatRef<'_, T> {
    fn rows(&self) -> RowView<'_> {
        T::view(*self)
    }
}

impl<T: Number> RowSource for Mat<T> {
    fn rows(&self) -> RowView<'_> {
        T::view(self.as_ref())
    }
}

impl<T: Number> RowSource for RowMajor<'_, T> {
    fn rows(&self) -> RowView<'_> {
        T::view(self.view())
    }
}

#[cfg(feature = "ndarray")]
impl<T: Number, S: ndarray::Data<Elem = T>> RowSource for ndarray::ArrayBase<S, ndarray::Ix2> {
    fn rows(&self) -> RowView<'_> {
        let (n, d) = self.dim();
        if let Some(values) = self.as_slice() {
            return T::view(MatRef::from_row_major_slice(values, n, d));
        }
        if let Some(values) = self.t().to_slice() {
            return T::view(MatRef::from_column_major_slice(values, n, d));
        }
        RowView::Owned(Mat::from_fn(n, d, |i, j| self[(i, j)].into()))
    }
}

#[cfg(feature = "nalgebra")]
impl<T: Number + nalgebra::Scalar> RowSource for nalgebra::DMatrix<T> {
    fn rows(&self) -> RowView<'_> {
        T::view(MatRef::from_column_major_slice(self.as_slice(), self.nrows(), self.ncols()))
    }
}
