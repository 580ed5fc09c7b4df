use crate::certificate::bootstrap::BootstrapOptions;
use crate::certificate::sliced::SlicedOptions;
use crate::error::TransportError;
use crate::gaussian::mixture::fit::MixtureOptions;
use crate::methods::entropic::Blur;
use brenier_linalg::{Covariance, Shrinkage};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How a map is estimated. The names are those of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Method {
    /// Optimal transport in the leading principal components of the pooled rows, the rest left as it is.
    PcaOt,
    /// [`Method::PcaOt`] weighted by the posterior that a row belongs to the source.
    Gated,
    /// Optimal transport between Gaussian mixtures, in the leading principal components.
    Mixture,
    /// Optimal transport in all dimensions.
    Ot,
    /// The barycentric map of entropic optimal transport, in all dimensions. It contracts.
    Entropic,
    /// Shift of the mean.
    Mean,
    /// Projection onto the complement of the difference of the means (refusal feature ablation).
    Rfa,
    /// The same projection, recentred on the target (affine concept editing).
    Ace,
    /// The least change after which no affine predictor tells the classes apart (least-squares concept erasure).
    Leace,
    /// Shift of every coordinate by itself, inside a range of quantiles.
    ActMean,
    /// One-dimensional transport of every coordinate, fitted to sorted samples.
    ActLinear,
    /// One-dimensional transport of every coordinate between Gaussians.
    ActGaussian,
    /// Whitening by the source, colouring by the target: pushes forward as [`Method::Ot`] does and is not optimal. The
    /// control.
    Whitening,
}

impl Method {
    /// Every method, in the order in which reports list them.
    pub const ALL: [Self; 13] = [
        Self::PcaOt,
        Self::Gated,
        Self::Mixture,
        Self::Ot,
        Self::Entropic,
        Self::Mean,
        Self::Rfa,
        Self::Ace,
        Self::Leace,
        Self::ActMean,
        Self::ActLinear,
        Self::ActGaussian,
        Self::Whitening,
    ];

    /// The method's name, as the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PcaOt => "pca-ot",
            Self::Gated => "gated",
            Self::Mixture => "mixture",
            Self::Ot => "ot",
            Self::Entropic => "entropic",
            Self::Mean => "mean",
            Self::Rfa => "rfa",
            Self::Ace => "ace",
            Self::Leace => "leace",
            Self::ActMean => "act-mean",
            Self::ActLinear => "act-linear",
            Self::ActGaussian => "act-gaussian",
            Self::Whitening => "whitening",
        }
    }

    /// Whether [`FitOptions::components`] matters to the method.
    pub const fn uses_components(self) -> bool {
        matches!(self, Self::PcaOt | Self::Gated | Self::Mixture)
    }

    /// Whether [`FitOptions::latent`] matters to the method.
    pub const fn uses_latent(self) -> bool {
        matches!(self, Self::Ot | Self::Entropic | Self::Whitening)
    }

    /// All names, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The fewest rows of each class that the method can be fitted on: 2 where a covariance is estimated.
    pub const fn least_rows(self) -> usize {
        match self {
            Self::Mean | Self::Rfa | Self::Ace | Self::Leace | Self::ActMean => 1,
            _ => 2,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = TransportError;

    fn from_str(name: &str) -> Result<Self, TransportError> {
        Self::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| TransportError::UnknownMethod { found: name.to_owned() })
    }
}

/// Which part of the mean a PCA-OT map moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shift {
    /// `P P^T (m_t - m_s)`: the orthogonal complement of the components is left as it is.
    #[default]
    Subspace,
    /// `m_t - m_s`: the whole mean.
    Full,
}

/// How the two classes are weighed when the principal components are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Every row weighs the same, or as its weight says; the centre is the mean of all rows.
    #[default]
    Rows,
    /// Each class weighs one half; the centre is the middle of the two means. The same as `Rows` for equal counts.
    Classes,
}

/// Options of the posterior gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateOptions {
    /// Divides the log-odds: above 1 the gate is softer, below 1 sharper. Positive; 1 by default.
    pub temperature: f64,
    /// Below this posterior the gate is shut; in `0..=1`. None by default.
    pub threshold: Option<f64>,
    /// Prior share of the source, strictly between 0 and 1; one half by default.
    pub prior: f64,
    /// Shrinkage of the classes' covariances in the gate's coordinates, which are scaled to unit pooled variance.
    /// [`Shrinkage::Auto`] by default: a density needs an inverse, and calibration needs a regular one.
    pub shrinkage: Shrinkage,
    /// Number of folds over which log-loss on rows kept out chooses the gate's own number of components, its shrinkage
    /// and its temperature ([`calibrate_gate`](crate::calibrate_gate), with its default grid), in place of those given.
    /// None by default.
    pub calibrate: Option<usize>,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { temperature: 1.0, threshold: None, prior: 0.5, shrinkage: Shrinkage::Auto, calibrate: None }
    }
}

