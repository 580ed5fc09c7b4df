use crate::error::{Side, TransportError};
use crate::methods::axes::Axes;
use crate::methods::gate::gate_along;
use crate::options::{FitOptions, GateOptions};
use crate::reduce::Reduced;
use crate::samples::class::{Class, checked_classes};
use crate::samples::{Kept, Samples};
use brenier_linalg::{Covariance, LinalgError, Shrinkage, Weights};
use serde::{Deserialize, Serialize};

/// The grid over which a gate is calibrated.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationOptions {
    /// Folds; 5 by default. Row `i` of a class is in fold `i mod folds`, so that each fold has its share of both.
    pub folds: usize,
    /// Numbers of principal components, ascending; 1, 2, 3, 4, 6, 8, 12, 16 by default. Those above the rank of a fold's
    /// rows are left out.
    pub components: Vec<usize>,
    /// Shrinkages of the classes' covariances; Ledoit & Wolf's, 0.01, 0.03, 0.1, 0.3 and 1 by default.
    pub shrinkages: Vec<Shrinkage>,
    /// Temperatures; the half powers of 2 from 1/2 to 8 by default.
    pub temperatures: Vec<f64>,
}

impl Default for CalibrationOptions {
    fn default() -> Self {
        let fixed = [0.01, 0.03, 0.1, 0.3, 1.0].map(Shrinkage::Fixed);
        Self {
            folds: 5,
            components: vec![1, 2, 3, 4, 6, 8, 12, 16],
            shrinkages: std::iter::once(Shrinkage::Auto).chain(fixed).collect(),
            temperatures: (-2..=6).map(|half| 2.0_f64.powf(0.5 * f64::from(half))).collect(),
        }
    }
}

/// What calibration chose, and from what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The choice: the least log-loss; on a tie the fewest components, then the order of the grid.
    pub chosen: CalibrationScore,
    /// Log-loss of the prior alone, in nats: what a gate that knows nothing scores.
    pub prior_log_loss: f64,
    /// Every point of the grid that could be fitted on every fold.
    pub table: Vec<CalibrationScore>,
}

/// One point of the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationScore {
    /// Number of principal components of the gate.
    pub components: usize,
    /// Shrinkage of the classes' covariances; none for Ledoit & Wolf's own, or that of OAS.
    pub shrinkage: Option<f64>,
    /// Whether the shrinkage is that of OAS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oas: bool,
    /// What the log-odds are divided by.
    pub temperature: f64,
    /// Mean log-loss of rows kept out, in nats, each class weighed by its prior.
    pub log_loss: f64,
    /// Its standard error over the rows.
    pub standard_error: f64,
}

/// Chooses the number of components, the shrinkage and the temperature of a posterior gate by its log-loss on rows kept
/// out, over folds of the rows given:
///
/// ```text
/// loss = - pi mean_source log p(x) - (1 - pi) mean_target log (1 - p(x))
/// ```
///
/// which is least, in expectation, for the true posterior: a gate that is right but too sure of itself loses to one that
/// knows what it does not know. Axes, densities and Ledoit-Wolf intensities are found anew in every fold. The gate's
/// other options, the pooling and the divisor of covariances are those of `options`; thresholds play no part.
///
/// # Shapes
/// `source`: `[n_s, d]`, `target`: `[n_t, d]`, more than two rows a class and fold, with or without weights ([`Samples`]):
/// these weigh the losses too, and rows of weight 0 are in no fold.
///
/// # Errors
/// Rows that [`fit`](crate::fit()) refuses; [`TransportError::Option`] for an empty grid, less than two folds or a
/// temperature that is not above 0; [`TransportError::Linalg`] with `TooFewRows` for a class of fewer rows than folds plus
/// one, with `ComponentsExceedRank` where no number of components can be fitted;
/// [`TransportError::GateDegenerate`] where no point of the grid makes a density.
///
/// Reference: T. Gneiting & A. E. Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 102, 2007.
pub fn calibrate_gate<'a>(
    source: impl Into<Samples<'a>>,
    target: impl Into<Samples<'a>>,
    options: &FitOptions,
    grid: &CalibrationOptions,
) -> Result<Calibration, TransportError> {
    options.check()?;
    grid.check()?;
    let (source, target) = (Kept::new(Side::Source, source.into())?, Kept::new(Side::Target, target.into())?);
    let classes = checked_classes(&source, &target, 2)?;
    let reduced = Reduced::of(&classes)?;
    calibrate(&reduced.classes, reduced.dim, options, grid)
}

