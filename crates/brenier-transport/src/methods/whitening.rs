use crate::error::TransportError;
use crate::methods::ot::{Pair, gaussians};
use crate::methods::{Estimate, Fitted};
use crate::options::FitOptions;
use crate::ot::{TOLERANCE, extremes, refuse_beyond};
use crate::reduce::Reduced;
use brenier_linalg::{
    product, product_with_transpose, relative_floor, singular_values, symmetric_eigenvalues, thin_svd,
};
use faer::Mat;

/// Whitening by the source, colouring by the target, with symmetric roots:
///
/// ```text
/// T(x) = m_t + S_t^{1/2} S_s^{-1/2} (x - m_s)
/// ```
///
/// It pushes `N(m_s, S_s)` to `N(m_t, S_t)` exactly as the optimal map does, and is not the optimal map unless the two
/// covariances commute: not symmetric, and dearer. Kept as the control: it shows that the push-forward alone makes no
/// map the optimal one. On directions in which the source does not vary it is the identity, as [`monge`](crate::ot::monge) is, and the target
/// is taken on the source's range; outside the joint span it is `sqrt(e_t / e_s)`.
///
/// Reference: Y. Li et al., "Universal style transfer via feature transforms", NeurIPS 2017.
pub(crate) fn whitening(
    reduced: &Reduced<'_>,
    options: &FitOptions,
    intensities: Option<[f64; 2]>,
) -> Result<Estimate, TransportError> {
    let Pair { between: joint, shrinkage, inner: span } = gaussians(reduced, options, intensities)?;
    let range = joint.range_of_source()?;
    let w2_squared = joint.w2_squared_within(&range)?;
    let (r, kept, scale) = (joint.rank(), range.kept, joint.scale());

    let inner = {
        let colour = thin_svd(product(joint.of_target.as_ref(), range.axes()).as_ref())?;
        // S_t^{1/2} S_s^{-1/2} on the range, where S_s is diag(s^2).
        let scaled = Mat::from_fn(kept, colour.values.len(), |i, j| colour.right[(i, j)] * colour.values[j]);
        let mut root = product_with_transpose(scaled.as_ref(), colour.right.as_ref());
        for (column, s) in root.as_mut().col_iter_mut().zip(range.deviations()) {
            column.iter_mut().for_each(|x| *x /= s);
        }
        root
    };
    let matrix = range.beside_identity(inner);

    let (mut control, _) = joint.measure(matrix.as_ref(), range, w2_squared);
    let middle = Mat::from_fn(r, r, |i, j| 0.5 * (matrix[(i, j)] + matrix[(j, i)]));
    let mut eigenvalues = symmetric_eigenvalues(middle.as_ref())?;
    drop(middle);
    let mut norm = singular_values(matrix.as_ref())?.first().copied().unwrap_or(scale);
    if joint.rest() > 0.0 {
        eigenvalues.push(scale);
        norm = norm.max(scale);
    }
    [control.min_eigenvalue, control.max_eigenvalue] = extremes(&eigenvalues);
    control.tolerance = TOLERANCE * relative_floor(joint.longest() + 16) * control.condition.sqrt();
    // The one condition that it meets.
    let allowed = control.tolerance * norm.max(1.0);
    refuse_beyond(&[("A S_s A^T = S_t", control.push_forward_covariance, allowed)])?;
    Ok(Estimate {
        control: Some(control),
        shrinkage: Some(shrinkage),
        ..Estimate::new(Fitted::Span { scale, matrix, inner: span }, norm)
    })
}
