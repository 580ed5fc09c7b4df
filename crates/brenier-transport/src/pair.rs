//! What a fit is given: rows of two classes, checked.

use crate::{Samples, Side, TransportError};
use brenier_linalg::{ClassGram, LinalgError, Rows, mean};
use faer::Mat;

/// Largest magnitude of an input: sums of its fourth power over any number of rows stay finite.
pub(crate) const LIMIT: f64 = 1e60;

/// Checked source and target of one width.
pub(crate) struct Pair<'a> {
    pub source: Rows<'a>,
    pub target: Rows<'a>,
    /// Their means, weighted if they have weights; `[d]`.
    pub means: [Vec<f64>; 2],
}

impl<'a> Pair<'a> {
    pub(crate) fn new(source: Rows<'a>, target: Rows<'a>) -> Self {
        Self { source, target, means: [mean(source), mean(target)] }
    }

    pub(crate) fn dim(&self) -> usize {
        self.source.width()
    }

    pub(crate) fn same_width(&self, side: Side, rows: Rows<'_>) -> Result<(), TransportError> {
        if rows.width() == self.dim() {
            Ok(())
        } else {
            Err(TransportError::Widths { side, expected: self.dim(), found: rows.width() })
        }
    }

    /// The same without weights if these are all one number.
    pub(crate) fn without_equal_weights(self) -> Result<Self, LinalgError> {
        let one = |rows: Rows<'_>| rows.weights().map_or(1.0, |weights| weights.raw()[0]);
        let first = one(self.source);
        let equal = |rows: Rows<'_>| {
            rows.weights().map_or(first == 1.0, |weights| weights.raw().iter().all(|&w| w == first))
        };
        if self.weighted() && equal(self.source) && equal(self.target) {
            return Ok(Self::new(Rows::new(self.source.view())?, Rows::new(self.target.view())?));
        }
        Ok(self)
    }

    /// Whether any row has a weight.
    pub(crate) fn weighted(&self) -> bool {
        self.source.weights().is_some() || self.target.weights().is_some()
    }

    /// The source's share of the weight of all rows.
    pub(crate) fn share(&self) -> f64 {
        if !self.weighted() {
            return self.source.count() as f64 / (self.source.count() + self.target.count()) as f64;
        }
        // Each over the larger, lest the sum overflow.
        let (s, t) = (self.source.total_weight(), self.target.total_weight());
        let largest = s.max(t);
        (s / largest) / (s / largest + t / largest)
    }

    /// The weights of all rows of both classes, the source's first: in each class shares of its own share.
    pub(crate) fn shares(&self, share_of_source: f64) -> Vec<f64> {
        let of = |rows: Rows<'_>, share: f64| match rows.weights() {
            Some(weights) => weights.shares().into_iter().map(|w| share * w).collect(),
            None => vec![share / rows.count() as f64; rows.count()],
        };
        let mut all = of(self.source, share_of_source);
        all.extend(of(self.target, 1.0 - share_of_source));
        all
    }
}

/// Source and target, each checked, of one width.
pub(crate) fn checked_pair<'a>(
    source: impl Into<Samples<'a>>,
    target: impl Into<Samples<'a>>,
    least: usize,
) -> Result<Pair<'a>, TransportError> {
    let (source, of_source) = checked_with_mean(Side::Source, source.into(), least)?;
    let (target, of_target) = checked_with_mean(Side::Target, target.into(), least)?;
    let pair = Pair { source, target, means: [of_source, of_target] };
    pair.same_width(Side::Target, pair.target)?;
    Ok(pair.without_equal_weights()?)
}

/// The same and, where a fit may take the quick route, the Gram matrix of its [`Span`](crate::span::Span), all found in one
/// pass. Without that matrix for rows with weights, and for as many rows as columns or more.
pub(crate) fn scanned_pair<'a>(
    source: Samples<'a>,
    target: Samples<'a>,
    least: usize,
) -> Result<(Pair<'a>, Option<Mat<f64>>), TransportError> {
    if let Some((pair, gram)) = scan(source, target, least) {
        return Ok((pair, Some(gram)));
    }
    let pair = checked_pair(source, target, least)?;
    // Weights that were all one number are none.
    Ok(match scan(pair.source.into(), pair.target.into(), least) {
        Some((pair, gram)) => (pair, Some(gram)),
        None => (pair, None),
    })
}

/// None for rows that it is not for, or that [`checked_pair`] has to look at more closely.
fn scan<'a>(source: Samples<'a>, target: Samples<'a>, least: usize) -> Option<(Pair<'a>, Mat<f64>)> {
    let (n_s, n_t) = (source.rows().nrows(), target.rows().nrows());
    let weighted = source.weights().is_some() || target.weights().is_some();
    if weighted || n_s.min(n_t) < least || n_s + n_t >= source.rows().ncols() {
        return None;
    }
    let ClassGram { rows: [source, target], means, gram } =
        ClassGram::within(LIMIT, source.rows(), target.rows()).ok()??;
    Some((Pair { source, target, means }, gram))
}

/// Rows, and their weights if they have any, that a fit can work with.
pub(crate) fn checked<'a>(
    side: Side,
    samples: impl Into<Samples<'a>>,
    least: usize,
) -> Result<Rows<'a>, TransportError> {
    let samples = samples.into();
    Rows::within(LIMIT, least, samples.rows())
        .and_then(|rows| samples.weights().map_or(Ok(rows), |weights| rows.with_weights(weights)))
        .map_err(|error| refused(side, error))
}

/// The same, and their mean.
fn checked_with_mean<'a>(
    side: Side,
    samples: Samples<'a>,
    least: usize,
) -> Result<(Rows<'a>, Vec<f64>), TransportError> {
    if samples.weights().is_some() {
        let rows = checked(side, samples, least)?;
        return Ok((rows, mean(rows)));
    }
    Rows::with_mean(LIMIT, least, samples.rows()).map_err(|error| refused(side, error))
}

fn refused(side: Side, error: LinalgError) -> TransportError {
    match error {
        LinalgError::Magnitude { row, column, value, limit } => {
            TransportError::Magnitude { side, row, column, value, limit }
        }
        error => TransportError::Rows { side, error },
    }
}
