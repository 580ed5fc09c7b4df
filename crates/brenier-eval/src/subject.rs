//! The model under study and the text around it.

use brenier_model::{LogitsRules, ModelError, Prompt};
use brenier_residual::ResidualModel;

/// A model with its tokenizer: all that measuring needs to know of it.
pub trait Subject {
    /// The model.
    fn model(&self) -> &dyn ResidualModel;

    /// Ids that end a completion.
    fn eos(&self) -> &[u32];

    /// What is asked of the logits of a completion.
    fn rules(&self) -> LogitsRules;

    /// The id that begins a text, where the model has one.
    fn bos(&self) -> Option<u32>;

    /// The ids that a prompt becomes, template and all.
    ///
    /// # Errors
    /// A template or tokenizer that refuses the prompt.
    fn prompt_ids(&self, prompt: &Prompt) -> Result<Vec<u32>, ModelError>;

    /// Ids of a text, with no special token added.
    ///
    /// # Errors
    /// A tokenizer that refuses the text.
    fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError>;

    /// Text of ids, special tokens left out.
    ///
    /// # Errors
    /// Ids that the tokenizer does not know.
    fn decode(&self, ids: &[u32]) -> Result<String, ModelError>;

    /// Hash of config and weights.
    fn sha256(&self) -> &str;
}
