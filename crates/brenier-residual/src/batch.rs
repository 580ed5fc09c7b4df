//! Token ids on their way into a model.

mod sight;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

pub use self::sight::Sight;
use crate::{ResidualError, Spec};

/// One row of a batch before it is padded: ids, and how many of them are the prompt.
///
/// What follows the prompt counts as generated: a forced continuation is treated as the model's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// Token ids, prompt first.
    pub ids: &'a [u32],
    /// How many of `ids` are the prompt.
    pub prompt: usize,
}

impl<'a> Row<'a> {
    /// A row that is all prompt.
    #[must_use]
    pub fn prompt(ids: &'a [u32]) -> Self {
        Self { ids, prompt: ids.len() }
    }
}

/// What a token is to an intervention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Padding on the left; nothing attends to it.
    Padding,
    /// A token of the prompt other than its last.
    Prompt,
    /// The last token of the prompt, where maps are fitted.
    LastPrompt,
    /// A token after the prompt.
    Generated,
}

/// A choice of tokens. Padding is never chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenSet {
    /// Every token.
    All,
    /// The tokens of the prompt, its last included.
    Prompt,
    /// The last token of the prompt.
    Last,
    /// The tokens after the prompt.
    Generated,
    /// The last token of the prompt and all after it.
    LastAndGenerated,
}

impl TokenSet {
    /// Every choice.
    pub const ALL: [Self; 5] = [Self::All, Self::Prompt, Self::Last, Self::Generated, Self::LastAndGenerated];

    /// The choice's name, as in map files and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Prompt => "prompt",
            Self::Last => "last",
            Self::Generated => "generated",
            Self::LastAndGenerated => "last+generated",
        }
    }

    /// Whether a token of this kind is chosen.
    #[must_use]
    pub fn contains(self, kind: TokenKind) -> bool {
        use TokenKind::{Generated, LastPrompt, Padding, Prompt};
        match self {
            TokenSet::All => kind != Padding,
            TokenSet::Prompt => matches!(kind, Prompt | LastPrompt),
            TokenSet::Last => kind == LastPrompt,
            TokenSet::Generated => kind == Generated,
            TokenSet::LastAndGenerated => matches!(kind, LastPrompt | Generated),
        }
    }
}

impl fmt::Display for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TokenSet {
    type Err = ResidualError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|set| set.name() == name)
            .ok_or_else(|| ResidualError::UnknownTokens { name: name.to_owned() })
    }
}

/// Rows of token ids, padded on the left to one width, possibly continuing rows read before.
///
/// `tokens` counts the columns of this step; `past` the columns read in earlier steps and held by a
/// [`KvCache`](crate::KvCache). A row's last token always stands in the last column.
#[derive(Debug, Clone)]
pub struct Batch {
    ids: Arc<[u32]>,
    tokens: usize,
    past: usize,
    padding: Arc<[usize]>,
    prompt: Arc<[usize]>,
    spans: Arc<[Range<usize>]>,
    device: Device,
    on_device: Arc<OnDevice>,
}

/// What tokens may attend to, by queries and window.
type Sights = HashMap<(Range<usize>, Option<usize>), Sight>;

/// Tensors derived from a batch, made when first asked for and once only.
#[derive(Debug, Default)]
struct OnDevice {
    ids: OnceLock<Tensor<2, Int>>,
    positions: OnceLock<Tensor<2, Int>>,
    chosen: [OnceLock<Tensor<2, Bool>>; 5],
    sights: Mutex<Sights>,
}

