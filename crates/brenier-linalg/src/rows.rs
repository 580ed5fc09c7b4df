use crate::error::LinalgError;
use crate::weights::Weights;
use faer::{ColRef, MatRef};
use rayon::prelude::*;

/// Rows or columns that a thread looks at in one go.
const LINES: usize = 64;
/// Below this many values all of them are looked at on the calling thread.
const PARALLEL_FROM: usize = 1 << 16;

/// A checked view of samples: `[n, d]`, `n >= 1`, `d >= 1`, every value finite.
///
/// Functions that take a `Rows` need not check again, and cannot meet a NaN. Rows may carry [`Weights`]
/// ([`Rows::with_weights`]); [`mean`](crate::mean()), [`factor`](crate::factor()) and what is made of these honour them.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a>(pub(crate) MatRef<'a, f64>, pub(crate) Option<Weights<'a>>);

impl<'a> Rows<'a> {
    /// Checks every value once.
    ///
    /// # Errors
    /// [`LinalgError::NonFinite`] names the first bad value in row order; [`LinalgError::TooFewRows`] and
    /// [`LinalgError::NoColumns`] an empty matrix.
    pub fn new(rows: MatRef<'a, f64>) -> Result<Self, LinalgError> {
        Self::at_least(1, rows)
    }

    /// As [`Rows::new`], and with `needed` rows or more.
    ///
    /// # Errors
    /// As [`Rows::new`].
    pub fn at_least(needed: usize, rows: MatRef<'a, f64>) -> Result<Self, LinalgError> {
        Self::within(f64::MAX, needed, rows)
    }

    /// As [`Rows::at_least`], and with every magnitude at most `limit`.
    ///
    /// # Errors
    /// As [`Rows::new`]; [`LinalgError::Magnitude`] names the first value beyond the limit, where all are finite.
    pub fn within(limit: f64, needed: usize, rows: MatRef<'a, f64>) -> Result<Self, LinalgError> {
        Self::enough(needed, rows)?;
        if all_within(limit, rows) {
            return Ok(Self(rows, None));
        }
        Err(Self::first_outside(limit, rows))
    }

    fn enough(needed: usize, rows: MatRef<'_, f64>) -> Result<(), LinalgError> {
        if rows.nrows() < needed.max(1) {
            return Err(LinalgError::TooFewRows { needed: needed.max(1), found: rows.nrows() });
        }
        if rows.ncols() == 0 {
            return Err(LinalgError::NoColumns);
        }
        Ok(())
    }

    /// Names the first value that is not finite, and the first beyond the limit where all are.
    fn first_outside(limit: f64, rows: MatRef<'_, f64>) -> LinalgError {
        let places = (0..rows.nrows()).flat_map(|row| (0..rows.ncols()).map(move |column| (row, column)));
        let first =
            |bad: &dyn Fn(f64) -> bool| places.clone().find(|&(row, column)| bad(rows[(row, column)]));
        let at = |(row, column)| rows[(row, column)];
        if let Some((row, column)) = first(&|value| !value.is_finite()) {
            return LinalgError::NonFinite { row, column, value: at((row, column)) };
        }
        let (row, column) = first(&|value| value.abs() > limit).unwrap_or_default();
        LinalgError::Magnitude { row, column, value: at((row, column)), limit }
    }

    /// The matrix itself.
    pub fn view(self) -> MatRef<'a, f64> {
        self.0
    }

    /// Number of samples, n.
    pub fn count(self) -> usize {
        self.0.nrows()
    }

    /// Width of a sample, d.
    pub fn width(self) -> usize {
        self.0.ncols()
    }

    /// Refuses two sets of samples of different widths.
    ///
    /// # Errors
    /// [`LinalgError::Widths`].
    pub fn same_width(self, other: Rows<'_>) -> Result<usize, LinalgError> {
        if self.width() == other.width() {
            Ok(self.width())
        } else {
            Err(LinalgError::Widths { left: self.width(), right: other.width() })
        }
    }
}

/// Whether every value is finite and at most `limit` in magnitude, in one pass along the lines in which they lie.
fn all_within(limit: f64, rows: MatRef<'_, f64>) -> bool {
    let lines = if rows.row_stride() == 1 { rows } else { rows.transpose() };
    if rows.nrows() * rows.ncols() < PARALLEL_FROM {
        is_within(limit, lines)
    } else {
        lines.par_col_chunks(LINES).all(|lines| is_within(limit, lines))
    }
}

fn is_within(limit: f64, lines: MatRef<'_, f64>) -> bool {
    lines.col_iter().all(|line| is_line_within(limit, line))
}

fn is_line_within(limit: f64, line: ColRef<'_, f64>) -> bool {
    match line.try_as_col_major() {
        // Without a branch inside of a line; a NaN is within no limit.
        Some(line) => line.as_slice().iter().fold(true, |good, value| good & (value.abs() <= limit)),
        None => line.iter().all(|value| value.abs() <= limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::Mat;

    #[test]
    fn the_first_bad_value_is_named() {
        let mut rows = Mat::<f64>::zeros(5, 7);
        rows[(3, 2)] = f64::INFINITY;
        rows[(4, 0)] = f64::NAN;
        let error = Rows::new(rows.as_ref()).unwrap_err();
        assert_eq!(error, LinalgError::NonFinite { row: 3, column: 2, value: f64::INFINITY });
        assert_eq!(
            error.to_string(),
            "row 3, column 2 (counted from 0) is inf; every value has to be finite"
        );
    }

    #[test]
    fn emptiness_is_refused() {
        assert_eq!(
            Rows::new(Mat::<f64>::zeros(0, 4).as_ref()).unwrap_err(),
            LinalgError::TooFewRows { needed: 1, found: 0 }
        );
        assert_eq!(Rows::new(Mat::<f64>::zeros(4, 0).as_ref()).unwrap_err(), LinalgError::NoColumns);
        assert_eq!(
            Rows::at_least(2, Mat::<f64>::zeros(1, 4).as_ref()).unwrap_err(),
            LinalgError::TooFewRows { needed: 2, found: 1 }
        );
    }
}
