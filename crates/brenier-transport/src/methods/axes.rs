//! The leading principal axes of the pooled rows, which PCA-OT, the gate and mixtures work in.

use crate::error::TransportError;
use crate::options::{FitOptions, Pooling};
use crate::reduce::Reduced;
use crate::samples::class::{Class, middle, share_of_source, stacked};
use brenier_linalg::{LinalgError, column_signs, orthonormalize, pca_of_factor};
use faer::Mat;

/// Principal axes, and the classes along them.
pub(crate) struct Axes {
    /// `P`, `[d, K]`; in each axis the entry of largest magnitude is positive.
    pub basis: Mat<f64>,
    /// The axes in reduced coordinates, `[r, K]`.
    pub inner: Mat<f64>,
    /// Variance along each axis. `[K]`.
    pub eigenvalues: Vec<f64>,
    /// Variance along all axes.
    pub total: f64,
    /// Origin of the coordinates, `[d]`.
    pub center: Vec<f64>,
    /// The classes in the K coordinates.
    pub classes: [Class<'static>; 2],
}

impl Axes {
    /// Of the pooled scatter about its centre `c = p m_s + (1 - p) m_t`, which is
    /// `p S_s + (1 - p) S_t + p (1 - p) (m_t - m_s)(m_t - m_s)^T` with covariances that divide by n.
    pub(crate) fn of(reduced: &Reduced<'_>, options: &FitOptions) -> Result<Self, TransportError> {
        let share = match options.pooling {
            Pooling::Rows => share_of_source(&reduced.classes)?,
            Pooling::Classes => 0.5,
        };
        let factor = stacked(&reduced.classes, [share, 1.0 - share, share * (1.0 - share)])?;
        let mut pca = pca_of_factor(factor, options.components).map_err(|error| match error {
            // The rows that were given, not those of the factor.
            LinalgError::ComponentsExceedRank { components, rank, .. } => {
                let rows = reduced.classes[0].count().saturating_add(reduced.classes[1].count());
                LinalgError::ComponentsExceedRank { components, rank, rows, width: reduced.dim }
            }
            other => other,
        })?;
        let mut basis = orthonormalize(reduced.basis.lift(pca.basis.as_ref()))?;
        for (k, sign) in column_signs(basis.as_ref()).into_iter().enumerate() {
            basis.col_as_slice_mut(k).iter_mut().for_each(|x| *x *= sign);
            pca.basis.col_as_slice_mut(k).iter_mut().for_each(|x| *x *= sign);
        }
        let [source, target] = &reduced.classes;
        let origin = middle(&source.mean, &target.mean, share);
        let along = |class: &Class<'_>| class.along(pca.basis.as_ref(), &origin, None);
        Ok(Self {
            classes: [along(source)?, along(target)?],
            center: middle(&reduced.means[0], &reduced.means[1], share),
            basis,
            inner: pca.basis,
            eigenvalues: pca.eigenvalues,
            total: pca.total,
        })
    }

    /// K.
    pub(crate) fn count(&self) -> usize {
        self.eigenvalues.len()
    }

    /// The share of the variance along these axes.
    pub(crate) fn explained(&self) -> f64 {
        self.eigenvalues.iter().sum::<f64>() / self.total
    }

    /// Deviations along the axes. `[K]`.
    pub(crate) fn deviations(&self) -> Vec<f64> {
        self.eigenvalues.iter().map(|value| value.sqrt()).collect()
    }

    /// A class in coordinates of unit pooled variance.
    pub(crate) fn whitened(&self, side: usize) -> Result<Class<'static>, LinalgError> {
        let k = self.count();
        let all = Mat::<f64>::identity(k, k);
        self.classes[side].along(all.as_ref(), &vec![0.0; k], Some(&self.deviations()))
    }
}
