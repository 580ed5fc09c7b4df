use crate::{LinalgError, Weights};
use faer::MatRef;

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
        if rows.nrows() < needed.max(1) {
            return Err(LinalgError::TooFewRows { needed: needed.max(1), found: rows.nrows() });
        }
        if rows.ncols() == 0 {
            return Err(LinalgError::NoColumns);
        }
        if let Some((row, column)) = first_where(rows, |value| !value.is_finite()) {
            return Err(LinalgError::NonFinite { row, column, value: rows[(row, column)] });
        }
        Ok(Self(rows, None))
    }

    /// Row and column of the first value, in row order, whose magnitude is above `limit`.
    pub fn first_above(self, limit: f64) -> Option<(usize, usize)> {
        first_where(self.0, |value| value.abs() > limit)
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

/// The first place in row order; matrices lie column by column, so a quick pass in that order looks first.
fn first_where(rows: MatRef<'_, f64>, wanted: impl Fn(f64) -> bool) -> Option<(usize, usize)> {
    if !rows.col_iter().any(|column| column.iter().any(|&value| wanted(value))) {
        return None;
    }
    let places = (0..rows.nrows()).flat_map(|row| (0..rows.ncols()).map(move |column| (row, column)));
    places.into_iter().find(|&(row, column)| wanted(rows[(row, column)]))
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
        assert_eq!(error.to_string(), "row 3, column 2 is inf; every value has to be finite");
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
