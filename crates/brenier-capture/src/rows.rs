//! Activation rows in memory, in the order in which models make and files hold them.

use std::ops::{Index, IndexMut};

use faer::{Mat, MatMut, MatRef};

/// A matrix whose rows lie one after the other, `[n, d]`.
///
/// faer's own matrices lie in columns; a [view](Self::as_ref) of this one is a `MatRef` as any other.
///
/// ```
/// use brenier_capture::RowMatrix;
///
/// let rows = RowMatrix::from_fn(2, 3, |i, j| (3 * i + j) as f32);
/// assert_eq!(rows.values(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
/// assert_eq!((rows.row(1), rows[(1, 2)]), ([3.0, 4.0, 5.0].as_slice(), 5.0));
/// assert_eq!(rows.as_ref().shape(), (2, 3));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowMatrix<T> {
    values: Vec<T>,
    nrows: usize,
    ncols: usize,
}

impl<T> RowMatrix<T> {
    /// Rows of `ncols` values each.
    ///
    /// # Panics
    /// If the number of values is not `nrows * ncols` (a caller's mistake).
    #[must_use]
    pub fn new(values: Vec<T>, nrows: usize, ncols: usize) -> Self {
        assert_eq!(Some(values.len()), nrows.checked_mul(ncols), "values of a {nrows} x {ncols} matrix");
        Self { values, nrows, ncols }
    }

    /// The matrix with the value `value(i, j)` in row i, column j.
    #[must_use]
    pub fn from_fn(nrows: usize, ncols: usize, value: impl Fn(usize, usize) -> T) -> Self {
        let places = (0..nrows).flat_map(|i| (0..ncols).map(move |j| (i, j)));
        Self { values: places.map(|(i, j)| value(i, j)).collect(), nrows, ncols }
    }

    /// Number of rows, n.
    #[must_use]
    pub fn nrows(&self) -> usize {
        self.nrows
    }

    /// Width of a row, d.
    #[must_use]
    pub fn ncols(&self) -> usize {
        self.ncols
    }

    /// All values, row after row.
    #[must_use]
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// One row.
    ///
    /// # Panics
    /// An index that is no row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[T] {
        &self.values[row * self.ncols..(row + 1) * self.ncols]
    }

    /// One row, to be written.
    ///
    /// # Panics
    /// An index that is no row.
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        &mut self.values[row * self.ncols..(row + 1) * self.ncols]
    }

    /// The rows as faer sees them.
    #[must_use]
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef::from_row_major_slice(&self.values, self.nrows, self.ncols)
    }

    /// The rows as faer sees them, to be written.
    pub fn as_mut(&mut self) -> MatMut<'_, T> {
        MatMut::from_row_major_slice_mut(&mut self.values, self.nrows, self.ncols)
    }

    /// Puts the rows of `other` under these.
    ///
    /// # Panics
    /// Rows of another width (a caller's mistake).
    pub(crate) fn append(&mut self, mut other: Self) {
        if self.nrows == 0 {
            *self = other;
            return;
        }
        assert_eq!(self.ncols, other.ncols, "width of the rows");
        self.values.append(&mut other.values);
        self.nrows += other.nrows;
    }
}

impl<T> Index<(usize, usize)> for RowMatrix<T> {
    type Output = T;

    fn index(&self, (i, j): (usize, usize)) -> &T {
        &self.row(i)[j]
    }
}

impl<T> IndexMut<(usize, usize)> for RowMatrix<T> {
    fn index_mut(&mut self, (i, j): (usize, usize)) -> &mut T {
        &mut self.row_mut(i)[j]
    }
}

impl<T: Copy> From<MatRef<'_, T>> for RowMatrix<T> {
    fn from(rows: MatRef<'_, T>) -> Self {
        Self::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)])
    }
}

/// Rows of activations, `[n, d]`, in the precision they came in; half precision is widened to f32.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Single precision.
    F32(RowMatrix<f32>),
    /// Double precision.
    F64(RowMatrix<f64>),
}

impl Rows {
    /// Number of rows, n.
    #[must_use]
    pub fn nrows(&self) -> usize {
        match self {
            Rows::F32(rows) => rows.nrows(),
            Rows::F64(rows) => rows.nrows(),
        }
    }

    /// Width of a row, d.
    #[must_use]
    pub fn ncols(&self) -> usize {
        match self {
            Rows::F32(rows) => rows.ncols(),
            Rows::F64(rows) => rows.ncols(),
        }
    }

    /// The rows in double precision, as fits take them.
    #[must_use]
    pub fn to_f64(&self) -> RowMatrix<f64> {
        match self {
            Rows::F32(rows) => {
                let values = rows.values().iter().map(|&value| f64::from(value)).collect();
                RowMatrix::new(values, rows.nrows(), rows.ncols())
            }
            Rows::F64(rows) => rows.clone(),
        }
    }
}

/// A copy in columns, for what keeps matrices of faer.
impl From<&RowMatrix<f64>> for Mat<f64> {
    fn from(rows: &RowMatrix<f64>) -> Self {
        rows.as_ref().to_owned()
    }
}
