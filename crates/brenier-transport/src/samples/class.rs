use crate::error::{Side, TransportError};
use crate::gaussian::Gaussian;
use crate::gaussian::ppca::{LatentGaussian, latent_gaussian};
use crate::samples::{Kept, Owned, Samples};
use brenier_linalg::{
    Covariance, LinalgError, Rows, Shrinkage, center, factor, ledoit_wolf_of_factor, mean, oas_of_factor,
    product, reduce, transpose_product,
};
use faer::{Mat, MatRef};
use rayon::prelude::*;

/// Largest magnitude of an input: sums of its fourth power over any number of rows stay finite.
pub(crate) const LIMIT: f64 = 1e60;

/// Columns of rows that are read at once.
const STRIP: usize = 512;

/// One class: its mean, and what is known of it about that. The coordinates may be any.
pub(crate) struct Class<'a> {
    /// Weighted, if the rows have weights. `[d]`.
    pub mean: Vec<f64>,
    pub known: Known<'a>,
}

/// What is known of a class.
pub(crate) enum Known<'a> {
    /// Rows, `[n, d]`, none of weight 0.
    Rows(Rows<'a>),
    /// Rows of its own, such as coordinates.
    Owned(Owned),
    /// A factor `F` of the covariance divided by `n`, `F^T F`, of so many rows that are gone. `[m, d]`.
    Factor { factor: Mat<f64>, count: usize },
}

impl<'a> Class<'a> {
    /// Checked samples, at least so many of them.
    pub(crate) fn of(side: Side, samples: &'a Kept<'_>, least: usize) -> Result<Self, TransportError> {
        let rows = checked(side, samples.samples(), least)?;
        Ok(Self { mean: mean(rows), known: Known::Rows(rows) })
    }

