//! Samples: rows with or without weights, checked; classes of them.

pub(crate) mod class;
pub(crate) mod column;

use crate::error::{Side, TransportError};
use brenier_linalg::{LinalgError, RowSource, RowView, Rows, Weights};
use faer::{Mat, MatRef};

/// Rows to be fitted or measured, `[n, d]`, each of which may have a weight.
///
/// Weights are of importance or reliability: finite, none negative, not all 0. In means, covariances and measures of one
/// class only their ratios matter. Where rows of both classes are pooled by rows ([`Pooling::Rows`](crate::Pooling::Rows),
/// and the covariance of [`Method::Leace`](crate::Method::Leace)), a class counts by the sum of its weights, and a row
/// without a weight by 1: scale the weights of both classes alike, or pool by classes.
///
/// Whole weights do what repeated rows do wherever covariances are divided by `n`; a row of weight 0 is left out.
///
/// ```
/// use brenier_transport::{Covariance, FitOptions, Gaussian, Method, Samples, fit};
/// use faer::mat;
///
/// let source = mat![[0.0, 0.0], [2.0, 0.0], [9.0, 9.0], [1.0, 1.0]];
/// let target = mat![[5.0, 0.0], [7.0, 1.0], [6.0, 2.0]];
/// let weighed = Samples::weighted(source.as_ref(), &[1.0, 1.0, 0.0, 2.0]);
/// assert_eq!(Gaussian::from_rows(weighed, Covariance::Population)?.mean(), [1.0, 0.5]);
///
/// // Rows alone are samples too.
/// let found = fit(Method::Ot, weighed, target.as_ref(), &FitOptions::default(), None)?;
/// assert_eq!(found.certificate.source_rows, 3);
/// # Ok::<(), brenier_transport::TransportError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    pub(crate) rows: MatRef<'a, f64>,
    pub(crate) weights: Option<&'a [f64]>,
}

impl<'a> Samples<'a> {
    /// Rows with a weight each. They are checked where they are used.
    pub fn weighted(rows: MatRef<'a, f64>, weights: &'a [f64]) -> Self {
        Self { rows, weights: Some(weights) }
    }

    /// The rows, `[n, d]`.
    pub fn rows(self) -> MatRef<'a, f64> {
        self.rows
    }

    /// Their weights, `[n]`, if they have any.
    pub fn weights(self) -> Option<&'a [f64]> {
        self.weights
    }

    /// Other rows with the same weights.
    pub(crate) fn with_rows<'b>(self, rows: MatRef<'b, f64>) -> Samples<'b>
    where
        'a: 'b,
    {
        Samples { rows, weights: self.weights }
    }

    /// The samples without weights, if these are all one number.
    pub(crate) fn without_equal_weights(self) -> Self {
        let equal = |weights: &&[f64]| weights.windows(2).all(|pair| pair[0] == pair[1]);
        Self { rows: self.rows, weights: self.weights.filter(|weights| !equal(weights)) }
    }

    /// The shares of the rows in their weight, if they have any.
    pub(crate) fn shares(self) -> Result<Option<Vec<f64>>, LinalgError> {
        let of = |raw| Weights::new(raw, self.rows.nrows()).map(Weights::shares);
        self.weights.map(of).transpose()
    }

    /// The rows and their weights, checked.
    pub(crate) fn check(self) -> Result<Rows<'a>, LinalgError> {
        let rows = Rows::new(self.rows)?;
        self.weights.map_or(Ok(rows), |weights| rows.with_weights(weights))
    }
}

impl RowSource for Samples<'_> {
    fn rows(&self) -> RowView<'_> {
        RowView::F64(self.rows)
    }

    fn weights(&self) -> Option<&[f64]> {
        self.weights
    }
}

impl<'a> From<MatRef<'a, f64>> for Samples<'a> {
    fn from(rows: MatRef<'a, f64>) -> Self {
        Self { rows, weights: None }
    }
}

impl<'a> From<Rows<'a>> for Samples<'a> {
    fn from(rows: Rows<'a>) -> Self {
        Self { rows: rows.view(), weights: rows.weights().map(Weights::raw) }
    }
}

/// Source and target rows kept out of a fit, or none: `None`, `Some((source, target))` of matrices, or a pair of
/// [`Samples`].
#[derive(Debug, Clone, Copy)]
pub struct HeldOut<'a>(pub(crate) Option<(Samples<'a>, Samples<'a>)>);

impl<'a> From<Option<(MatRef<'a, f64>, MatRef<'a, f64>)>> for HeldOut<'a> {
    fn from(rows: Option<(MatRef<'a, f64>, MatRef<'a, f64>)>) -> Self {
        Self(rows.map(|(source, target)| (source.into(), target.into())))
    }
}

impl<'a> From<(Samples<'a>, Samples<'a>)> for HeldOut<'a> {
    fn from(rows: (Samples<'a>, Samples<'a>)) -> Self {
        Self(Some(rows))
    }
}

/// Rows in a basis of some kind, with the weights that they had outside.
pub(crate) fn along<'a>(rows: &'a Mat<f64>, weights: Option<&'a [f64]>) -> Result<Rows<'a>, LinalgError> {
    Samples { rows: rows.as_ref(), weights }.check()
}

/// Samples of their own.
#[derive(Clone)]
pub(crate) struct Owned {
    pub rows: Mat<f64>,
    pub weights: Option<Vec<f64>>,
}

impl Owned {
    /// The samples at these places.
    pub(crate) fn pick(from: Samples<'_>, places: &[usize]) -> Self {
        let rows = Mat::from_fn(places.len(), from.rows.ncols(), |i, j| from.rows[(places[i], j)]);
        Self { rows, weights: from.weights.map(|weights| places.iter().map(|&i| weights[i]).collect()) }
    }

    pub(crate) fn samples(&self) -> Samples<'_> {
        Samples { rows: self.rows.as_ref(), weights: self.weights.as_deref() }
    }
}

/// Samples without their rows of weight 0, which are copied only where there are such.
pub(crate) enum Kept<'a> {
    Whole(Samples<'a>),
    Part(Owned),
}

impl<'a> Kept<'a> {
    /// # Errors
    /// [`TransportError::Rows`] for bad weights, and for bad rows where some are left out, so that the error counts them
    /// as they were given.
    pub(crate) fn new(side: Side, samples: Samples<'a>) -> Result<Self, TransportError> {
        let Some(raw) = samples.weights else { return Ok(Self::Whole(samples)) };
        let refuse = |error| TransportError::Rows { side, error };
        let weights = Weights::new(raw, samples.rows.nrows()).map_err(refuse)?;
        if weights.positive() == raw.len() {
            return Ok(Self::Whole(samples));
        }
        Ok(Self::of(crate::samples::class::checked(side, samples, 1)?))
    }

    /// Of rows that have been checked.
    pub(crate) fn of(rows: Rows<'a>) -> Self {
        let samples = Samples::from(rows);
        match rows.weights() {
            Some(weights) if weights.positive() < rows.count() => {
                let raw = weights.raw();
                let places: Vec<usize> = (0..raw.len()).filter(|&i| raw[i] > 0.0).collect();
                Self::Part(Owned::pick(samples, &places))
            }
            _ => Self::Whole(samples),
        }
    }

    pub(crate) fn samples(&self) -> Samples<'_> {
        match self {
            Self::Whole(samples) => *samples,
            Self::Part(owned) => owned.samples(),
        }
    }
}