/// Options of [`fit`](crate::fit()). Each method reads what concerns it; [`FitOptions::check_for`] refuses what it would not
/// read, and [`FitOptions::only_for`] leaves that out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitOptions {
    /// K, the number of principal components of [`Method::PcaOt`], [`Method::Gated`] and [`Method::Mixture`]; 2 by
    /// default.
    pub components: usize,
    /// Which part of the mean moves (PCA-OT).
    pub shift: Shift,
    /// How the classes are weighed in the PCA (PCA-OT).
    pub pooling: Pooling,
    /// Shrinkage of the two covariances of the transport map; none by default. In the K coordinates for PCA-OT, in
    /// all d for [`Method::Ot`], [`Method::Entropic`] and [`Method::Whitening`], of the pooled rows for
    /// [`Method::Leace`].
    pub shrinkage: Shrinkage,
    /// The part `tau` of the target's spread that the source is given about the target's mean, in `0..=1`, for
    /// [`Method::PcaOt`], [`Method::Gated`], [`Method::Ot`], [`Method::Entropic`] and [`Method::Whitening`]; 1 by default.
    /// The map is the method's to `N(m_t, tau^2 S_t)`: at 0 it takes every row to the target's mean in the coordinates that
    /// it moves, as [`Method::Ace`] does along one direction.
    pub target_spread: f64,
    /// Divisor of the covariances; `n - 1` by default.
    pub covariance: Covariance,
    /// Added to the diagonal of both covariances as it is, in squared units of the activations: POT's `reg`.
    pub reg_abs: Option<f64>,
    /// Number of latent directions of a probabilistic PCA of each class ([`Gaussian::probabilistic_pca`]), in place of its
    /// covariance, for [`Method::Ot`], [`Method::Entropic`] and [`Method::Whitening`]. None by default; not together with
    /// shrinkage, since it makes the covariance regular by itself.
    ///
    /// [`Gaussian::probabilistic_pca`]: crate::Gaussian::probabilistic_pca
    pub latent: Option<usize>,
    /// Options of the posterior gate.
    pub gate: GateOptions,
    /// Options of [`Method::Mixture`].
    pub mixture: MixtureOptions,
    /// AcT only: move a coordinate only strictly inside these two quantiles of its source values. Everywhere by
    /// default, and for `(0.0, 1.0)`, which leaves nothing out.
    pub act_quantiles: Option<(f64, f64)>,
    /// Blur of [`Method::Entropic`]; a tenth of the spread by default.
    pub entropic_sigma: Blur,
    /// Percentile intervals in the certificate, on W2 before and on the norm of the map. None by default: every resample
    /// is a fit.
    pub bootstrap: Option<BootstrapOptions>,
    /// The sliced distance in the certificate, before and after. None by default.
    pub sliced: Option<SlicedOptions>,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            components: 2,
            shift: Shift::default(),
            pooling: Pooling::default(),
            shrinkage: Shrinkage::default(),
            target_spread: 1.0,
            covariance: Covariance::default(),
            reg_abs: None,
            latent: None,
            gate: GateOptions::default(),
            mixture: MixtureOptions::default(),
            act_quantiles: None,
            entropic_sigma: Blur::default(),
            bootstrap: None,
            sliced: None,
        }
    }
}

impl FitOptions {
    /// The quantiles between which AcT moves a coordinate; none where it moves everywhere.
    pub(crate) fn act_range(&self) -> Option<(f64, f64)> {
        self.act_quantiles.filter(|&range| range != (0.0, 1.0))
    }

    /// These options with the default of each that the method does not read.
    #[must_use]
    pub fn only_for(mut self, method: Method) -> Self {
        use Method::{
            ActGaussian, ActLinear, ActMean, Entropic, Gated, Leace, Mixture, Ot, PcaOt, Whitening,
        };
        let Self {
            components,
            shift,
            pooling,
            shrinkage,
            target_spread,
            covariance: _,
            reg_abs,
            latent,
            gate,
            mixture,
            act_quantiles,
            entropic_sigma,
            bootstrap: _,
            sliced: _,
        } = Self::default();
        let transports = matches!(method, PcaOt | Gated | Ot | Entropic | Whitening);
        if !method.uses_components() {
            (self.components, self.shift, self.pooling) = (components, shift, pooling);
        }
        if !(transports || method == Leace) {
            self.shrinkage = shrinkage;
        }
        if !transports {
            (self.reg_abs, self.target_spread) = (reg_abs, target_spread);
        }
        if !method.uses_latent() {
            self.latent = latent;
        }
        if !matches!(method, Gated | Mixture) {
            self.gate = gate;
        }
        if method != Mixture {
            // A seed may be given to all methods alike.
            self.mixture = MixtureOptions { seed: self.mixture.seed, ..mixture };
        }
        if !matches!(method, ActMean | ActLinear | ActGaussian) {
            self.act_quantiles = act_quantiles;
        }
        if method != Entropic {
            self.entropic_sigma = entropic_sigma;
        }
        self
    }