impl Batch {
    /// A first step: rows padded on the left to the longest.
    ///
    /// # Errors
    /// No row, an empty row, or a prompt longer than its row.
    pub fn new(rows: &[Row<'_>], device: &Device) -> Result<Self, ResidualError> {
        if rows.is_empty() {
            return Err(ResidualError::EmptyBatch);
        }
        for (row, Row { ids, prompt }) in rows.iter().enumerate() {
            if ids.is_empty() {
                return Err(ResidualError::NoToken.in_row(row));
            }
            if *prompt > ids.len() {
                let (prompt, tokens) = (*prompt, ids.len());
                return Err(ResidualError::PromptBeyondRow { prompt, tokens }.in_row(row));
            }
        }
        let tokens = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let padding: Arc<[usize]> = rows.iter().map(|row| tokens - row.ids.len()).collect();
        let mut ids = Vec::with_capacity(rows.len() * tokens);
        for (row, &padding) in rows.iter().zip(padding.iter()) {
            ids.extend(std::iter::repeat_n(0, padding));
            ids.extend_from_slice(row.ids);
        }
        Ok(Self {
            ids: ids.into(),
            tokens,
            past: 0,
            padding,
            prompt: rows.iter().map(|row| row.prompt).collect(),
            spans: rows.iter().map(|row| 0..row.ids.len()).collect(),
            device: device.clone(),
            on_device: Arc::default(),
        })
    }

    /// The step after this one: one generated id a row.
    ///
    /// # Errors
    /// Another number of ids than rows.
    pub fn next(&self, ids: &[u32]) -> Result<Self, ResidualError> {
        if ids.len() != self.rows() {
            return Err(ResidualError::StepWidth { expected: self.rows(), found: ids.len() });
        }
        Ok(Self {
            ids: ids.into(),
            tokens: 1,
            past: self.past + self.tokens,
            padding: self.padding.clone(),
            prompt: self.prompt.clone(),
            spans: self.spans.iter().map(|span| span.end..span.end + 1).collect(),
            device: self.device.clone(),
            on_device: Arc::default(),
        })
    }

    /// The given rows of this step, in the given order; pair it with
    /// [`KvCache::select_rows`](crate::KvCache::select_rows).
    ///
    /// # Panics
    /// An index that is no row.
    #[must_use]
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        let step = |&row: &usize| &self.ids[row * self.tokens..(row + 1) * self.tokens];
        Self {
            ids: rows.iter().flat_map(step).copied().collect(),
            tokens: self.tokens,
            past: self.past,
            padding: rows.iter().map(|&row| self.padding[row]).collect(),
            prompt: rows.iter().map(|&row| self.prompt[row]).collect(),
            spans: rows.iter().map(|&row| self.spans[row].clone()).collect(),
            device: self.device.clone(),
            on_device: Arc::default(),
        }
    }

    /// The step that reads the given columns of this one. For prompts read in pieces, one after the other, over a
    /// [`KvCache`](crate::KvCache).
    ///
    /// # Panics
    /// Columns that this step does not have.
    #[must_use]
    pub fn columns(&self, columns: Range<usize>) -> Self {
        let part = |row: usize| &self.ids[row * self.tokens..][columns.clone()];
        Self {
            ids: (0..self.rows()).flat_map(part).copied().collect(),
            tokens: columns.len(),
            past: self.past + columns.start,
            on_device: Arc::default(),
            ..self.clone()
        }
    }

    /// Two steps in place of this one: the first `columns` columns, and then the others. Unlike a step read in
    /// [pieces](Self::columns), the first of the two knows nothing of the second.
    ///
    /// # Panics
    /// More columns than this step has.
    #[must_use]
    pub fn split(&self, columns: usize) -> (Self, Self) {
        let at = |row: usize| {
            let Range { start, end } = self.spans[row];
            (self.past + columns).saturating_sub(self.padding[row]).clamp(start, end)
        };
        let spans = |span: &dyn Fn(usize) -> Range<usize>| (0..self.rows()).map(span).collect();
        let first = Self { spans: spans(&|row| self.spans[row].start..at(row)), ..self.columns(0..columns) };
        let second =
            Self { spans: spans(&|row| at(row)..self.spans[row].end), ..self.columns(columns..self.tokens) };
        (first, second)
    }

