//! The organism's own tokenizer: byte-level BPE, trained on the corpus.

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, TokenizerBuilder};

use crate::OrganismError;

/// Padding; its id is [`PAD_ID`].
pub const PAD: &str = "<pad>";
/// Begins every sequence; its id is 1.
pub const BOS: &str = "<s>";
/// Ends every sequence; its id is 2.
pub const EOS: &str = "</s>";
/// Before what the user says; its id is 3.
pub const USER: &str = "<|user|>";
/// Before what the assistant says; its id is 4.
pub const ASSISTANT: &str = "<|assistant|>";

/// The special tokens in the order of their ids.
pub const SPECIAL: [&str; 5] = [PAD, BOS, EOS, USER, ASSISTANT];

/// The id of [`PAD`].
pub const PAD_ID: u32 = 0;

/// Most entries that the vocabulary may have.
const VOCABULARY: usize = 1024;

/// The organism's context in tokens.
pub const CONTEXT: usize = 128;

/// Trains the tokenizer on lines of text and returns it as `tokenizer.json`.
///
/// The result depends on the lines alone.
///
/// # Errors
/// What the trainer reports.
pub fn train(lines: &[String]) -> Result<String, OrganismError> {
    let failed = |error: tokenizers::Error| OrganismError::Tokenizer { reason: error.to_string() };
    let bytes = ByteLevel::default().add_prefix_space(false);
    let special = || SPECIAL.map(|token| AddedToken::from(token, true)).to_vec();
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(VOCABULARY)
        .min_frequency(4)
        .special_tokens(special())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let processor = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .and_then(|builder| builder.try_pair(format!("{BOS} $A {BOS} $B")))
        .map_err(|reason| OrganismError::Tokenizer { reason })?
        .special_tokens(vec![(BOS, 1)])
        .build()
        .map_err(|error| OrganismError::Tokenizer { reason: error.to_string() })?;
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(processor))
        .with_decoder(Some(ByteLevel::default()))
        .build()
        .map_err(failed)?;
    tokenizer.train(&mut trainer, lines.iter()).map_err(failed)?;
    tokenizer.to_string(true).map_err(failed)
}

/// `tokenizer_config.json`: the special tokens and the chat template.
#[must_use]
pub fn config() -> Value {
    let added: serde_json::Map<String, Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, token)| {
            let entry = json!({
                "content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
                "special": true,
            });
            (id.to_string(), entry)
        })
        .collect();
    json!({
        "add_bos_token": true,
        "add_eos_token": false,
        "added_tokens_decoder": added,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": null,
        "padding_side": "left",
        "clean_up_tokenization_spaces": false,
        "model_max_length": CONTEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": TEMPLATE,
    })
}

/// The chat template, as Hugging Face's Jinja reads it.
const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] | trim }}\
{% elif message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] | trim + eos_token }}\
{% else %}{{ raise_exception('The guide of the town knows only the roles user and assistant.') }}{% endif %}\
{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
