//! Hugging Face directories as models: configuration, weights, tokenizer, chat template, prompts, generation.
#![deny(missing_docs)]

mod added_tokens;
mod attention;
mod checkpoint;
mod config;
mod decoder;
mod directory;
mod error;
mod families;
mod fields;
mod files;
mod fingerprint;
mod generate;
mod generation_config;
mod layers;
mod lm;
mod memory;
mod prompts;
mod rope;
mod rules;
mod sampling;
mod template;
mod tokenizer;
mod tokenizer_config;
mod weights;

pub use attention::{Attention, FusedQkv, Qkv, SeparateQkv};
pub use config::{Activation, Architecture, Config, Rope, RopeScaling, Window};
pub use decoder::{Block, Decoder, Trunk};
pub use directory::{ModelDirectory, PromptOptions};
pub use error::ModelError;
pub use files::{sha256, sha256_file};
pub use generate::{Event, Finish, GenerateOptions, Generation, generate, generate_with};
pub use layers::{Embedding, FusedGateUp, GateUp, Linear, Mlp, RmsNorm, SeparateGateUp};
pub use lm::LanguageModel;
pub use memory::Footprint;
pub use prompts::{Answer, Extra, Prompt, PromptFormat, PromptInput, read_answers, read_prompts, read_texts};
pub use rules::LogitsRules;
pub use template::{ChatTemplate, Message, RenderOptions};
pub use tokenizer::Tokenizer;
