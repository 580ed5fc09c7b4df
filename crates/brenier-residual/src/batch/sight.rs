//! What the tokens of a batch may attend to.

use std::ops::Range;
use std::sync::PoisonError;

use burn::tensor::{Bool, Tensor, TensorData};

use super::Batch;

/// What some tokens of a step may attend to.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The columns that any of them may attend to, counted from the first step.
    pub columns: Range<usize>,
    /// Which of these a token must not attend to: later ones, padding, and those before its window.
    /// `[rows, 1, queries, columns]`, with one row for all where they are padded alike; `None` where nothing is hidden.
    ///
    /// A padding token has every column hidden: fill with a finite number, not with minus infinity.
    pub hidden: Option<Tensor<4, Bool>>,
}

/// Entries of all masks that a batch keeps; more are made anew each time.
const KEPT: usize = 1 << 26;

impl Batch {
    /// What the tokens `queries` of this step may attend to: what is no padding and not later than they are, and with
    /// a window of w tokens nothing that lies w tokens or more before them.
    ///
    /// Made once for all layers that ask, as long as the masks of a step stay within 64 MiB.
    ///
    /// ```
    /// use brenier_residual::{Batch, Row};
    /// use burn::tensor::Device;
    ///
    /// let batch = Batch::new(&[Row::prompt(&[1, 2, 3, 4])], &Device::flex())?;
    /// let sight = batch.sight(2..4, Some(2));
    /// assert_eq!(sight.columns, 1..4);
    /// let hidden: Vec<bool> = sight.hidden.into_iter().flat_map(|x| x.into_data().iter::<bool>().collect::<Vec<_>>()).collect();
    /// assert_eq!(hidden, [false, false, true, true, false, false]);
    /// # Ok::<(), brenier_residual::ResidualError>(())
    /// ```
    #[must_use]
    pub fn sight(&self, queries: Range<usize>, window: Option<usize>) -> Sight {
        let key = (queries.clone(), window);
        let mut kept = self.on_device.sights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sight) = kept.get(&key) {
            return sight.clone();
        }
        let end = self.past + queries.end;
        let start = window.map_or(0, |window| (self.past + queries.start + 1).saturating_sub(window));
        let sight = Sight { hidden: self.make_hidden(queries, start..end, window), columns: start..end };
        let size = |sight: &Sight| sight.hidden.as_ref().map_or(0, |hidden| hidden.shape().num_elements());
        if kept.values().map(size).sum::<usize>() + size(&sight) <= KEPT {
            kept.insert(key, sight.clone());
        }
        sight
    }

    fn make_hidden(
        &self,
        queries: Range<usize>,
        columns: Range<usize>,
        window: Option<usize>,
    ) -> Option<Tensor<4, Bool>> {
        if queries.len() == 1 && self.padding.iter().all(|&padding| padding <= columns.start) {
            return None;
        }
        let alike = self.padding.iter().all(|&padding| padding == self.padding[0]);
        let rows = if alike { &self.padding[..1] } else { &self.padding[..] };
        let mut hidden = Vec::with_capacity(rows.len() * queries.len() * columns.len());
        for &padding in rows {
            for query in queries.clone().map(|token| self.past + token) {
                let first = window.map_or(padding, |window| padding.max((query + 1).saturating_sub(window)));
                hidden.extend(columns.clone().map(|column| column < first || column > query));
            }
        }
        let shape = [rows.len(), 1, queries.len(), columns.len()];
        Some(Tensor::from_data(TensorData::new(hidden, shape), &self.device))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use burn::tensor::Device;

    use super::*;
    use crate::Row;

    /// For each row and query, the columns that it sees.
    fn seen(batch: &Batch, queries: Range<usize>, window: Option<usize>) -> Vec<Vec<Vec<usize>>> {
        let Sight { columns, hidden } = batch.sight(queries.clone(), window);
        let (rows, count) = (batch.rows(), queries.len());
        let hidden: Vec<bool> = match hidden {
            Some(hidden) => {
                hidden.expand([rows, 1, count, columns.len()]).into_data().iter::<bool>().collect()
            }
            None => vec![false; rows * count * columns.len()],
        };
        let row = |row: &[bool]| {
            columns.clone().zip(row).filter(|(_, hidden)| !**hidden).map(|(at, _)| at).collect()
        };
        let of_queries: Vec<Vec<usize>> = hidden.chunks(columns.len()).map(row).collect();
        of_queries.chunks(count).map(<[_]>::to_vec).collect()
    }

    #[test]
    fn a_token_sees_itself_and_what_comes_before_within_its_window_and_no_padding() {
        let rows = [Row::prompt(&[1, 2, 3, 4, 5]), Row::prompt(&[6, 7])];
        let first = Batch::new(&rows, &Device::flex()).unwrap();
        let second = first.next(&[8, 9]).unwrap();
        for (batch, past) in [(&first, 0), (&second, 5)] {
            for window in [None, Some(1), Some(2), Some(3), Some(9)] {
                for start in 0..batch.tokens() {
                    for end in start + 1..=batch.tokens() {
                        for (row, padding) in [(0, 0), (1, 3)] {
                            let visible = |i: usize| -> Vec<usize> {
                                (padding..=i).filter(|j| window.is_none_or(|window| i - j < window)).collect()
                            };
                            let expected: Vec<_> = (past + start..past + end).map(visible).collect();
                            assert_eq!(
                                seen(batch, start..end, window)[row],
                                expected,
                                "{start}..{end} {window:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn no_mask_is_made_where_nothing_is_hidden_nor_a_row_of_it_too_many() {
        let batch = Batch::new(&[Row::prompt(&[1, 2]), Row::prompt(&[3, 4])], &Device::flex()).unwrap();
        assert_eq!(batch.sight(0..2, None).hidden.unwrap().dims(), [1, 1, 2, 2]);
        let next = batch.next(&[5, 6]).unwrap();
        assert!(next.sight(0..1, None).hidden.is_none());
        let within = next.sight(0..1, Some(2));
        assert!(within.hidden.is_none() && within.columns == (1..3));
    }
}