    /// The rows of another step below those of this one. Whichever has read fewer columns is padded on the left; pair
    /// it with [`KvCache::append_rows`](crate::KvCache::append_rows).
    ///
    /// # Errors
    /// Steps of different widths.
    pub fn append_rows(&self, other: &Self) -> Result<Self, ResidualError> {
        if self.tokens != other.tokens {
            return Err(ResidualError::StepWidth { expected: self.tokens, found: other.tokens });
        }
        let past = self.past.max(other.past);
        let padding = |batch: &Self| {
            let more = past - batch.past;
            batch.padding.iter().map(move |padding| padding + more).collect::<Vec<_>>()
        };
        Ok(Self {
            ids: self.ids.iter().chain(other.ids.iter()).copied().collect(),
            tokens: self.tokens,
            past,
            padding: [padding(self), padding(other)].concat().into(),
            prompt: self.prompt.iter().chain(other.prompt.iter()).copied().collect(),
            spans: self.spans.iter().chain(other.spans.iter()).cloned().collect(),
            device: self.device.clone(),
            on_device: Arc::default(),
        })
    }

    /// Forgets the first columns that were read, which are padding in every row; pair it with
    /// [`KvCache::drop_columns`](crate::KvCache::drop_columns).
    ///
    /// # Panics
    /// A row with less padding, or fewer columns read.
    #[must_use]
    pub fn drop_columns(&self, columns: usize) -> Self {
        assert!(columns <= self.past, "expected at most {} columns, found {columns}", self.past);
        let padding = self.padding.iter().map(|&padding| {
            assert!(columns <= padding, "expected columns of padding alone");
            padding - columns
        });
        Self {
            padding: padding.collect(),
            past: self.past - columns,
            on_device: Arc::default(),
            ..self.clone()
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.padding.len()
    }

    /// Columns of this step, padding included.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Columns read in earlier steps.
    #[must_use]
    pub fn past(&self) -> usize {
        self.past
    }

    /// The device on which the tensors of this batch are made.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Padding columns at the left of a row, counted from the first step.
    #[must_use]
    pub fn padding(&self, row: usize) -> usize {
        self.padding[row]
    }

    /// The tokens of a row that this step reads, padding not counted; of a step that is read in
    /// [pieces](Self::columns), those of all its pieces.
    #[must_use]
    pub fn span(&self, row: usize) -> Range<usize> {
        self.spans[row].clone()
    }

    /// What the token in a column of this step is.
    #[must_use]
    pub fn kind(&self, row: usize, token: usize) -> TokenKind {
        let column = self.past + token;
        let start = self.padding[row];
        let end = start + self.prompt[row];
        if column < start {
            TokenKind::Padding
        } else if column + 1 < end {
            TokenKind::Prompt
        } else if column < end {
            TokenKind::LastPrompt
        } else {
            TokenKind::Generated
        }
    }

    /// Position of a token in its own row, padding not counted; 0 for padding.
    #[must_use]
    pub fn position(&self, row: usize, token: usize) -> usize {
        (self.past + token).saturating_sub(self.padding[row])
    }

    /// The id in a column of this step; 0 for padding.
    #[must_use]
    pub fn id(&self, row: usize, token: usize) -> u32 {
        self.ids[row * self.tokens + token]
    }

    /// Token ids, `[rows, tokens]`.
    #[must_use]
    pub fn ids(&self) -> Tensor<2, Int> {
        self.on_device.ids.get_or_init(|| self.int_tensor(|row, token| self.id(row, token) as usize)).clone()
    }

    /// Positions as in [`position`](Self::position), `[rows, tokens]`.
    #[must_use]
    pub fn positions(&self) -> Tensor<2, Int> {
        self.on_device
            .positions
            .get_or_init(|| self.int_tensor(|row, token| self.position(row, token)))
            .clone()
    }

    /// The chosen tokens, `[rows, tokens]`.
    #[must_use]
    pub fn chosen(&self, set: TokenSet) -> Tensor<2, Bool> {
        let make = || {
            let chosen = self.map(|row, token| set.contains(self.kind(row, token)));
            Tensor::from_data(TensorData::new(chosen, [self.rows(), self.tokens]), &self.device)
        };
        self.on_device.chosen[set as usize].get_or_init(make).clone()
    }

    /// Whether any token of this step is chosen.
    #[must_use]
    pub fn chooses_any(&self, set: TokenSet) -> bool {
        self.map(|row, token| set.contains(self.kind(row, token))).into_iter().any(|chosen| chosen)
    }

    /// Checks ids and lengths against a model.
    ///
    /// # Errors
    /// An id outside the vocabulary, or a row longer than the context.
    pub fn check(&self, spec: &Spec) -> Result<(), ResidualError> {
        for row in 0..self.rows() {
            let columns = self.past + self.tokens;
            if columns <= self.padding[row] {
                // A row of which this piece reads nothing yet.
                continue;
            }
            let tokens = columns - self.padding[row];
            let ids = (0..self.tokens).map(|token| (self.position(row, token), self.id(row, token)));
            spec.check(tokens, 0, ids).map_err(|error| error.in_row(row))?;
        }
        Ok(())
    }

    fn int_tensor(&self, value: impl Fn(usize, usize) -> usize) -> Tensor<2, Int> {
        let values = self.map(|row, token| value(row, token) as i64);
        Tensor::from_data(TensorData::new(values, [self.rows(), self.tokens]), &self.device)
    }

    fn map<T>(&self, value: impl Fn(usize, usize) -> T) -> Vec<T> {
        (0..self.rows())
            .flat_map(|row| (0..self.tokens).map(move |token| (row, token)))
            .map(|(r, t)| value(r, t))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kinds(batch: &Batch, row: usize) -> Vec<TokenKind> {
        (0..batch.tokens()).map(|token| batch.kind(row, token)).collect()
    }

    #[test]
    fn kinds_and_positions_follow_the_padding() {
        use TokenKind::{Generated, LastPrompt, Padding, Prompt};
        let rows = [Row { ids: &[1, 2, 3, 4], prompt: 2 }, Row::prompt(&[7, 8])];
        let batch = Batch::new(&rows, &Device::flex()).unwrap();
        assert_eq!(kinds(&batch, 0), [Prompt, LastPrompt, Generated, Generated]);
        assert_eq!(kinds(&batch, 1), [Padding, Padding, Prompt, LastPrompt]);
        assert_eq!(batch.positions().into_data().iter::<i64>().collect::<Vec<_>>(), [0, 1, 2, 3, 0, 0, 0, 1]);
        let next = batch.next(&[5, 9]).unwrap();
        assert_eq!((kinds(&next, 0), kinds(&next, 1)), (vec![Generated], vec![Generated]));
        assert_eq!((next.position(0, 0), next.position(1, 0)), (4, 2));
        assert_eq!(next.select_rows(&[1]).position(0, 0), 2);
    }

    #[test]
    fn steps_are_read_in_pieces_joined_and_trimmed() {
        use TokenKind::{LastPrompt, Padding, Prompt};
        let rows = [Row::prompt(&[1, 2, 3, 4]), Row::prompt(&[7, 8])];
        let batch = Batch::new(&rows, &Device::flex()).unwrap();
        let (first, second) = (batch.columns(0..3), batch.columns(3..4));
        assert_eq!((first.past(), first.tokens(), second.past(), second.tokens()), (0, 3, 3, 1));
        assert_eq!(kinds(&first, 1), [Padding, Padding, Prompt]);
        assert_eq!((kinds(&second, 0), kinds(&second, 1)), (vec![LastPrompt], vec![LastPrompt]));
        assert_eq!((second.id(0, 0), second.id(1, 0), second.position(1, 0)), (4, 8, 1));
        assert_eq!((first.span(0), second.span(0), second.span(1)), (0..4, 0..4, 0..2));
        assert_eq!(second.next(&[9, 9]).unwrap().select_rows(&[1]).span(0), 2..3);

        let (start, rest) = batch.split(3);
        assert_eq!([start.span(0), start.span(1), rest.span(0), rest.span(1)], [0..3, 0..1, 3..4, 1..2]);
        assert_eq!([first.span(0), second.span(1)], [0..4, 0..2], "pieces are parts of one step");
        assert_eq!((rest.past(), kinds(&start, 1)), (3, vec![Padding, Padding, Prompt]));

        let other = Batch::new(&[Row::prompt(&[5])], &Device::flex()).unwrap();
        assert!(first.append_rows(&second).is_err());
        let joined = second.append_rows(&other).unwrap();
        assert_eq!((0..3).map(|row| joined.padding(row)).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!((0..3).map(|row| joined.position(row, 0)).collect::<Vec<_>>(), [3, 1, 0]);
        assert_eq!(kinds(&joined, 2), [LastPrompt]);
        assert_eq!((joined.span(1), joined.span(2)), (0..2, 0..1));
        let trimmed = joined.select_rows(&[1, 2]).drop_columns(2);
        assert_eq!((trimmed.past(), trimmed.padding(0), trimmed.padding(1)), (1, 0, 1));
        assert_eq!((trimmed.position(0, 0), trimmed.position(1, 0)), (1, 0));
    }

    #[test]
    fn a_set_never_chooses_padding() {
        let rows = [Row { ids: &[1, 2, 3], prompt: 2 }, Row::prompt(&[4])];
        let batch = Batch::new(&rows, &Device::flex()).unwrap();
        let chosen = |set| batch.chosen(set).into_data().iter::<bool>().map(u8::from).collect::<Vec<_>>();
        assert_eq!(chosen(TokenSet::All), [1, 1, 1, 0, 0, 1]);
        assert_eq!(chosen(TokenSet::Prompt), [1, 1, 0, 0, 0, 1]);
        assert_eq!(chosen(TokenSet::Last), [0, 1, 0, 0, 0, 1]);
        assert_eq!(chosen(TokenSet::Generated), [0, 0, 1, 0, 0, 0]);
        assert_eq!(chosen(TokenSet::LastAndGenerated), [0, 1, 1, 0, 0, 1]);
    }

    #[test]
    fn a_set_has_one_name() {
        for set in TokenSet::ALL {
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        assert!("last+".parse::<TokenSet>().is_err());
    }

    #[test]
    fn ids_are_checked_against_the_model() {
        let spec = Spec {
            architecture: "any".into(),
            layers: 1,
            hidden: 2,
            vocab: 9,
            context: 3,
            device: Device::flex(),
            dtype: burn::tensor::DType::F32,
            weights: burn::tensor::DType::F32,
        };
        assert_eq!(spec.check_ids(&[8, 0, 1], 0), Ok(()));
        assert_eq!(spec.check_ids(&[], 0), Err(ResidualError::NoToken));
        let long = ResidualError::BeyondContext { tokens: 3, room: 1, context: 3 };
        assert_eq!(spec.check_ids(&[1; 3], 1), Err(long));
        let unknown = ResidualError::UnknownId { token: 1, id: 9, vocab: 9 };
        assert_eq!(spec.check_ids(&[8, 9], 0), Err(unknown.clone()));
        // Of a row that is longer than a piece, some pieces hold nothing.
        let batch = Batch::new(&[Row::prompt(&[1; 3]), Row::prompt(&[8])], &spec.device).unwrap();
        assert_eq!(batch.columns(0..2).check(&spec), Ok(()));
        // Positions count without the padding.
        let batch = Batch::new(&[Row::prompt(&[1; 3]), Row::prompt(&[8, 9])], &spec.device).unwrap();
        assert_eq!(batch.check(&spec), Err(unknown.in_row(1)));
    }
}
