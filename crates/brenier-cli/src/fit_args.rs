//! How maps are fitted, on the command line.

use std::str::FromStr;

use brenier::transport;
use clap::{Args, ValueEnum};

use crate::values::{Quantiles, count, folds};

const RESAMPLES: fn(&str) -> Result<usize, String> =
    count::<1, { transport::BootstrapOptions::MOST_RESAMPLES }>;
const DIRECTIONS: fn(&str) -> Result<usize, String> =
    count::<1, { transport::SlicedOptions::MOST_DIRECTIONS }>;

/// How maps are fitted.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fit")]
pub struct FitArgs {
    /// Principal components K that the map acts in, `1` to `65536`; `auto` takes the smallest K that is as good on rows kept
    /// out
    #[arg(long, default_value = "2", allow_negative_numbers = true, value_name = "K|auto")]
    pub components: Components,
    /// Folds over which `--components auto` keeps rows out, `2` to `10000`
    #[arg(long, default_value_t = 5, allow_negative_numbers = true, value_parser = folds, value_name = "N")]
    pub folds: usize,
    /// What moves besides: the mean inside the subspace alone, or the whole mean
    #[arg(long, value_enum, default_value_t = Shift::Subspace)]
    pub shift: Shift,
    /// What weighs the same in the principal axes: every row, or both classes
    #[arg(long, value_enum, default_value_t = Pooling::Rows)]
    pub pooling: Pooling,
    /// Shrinkage of the covariances towards a multiple of the identity: `auto` (Ledoit and Wolf), `oas`, or `0` to `1`
    #[arg(long, default_value = "0", allow_negative_numbers = true, value_name = "auto|oas|X")]
    pub shrinkage: ShrinkageArg,
    /// ot, entropic, whitening: each covariance from Q latent directions, `1` to `65536`, and noise alike in all
    /// (probabilistic PCA)
    #[arg(long, allow_negative_numbers = true, value_parser = count::<1, 65_536>, value_name = "Q")]
    pub latent: Option<usize>,
    /// Covariances over n-1 (sample) or n (population)
    #[arg(long, value_enum, default_value_t = Covariance::Sample)]
    pub covariance: Covariance,
    /// Added to the diagonal of both covariances as it is, as POT's reg
    #[arg(long, allow_negative_numbers = true, value_name = "X")]
    pub reg_abs: Option<f64>,
    /// Gate: what the log-odds are divided by
    #[arg(long, allow_negative_numbers = true, default_value_t = 1.0, value_name = "T")]
    pub gate_temperature: f64,
    /// Share of the target's spread that the moved rows get, `0` to `1`; at `0` each goes to the target's mean
    #[arg(long, allow_negative_numbers = true, default_value_t = 1.0, value_name = "X")]
    pub target_spread: f64,
    /// Gate: posterior below which nothing moves
    #[arg(long, allow_negative_numbers = true, value_name = "P")]
    pub gate_threshold: Option<f64>,
    /// Gate: prior share of the source
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.5, value_name = "P")]
    pub gate_prior: f64,
    /// Gate: shrinkage of the classes' covariances, `auto`, `oas`, or `0` to `1`
    #[arg(long, default_value = "auto", allow_negative_numbers = true, value_name = "auto|oas|X")]
    pub gate_shrinkage: ShrinkageArg,
    /// Gate: let log-loss over so many folds, `2` to `10000`, choose its components, shrinkage and temperature
    #[arg(long, allow_negative_numbers = true, value_parser = folds, value_name = "FOLDS")]
    pub gate_calibrate: Option<usize>,
    /// mixture: how many Gaussians a class, `1` to `1000`, or up to M of them by `bic:M` or `held-out:M`
    #[arg(long, default_value = "2", allow_negative_numbers = true, value_name = "N|bic:M|held-out:M")]
    pub mixture_components: MixtureCountArg,
    /// mixture: leave what belongs to the target where it is
    #[arg(long)]
    pub mixture_gated: bool,
    /// entropic: blur as a share of the spread
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.1, value_name = "X")]
    pub entropic_sigma: f64,
    /// entropic: blur in the units of the activations
    #[arg(long, allow_negative_numbers = true, conflicts_with = "entropic_sigma", value_name = "X")]
    pub entropic_sigma_abs: Option<f64>,
    /// AcT: move a coordinate only inside these two quantiles of its source values, e.g. `0,1`
    #[arg(long, allow_hyphen_values = true, value_name = "LOW,HIGH")]
    pub act_quantiles: Option<Quantiles>,
    /// 95% intervals on W2 and on the norm of the map, by so many resamples of the rows, `1` to `100000`
    #[arg(long, allow_negative_numbers = true, value_parser = RESAMPLES, value_name = "N")]
    pub bootstrap: Option<usize>,
    /// The sliced distance too, along so many random directions, `1` to `10000`
    #[arg(long, allow_negative_numbers = true, value_parser = DIRECTIONS, value_name = "N")]
    pub sliced: Option<usize>,
}

