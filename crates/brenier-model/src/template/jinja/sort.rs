//! Sorting with comparisons that can fail.

use std::cmp::Ordering;

use super::fault::Fault;
use super::heap::Heap;

/// `sorted(items, reverse=reverse)`: stable, also in reverse.
pub(super) fn by<T>(
    mut items: Vec<T>,
    reverse: bool,
    heap: &Heap,
    order: impl Fn(&T, &T) -> Result<Option<Ordering>, Fault>,
) -> Result<Vec<T>, Fault> {
    heap.step(items.len())?;
    let mut failed = None;
    items.sort_by(|a, b| {
        if failed.is_some() {
            return Ordering::Equal;
        }
        match order(a, b) {
            Ok(Some(ordering)) if reverse => ordering.reverse(),
            Ok(Some(ordering)) => ordering,
            Ok(None) => {
                failed = Some(Fault::unsupported("sorting with NaN"));
                Ordering::Equal
            }
            Err(fault) => {
                failed = Some(fault);
                Ordering::Equal
            }
        }
    });
    match failed {
        Some(fault) => Err(fault),
        None => Ok(items),
    }
}