pub(crate) fn calibrate(
    classes: &[Class<'_>; 2],
    dim: usize,
    options: &FitOptions,
    grid: &CalibrationOptions,
) -> Result<Calibration, TransportError> {
    let fold = |fold| Fold::new(classes, dim, fold, grid.folds);
    let folds = (0..grid.folds).map(fold).collect::<Result<Vec<_>, _>>()?;
    let prior = options.gate.prior;
    // Of the rows kept out, in the order of the folds.
    let weights = |side: usize| {
        let all = folds.iter().map(|fold| fold.out[side].weights()).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, LinalgError>(all.into_iter().collect::<Option<Vec<_>>>().map(|all| all.concat()))
    };
    let weights = [weights(0)?, weights(1)?];
    let mut table = Vec::new();
    let mut refused = None;
    for &components in &grid.components {
        let options = FitOptions { components, ..*options };
        let along = folds.iter().map(|fold| fold.axes(&options)).collect::<Result<Vec<_>, _>>();
        let Some(along) = possible(along, &mut refused)? else { continue };
        for &shrinkage in &grid.shrinkages {
            let options = FitOptions { gate: GateOptions { shrinkage, ..options.gate }, ..options };
            let odds = folds.iter().zip(&along).map(|(fold, along)| fold.log_odds(along, &options));
            let Some(odds) = possible(odds.collect::<Result<Vec<_>, _>>(), &mut refused)? else { continue };
            for &temperature in &grid.temperatures {
                let losses = |sign: f64, side: usize| -> Vec<f64> {
                    let all = odds.iter().flat_map(|odds| &odds[side]);
                    all.map(|odds| softplus(-sign * odds / temperature)).collect()
                };
                let (of_source, of_target) = (
                    moments(&losses(1.0, 0), weights[0].as_deref())?,
                    moments(&losses(-1.0, 1), weights[1].as_deref())?,
                );
                let error = |share: f64, variance: f64| share * share * variance;
                table.push(CalibrationScore {
                    components,
                    shrinkage: match shrinkage {
                        Shrinkage::Auto | Shrinkage::Oas => None,
                        Shrinkage::Fixed(intensity) => Some(intensity),
                    },
                    oas: shrinkage == Shrinkage::Oas,
                    temperature,
                    log_loss: prior * of_source.0 + (1.0 - prior) * of_target.0,
                    standard_error: (error(prior, of_source.1) + error(1.0 - prior, of_target.1)).sqrt(),
                });
            }
        }
    }
    let best = table.iter().fold(None::<&CalibrationScore>, |best, one| match best {
        Some(best) if best.log_loss <= one.log_loss => Some(best),
        _ => Some(one),
    });
    match (best.cloned(), refused) {
        (Some(chosen), _) => {
            let prior_log_loss = -prior * prior.ln() - (1.0 - prior) * (1.0 - prior).ln();
            Ok(Calibration { chosen, prior_log_loss, table })
        }
        (None, Some(error)) => Err(error),
        (None, None) => {
            Err(TransportError::Option { name: "calibration grid", found: 0.0, expected: "1 or more points" })
        }
    }
}

impl CalibrationOptions {
    fn check(&self) -> Result<(), TransportError> {
        let refuse = |name, found, expected| Err(TransportError::Option { name, found, expected });
        if self.folds < 2 {
            return refuse("calibration folds", self.folds as f64, "2 or more");
        }
        if self.components.is_empty() || self.shrinkages.is_empty() || self.temperatures.is_empty() {
            return refuse("calibration grid", 0.0, "1 or more of each");
        }
        if self.components.contains(&0) {
            return refuse("calibration components", 0.0, "1 or more");
        }
        if let Some(&t) = self.temperatures.iter().find(|t| !(t.is_finite() && **t > 0.0)) {
            return refuse("calibration temperature", t, "a finite number above 0");
        }
        Ok(())
    }
}

impl Calibration {
    /// The options with what was chosen in place of what they had.
    pub(crate) fn apply(&self, options: &FitOptions) -> FitOptions {
        let CalibrationScore { components, shrinkage, oas, temperature, .. } = self.chosen;
        let estimated = if oas { Shrinkage::Oas } else { Shrinkage::Auto };
        let shrinkage = shrinkage.map_or(estimated, Shrinkage::Fixed);
        let gate = GateOptions { shrinkage, temperature, ..options.gate };
        FitOptions { components, gate, ..*options }
    }
}

/// The rows of a fold, and those outside it, in reduced coordinates.
struct Fold {
    kept: Reduced<'static>,
    out: [Class<'static>; 2],
}

impl Fold {
    fn new(classes: &[Class<'_>; 2], dim: usize, fold: usize, folds: usize) -> Result<Self, TransportError> {
        let split = |class: &Class<'_>| {
            let n = class.count();
            if n <= folds {
                return Err(LinalgError::TooFewRows { needed: folds + 1, found: n });
            }
            let (out, kept): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| i % folds == fold);
            Ok((class.pick(&kept)?, class.pick(&out)?))
        };
        let (source, target) = (split(&classes[0])?, split(&classes[1])?);
        let kept = Reduced::of_coordinates([source.0, target.0], classes[0].width(), dim);
        Ok(Self { kept, out: [source.1, target.1] })
    }

    fn axes(&self, options: &FitOptions) -> Result<Axes, TransportError> {
        Axes::of(&self.kept, options)
    }

    /// Log-odds of the rows kept out, of source and target, by a gate fitted on the others.
    fn log_odds(&self, along: &Axes, options: &FitOptions) -> Result<[Vec<f64>; 2], TransportError> {
        let (gate, _) = gate_along(along, options)?;
        let odds = |class: &Class<'_>| {
            Ok::<_, TransportError>(gate.log_odds(class.needed_rows("calibration of the gate")?.view())?)
        };
        Ok([odds(&self.out[0])?, odds(&self.out[1])?])
    }
}

/// None for a point of the grid that these rows do not have; the first reason is kept.
fn possible<T>(
    found: Result<T, TransportError>,
    refused: &mut Option<TransportError>,
) -> Result<Option<T>, TransportError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(
            error @ (TransportError::GateDegenerate { .. }
            | TransportError::Linalg(LinalgError::ComponentsExceedRank { .. })),
        ) => {
            refused.get_or_insert(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// `log(1 + e^t)`, exact to rounding in both tails.
fn softplus(t: f64) -> f64 {
    t.max(0.0) + (-t.abs()).exp().ln_1p()
}

/// Mean, and variance of the mean.
fn moments(values: &[f64], weights: Option<&[f64]>) -> Result<(f64, f64), LinalgError> {
    let Some(weights) = weights else { return Ok(plain_moments(values)) };
    let weights = Weights::new(weights, values.len())?;
    let shares = weights.shares();
    let mean: f64 = values.iter().zip(&shares).map(|(x, w)| w * x).sum();
    let square: f64 = values.iter().zip(&shares).map(|(x, w)| (w * (x - mean)).powi(2)).sum();
    Ok((mean, square / weights.divisor(Covariance::Sample)))
}

fn plain_moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
    (mean, square / (n * (n - 1.0).max(1.0)))
}
