use crate::certificate::Optimality;
use crate::error::TransportError;
use crate::gaussian::Gaussian;
use crate::methods::axes::Axes;
use crate::methods::{Estimate, Fitted, norm_beside};
use crate::options::{FitOptions, Shift};
use crate::ot::{add_to_diagonal, monge};
use crate::reduce::Reduced;
use brenier_linalg::product;
use brenier_map::{Affine, LowRank};
use faer::Mat;

/// `T(x) = x + shift + P (A_K - I) P^T (x - m_s)`.
///
/// `P`: `[d, K]`, the top K principal axes of the pooled rows; `A_K` the optimal map in these coordinates. The
/// identity on the complement is part of the map: lifting `P A_K P^T` alone would delete the complement.
///
/// Reference: G. Nanfack, E. Belilovsky & E. Dohmatob, arXiv 2603.04355, 2026.
pub(crate) fn pca_ot(reduced: &Reduced<'_>, options: &FitOptions) -> Result<Estimate, TransportError> {
    let axes = Axes::of(reduced, options)?;
    let reg = options.reg_abs.unwrap_or(0.0);
    let gaussian =
        |side: usize| axes.classes[side].gaussian(options.covariance, options.shrinkage, reg, axes.count());
    let ((source, of_source), (target, of_target)) = (gaussian(0)?, gaussian(1)?);
    let target = target.narrowed(options.target_spread);
    let (affine, optimality) = in_axes(&axes, [&source, &target], &reduced.means, options.shift)?;
    let norm = optimality.max_eigenvalue.max(norm_beside(axes.count(), reduced.dim));
    Ok(Estimate {
        optimality: Some(optimality),
        shrinkage: Some([of_source, of_target]),
        explained: Some(axes.explained()),
        axes: Some(axes),
        ..Estimate::new(Fitted::Lifted(affine), norm)
    })
}

/// The optimal map between two Gaussians in the K coordinates, the identity on the complement of the axes.
fn in_axes(
    axes: &Axes,
    [source, target]: [&Gaussian; 2],
    [source_mean, target_mean]: &[Vec<f64>; 2],
    shift: Shift,
) -> Result<(Affine, Optimality), TransportError> {
    let monge = monge(source, target)?;
    let mut correction = monge.matrix();
    add_to_diagonal(&mut correction, -1.0);
    let offset = match shift {
        Shift::Full => target_mean.iter().zip(source_mean).map(|(t, s)| t - s).collect(),
        Shift::Subspace => {
            let step = Mat::from_fn(axes.count(), 1, |k, _| target.mean()[k] - source.mean()[k]);
            product(axes.basis.as_ref(), step.as_ref()).col_as_slice(0).to_vec()
        }
    };
    let affine = Affine::LowRank(LowRank {
        scale: 1.0,
        mean: source_mean.clone(),
        offset,
        u: product(axes.basis.as_ref(), correction.as_ref()),
        v: axes.basis.clone(),
    });
    Ok((affine, monge.optimality().clone()))
}
