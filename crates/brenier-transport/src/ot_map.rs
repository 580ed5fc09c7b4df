use crate::certificate::Certificate;
use crate::error::TransportError;
use crate::fit::{Fit, fit};
use crate::options::{FitOptions, GateOptions, Method, Pooling, Shift};
use crate::samples::Samples;
use brenier_linalg::{Covariance, Shrinkage};
use brenier_map::RowMap;
use faer::{Mat, MatRef};

/// The optimal map between the Gaussians of two sets of activations, the short way: f32 rows in, a checked map out.
///
/// ```
/// use brenier_transport::{GaussianOtMap, Shift};
/// use faer::Mat;
///
/// // 60 and 50 activations of width 4, one a row.
/// let source = Mat::from_fn(60, 4, |i, j| ((i * (j + 2)) as f32 * 0.37).sin());
/// let target = Mat::from_fn(50, 4, |i, j| 3.0 + 0.5 * ((i * (j + 3)) as f32 * 0.53).cos());
///
/// let ot = GaussianOtMap::fit(source.as_ref(), target.as_ref())?;
/// let certificate = ot.certificate();
/// let laws = certificate.optimality.as_ref().unwrap();
/// assert!(laws.symmetry < 1e-12 && laws.min_eigenvalue > 0.0);
/// assert!(laws.push_forward_covariance < 1e-10);
/// assert!((laws.transport_cost - laws.w2_squared).abs() < 1e-10 * laws.w2_squared);
/// assert!(certificate.train.w2_after < 1e-6 * certificate.train.w2_before);
///
/// // In the two leading principal components, moving the whole mean.
/// let pca_ot = GaussianOtMap::builder().components(2).shift(Shift::Full).fit(source.as_ref(), target.as_ref())?;
/// let mut rows = source.clone();
/// pca_ot.map().apply_rows_f32(rows.as_mut(), 1.0)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct GaussianOtMap(Fit);

impl GaussianOtMap {
    /// The exact optimal map in all dimensions, of the empirical Gaussians ([`Method::Ot`] with default options).
    /// Computed in f64; no `d x d` matrix where the rows are fewer than `d`.
    ///
    /// # Shapes
    /// `source`: `[n_s, d]`, `target`: `[n_t, d]`.
    ///
    /// # Errors
    /// As [`fit`](crate::fit()).
    pub fn fit(source: MatRef<'_, f32>, target: MatRef<'_, f32>) -> Result<Self, TransportError> {
        Self::builder().fit(source, target)
    }

    /// For anything but the defaults.
    pub fn builder() -> GaussianOtBuilder {
        GaussianOtBuilder { method: Method::Ot, options: FitOptions::default() }
    }

    /// The map.
    pub fn map(&self) -> &RowMap {
        &self.0.map
    }

    /// What is known of it.
    pub fn certificate(&self) -> &Certificate {
        &self.0.certificate
    }

    /// Map, certificate and method, to keep.
    pub fn into_fit(self) -> Fit {
        self.0
    }
}

/// Options of a [`GaussianOtMap`]; see [`FitOptions`] for what each means.
#[derive(Debug, Clone)]
pub struct GaussianOtBuilder {
    method: Method,
    options: FitOptions,
}

impl GaussianOtBuilder {
    /// Transport in the `components` leading principal axes of the pooled rows instead of all dimensions.
    pub fn components(mut self, components: usize) -> Self {
        self.options.components = components;
        if self.method == Method::Ot {
            self.method = Method::PcaOt;
        }
        self
    }

    /// Weigh the map by the posterior that a row belongs to the source, in the principal axes.
    pub fn gated(mut self, gate: GateOptions) -> Self {
        self.method = Method::Gated;
        self.options.gate = gate;
        self
    }

    /// Which part of the mean moves, in principal axes.
    pub fn shift(mut self, shift: Shift) -> Self {
        self.options.shift = shift;
        self
    }

    /// How the classes are weighed when the principal axes are found.
    pub fn pooling(mut self, pooling: Pooling) -> Self {
        self.options.pooling = pooling;
        self
    }

    /// Shrinkage of both covariances.
    pub fn shrinkage(mut self, shrinkage: Shrinkage) -> Self {
        self.options.shrinkage = shrinkage;
        self
    }

    /// Divisor of the covariances.
    pub fn covariance(mut self, covariance: Covariance) -> Self {
        self.options.covariance = covariance;
        self
    }

    /// A probabilistic PCA of so many latent directions in place of each covariance, in all dimensions: POT's
    /// `empirical_bures_wasserstein_mapping_hd`.
    pub fn latent(mut self, latent: usize) -> Self {
        self.options.latent = Some(latent);
        self
    }

    /// POT's absolute regulariser.
    pub fn reg_abs(mut self, reg: f64) -> Self {
        self.options.reg_abs = Some(reg);
        self
    }

    /// Fits on f32 rows, widened to f64 first.
    ///
    /// # Errors
    /// As [`fit`](crate::fit()).
    pub fn fit(
        &self,
        source: MatRef<'_, f32>,
        target: MatRef<'_, f32>,
    ) -> Result<GaussianOtMap, TransportError> {
        self.fit_f64(widen(source).as_ref(), widen(target).as_ref())
    }

    /// Fits on f32 rows with a weight each, widened to f64 first; see [`Samples`].
    ///
    /// # Errors
    /// As [`fit`](crate::fit()).
    pub fn fit_weighted(
        &self,
        (source, source_weights): (MatRef<'_, f32>, &[f64]),
        (target, target_weights): (MatRef<'_, f32>, &[f64]),
    ) -> Result<GaussianOtMap, TransportError> {
        let (source, target) = (widen(source), widen(target));
        self.fit_f64(
            Samples::weighted(source.as_ref(), source_weights),
            Samples::weighted(target.as_ref(), target_weights),
        )
    }

    /// Fits on f64 rows, with or without weights ([`Samples`]).
    ///
    /// # Errors
    /// As [`fit`](crate::fit()).
    pub fn fit_f64<'a>(
        &self,
        source: impl Into<Samples<'a>>,
        target: impl Into<Samples<'a>>,
    ) -> Result<GaussianOtMap, TransportError> {
        fit(self.method, source, target, &self.options, None).map(GaussianOtMap)
    }
}

fn widen(rows: MatRef<'_, f32>) -> Mat<f64> {
    Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| f64::from(rows[(i, j)]))
}
