//! How prompts are put together.

use std::ops::Range;

/// Padded tokens that a batch of automatic size may hold.
///
/// Enough rows to keep a matmul busy; few enough that hidden states stay in cache and small in memory.
const TOKENS: usize = 4096;

/// Rows put into batches: an order by length, and ranges of it.
///
/// `lengths[order[i]]` ascends, so that a batch pads little. With `rows` every batch has that many rows (the
/// last may have fewer); without, as many as keep a batch within 4096 padded tokens, at least one.
///
/// ```
/// let (order, batches) = brenier_capture::batches(&[5, 2, 9, 2], Some(2));
/// assert_eq!(order, [1, 3, 0, 2]);
/// assert_eq!(batches, [0..2, 2..4]);
/// ```
#[must_use]
pub fn batches(lengths: &[usize], rows: Option<usize>) -> (Vec<usize>, Vec<Range<usize>>) {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| lengths[row]);
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() {
            let count = end + 1 - start;
            let fits = match rows {
                Some(rows) => count <= rows,
                // Sorted: the row to be added is the longest.
                None => count * lengths[order[end]] <= TOKENS,
            };
            if !fits {
                break;
            }
            end += 1;
        }
        ranges.push(start..end);
        start = end;
    }
    (order, ranges)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_row_is_in_one_batch_and_batches_are_bounded(
            lengths in prop::collection::vec(1usize..3000, 0..60),
            rows in prop::option::of(1usize..9),
        ) {
            let (order, ranges) = batches(&lengths, rows);
            let mut seen: Vec<usize> = ranges.iter().flat_map(|range| order[range.clone()].to_vec()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for range in ranges {
                let longest = order[range.clone()].iter().map(|&row| lengths[row]).max().unwrap();
                match rows {
                    Some(rows) => prop_assert!(range.len() <= rows),
                    None => prop_assert!(range.len() == 1 || range.len() * longest <= TOKENS),
                }
            }
        }
    }
}
