//! How much memory a run of a model takes.

use burn::tensor::DType;

use crate::config::Config;

/// Scores of attention that are in memory at once: queries are taken in blocks.
const SCORES: u64 = 128 << 20;

/// What a model takes in memory, in bytes: counted from its configuration, before anything is loaded.
///
/// ```
/// use brenier_model::{Architecture, Config, Footprint};
/// use burn::tensor::DType;
///
/// let config = Config::small(Architecture::Llama);
/// let half = Footprint::new(&config, DType::BF16, DType::F32);
/// let full = Footprint::new(&config, DType::F32, DType::F32);
/// assert_eq!(2 * half.weights, full.weights);
/// assert!(full.total(8, 100) > full.total(1, 100));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// All parameters.
    pub weights: u64,
    /// Keys and values of one token, in all layers.
    pub cache: u64,
    /// Activations of one token in a forward pass: the widest layer, not all of them.
    pub activations: u64,
    /// Logits of one token.
    pub logits: u64,
}

impl Footprint {
    /// The footprint of a model whose matrices are held as `weights` and whose activations are `activations`.
    #[must_use]
    pub fn new(config: &Config, weights: DType, activations: DType) -> Self {
        let size = |count: usize, dtype: DType| (count as u64).saturating_mul(dtype.size() as u64);
        let attention = (config.heads + 2 * config.kv_heads) * config.head_dim;
        // Of the stream, the norms and sums beside it; of attention, its products before and after rotation; of the
        // feed-forward part, both gates and their product.
        let widest = 6 * config.hidden + (3 * attention).max(3 * config.intermediate);
        Self {
            weights: size(config.parameters(), weights),
            cache: size(2 * config.layers * config.kv_heads * config.head_dim, activations),
            activations: size(widest, activations),
            logits: size(2 * config.vocab, activations),
        }
    }

    /// Bytes of a run of `rows` rows of `tokens` tokens each, with keys and values kept.
    #[must_use]
    pub fn total(&self, rows: usize, tokens: usize) -> u64 {
        self.weights.saturating_add(self.beside_weights(rows, tokens))
    }

    /// What of [`total`](Self::total) is not weights.
    #[must_use]
    pub fn beside_weights(&self, rows: usize, tokens: usize) -> u64 {
        let (rows, tokens) = (rows as u64, tokens as u64);
        let of_tokens = (self.cache + self.activations).saturating_mul(rows.saturating_mul(tokens));
        of_tokens.saturating_add(self.logits.saturating_mul(rows)).saturating_add(SCORES)
    }
}
