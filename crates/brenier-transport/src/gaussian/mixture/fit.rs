use crate::error::TransportError;
use crate::gaussian::mixture::GaussianMixture;
use crate::gaussian::mixture::em::{fit_count, most_components, row_counts};
use crate::samples::{Kept, Owned, Samples};
use brenier_linalg::Rows;
use serde::{Deserialize, Serialize};

/// How a [`GaussianMixture`] is fitted to rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixtureOptions {
    /// Number of components, or how it is chosen; 2 by default.
    pub count: MixtureCount,
    /// How many rows the prior of a covariance weighs (effective ones, where rows have weights); 1 by default. See
    /// [`fit_mixture`].
    pub prior_rows: f64,
    /// Isotropic part of that prior, relative to the mean variance of a coordinate; 1e-6 by default.
    pub floor: f64,
    /// How often the fit starts anew; the best one stays. 5 by default.
    pub restarts: usize,
    /// Steps of a start at most; 500 by default.
    pub iterations: usize,
    /// A start ends when a step gains less than this, in nats a row; 1e-7 by default.
    pub tolerance: f64,
    /// Where the random starts begin; 0 by default.
    pub seed: u64,
    /// In a fit between two classes: the source is then the mixture of both, with the gate's prior, and what belongs to
    /// the target stays where it is. Off by default.
    pub gated: bool,
}

impl Default for MixtureOptions {
    fn default() -> Self {
        Self {
            count: MixtureCount::Fixed(2),
            prior_rows: 1.0,
            floor: 1e-6,
            restarts: 5,
            iterations: 500,
            tolerance: 1e-7,
            seed: 0,
            gated: false,
        }
    }
}

impl MixtureOptions {
    /// Checks the ranges of all options.
    ///
    /// # Errors
    /// [`TransportError::Option`].
    pub fn check(&self) -> Result<(), TransportError> {
        let refuse = |name, found, expected| Err(TransportError::Option { name, found, expected });
        let (most, folds) = match self.count {
            MixtureCount::Fixed(count) | MixtureCount::Bic(count) => (count, 2),
            MixtureCount::HeldOut { most, folds } => (most, folds),
        };
        let at_least_0 = |x: f64| x.is_finite() && x >= 0.0;
        match () {
            () if most == 0 => refuse("mixture components", 0.0, "1 or more"),
            () if folds < 2 => refuse("mixture folds", folds as f64, "2 or more"),
            () if !at_least_0(self.prior_rows) => {
                refuse("mixture prior rows", self.prior_rows, "a finite number of 0 or more")
            }
            () if !at_least_0(self.floor) => {
                refuse("mixture floor", self.floor, "a finite number of 0 or more")
            }
            () if self.restarts == 0 => refuse("mixture restarts", 0.0, "1 or more"),
            () if self.iterations == 0 => refuse("mixture iterations", 0.0, "1 or more"),
            () if !at_least_0(self.tolerance) => {
                refuse("mixture tolerance", self.tolerance, "a finite number of 0 or more")
            }
            () => Ok(()),
        }
    }
}

/// How many components a mixture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MixtureCount {
    /// So many.
    Fixed(usize),
    /// From 1 to so many, the least of the Bayesian information criterion `-2 log L + p log n`, with the effective number
    /// for `n` where rows have weights.
    Bic(usize),
    /// From 1 to `most`, the highest log-likelihood of rows kept out, each by its weight: fold `f` keeps out the rows
    /// `f, f + folds, ..` of those that have any.
    HeldOut {
        /// Components at most.
        most: usize,
        /// Number of folds.
        folds: usize,
    },
}

/// A fitted mixture, and how it came about.
#[derive(Debug, Clone)]
pub struct MixtureFit {
    /// The mixture, components by descending weight.
    pub mixture: GaussianMixture,
    /// What is known of the fit.
    pub report: MixtureReport,
}

