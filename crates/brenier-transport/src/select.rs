use crate::certificate::effect::moved;
use crate::error::{Side, TransportError};
use crate::gaussian::{Gaussian, w2};
use crate::methods::Fitted;
use crate::methods::pca_ot::pca_ot;
use crate::options::FitOptions;
use crate::reduce::Reduced;
use crate::samples::class::{Class, checked_classes};
use crate::samples::{Kept, Samples};
use brenier_linalg::Covariance;
use brenier_map::RowMap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A choice of K, with what it was chosen by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The smallest K whose mean is within one standard error of the best.
    pub components: usize,
    /// The K of the smallest mean.
    pub best: usize,
    /// Every candidate, by ascending K.
    pub table: Vec<Candidate>,
}

/// How one K did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// K.
    pub components: usize,
    /// W2 after over W2 before on the rows kept out, for every fold (1 where W2 before is 0).
    pub folds: Vec<f64>,
    /// Mean of the folds.
    pub mean: f64,
    /// Standard error of the mean, `sd / sqrt(folds)`. The folds share rows, so it is rather too small than too large.
    pub standard_error: f64,
}

/// Chooses K of [`Method::PcaOt`](crate::Method::PcaOt) by the distance that is left on rows kept out of the fit.
///
/// Row `i` of each class is kept out in fold `i mod folds`: deterministic, and each class keeps its share. For every fold
/// and candidate the map is fitted on the other rows, with `options` but for `components`, and scored by
/// `W2(T(source), target) / W2(source, target)` in all dimensions, of the rows kept out. The smallest K within one
/// standard error of the best mean is chosen \[1\].
///
/// # What it tends to choose
/// - The distance of the means, where it is large beside the spread, is most of W2, and the first axes of the pooled rows
///   hold it: then K = 1 or 2 takes nearly all that can be taken, and the rule stays there. With [`Shift::Full`] the
///   whole mean moves at any K, and the choice is about covariances alone.
/// - A further axis pays only as long as its two variances differ by more than their error, about `sqrt(2 / n)` of each.
///   Trailing axes do not, so the table falls, is flat, and rises: more rows, larger K.
/// - What `W2` has in few rows of many dimensions, in axes that no K touches, is the same in the numerator and in the
///   denominator: ratios lie near 1 and the standard errors hide small gains. Read the table, not the choice alone.
/// - It knows distances and not what the model does with the activation: the study of a behaviour on a validation set
///   decides better, where there is one.
///
/// # Shapes
/// `source`: `[n_s, d]`, `target`: `[n_t, d]`, with or without weights ([`Samples`]); `candidates`: any order, repeated ones count once.
///
/// # Errors
/// [`TransportError::Option`] for no candidates, a candidate of 0, or folds outside `2..=n / 2` of the smaller class;
/// else as [`fit`](crate::fit()), such as a candidate above the rank of the rows that a fold leaves.
///
/// # References
/// 1. L. Breiman, J. Friedman, R. Olshen & C. Stone, "Classification and regression trees", 1984, section 3.4.3 (the
///    one-standard-error rule).
///
/// [`Shift::Full`]: crate::Shift::Full
///
/// ```
/// use brenier_transport::{FitOptions, select_components};
/// use faer::Mat;
///
/// let source = Mat::from_fn(60, 5, |i, j| ((i * (j + 2)) as f64 * 0.37).sin());
/// let target = Mat::from_fn(50, 5, |i, j| ((i * (j + 3)) as f64 * 0.53).cos() + if j == 0 { 8.0 } else { 0.0 });
/// let chosen = select_components(source.as_ref(), target.as_ref(), &[1, 2, 3], &FitOptions::default(), 5)?;
/// assert_eq!(chosen.table.len(), 3);
/// assert_eq!(chosen.components, 1); // the mean is nearly all of it
/// # Ok::<(), brenier_transport::TransportError>(())
/// ```
pub fn select_components<'a>(
    source: impl Into<Samples<'a>>,
    target: impl Into<Samples<'a>>,
    candidates: &[usize],
    options: &FitOptions,
    folds: usize,
) -> Result<Selection, TransportError> {
    let mut candidates = candidates.to_vec();
    candidates.sort_unstable();
    candidates.dedup();
    let refuse = |name, found, expected| Err(TransportError::Option { name, found, expected });
    match candidates.first() {
        None => return refuse("candidates", 0.0, "one number of components or more"),
        Some(0) => return refuse("candidates", 0.0, "numbers of 1 or more"),
        Some(_) => {}
    }
    options.check()?;
    let (source, target) = (Kept::new(Side::Source, source.into())?, Kept::new(Side::Target, target.into())?);
    let classes = checked_classes(&source, &target, 2)?;
    let least = classes[0].count().min(classes[1].count());
    if folds < 2 || 2 * folds > least {
        return refuse("folds", folds as f64, "2 or more, and at most half the rows of the smaller class");
    }

    // Once in reduced coordinates; no fold costs O(d) where rows are few.
    let reduced = Reduced::of(&classes)?;
    let cuts: Vec<Cut> = (0..folds).map(|fold| Cut::of(&reduced, fold, folds)).collect::<Result<_, _>>()?;
    let jobs: Vec<(usize, &Cut)> =
        candidates.iter().flat_map(|&k| cuts.iter().map(move |cut| (k, cut))).collect();
    let scores: Vec<f64> =
        jobs.into_par_iter().map(|(k, cut)| score(k, cut, options)).collect::<Result<_, _>>()?;

    let table: Vec<Candidate> = candidates
        .iter()
        .zip(scores.chunks(folds))
        .map(|(&components, folds)| {
            let n = folds.len() as f64;
            let mean = folds.iter().sum::<f64>() / n;
            let variance = folds.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0);
            Candidate { components, folds: folds.to_vec(), mean, standard_error: (variance / n).sqrt() }
        })
        .collect();
    let Some(best) = table.iter().min_by(|a, b| a.mean.total_cmp(&b.mean)) else {
        return refuse("candidates", 0.0, "one number of components or more");
    };
    let bound = best.mean + best.standard_error;
    let components = table.iter().find(|one| one.mean <= bound).map_or(best.components, |one| one.components);
    Ok(Selection { components, best: best.components, table })
}

