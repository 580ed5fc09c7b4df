//! Rotary position embedding: its settings, and their place in config.json.

mod read;

use std::fmt;

use serde_json::{Value, json};

pub(crate) use self::read::{RopeRules, RopeType, rope, ropes_by_kind};
use crate::error::ModelError;
use crate::fields::Fields;

/// Rotary position embedding.
///
/// ```
/// use brenier_model::{Rope, RopeScaling};
///
/// let rope = Rope { theta: 500_000.0, ..Rope::default() };
/// assert_eq!((rope.partial, rope.scaling), (1.0, RopeScaling::Default));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// The part of each head that is rotated: its first entries.
    pub partial: f64,
    /// Stretching of positions.
    pub scaling: RopeScaling,
}

impl Default for Rope {
    /// Theta 10 000, whole heads, no scaling.
    fn default() -> Self {
        Self { theta: 10_000.0, partial: 1.0, scaling: RopeScaling::Default }
    }
}

/// How positions are stretched beyond the context that a model was first trained with.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// Ratio of the new context to the old.
        factor: f64,
    },
    /// Dynamic NTK: a row longer than the context before stretching has a larger base, the longer the larger.
    Dynamic {
        /// Ratio of the new context to the old.
        factor: f64,
        /// Context before stretching, in tokens.
        original_context: usize,
    },
    /// YaRN: frequencies that turn seldom within the old context divided by `factor`, those that turn often kept, a
    /// linear blend between; cosines and sines multiplied by `attention_factor`.
    Yarn {
        /// Ratio of the new context to the old.
        factor: f64,
        /// Context before stretching, in tokens.
        original_context: usize,
        /// Factor of cosines and sines.
        attention_factor: f64,
        /// Turns within the old context above which a frequency is kept.
        beta_fast: f64,
        /// Turns within the old context below which a frequency is divided in full.
        beta_slow: f64,
        /// Whether the blend begins and ends at whole frequencies.
        truncate: bool,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a linear blend between.
    Llama3 {
        /// Ratio of the new context to the old.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context before stretching, in tokens.
        original_context: usize,
    },
    /// LongRoPE: every frequency divided by a factor of its own, another one in rows longer than the context before
    /// stretching; cosines and sines multiplied by `attention_factor`.
    LongRope {
        /// The factors of rows up to `original_context`.
        short: Vec<f64>,
        /// The factors of longer rows.
        long: Vec<f64>,
        /// Factor of cosines and sines.
        attention_factor: f64,
        /// Context before stretching, in tokens.
        original_context: usize,
    },
}

impl Rope {
    /// Entries of a head that are rotated.
    pub(crate) fn width(&self, head_dim: usize) -> usize {
        (head_dim as f64 * self.partial) as usize
    }

    /// The context that a model has whose `max_position_embeddings` is `context`.
    pub(crate) fn stretched(&self, context: usize) -> usize {
        match self.scaling {
            // These keep what was trained first in `max_position_embeddings`.
            RopeScaling::Dynamic { factor, original_context }
            | RopeScaling::Yarn { factor, original_context, .. } => {
                context.max((factor * original_context as f64) as usize)
            }
            _ => context,
        }
    }

    /// The `max_position_embeddings` of a model with a context.
    pub(crate) fn position_embeddings(&self, context: usize) -> usize {
        match self.scaling {
            RopeScaling::Dynamic { original_context, .. } => original_context,
            _ => context,
        }
    }