/// How a mixture was fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixtureReport {
    /// Weights of the components, descending.
    pub weights: Vec<f64>,
    /// Mean log-likelihood of a row (each by its weight), in nats, in the coordinates of the fit.
    pub log_likelihood: f64,
    /// Log-likelihood and prior together, a row, after each step of the best start: it never falls.
    pub trace: Vec<f64>,
    /// Why the best start ended.
    pub stop: Stop,
    /// Components that ended with less than one (effective) row, and were left out.
    pub dropped: usize,
    /// The scores that chose the number of components; empty where it was given.
    pub scores: Vec<CountScore>,
}

/// Why a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// A step gained less than the tolerance.
    Converged,
    /// The steps were used up.
    Iterations,
}

/// What a number of components scored; the lowest is chosen, on a tie the fewest components.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountScore {
    /// Number of components.
    pub components: usize,
    /// BIC over `2 n`, or the mean negative log-likelihood of a row kept out (each by its weight), in nats a row.
    pub score: f64,
}

/// Fits a mixture to rows by expectation maximisation \[1\], from seeded k-means++ starts \[2\].
///
/// A covariance of a component with `N_c` rows, of scatter `W_c`, is the maximum a posteriori
///
/// ```text
/// S_c = (W_c + prior_rows S_0) / (N_c + prior_rows),   S_0 = S / C^(2/d) + floor (tr S / d) I
/// ```
///
/// with `S` the covariance of all rows (divided by n) and `C` components: no component can collapse onto a point, one
/// component alone is the empirical Gaussian but for the floor, and the posterior never falls from step to step \[3\].
/// Deterministic: the same rows in the same order, options and seed give the same bits.
///
/// Rows may have weights. With shares `w_i` that add up to 1, row `i` stands for `r_i` of the effective rows,
///
/// ```text
/// r_i = n_eff w_i,   n_eff = 1 / sum w_i^2,   N_c = sum_i r_i p_ic,   W_c = sum_i r_i p_ic (x_i - m_c)(x_i - m_c)^T
/// ```
///
/// with `p_ic` the probability that row `i` is of component `c`, and what is maximised is `sum_i r_i log p(x_i)`, a
/// weighted (pseudo-)likelihood \[4\], and the prior. `n_eff` is Kish's number of rows of one weight that would know a mean
/// as well, so that weights say as much as they know beside the prior and in BIC \[5\], and it is `n` for equal weights, which
/// are none. Starts draw their centres by weight too. Only ratios of weights matter, and a row of weight 0 is left out.
/// Whole weights of sum `N` do what repeated rows do with `prior_rows N / n_eff` for `prior_rows`; BIC, and what is less
/// than one row, keep `n_eff`.
///
/// # Shapes
/// `rows`: `[n, d]`, with or without weights ([`Samples`]), at least two a component, and of more than one component two
/// effective ones each.
///
/// # Errors
/// [`TransportError::Option`]; [`TransportError::Linalg`] for rows that are not finite and bad weights;
/// [`MixtureError::TooFewRows`]; [`MixtureError::TooLittleWeight`]; [`MixtureError::NoDensity`] for rows without a density
/// and no floor.
///
/// [`MixtureError::TooFewRows`]: crate::MixtureError::TooFewRows
/// [`MixtureError::TooLittleWeight`]: crate::MixtureError::TooLittleWeight
/// [`MixtureError::NoDensity`]: crate::MixtureError::NoDensity
///
/// # References
/// 1. A. P. Dempster, N. M. Laird & D. B. Rubin, *Maximum likelihood from incomplete data via the EM algorithm*, JRSS B
///    39, 1977.
/// 2. D. Arthur & S. Vassilvitskii, *k-means++: the advantages of careful seeding*, SODA 2007.
/// 3. C. Fraley & A. E. Raftery, *Bayesian regularization for normal mixture estimation and model-based clustering*,
///    J. Classification 24, 2007.
/// 4. D. Pfeffermann, *The role of sampling weights when modeling survey data*, Int. Stat. Rev. 61, 1993.
/// 5. R. F. Potthoff, M. A. Woodbury & K. G. Manton, *"Equivalent sample size" and "equivalent degrees of freedom"
///    refinements for inference using survey weights under superpopulation models*, JASA 87, 1992 (weights scaled to add
///    up to the effective number).
///
/// ```
/// use brenier_transport::{MixtureOptions, Samples, fit_mixture};
/// use faer::mat;
///
/// // Two groups of rows; a row of the second counts twice.
/// let rows = mat![[-5.1], [-4.9], [-5.3], [-4.7], [5.2], [4.8]];
/// let weighed = Samples::weighted(rows.as_ref(), &[1.0, 1.0, 1.0, 1.0, 2.0, 2.0]);
/// let found = fit_mixture(weighed, &MixtureOptions::default())?;
/// assert!(found.mixture.weights().iter().all(|weight| (weight - 0.5).abs() < 1e-9));
/// # Ok::<(), brenier_transport::TransportError>(())
/// ```
pub fn fit_mixture<'a>(
    rows: impl Into<Samples<'a>>,
    options: &MixtureOptions,
) -> Result<MixtureFit, TransportError> {
    options.check()?;
    let kept = Kept::of(rows.into().check()?);
    let rows = kept.samples().without_equal_weights().check()?;
    // What cannot be fitted is no candidate; one component has to be.
    let (scores, count) = match options.count {
        MixtureCount::Fixed(count) => (Vec::new(), count),
        MixtureCount::Bic(most) => {
            let most = most.min(most_components(rows)).max(1);
            choose(most, |components| bic(rows, components, options))?
        }
        MixtureCount::HeldOut { most, folds } => {
            let most = most.min(most_in_folds(rows, folds)?).max(1);
            choose(most, |components| held_out(rows, components, folds, options))?
        }
    };
    let mut fit = fit_count(rows, count, options)?;
    fit.report.scores = scores;
    Ok(fit)
}

