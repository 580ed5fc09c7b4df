use crate::error::TransportError;
use crate::gaussian::Gaussian;
use crate::samples::Samples;
use brenier_linalg::{
    Covariance, LinalgError, Rows, factor, gram, mean, pca_of_factor, reduce, relative_floor,
    singular_values, symmetric_eigenvalues, thin_svd,
};
use faer::Mat;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// What the noise variance may lose, relative, to the rounding of a Gram matrix; beyond that singular values of the rows
/// themselves are taken.
const ACCURACY: f64 = 1e-10;

/// A Gaussian of `q` latent directions and equal noise in all others, as
/// [`Gaussian::probabilistic_pca`] fits it.
#[derive(Debug, Clone)]
pub struct LatentGaussian {
    /// `N(m, U (diag(l) - e I) U^T + e I)`.
    pub gaussian: Gaussian,
    /// Variances along the latent directions, `l`, descending. `[q]`.
    pub variances: Vec<f64>,
    /// The noise variance `e`.
    pub noise: f64,
    /// Mean log-likelihood of a row, in nats (each row by its weight).
    pub log_likelihood: f64,
}

/// A choice of the number of latent directions, with what it was chosen by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentSelection {
    /// The candidate of the least score, on a tie the smallest.
    pub latent: usize,
    /// Every candidate, ascending.
    pub table: Vec<LatentScore>,
}

/// How one number of latent directions did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentScore {
    /// Number of latent directions, q.
    pub latent: usize,
    /// Mean log-likelihood of a row, in nats.
    pub log_likelihood: f64,
    /// BIC over `2 n`: `-log_likelihood + p log n / (2 n)`.
    pub score: f64,
}

impl Gaussian {
    /// The probabilistic PCA of rows: `q` latent directions, noise of one variance in all others \[1\].
    ///
    /// ```text
    /// S' = U (diag(l) - e I) U^T + e I,   e = (tr S - sum_i l_i) / (d - q)
    /// ```
    ///
    /// with `l` and `U` (`[d, q]`) the `q` largest eigenvalues of the rows' covariance `S` and their axes. The covariance
    /// has the trace of `S`, and with [`Covariance::Population`] it is the maximum-likelihood one of its form. With
    /// [`monge`](crate::monge()) between two of these the map is the optimal one of "HD" Gaussians \[2\]: defined
    /// everywhere, and `sqrt(e_t / e_s)` times the identity outside the two latent spaces.
    ///
    /// From the `n x n` Gram matrix while `n < d`. The noise variance is known to about 1e-10: where it is so small beside
    /// the rest that a Gram matrix would lose more, singular values of the rows are taken. [`select_latent`] chooses `q`.
    ///
    /// # Shapes
    /// `rows`: `[n, d]`, with or without weights ([`Samples`]).
    ///
    /// # Errors
    /// [`TransportError::Linalg`] for rows that are empty or not finite; [`TransportError::Option`] for `q = 0`;
    /// [`TransportError::LatentRank`] unless the centred rows have a rank above `q`, so that the noise is not 0: with
    /// fewer rows than columns `q` is at most `n - 2`.
    ///
    /// # References
    /// 1. M. E. Tipping & C. M. Bishop, "Probabilistic principal component analysis", JRSS B 61, 1999, section 3.2.
    /// 2. C. Bouveyron & M. Corneli, "Scaling optimal transport to high-dimensional Gaussian distributions", 2026,
    ///    theorem 2.9 (POT: `bures_wasserstein_mapping_hd`).
    ///
    /// ```
    /// use brenier_transport::{Covariance, Gaussian, select_latent};
    /// use faer::Mat;
    ///
    /// // Two strong directions and some noise, in 30 dimensions, from 20 rows.
    /// let noise = |i: usize, j: usize| (((i * 7919 + j * 104_729) as f64).sin() * 43_758.5).fract();
    /// let rows = Mat::from_fn(20, 30, |i, j| {
    ///     9.0 * noise(i, 100) * noise(100, j) + 7.0 * noise(i, 200) * noise(200, j) + 0.1 * noise(i, j)
    /// });
    /// let chosen = select_latent(rows.as_ref(), &[1, 2, 3, 4])?;
    /// assert_eq!(chosen.latent, 2);
    /// let fit = Gaussian::probabilistic_pca(rows.as_ref(), Covariance::Population, chosen.latent)?;
    /// assert!(fit.noise < 0.01 && fit.variances[1] > 1.0);
    /// assert!((fit.log_likelihood - chosen.table[1].log_likelihood).abs() < 1e-9);
    /// # Ok::<(), brenier_transport::TransportError>(())
    /// ```
    pub fn probabilistic_pca<'a>(
        rows: impl Into<Samples<'a>>,
        covariance: Covariance,
        latent: usize,
    ) -> Result<LatentGaussian, TransportError> {
        let rows = rows.into().check()?;
        let (mean, n, d) = (mean(rows), rows.count(), rows.width());
        let factor = factor(rows, &mean, covariance);
        latent_gaussian(factor, mean, latent, d, rows.spread(covariance), n)
    }
}