impl FitArgs {
    /// The options as the library has them, with the number of components where it is given.
    pub fn options(&self, seed: u64) -> transport::FitOptions {
        let defaults = transport::FitOptions::default();
        transport::FitOptions {
            components: match self.components {
                Components::Fixed(components) => components,
                Components::Auto => defaults.components,
            },
            shift: match self.shift {
                Shift::Subspace => transport::Shift::Subspace,
                Shift::Full => transport::Shift::Full,
            },
            pooling: match self.pooling {
                Pooling::Rows => transport::Pooling::Rows,
                Pooling::Classes => transport::Pooling::Classes,
            },
            shrinkage: self.shrinkage.0,
            latent: self.latent,
            covariance: match self.covariance {
                Covariance::Sample => transport::Covariance::Sample,
                Covariance::Population => transport::Covariance::Population,
            },
            reg_abs: self.reg_abs,
            target_spread: self.target_spread,
            gate: transport::GateOptions {
                temperature: self.gate_temperature,
                threshold: self.gate_threshold,
                prior: self.gate_prior,
                shrinkage: self.gate_shrinkage.0,
                calibrate: self.gate_calibrate,
            },
            mixture: transport::MixtureOptions {
                count: self.mixture_components.0,
                gated: self.mixture_gated,
                seed,
                ..defaults.mixture
            },
            entropic_sigma: match self.entropic_sigma_abs {
                Some(sigma) => transport::Blur::Absolute(sigma),
                None => transport::Blur::Relative(self.entropic_sigma),
            },
            act_quantiles: self.act_quantiles.map(|Quantiles(low, high)| (low, high)),
            bootstrap: self.bootstrap.map(|resamples| transport::BootstrapOptions {
                resamples,
                seed,
                ..transport::BootstrapOptions::default()
            }),
            sliced: self.sliced.map(|directions| transport::SlicedOptions { directions, seed }),
        }
    }
}

/// A number of principal components on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Components {
    Fixed(usize),
    /// Chosen by held-out W2.
    Auto,
}

impl FromStr for Components {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => match count::<1, 65_536>(text) {
                Ok(components) => Ok(Self::Fixed(components)),
                Err(expected) => Err(format!("{expected}, or auto")),
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shift {
    Subspace,
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pooling {
    Rows,
    Classes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Covariance {
    Sample,
    Population,
}

/// A shrinkage intensity on the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShrinkageArg(pub transport::Shrinkage);

impl FromStr for ShrinkageArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "auto" => Ok(Self(transport::Shrinkage::Auto)),
            _ if text == "oas" => Ok(Self(transport::Shrinkage::Oas)),
            Ok(intensity) if (0.0..=1.0).contains(&intensity) => {
                Ok(Self(transport::Shrinkage::Fixed(intensity)))
            }
            _ => Err("expected auto, oas or a number from 0 to 1".to_owned()),
        }
    }
}

/// A number of Gaussians on the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixtureCountArg(pub transport::MixtureCount);

/// Folds of `held-out:M`.
const MIXTURE_FOLDS: usize = 5;

impl FromStr for MixtureCountArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (how, number) = text.split_once(':').unwrap_or(("", text));
        let count = count::<1, 1_000>(number)
            .map_err(|expected| format!("{expected}, or bic:M or held-out:M with such a number"))?;
        match how {
            "" => Ok(Self(transport::MixtureCount::Fixed(count))),
            "bic" => Ok(Self(transport::MixtureCount::Bic(count))),
            "held-out" => Ok(Self(transport::MixtureCount::HeldOut { most: count, folds: MIXTURE_FOLDS })),
            _ => Err(format!("`{how}` is no way to choose; expected a number, bic:M or held-out:M")),
        }
    }
}
