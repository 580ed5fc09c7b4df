use crate::certificate::Certificate;
use crate::error::TransportError;
use crate::fit::{Fit, fit};
use crate::options::{FitOptions, GateOptions, Method, Pooling, Shift};
use crate::samples::Samples;
use brenier_linalg::{Covariance, RowSource, Shrinkage};
use brenier_map::{MapEntry, MapError, MapFile, RowMap, RowsMut};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the only map in a file that [`GaussianOtMap::save`] writes.
const ENTRY: &str = "map";

/// The optimal map between the Gaussians of two sets of activations, the short way: rows in, a checked map out.
///
/// Rows are anything that is [`RowSource`]: faer's matrices, slices with a width, and, behind the features of their names,
/// `ndarray`'s arrays and `nalgebra`'s matrices, of f32 or f64.
///
/// ```
/// use brenier_transport::GaussianOtMap;
/// use faer::Mat;
///
/// // 60 and 50 activations of width 4, one a row.
/// let source = Mat::from_fn(60, 4, |i, j| ((i * (j + 2)) as f32 * 0.37).sin());
/// let target = Mat::from_fn(50, 4, |i, j| 3.0 + 0.5 * ((i * (j + 3)) as f32 * 0.53).cos());
/// let mut rows = source.clone();
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("map.safetensors");
///
/// let fit = GaussianOtMap::fit(&source, &target)?;
/// fit.apply(&mut rows)?;
/// fit.save(&path)?;
/// assert_eq!(GaussianOtMap::load(&path)?.map(), fit.map());
///
/// // What is known of it.
/// let certificate = fit.certificate();
/// let checked = certificate.optimality.as_ref().unwrap();
/// assert!(checked.symmetry < 1e-12 && checked.min_eigenvalue > 0.0);
/// assert!(checked.push_forward_covariance < 1e-10);
/// assert!((checked.transport_cost - checked.w2_squared).abs() < 1e-10 * checked.w2_squared);
/// assert!(certificate.train.w2_after < 1e-6 * certificate.train.w2_before);
///
/// // In the two leading principal components.
/// let pca_ot = GaussianOtMap::builder().components(2).fit(&source, &target)?;
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
    pub fn fit(source: impl RowSource, target: impl RowSource) -> Result<Self, TransportError> {
        Self::builder().fit(source, target)
    }

    /// For anything but the defaults.
    pub fn builder() -> GaussianOtBuilder {
        GaussianOtBuilder { method: Method::Ot, options: FitOptions::default() }
    }

    /// Maps rows in place: f32 rows in f64, rounded once. [`RowMap::apply`] takes a strength besides.
    ///
    /// # Errors
    /// As [`RowMap::apply`].
    pub fn apply(&self, rows: &mut impl RowsMut) -> Result<(), TransportError> {
        Ok(self.0.map.apply(rows, 1.0)?)
    }

    /// Writes map and certificate as a [`MapFile`] of one entry, `map`; an existing file stays as it is.
    ///
    /// # Errors
    /// [`TransportError::Map`] for an existing file, and for what cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TransportError> {
        let Fit { map, certificate, method } = &self.0;
        let certificate = serde_json::to_value(certificate)
            .map_err(|error| MapError::Layout { what: "map", reason: error.to_string() })?;
        let entry = MapEntry { map: map.clone(), certificate, method: method.to_string() };
        let entries = BTreeMap::from([(ENTRY.to_owned(), entry)]);
        Ok(MapFile { entries, metadata: BTreeMap::new() }.write(path.as_ref(), false)?)
    }

    /// Reads what [`save`](Self::save) wrote, or any map file of one map that a method of this crate made.
    ///
    /// # Errors
    /// [`TransportError::Map`]: a file that cannot be read, that holds other than one map, or whose certificate is not one of
    /// this crate's; [`TransportError::UnknownMethod`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TransportError> {
        let path = path.as_ref();
        let unreadable = |reason| MapError::Unreadable { path: path.to_owned(), what: "map", reason };
        let mut entries = MapFile::read(path)?.entries;
        let (Some((_, entry)), 1) = (entries.pop_first(), entries.len() + 1) else {
            return Err(unreadable(format!("{} more maps than one", entries.len())).into());
        };
        let certificate = serde_json::from_value(entry.certificate)
            .map_err(|error| unreadable(format!("the certificate: {error}")))?;
        Ok(Self(Fit { map: entry.map, certificate, method: entry.method.parse()? }))
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

    /// The part of the target's spread that the source is given: 0 takes every row to the target's mean, 1 is the optimal
    /// map.
    pub fn target_spread(mut self, tau: f64) -> Self {
        self.options.target_spread = tau;
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

    /// Fits on rows, with their weights if they have any; f32 rows are widened to f64 first.
    ///
    /// # Errors
    /// As [`fit`](crate::fit()); [`TransportError::Unread`] for an option that the method does not read, such as a shift in
    /// all dimensions.
    pub fn fit(
        &self,
        source: impl RowSource,
        target: impl RowSource,
    ) -> Result<GaussianOtMap, TransportError> {
        self.options.check_for(self.method)?;
        let (from, to) = (source.rows().widened(), target.rows().widened());
        let from = Samples { rows: from.as_ref(), weights: source.weights() };
        let to = Samples { rows: to.as_ref(), weights: target.weights() };
        fit(self.method, from, to, &self.options, None).map(GaussianOtMap)
    }
}
