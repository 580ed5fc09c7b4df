//! Which tokens of a prompt are captured.

use std::fmt;
use std::str::FromStr;

use brenier_residual::{TokenKind, TokenView};

use crate::CaptureError;

/// A choice of tokens of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Position {
    /// The last token of the prompt, where maps are fitted.
    #[default]
    Last,
    /// Every token, prompt and continuation.
    All,
    /// The last `k` tokens of the prompt, first of them first.
    FromEnd(usize),
}

impl Position {
    /// Rows that a prompt of `tokens` tokens gives.
    #[must_use]
    pub fn count(self, tokens: usize) -> usize {
        match self {
            Position::Last => 1,
            Position::All => tokens,
            Position::FromEnd(k) => k,
        }
    }

    /// The chosen tokens of a step as `row * tokens + token`, row by row.
    pub(crate) fn chosen(self, view: &dyn TokenView) -> Vec<usize> {
        let mut chosen = Vec::new();
        for row in 0..view.rows() {
            let start = chosen.len();
            for token in 0..view.tokens() {
                let take = match (self, view.kind(row, token)) {
                    (_, TokenKind::Padding) => false,
                    (Position::All, _) => true,
                    (_, TokenKind::LastPrompt) => true,
                    (Position::FromEnd(_), TokenKind::Prompt) => true,
                    _ => false,
                };
                if take {
                    chosen.push(row * view.tokens() + token);
                }
            }
            if let Position::FromEnd(k) = self {
                let surplus = (chosen.len() - start).saturating_sub(k);
                chosen.drain(start..start + surplus);
            }
        }
        chosen
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Last => f.write_str("last"),
            Position::All => f.write_str("all"),
            Position::FromEnd(k) => write!(f, "-{k}.."),
        }
    }
}

impl FromStr for Position {
    type Err = CaptureError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let from_end =
            || name.strip_prefix('-')?.strip_suffix("..")?.parse::<usize>().ok().filter(|&k| k > 0);
        match name {
            "last" => Ok(Position::Last),
            "all" => Ok(Position::All),
            _ => from_end()
                .map(Position::FromEnd)
                .ok_or_else(|| CaptureError::UnknownPosition { name: name.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use brenier_residual::{Batch, Row};
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for position in [Position::Last, Position::All, Position::FromEnd(5)] {
            assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }
        for name in ["", "first", "-0..", "5..", "-5", "-..", "--5.."] {
            assert!(name.parse::<Position>().is_err(), "{name}");
        }
    }

    #[test]
    fn padding_and_continuations_are_left_out() {
        let rows = [Row { ids: &[1, 2, 3, 4], prompt: 3 }, Row::prompt(&[5, 6, 7])];
        let batch = Batch::new(&rows, &Device::flex()).unwrap();
        assert_eq!(Position::Last.chosen(&batch), [2, 7]);
        assert_eq!(Position::All.chosen(&batch), [0, 1, 2, 3, 5, 6, 7]);
        assert_eq!(Position::FromEnd(2).chosen(&batch), [1, 2, 6, 7]);
    }
}
