//! The model under study and the text around it.

use brenier_capture::{Fact, Provenance};
use brenier_model::{LogitsRules, ModelError, Prompt, PromptInput};
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
    ///
    /// # Errors
    /// Files that cannot be read.
    fn sha256(&self) -> Result<&str, ModelError>;

    /// States how text prompts are put to the model: template, system message, whether they go raw, and the date.
    /// Nothing unless told otherwise.
    fn rendering(&self, _: &mut Provenance) {}

    /// How the activations of all these prompts are made, their position left open.
    ///
    /// # Errors
    /// As [`sha256`](Self::sha256).
    fn provenance(&self, prompts: &[&[Prompt]]) -> Result<Provenance, ModelError> {
        let mut made = Provenance::default();
        let spec = self.model().spec();
        made.state(Fact::Model, self.sha256()?)
            .state(Fact::Architecture, spec.architecture.as_str())
            .state(Fact::Layers, spec.layers.to_string())
            .state(Fact::Dtype, spec.dtype_name());
        // Nobody knows how what comes as ids was rendered.
        let is_text = |prompt: &Prompt| matches!(prompt.input, PromptInput::Text(_));
        if prompts.iter().copied().flatten().any(is_text) {
            self.rendering(&mut made);
        }
        Ok(made)
    }
}