/// The rows of a fold, and those kept out of it.
struct Cut {
    kept: Reduced<'static>,
    out: [Class<'static>; 2],
}

impl Cut {
    fn of(reduced: &Reduced<'_>, fold: usize, folds: usize) -> Result<Self, TransportError> {
        let cut = |class: &Class<'_>, out: bool| {
            class.pick(&(0..class.count()).filter(|i| (i % folds == fold) == out).collect::<Vec<_>>())
        };
        let [source, target] = &reduced.classes;
        let kept = [cut(source, false)?, cut(target, false)?];
        let kept = Reduced::of_coordinates(kept, reduced.rank, reduced.dim);
        Ok(Self { kept, out: [cut(source, true)?, cut(target, true)?] })
    }
}

/// The distance left over the distance before, of the rows kept out.
fn score(components: usize, cut: &Cut, options: &FitOptions) -> Result<f64, TransportError> {
    let Fitted::Lifted(affine) = pca_ot(&cut.kept, &FitOptions { components, ..*options })?.fitted else {
        return Ok(1.0);
    };
    let (map, covariance): (_, Covariance) = (RowMap::new(affine)?, options.covariance);
    let source = Samples::from(cut.out[0].needed_rows("a fold")?);
    let goal = Gaussian::from_rows(cut.out[1].needed_rows("a fold")?, covariance)?;
    let before = w2(&Gaussian::from_rows(source, covariance)?, &goal)?;
    let after = moved(&map, source.rows())?.rows;
    let after = Gaussian::from_rows(source.with_rows(after.transpose()), covariance)?;
    Ok(if before > 0.0 { w2(&after, &goal)? / before } else { 1.0 })
}