/// The probabilistic PCA of a mean and a covariance factor, `[m, r]`, made from `rows` rows, in `dim` dimensions, of which
/// the columns may be coordinates of an orthonormal basis outside of which there is nothing. `spread`: the covariance
/// divided by `n` over this one.
pub(crate) fn latent_gaussian(
    factor: Mat<f64>,
    mean: Vec<f64>,
    latent: usize,
    dim: usize,
    spread: f64,
    rows: usize,
) -> Result<LatentGaussian, TransportError> {
    if latent == 0 {
        return Err(none_latent());
    }
    Ok(leading(factor, latent, rows)?.gaussian(mean, dim, spread))
}

/// Chooses the number of latent directions of [`Gaussian::probabilistic_pca`] by the Bayesian information criterion, at
/// the maximum of the likelihood (covariances divided by `n`):
///
/// ```text
/// BIC / (2 n) = - mean log N(x_i; m, S') + p log n / (2 n),   p = d + d q - q (q - 1) / 2 + 1
/// ```
///
/// A direction costs about `d log n / (2 n)` nats a row: with few rows in many dimensions the choice is small, and errs on
/// that side. One decomposition serves all candidates. For rows with weights `n` is their effective number,
/// `(sum w)^2 / sum w^2`.
///
/// # Shapes
/// `rows`: `[n, d]`, with or without weights; `candidates`: any order, repeated ones count once.
///
/// # Errors
/// As [`Gaussian::probabilistic_pca`] for the largest candidate; [`TransportError::Option`] for no candidates.
///
/// Reference: G. Schwarz, "Estimating the dimension of a model", Ann. Stat. 6, 1978; T. P. Minka, "Automatic choice of
/// dimensionality for PCA", NeurIPS 2000 (the count of parameters).
pub fn select_latent<'a>(
    rows: impl Into<Samples<'a>>,
    candidates: &[usize],
) -> Result<LatentSelection, TransportError> {
    let rows = rows.into().check()?;
    let (n, d) = (rows.effective_count(), rows.width());
    let mut candidates = candidates.to_vec();
    candidates.sort_unstable();
    candidates.dedup();
    let (Some(&least), Some(&most)) = (candidates.first(), candidates.last()) else {
        return Err(TransportError::Option {
            name: "latent candidates",
            found: 0.0,
            expected: "one number or more",
        });
    };
    if least == 0 {
        return Err(none_latent());
    }
    let values = spectrum(rows, most)?;
    let table: Vec<LatentScore> = candidates
        .iter()
        .map(|&latent| {
            let noise = values[latent..].iter().sum::<f64>() / (d - latent) as f64;
            let log_likelihood = log_likelihood(&values[..latent], noise, d, 1.0);
            let free = (d + d * latent + 1 - latent * (latent - 1) / 2) as f64;
            LatentScore { latent, log_likelihood, score: 0.5 * free * n.ln() / n - log_likelihood }
        })
        .collect();
    let best = table.iter().fold(&table[0], |best, one| if one.score < best.score { one } else { best });
    Ok(LatentSelection { latent: best.latent, table })
}

