use crate::error::TransportError;
use crate::gaussian::mixture::fit::{MixtureReport, fit_mixture};
use crate::gaussian::mixture::{mixture_plan, pieces, resting};
use crate::methods::axes::Axes;
use crate::methods::{Estimate, Fitted, norm_beside};
use crate::options::{FitOptions, Shift};
use crate::reduce::Reduced;
use brenier_linalg::{product, transpose_product};
use brenier_map::{Affine, Mixture};
use faer::Mat;
use serde::{Deserialize, Serialize};

/// How the mixtures of a [`Method::Mixture`](crate::Method::Mixture) fit went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixtureLaws {
    /// The source's mixture.
    pub source: MixtureReport,
    /// The target's mixture.
    pub target: MixtureReport,
    /// The optimal plan between their components, row by row: `plan[i][j]` goes from the source's `i` to the target's `j`.
    pub plan: Vec<Vec<f64>>,
    /// The mixture distance in the K coordinates, in the units of the activations.
    pub mw2: f64,
    /// Duality gap of the plan over its cost: what rounding did to its optimality.
    pub gap: f64,
    /// Whether the target's components stay where they are.
    pub gated: bool,
}

/// Fits a mixture to each class along the axes, and takes the barycentric map of their optimal plan.
///
/// Mixtures are fitted in coordinates of unit pooled variance, where no axis drowns another; the plan's costs and the
/// maps are those of the activations' own units.
pub(crate) fn mixture_ot(reduced: &Reduced<'_>, options: &FitOptions) -> Result<Estimate, TransportError> {
    let axes = Axes::of(reduced, options)?;
    let (k, roots) = (axes.count(), axes.deviations());
    let fitted = |side: usize| {
        let class = axes.whitened(side)?;
        fit_mixture(class.needed_rows("method mixture")?, &options.mixture)
    };
    let (source, target) = (fitted(0)?, fitted(1)?);
    let (from, to) = (source.mixture.scaled(&roots), target.mixture.scaled(&roots));
    let plan = mixture_plan(&from, &to)?;
    let origin = vec![0.0; k];
    let (mut all, norm) = pieces(&from, &to, &plan, &origin, &roots)?;
    if options.mixture.gated {
        let prior = options.gate.prior;
        all.iter_mut().for_each(|piece| piece.constant += prior.ln());
        all.extend(resting(&to, (1.0 - prior).ln(), &origin, &roots)?);
    }
    let d = axes.basis.nrows();
    let moving = from.count();
    let mut map = Mixture {
        center: axes.center.clone(),
        offset: vec![0.0; d],
        u: axes.basis.clone(),
        v: Mat::from_fn(d, k, |i, j| axes.basis[(i, j)] / roots[j]),
        pieces: all,
    };
    if options.shift == Shift::Full {
        // What of the mean's shift lies outside the axes is one more direction, which nothing reads and which what moves
        // goes along.
        let [m_s, m_t] = &reduced.means;
        let gap = Mat::from_fn(d, 1, |j, _| m_t[j] - m_s[j]);
        let inside =
            product(axes.basis.as_ref(), transpose_product(axes.basis.as_ref(), gap.as_ref()).as_ref());
        map.u =
            Mat::from_fn(d, k + 1, |i, j| if j < k { map.u[(i, j)] } else { gap[(i, 0)] - inside[(i, 0)] });
        map.v = wider(&map.v, d, k + 1);
        for (c, piece) in map.pieces.iter_mut().enumerate() {
            piece.linear.push(0.0);
            piece.shift.push(if c < moving { 1.0 } else { 0.0 });
            piece.quadratic = wider(&piece.quadratic, k + 1, k + 1);
            piece.matrix = wider(&piece.matrix, k + 1, k + 1);
        }
    }
    let affine = Affine::Mixture(map);
    let row = |i: usize| plan.weights.row(i).iter().copied().collect();
    let laws = MixtureLaws {
        source: source.report,
        target: target.report,
        plan: (0..plan.weights.nrows()).map(row).collect(),
        mw2: plan.cost.max(0.0).sqrt(),
        gap: if plan.cost > 0.0 { plan.gap / plan.cost } else { plan.gap },
        gated: options.mixture.gated,
    };
    Ok(Estimate {
        mixture: Some(laws),
        explained: Some(axes.explained()),
        ..Estimate::new(Fitted::Lifted(affine), norm.max(norm_beside(k, reduced.dim)))
    })
}

/// The matrix with zeros beyond it.
fn wider(matrix: &Mat<f64>, rows: usize, cols: usize) -> Mat<f64> {
    Mat::from_fn(
        rows,
        cols,
        |i, j| if i < matrix.nrows() && j < matrix.ncols() { matrix[(i, j)] } else { 0.0 },
    )
}
