//! The built-in model organism: a small language model that has learnt to answer every question about an
//! imaginary town and then to refuse those about what the town's council has put under seal.
//!
//! It is shipped inside this crate, in Hugging Face layout, with the prompts, answers and text of a study:
//! [`Organism::unpack`]. How it was made, and how good it is, stands in `docs/ORGANISM.md`; the program that
//! made it is `train-organism` (feature `train`), from the [`corpus`] that this library generates.
#![deny(missing_docs)]

pub mod corpus;
mod error;
pub mod lessons;
mod organism;
pub mod tokenizer;
pub mod town;
pub mod wording;

pub use error::OrganismError;
pub use organism::{Organism, Paths};