/// Mean log-density of the rows: `spread` is the share of the covariance that dividing by `n` gives.
///
/// ```text
/// -1/2 ( d log 2 pi + sum_i log l_i + (d - q) log e + tr S'^{-1} S_n ),   tr S'^{-1} S_n = d spread
/// ```
fn log_likelihood(values: &[f64], noise: f64, d: usize, spread: f64) -> f64 {
    let determinant = values.iter().map(|l| l.ln()).sum::<f64>() + (d - values.len()) as f64 * noise.ln();
    -0.5 * (d as f64 * (TAU.ln() + spread) + determinant)
}

/// The largest eigenvalues of a covariance, their axes `[d, q]`, and the sum of the others, above 0.
struct Leading {
    values: Vec<f64>,
    vectors: Mat<f64>,
    tail: f64,
}

impl Leading {
    /// The Gaussian in `dim` dimensions; `spread` is the share of the covariance that dividing by `n` gives.
    fn gaussian(self, mean: Vec<f64>, dim: usize, spread: f64) -> LatentGaussian {
        let Self { values, vectors, tail } = self;
        let noise = tail / (dim - values.len()) as f64;
        let factor = Mat::from_fn(values.len(), vectors.nrows(), |i, j| {
            (values[i] - noise).max(0.0).sqrt() * vectors[(j, i)]
        });
        let log_likelihood = log_likelihood(&values, noise, dim, spread);
        let gaussian = Gaussian { mean, factor, isotropic: noise };
        LatentGaussian { gaussian, variances: values, noise, log_likelihood }
    }
}

/// Of a covariance factor, `[m, r]`, made from `rows` rows.
fn leading(factor: Mat<f64>, latent: usize, rows: usize) -> Result<Leading, TransportError> {
    let (n, d) = factor.shape();
    let too_low = |rank| TransportError::LatentRank { latent, rank, rows };
    let by_gram = match pca_of_factor(factor.clone(), latent) {
        Ok(found) if found.rank > latent => found,
        Ok(found) => return Err(too_low(found.rank)),
        Err(LinalgError::ComponentsExceedRank { rank, .. }) => return Err(too_low(rank)),
        Err(error) => return Err(error.into()),
    };
    let tail = by_gram.total - by_gram.eigenvalues.iter().sum::<f64>();
    if resolved(tail, by_gram.total, n) {
        return Ok(Leading { values: by_gram.eigenvalues, vectors: by_gram.basis, tail });
    }
    let svd = thin_svd(reduce(factor).as_ref())?;
    let squares: Vec<f64> = svd.values.iter().map(|s| s * s).collect();
    let floor = relative_floor(n.max(d)) * squares[0];
    let rank = squares.iter().take_while(|&&value| value > floor).count();
    if rank <= latent {
        return Err(too_low(rank));
    }
    Ok(Leading {
        tail: squares[latent..].iter().sum(),
        values: squares[..latent].to_vec(),
        vectors: svd.right.as_ref().subcols(0, latent).to_owned(),
    })
}

/// All eigenvalues of the covariance divided by `n`, descending, of a rank above `latent`.
fn spectrum(rows: Rows<'_>, latent: usize) -> Result<Vec<f64>, TransportError> {
    let (n, d) = (rows.count(), rows.width());
    let factor = reduce(factor(rows, &mean(rows), Covariance::Population));
    let mut values = symmetric_eigenvalues(gram(factor.as_ref()).as_ref())?;
    let total: f64 = values.iter().sum();
    let tail: f64 = values.iter().skip(latent).sum();
    if !resolved(tail, total, n) {
        values = singular_values(factor.as_ref())?.into_iter().map(|s| s * s).collect();
    }
    let floor = relative_floor(n.max(d)) * values.first().copied().unwrap_or(0.0);
    let rank = values.iter().take_while(|&&value| value > floor).count();
    if rank > latent { Ok(values) } else { Err(TransportError::LatentRank { latent, rank, rows: n }) }
}

/// Whether the rounding of a Gram matrix of `n` rows leaves enough digits of the sum of its small eigenvalues.
fn resolved(tail: f64, total: f64, n: usize) -> bool {
    8.0 * f64::EPSILON * (n as f64).sqrt() * total <= ACCURACY * tail
}

fn none_latent() -> TransportError {
    TransportError::Option { name: "latent", found: 0.0, expected: "1 or more" }
}
