//! What a tap knows of the tokens that a model reads.

use burn::tensor::{Bool, Tensor};

use crate::{Batch, TokenKind, TokenSet};

/// The tokens of one step, as far as a tap needs to know them: what each is, and where it stands in its row.
///
/// [`Batch`] is such a view. A program with a forward pass of its own implements this for what it has, and every tap
/// of Brenier runs in it.
pub trait TokenView {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Columns of this step, padding included.
    fn tokens(&self) -> usize;

    /// What the token in a column of this step is.
    fn kind(&self, row: usize, token: usize) -> TokenKind;

    /// Position of a token in its own row from the first step on, padding not counted; 0 for padding.
    fn position(&self, row: usize, token: usize) -> usize;

    /// The chosen tokens as a mask on the device, `[rows, tokens]`.
    fn chosen(&self, set: TokenSet) -> Tensor<2, Bool>;
}

impl TokenView for Batch {
    fn rows(&self) -> usize {
        self.rows()
    }

    fn tokens(&self) -> usize {
        self.tokens()
    }

    fn kind(&self, row: usize, token: usize) -> TokenKind {
        self.kind(row, token)
    }

    fn position(&self, row: usize, token: usize) -> usize {
        self.position(row, token)
    }

    fn chosen(&self, set: TokenSet) -> Tensor<2, Bool> {
        self.chosen(set)
    }
}