    /// Rows of their own, that are finite.
    pub(crate) fn owned(owned: Owned) -> Result<Class<'static>, LinalgError> {
        let mean = mean(owned.samples().check()?);
        Ok(Class { mean, known: Known::Owned(owned) })
    }

    /// The class without weights, if these are all the number `all`.
    pub(crate) fn without_equal_weights(self, all: f64) -> Result<Self, LinalgError> {
        match self.known {
            Known::Rows(rows) if rows.weights().is_some_and(|w| w.raw().iter().all(|&w| w == all)) => {
                let rows = Rows::new(rows.view())?;
                Ok(Self { mean: mean(rows), known: Known::Rows(rows) })
            }
            _ => Ok(self),
        }
    }

    /// The class itself, which owns nothing of its rows.
    pub(crate) fn view(&self) -> Result<Class<'_>, LinalgError> {
        let known = match &self.known {
            Known::Factor { factor, count } => Known::Factor { factor: factor.clone(), count: *count },
            Known::Rows(rows) => Known::Rows(*rows),
            Known::Owned(owned) => Known::Rows(owned.samples().check()?),
        };
        Ok(Class { mean: self.mean.clone(), known })
    }

    pub(crate) fn width(&self) -> usize {
        self.mean.len()
    }

    /// The rows, if there are any yet.
    pub(crate) fn rows(&self) -> Result<Option<Rows<'_>>, LinalgError> {
        match &self.known {
            Known::Rows(rows) => Ok(Some(*rows)),
            Known::Owned(owned) => owned.samples().check().map(Some),
            Known::Factor { .. } => Ok(None),
        }
    }

    /// The rows, which what is asked for needs.
    pub(crate) fn needed_rows(&self, what: &str) -> Result<Rows<'_>, TransportError> {
        self.rows()?
            .ok_or_else(|| TransportError::NeedsRows { what: what.to_owned(), instead: "fit to activations" })
    }

    /// Number of rows, n.
    pub(crate) fn count(&self) -> usize {
        match &self.known {
            Known::Rows(rows) => rows.count(),
            Known::Owned(owned) => owned.rows.nrows(),
            Known::Factor { count, .. } => *count,
        }
    }

    fn weighted<T>(&self, of: impl Fn(Rows<'_>) -> T, unweighted: T) -> Result<T, LinalgError> {
        Ok(self.rows()?.map_or(unweighted, of))
    }

    /// Effective number of rows, `1 / sum w_i^2` for shares `w_i`.
    pub(crate) fn effective_count(&self) -> Result<f64, LinalgError> {
        self.weighted(|rows| rows.effective_count(), self.count() as f64)
    }

    /// Sum of the weights; the number of rows without weights.
    pub(crate) fn total_weight(&self) -> Result<f64, LinalgError> {
        self.weighted(|rows| rows.total_weight(), self.count() as f64)
    }

    /// The covariance divided by `n` over the covariance asked for.
    pub(crate) fn spread(&self, covariance: Covariance) -> Result<f64, LinalgError> {
        let n = self.count();
        self.weighted(|rows| rows.spread(covariance), covariance.divisor(n) / n as f64)
    }

    /// The shares of the rows in their weight. `[n]`.
    pub(crate) fn shares(&self) -> Result<Vec<f64>, LinalgError> {
        let n = self.count();
        self.weighted(
            |rows| rows.weights().map_or_else(|| vec![1.0 / n as f64; n], |weights| weights.shares()),
            Vec::new(),
        )
    }

    /// A factor `F` of the covariance, `F^T F = S`. `[m, d]`.
    pub(crate) fn factor(&self, covariance: Covariance) -> Result<Mat<f64>, LinalgError> {
        if let Known::Factor { factor, .. } = &self.known {
            let root = self.spread(covariance)?.sqrt();
            return Ok(Mat::from_fn(factor.nrows(), factor.ncols(), |i, j| factor[(i, j)] / root));
        }
        self.weighted(|rows| factor(rows, &self.mean, covariance), Mat::new())
    }

    /// `N(m, (1 - a) S + (a tr S / dim + reg) I)` and the intensity `a`. `dim`: of how many dimensions these are coordinates.
    pub(crate) fn gaussian(
        &self,
        covariance: Covariance,
        shrinkage: Shrinkage,
        reg: f64,
        dim: usize,
    ) -> Result<(Gaussian, f64), TransportError> {
        let intensity = self.intensity(shrinkage, dim)?;
        let factor = reduce(self.factor(covariance)?);
        let gaussian = Gaussian { mean: self.mean.clone(), factor, isotropic: 0.0 };
        Ok((gaussian.regularised_in(intensity, reg, dim), intensity))
    }

    /// The shrinkage intensity of the covariance.
    pub(crate) fn intensity(&self, shrinkage: Shrinkage, dim: usize) -> Result<f64, TransportError> {
        let factor = || self.factor(Covariance::Population);
        match shrinkage {
            Shrinkage::Fixed(intensity) => Ok(intensity),
            Shrinkage::Oas => Ok(oas_of_factor(factor()?.as_ref(), self.effective_count()?, dim)),
            Shrinkage::Auto => {
                self.needed_rows("Ledoit and Wolf's shrinkage (fourth moments)")?;
                Ok(ledoit_wolf_of_factor(factor()?.as_ref(), &self.shares()?, dim))
            }
        }
    }

    /// The class in the coordinates `diag(1 / roots) basis^T (x - origin)`. `basis`: `[d, K]`, `origin`: `[d]`, `roots`: `[K]`.
    pub(crate) fn along(
        &self,
        basis: MatRef<'_, f64>,
        origin: &[f64],
        roots: Option<&[f64]>,
    ) -> Result<Class<'static>, LinalgError> {
        let divided = |mut z: Mat<f64>| {
            for (k, root) in roots.unwrap_or_default().iter().enumerate() {
                z.col_as_slice_mut(k).iter_mut().for_each(|z| *z /= root);
            }
            z
        };
        if let Known::Factor { factor, count } = &self.known {
            let away = Mat::from_fn(1, self.width(), |_, j| self.mean[j] - origin[j]);
            let mean = divided(product(away.as_ref(), basis));
            let factor = divided(product(factor.as_ref(), basis));
            let mean = mean.row(0).iter().copied().collect();
            return Ok(Class { mean, known: Known::Factor { factor, count: *count } });
        }
        let rows = self.weighted(|rows| product(center(rows, origin).as_ref(), basis), Mat::new())?;
        let away = Mat::from_fn(1, self.width(), |_, j| self.mean[j] - origin[j]);
        let mean = divided(product(away.as_ref(), basis)).row(0).iter().copied().collect();
        Ok(Class { mean, known: Known::Owned(Owned { rows: divided(rows), weights: self.weights()? }) })
    }

    /// `F^T G` for the factor `F` of the covariance divided by `n`, `[m, d]`, and some `G`, `[m, p]`: combinations of the
    /// rows about their mean, as columns. A few columns of the rows at a time, without a copy of them.
    pub(crate) fn combined(&self, by: MatRef<'_, f64>) -> Result<Mat<f64>, LinalgError> {
        if let Known::Factor { factor, .. } = &self.known {
            return Ok(transpose_product(factor.as_ref(), by));
        }
        let roots: Vec<f64> = self.shares()?.into_iter().map(f64::sqrt).collect();
        let mut out = Mat::zeros(self.width(), by.ncols());
        let Some(rows) = self.rows()? else { return Ok(out) };
        out.as_mut().par_row_chunks_mut(STRIP).enumerate().for_each(|(index, mut out)| {
            let at = index * STRIP;
            let strip = Mat::from_fn(roots.len(), out.nrows(), |i, j| {
                roots[i] * (rows.view()[(i, at + j)] - self.mean[at + j])
            });
            out.copy_from(transpose_product(strip.as_ref(), by));
        });
        Ok(out)
    }

    /// The rows at these places, each with its weight.
    pub(crate) fn pick(&self, places: &[usize]) -> Result<Class<'static>, LinalgError> {
        match self.rows()? {
            Some(rows) => Class::owned(Owned::pick(Samples::from(rows), places)),
            None => Err(LinalgError::TooFewRows { needed: 1, found: 0 }),
        }
    }

    /// The probabilistic PCA of the class; see [`Gaussian::probabilistic_pca`].
    pub(crate) fn probabilistic_pca(
        &self,
        covariance: Covariance,
        latent: usize,
        dim: usize,
    ) -> Result<LatentGaussian, TransportError> {
        let spread = self.spread(covariance)?;
        latent_gaussian(self.factor(covariance)?, self.mean.clone(), latent, dim, spread, self.count())
    }

    pub(crate) fn weights(&self) -> Result<Option<Vec<f64>>, LinalgError> {
        self.weighted(|rows| rows.weights().map(|weights| weights.raw().to_vec()), None)
    }
}

