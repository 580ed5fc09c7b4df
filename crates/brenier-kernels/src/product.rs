//! The product of rows in f32 with a matrix in bf16, over threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use half::bf16;

use crate::lanes::{GROUP, InstructionSet, Lanes};
use crate::tile::{DEPTH, Packed, dots};

/// Weights of a task, `DEPTH` deep at most: they should stay in a core's second-level cache while rows of `x` pass by.
const TASK: usize = 1 << 17;
/// Tasks a thread, at least, so that no thread waits long for another.
const TASKS: usize = 4;
/// Rows packed at once, at most: bounds the copy of `x`.
const ROWS: usize = 256;

/// `[n, k]` in bf16, row by row, each row `stride` after the one before.
pub(crate) struct Weight<'a> {
    pub values: &'a [bf16],
    pub n: usize,
    pub k: usize,
    pub stride: usize,
}

impl Weight<'_> {
    #[inline(always)]
    pub(crate) fn row(&self, j: usize) -> &[bf16] {
        &self.values[j * self.stride..][..self.k]
    }
}

/// `out[i][j] = sum_p x[i][p] weight[j][p]`, for `x` of `[m, k]` and `out` of `[m, n]`, both row by row.
pub(crate) fn product(set: InstructionSet, x: &[f32], weight: &Weight<'_>, out: &mut [f32]) {
    match set {
        InstructionSet::Portable(s) => drive(s, x, weight, out),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2(s) => drive(s, x, weight, out),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512(s) => drive(s, x, weight, out),
    }
}

fn drive<const N: usize, S: Lanes<N>>(s: S, x: &[f32], weight: &Weight<'_>, out: &mut [f32]) {
    let (n, k) = (weight.n, weight.k);
    if k == 0 {
        return out.fill(0.0);
    }
    if out.is_empty() {
        return;
    }
    for (x, out) in x.chunks(ROWS * k).zip(out.chunks_mut(ROWS * n)) {
        let width = (TASK / k.min(DEPTH)).min(n / (TASKS * rayon::current_num_threads()));
        let width = width.max(1).next_multiple_of(GROUP);
        let x = Packed::new(s, x, k);
        each(tasks(out, n, width), |mut task| {
            s.enter(
                #[inline(always)]
                || dots(s, &x, weight, task.columns.clone(), &mut task.out),
            );
        });
    }
}

/// Some columns of the product: `out[i]` is their part of row `i`.
struct Task<'a> {
    columns: Range<usize>,
    out: Vec<&'a mut [f32]>,
}

/// Cuts `out` of `[.., n]` into parts of at most `width` columns.
fn tasks(out: &mut [f32], n: usize, width: usize) -> Vec<Task<'_>> {
    let rows = out.len() / n;
    let part = |at: usize| Task { columns: at..n.min(at + width), out: Vec::with_capacity(rows) };
    let mut tasks: Vec<_> = (0..n).step_by(width).map(part).collect();
    for row in out.chunks_mut(n) {
        for (task, part) in tasks.iter_mut().zip(row.chunks_mut(width)) {
            task.out.push(part);
        }
    }
    tasks
}

/// Cuts `0..len` into as few parts of at most `most` as can be, of even length.
#[inline(always)]
pub(crate) fn split(len: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = len.div_ceil(most);
    (0..parts).map(move |part| part * len / parts..(part + 1) * len / parts)
}

/// Does all tasks, on this thread and on those of rayon's pool that come to help. This thread does not wait for the
/// others to wake up: a product of one row may be done by then.
pub(crate) fn each<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync) {
    let helpers = tasks.len().min(rayon::current_num_threads()).saturating_sub(1);
    let tasks = Mutex::new(tasks.into_iter());
    let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
    let all = || {
        while let Some(task) = next() {
            work(task);
        }
    };
    if helpers == 0 {
        return all();
    }
    rayon::in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| all());
        }
        all();
    });
}

#[cfg(test)]
mod tests;