/// The scores of 1 to so many components, and the number of the lowest.
fn choose(
    most: usize,
    score: impl Fn(usize) -> Result<f64, TransportError>,
) -> Result<(Vec<CountScore>, usize), TransportError> {
    let mut scores = Vec::new();
    let mut best = (f64::INFINITY, 1);
    for components in 1..=most {
        let score = score(components)?;
        scores.push(CountScore { components, score });
        if score < best.0 {
            best = (score, components);
        }
    }
    Ok((scores, best.1))
}

fn bic(rows: Rows<'_>, components: usize, options: &MixtureOptions) -> Result<f64, TransportError> {
    let (n, d) = (rows.effective_count(), rows.width());
    let fit = fit_count(rows, components, options)?;
    let c = fit.mixture.count();
    let free = (c - 1 + c * d + c * d * (d + 1) / 2) as f64;
    Ok(-fit.report.log_likelihood + 0.5 * free * n.ln() / n)
}

fn held_out(
    rows: Rows<'_>,
    components: usize,
    folds: usize,
    options: &MixtureOptions,
) -> Result<f64, TransportError> {
    let counts = row_counts(rows);
    let mut loss = 0.0;
    for fold in 0..folds.min(rows.count()) {
        let [kept, out] = cut(rows, fold, folds);
        let fit = fit_count(kept.samples().check()?, components, options)?;
        let densities = fit.mixture.log_density(out.rows.as_ref())?;
        let counts = counts.iter().skip(fold).step_by(folds);
        loss -= densities.iter().zip(counts).map(|(log, count)| count * log).sum::<f64>();
    }
    Ok(loss / rows.effective_count())
}

/// How many components the rows kept can carry in every fold.
fn most_in_folds(rows: Rows<'_>, folds: usize) -> Result<usize, TransportError> {
    let mut most = usize::MAX;
    for fold in 0..folds.min(rows.count()) {
        let [kept, _] = cut(rows, fold, folds);
        most = most.min(most_components(kept.samples().check()?));
    }
    Ok(most)
}

/// The rows kept in a fold, and those out.
fn cut(rows: Rows<'_>, fold: usize, folds: usize) -> [Owned; 2] {
    let (kept, out): (Vec<usize>, Vec<usize>) = (0..rows.count()).partition(|i| i % folds != fold);
    [kept, out].map(|places| Owned::pick(rows.into(), &places))
}