/// The source's share in the weight of all rows.
pub(crate) fn share_of_source([source, target]: &[Class<'_>; 2]) -> Result<f64, LinalgError> {
    // Each over the larger, lest the sum overflow.
    let (s, t) = (source.total_weight()?, target.total_weight()?);
    let largest = s.max(t);
    Ok((s / largest) / (s / largest + t / largest))
}

/// Both classes as one.
pub(crate) fn pooled(classes: &[Class<'_>; 2]) -> Result<Class<'static>, TransportError> {
    let [source, target] = classes;
    let share = share_of_source(classes)?;
    if let (Some(s), Some(t)) = (source.rows()?, target.rows()?) {
        let (n_s, n_t) = (s.count(), t.count());
        let at = |i: usize, j: usize| if i < n_s { s.view()[(i, j)] } else { t.view()[(i - n_s, j)] };
        let weights = (s.weights().is_some() || t.weights().is_some()).then_some(()).map(|()| {
            let of = |class: &Class<'_>, share: f64| {
                Ok::<_, LinalgError>(class.shares()?.into_iter().map(|w| share * w).collect::<Vec<f64>>())
            };
            Ok::<_, LinalgError>([of(source, share)?, of(target, 1.0 - share)?].concat())
        });
        let rows = Mat::from_fn(n_s + n_t, source.width(), at);
        return Ok(Class::owned(Owned { rows, weights: weights.transpose()? })?);
    }
    let factor = stacked(classes, [share, 1.0 - share, share * (1.0 - share)])?;
    let count = source.count().saturating_add(target.count());
    Ok(Class { mean: middle(&source.mean, &target.mean, share), known: Known::Factor { factor, count } })
}

/// The factors of source and target above each other, and the difference of the means under them, each by the root of
/// its weight. `[m + n + 1, d]`.
pub(crate) fn stacked([source, target]: &[Class<'_>; 2], weights: [f64; 3]) -> Result<Mat<f64>, LinalgError> {
    let [of_source, of_target, of_gap] = weights.map(f64::sqrt);
    let (above, below) = (source.factor(Covariance::Population)?, target.factor(Covariance::Population)?);
    let (m, n) = (above.nrows(), below.nrows());
    Ok(Mat::from_fn(m + n + 1, source.width(), |i, j| {
        if i < m {
            of_source * above[(i, j)]
        } else if i < m + n {
            of_target * below[(i - m, j)]
        } else {
            of_gap * (target.mean[j] - source.mean[j])
        }
    }))
}

/// `share m_s + (1 - share) m_t`.
pub(crate) fn middle(source: &[f64], target: &[f64], share: f64) -> Vec<f64> {
    source.iter().zip(target).map(|(s, t)| share * s + (1.0 - share) * t).collect()
}

/// Refuses two classes of different widths.
pub(crate) fn same_width(side: Side, expected: usize, found: usize) -> Result<(), TransportError> {
    if expected == found { Ok(()) } else { Err(TransportError::Widths { side, expected, found }) }
}

/// Source and target of one width, without weights where all of these are one number.
pub(crate) fn checked_classes<'a>(
    source: &'a Kept<'_>,
    target: &'a Kept<'_>,
    least: usize,
) -> Result<[Class<'a>; 2], TransportError> {
    let classes = [Class::of(Side::Source, source, least)?, Class::of(Side::Target, target, least)?];
    same_width(Side::Target, classes[0].width(), classes[1].width())?;
    let first = |class: &Class<'_>| class.weights().map(|weights| weights.map_or(1.0, |weights| weights[0]));
    let all = first(&classes[0])?;
    let equal = |class: &Class<'_>| {
        Ok::<_, LinalgError>(class.weights()?.map_or(all == 1.0, |w| w.iter().all(|&w| w == all)))
    };
    if !(equal(&classes[0])? && equal(&classes[1])?) {
        return Ok(classes);
    }
    let [source, target] = classes;
    Ok([source.without_equal_weights(all)?, target.without_equal_weights(all)?])
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
        .map_err(|error| match error {
            LinalgError::Magnitude { row, column, value, limit } => {
                TransportError::Magnitude { side, row, column, value, limit }
            }
            error => TransportError::Rows { side, error },
        })
}
