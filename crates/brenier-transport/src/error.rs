use crate::options::Method;
use brenier_linalg::LinalgError;
use brenier_map::MapError;
use std::fmt;
use thiserror::Error;

/// Which rows an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The behaviour to be changed.
    Source,
    /// The behaviour wanted.
    Target,
    /// Source rows kept out of the fit.
    HeldOutSource,
    /// Target rows kept out of the fit.
    HeldOutTarget,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::HeldOutSource => "held-out source",
            Self::HeldOutTarget => "held-out target",
        })
    }
}

/// Why a fit was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Rows that cannot be fitted: a NaN, an infinity, too few of them.
    #[error("{side} rows: {error}")]
    Rows {
        /// Whose rows.
        side: Side,
        /// What is wrong with them, with row and column.
        error: LinalgError,
    },
    /// A finite value whose fourth power would overflow.
    #[error(
        "{side} rows: row {row}, column {column} (counted from 0) is {value:e}; values up to {limit:e} can be fitted, rescale the rows"
    )]
    Magnitude {
        /// Whose rows.
        side: Side,
        /// Row, counted from 0.
        row: usize,
        /// Column, counted from 0.
        column: usize,
        /// The value.
        value: f64,
        /// The largest magnitude allowed.
        limit: f64,
    },
    /// Rows of different widths.
    #[error(
        "{side} rows have {found} columns, but the source rows have {expected}; both must come from the same place in the same model"
    )]
    Widths {
        /// Whose rows differ from the source's.
        side: Side,
        /// Width of the source rows.
        expected: usize,
        /// Width of these rows.
        found: usize,
    },
    /// A name that is no method.
    #[error("unknown method {found:?}; known are {}", Method::names())]
    UnknownMethod {
        /// The name given.
        found: String,
    },
    /// An option outside its range.
    #[error("option {name} is {found}, but has to be {expected}")]
    Option {
        /// The option's name.
        name: &'static str,
        /// Its value.
        found: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// An option that the method would not read.
    #[error(
        "method {method} does not read the option {option}; hint: leave it at its default, or take a method that reads it"
    )]
    Unread {
        /// The option's name.
        option: &'static str,
        /// The method.
        method: Method,
    },
    /// Something that takes more than a mean and a covariance.
    #[error("{what} needs the rows themselves, and moments keep none: {instead}")]
    NeedsRows {
        /// What was asked for.
        what: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// The means coincide, so there is no direction from one to the other.
    #[error(
        "source and target have the same mean to rounding (|m_s - m_t| = {distance:e}): method {method} has no direction to act on"
    )]
    SameMean {
        /// The method that needs a direction.
        method: Method,
        /// The distance of the means.
        distance: f64,
    },
    /// A class without a density in the gate's coordinates.
    #[error(
        "the {side} rows span {rank} of the gate's {components} components, so they have no density there; use fewer components, more rows, or gate shrinkage above 0"
    )]
    GateDegenerate {
        /// Whose rows.
        side: Side,
        /// Components that they span.
        rank: usize,
        /// Components of the gate.
        components: usize,
    },
    /// More latent directions than leave any variance for the noise.
    #[error(
        "{latent} latent directions need rows of a rank above {latent}, so that some variance is left for the noise, but these {rows} rows have rank {rank}; take fewer directions or more rows"
    )]
    LatentRank {
        /// Latent directions asked for.
        latent: usize,
        /// Rank of the centred rows.
        rank: usize,
        /// Number of rows.
        rows: usize,
    },
    /// A map that fails a law which it has to obey: a defect of this program, never of the data.
    #[error(
        "the fitted map fails its own certificate: {law} is off by {found:e} (relative), {allowed:e} is allowed at this condition number; please report this"
    )]
    Certificate {
        /// The law.
        law: &'static str,
        /// How far off it is.
        found: f64,
        /// What rounding can explain.
        allowed: f64,
    },
    /// A mean and a covariance that make no Gaussian.
    #[error("not a Gaussian: {0}")]
    NotGaussian(LinalgError),
    /// What makes no Gaussian mixture.
    #[error("Gaussian mixture: {0}")]
    Mixture(#[from] MixtureError),
    /// A numerical failure, or more components than the rank.
    #[error(transparent)]
    Linalg(#[from] LinalgError),
    /// A file that cannot be written.
    #[error("{0}")]
    Write(#[from] brenier_files::WriteError),
    /// A map that could not be built, such as one whose entries overflow.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// What makes no mixture, or no map between two.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum MixtureError {
    /// Weights and components that do not pair up, or none.
    #[error("{weights} weights for {components} components; as many are needed, and at least 1")]
    Count {
        /// Number of weights.
        weights: usize,
        /// Number of components.
        components: usize,
    },
    /// A weight that is no positive number.
    #[error("weight {index} is {value}; every weight has to be a finite number above 0")]
    Weight {
        /// Which one, counted from 0.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// Weights of another sum than 1.
    #[error("the weights sum to {found}, but have to sum to 1")]
    Sum {
        /// Their sum.
        found: f64,
    },
    /// Components of different dimensions.
    #[error("component {index} has dimension {found}, but {expected} was expected")]
    Widths {
        /// Which one, counted from 0.
        index: usize,
        /// Dimension of the first.
        expected: usize,
        /// Its dimension.
        found: usize,
    },
    /// Too few rows for so many components.
    #[error("{rows} rows for {components} components; at least {needed} are needed, or fewer components")]
    TooFewRows {
        /// Rows given.
        rows: usize,
        /// Components asked for.
        components: usize,
        /// Rows needed.
        needed: usize,
    },
    /// Weights that leave too few effective rows for so many components.
    #[error(
        "the weights of {rows} rows leave {effective:.3} effective rows for {components} components; at least {needed} are needed, or fewer components"
    )]
    TooLittleWeight {
        /// Rows with a weight above 0.
        rows: usize,
        /// How many rows their weights leave, `(sum w)^2 / sum w^2`.
        effective: f64,
        /// Components asked for.
        components: usize,
        /// Effective rows needed.
        needed: usize,
    },
    /// A component whose covariance is singular.
    #[error(
        "component {index} spans {rank} of {dim} dimensions, so it has no density; use fewer dimensions or a covariance floor above 0"
    )]
    NoDensity {
        /// Which one, counted from 0.
        index: usize,
        /// Dimensions that it spans.
        rank: usize,
        /// All dimensions.
        dim: usize,
    },
}