    /// The content of `rope_scaling`; `null` where there is none.
    pub(crate) fn scaling(&self) -> Value {
        match &self.scaling {
            RopeScaling::Default => Value::Null,
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Dynamic { factor, .. } => json!({"rope_type": "dynamic", "factor": factor}),
            RopeScaling::Yarn {
                factor,
                original_context,
                attention_factor,
                beta_fast,
                beta_slow,
                truncate,
            } => json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original_context,
                "attention_factor": attention_factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "truncate": truncate,
            }),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_context,
            }),
            RopeScaling::LongRope { short, long, attention_factor, original_context } => json!({
                "rope_type": "longrope",
                "short_factor": short,
                "long_factor": long,
                "attention_factor": attention_factor,
                "original_max_position_embeddings": original_context,
            }),
        }
    }

    /// The content of `rope_parameters`.
    pub(crate) fn table(&self) -> Value {
        let mut table = match self.scaling() {
            Value::Null => json!({"rope_type": "default"}),
            scaling => scaling,
        };
        table["rope_theta"] = json!(self.theta);
        table
    }

    /// Refuses settings that give no rotation.
    pub(crate) fn check(&self, fields: &Fields<'_>, head_dim: usize) -> Result<(), ModelError> {
        if !(self.theta.is_finite() && self.theta > 0.0) {
            return Err(fields.wrong("rope_theta", "a positive number", &self.theta.to_string()));
        }
        let width = self.width(head_dim);
        if !(self.partial > 0.0 && self.partial <= 1.0 && width >= 2 && width.is_multiple_of(2)) {
            let expected = format!("a part of head_dim = {head_dim} that is an even number");
            return Err(fields.wrong("partial_rotary_factor", &expected, &self.partial.to_string()));
        }
        if let RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } =
            self.scaling
            && !(attention_factor.is_finite() && attention_factor > 0.0)
        {
            let expected = "settings that give a positive one";
            return Err(fields.wrong(
                "rope_scaling.attention_factor",
                expected,
                &attention_factor.to_string(),
            ));
        }
        match &self.scaling {
            RopeScaling::Llama3 { low_freq_factor, high_freq_factor, .. }
                if high_freq_factor <= low_freq_factor =>
            {
                let expected = format!("more than low_freq_factor = {low_freq_factor}");
                Err(fields.wrong("rope_scaling.high_freq_factor", &expected, &high_freq_factor.to_string()))
            }
            RopeScaling::LongRope { short, long, .. } => {
                let lists = [("rope_scaling.short_factor", short), ("rope_scaling.long_factor", long)];
                match lists.into_iter().find(|(_, list)| list.len() != width / 2) {
                    Some((name, list)) => {
                        let expected = format!("{} numbers, one a frequency", width / 2);
                        Err(fields.wrong(name, &expected, &list.len().to_string()))
                    }
                    None => Ok(()),
                }
            }
            // The exponent of the larger base is width / (width - 2).
            RopeScaling::Dynamic { .. } if width == 2 => {
                Err(fields.wrong("head_dim", "more than 2, as the rope type is dynamic", "2"))
            }
            RopeScaling::Yarn { .. } if self.theta <= 1.0 => Err(fields.wrong(
                "rope_theta",
                "more than 1, as the rope type is yarn",
                &self.theta.to_string(),
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Rope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "theta {}", self.theta)?;
        if self.partial != 1.0 {
            write!(f, " on {} of each head", self.partial)?;
        }
        match &self.scaling {
            RopeScaling::Default => write!(f, " without scaling"),
            RopeScaling::Linear { factor } => write!(f, ", linear scaling by {factor}"),
            RopeScaling::Dynamic { factor, original_context } => {
                write!(f, ", dynamic scaling by {factor} (from {original_context} tokens)")
            }
            RopeScaling::Yarn {
                factor, original_context, attention_factor, beta_fast, beta_slow, ..
            } => write!(
                f,
                ", yarn scaling by {factor} ({beta_slow} to {beta_fast}, from {original_context} tokens, attention \
                 factor {attention_factor})"
            ),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => write!(
                f,
                ", llama3 scaling by {factor} ({low_freq_factor} to {high_freq_factor}, from {original_context} tokens)"
            ),
            RopeScaling::LongRope { attention_factor, original_context, .. } => write!(
                f,
                ", longrope scaling (from {original_context} tokens, attention factor {attention_factor})"
            ),
        }
    }
}