    /// Checks that the method reads every option that differs from its default, and the ranges of all.
    ///
    /// # Errors
    /// [`TransportError::Unread`], [`TransportError::Option`].
    pub fn check_for(&self, method: Method) -> Result<(), TransportError> {
        self.check()?;
        let read = self.only_for(method);
        for (option, is_read) in [
            ("components", read.components == self.components),
            ("shift", read.shift == self.shift),
            ("pooling", read.pooling == self.pooling),
            ("shrinkage", read.shrinkage == self.shrinkage),
            ("target spread", read.target_spread == self.target_spread),
            ("reg-abs", read.reg_abs == self.reg_abs),
            ("latent", read.latent == self.latent),
            ("gate", read.gate == self.gate),
            ("mixture", read.mixture == self.mixture),
            ("act quantiles", read.act_quantiles == self.act_quantiles),
            ("entropic sigma", read.entropic_sigma == self.entropic_sigma),
        ] {
            if !is_read {
                return Err(TransportError::Unread { option, method });
            }
        }
        Ok(())
    }

    /// Checks the ranges of all options.
    ///
    /// # Errors
    /// [`TransportError::Option`] names the option, its value and what it may be.
    pub fn check(&self) -> Result<(), TransportError> {
        let refuse = |name, found, expected| Err(TransportError::Option { name, found, expected });
        let unit = |x: f64| (0.0..=1.0).contains(&x);
        if self.components == 0 {
            return refuse("components", 0.0, "1 or more");
        }
        for (name, shrinkage) in [("shrinkage", self.shrinkage), ("gate shrinkage", self.gate.shrinkage)] {
            if let Shrinkage::Fixed(x) = shrinkage
                && !unit(x)
            {
                return refuse(name, x, "auto, oas or a number in 0..=1");
            }
        }
        if !unit(self.target_spread) {
            return refuse("target spread", self.target_spread, "a number in 0..=1");
        }
        if let Some(x) = self.reg_abs.filter(|x| !(x.is_finite() && *x >= 0.0)) {
            return refuse("reg-abs", x, "a finite number of 0 or more");
        }
        if let Some(latent) = self.latent {
            if latent == 0 {
                return refuse("latent", 0.0, "1 or more");
            }
            if self.shrinkage != Shrinkage::Fixed(0.0) {
                return refuse("latent", latent as f64, "none beside a shrinkage: give one of the two");
            }
        }
        let GateOptions { temperature, threshold, prior, .. } = self.gate;
        if !(temperature.is_finite() && temperature > 0.0) {
            return refuse("gate temperature", temperature, "a finite number above 0");
        }
        if let Some(x) = threshold.filter(|&x| !unit(x)) {
            return refuse("gate threshold", x, "a number in 0..=1");
        }
        if let Some(folds) = self.gate.calibrate.filter(|&folds| folds < 2) {
            return refuse("gate calibration folds", folds as f64, "2 or more");
        }
        if !(prior > 0.0 && prior < 1.0) {
            return refuse("gate prior", prior, "a number strictly between 0 and 1");
        }
        if let Some((low, high)) = self.act_quantiles
            && !(unit(low) && unit(high) && low < high)
        {
            return refuse("act quantiles", low, "two numbers in 0..=1, the first smaller than the second");
        }
        let (Blur::Relative(sigma) | Blur::Absolute(sigma)) = self.entropic_sigma;
        if !(sigma.is_finite() && sigma > 0.0) {
            return refuse("entropic sigma", sigma, "a finite number above 0");
        }
        if let Some(BootstrapOptions { resamples, level, .. }) = self.bootstrap {
            if !(1..=BootstrapOptions::MOST_RESAMPLES).contains(&resamples) {
                return refuse("bootstrap resamples", resamples as f64, "1 or more, at most 100000");
            }
            if !(level > 0.0 && level < 1.0) {
                return refuse("bootstrap level", level, "a number strictly between 0 and 1");
            }
        }
        if let Some(SlicedOptions { directions, .. }) = self.sliced
            && !(1..=SlicedOptions::MOST_DIRECTIONS).contains(&directions)
        {
            return refuse("sliced directions", directions as f64, "1 or more, at most 10000");
        }
        self.mixture.check()
    }
}
