//! The kernel: dot products of a few rows of the weight with a few rows of `x`, both read along their rows, so that the
//! weights are taken from memory as they lie there.

use std::ops::Range;

use half::bf16;

use crate::lanes::{GROUP, Lanes};
use crate::product::{Weight, each, split};

/// Terms that are summed in vectors before the vectors themselves are summed: the part of a tile's rows that should
/// stay in the cache.
pub(crate) const DEPTH: usize = 4096;

/// `x` as the kernel reads it, one number after the other: for every `DEPTH` columns, for every tile of rows, for every
/// `2 N` columns, of all the tile's rows the `N` values at even places, then those at odd places (as weights come out
/// of their pairs). Rows end in zeros.
pub(crate) struct Packed<const N: usize> {
    values: Vec<[f32; N]>,
    rows: usize,
    /// Columns, rounded up to a multiple of `2 N`.
    width: usize,
    tiles: Vec<Range<usize>>,
}

impl<const N: usize> Packed<N> {
    /// Packs `[rows, k]`.
    pub(crate) fn new<S: Lanes<N>>(s: S, x: &[f32], k: usize) -> Self {
        let rows = x.len() / k;
        let width = k.next_multiple_of(2 * N);
        let tiles: Vec<_> = split(rows, S::ROWS).collect();
        let mut values = vec![[0.0; N]; rows * width / N];
        let mut parts = Vec::new();
        let mut rest = values.as_mut_slice();
        for start in (0..k).step_by(DEPTH) {
            for tile in &tiles {
                let (part, after) = rest.split_at_mut(tile.len() * DEPTH.min(width - start) / N);
                parts.push((start..k.min(start + DEPTH), tile.clone(), part));
                rest = after;
            }
        }
        each(parts, |(columns, tile, part)| {
            s.enter(
                #[inline(always)]
                || pack(x, k, columns, tile, part),
            );
        });
        Self { values, rows, width, tiles }
    }

    #[inline(always)]
    fn tile(&self, start: usize, rows: &Range<usize>) -> &[[f32; N]] {
        let depth = DEPTH.min(self.width - start);
        let at = (start * self.rows + rows.start * depth) / N;
        &self.values[at..at + rows.len() * depth / N]
    }
}

/// Packs the columns `columns` of the rows of one tile.
#[inline(always)]
fn pack<const N: usize>(
    x: &[f32],
    k: usize,
    columns: Range<usize>,
    tile: Range<usize>,
    values: &mut [[f32; N]],
) {
    let rows = tile.len();
    for (i, row) in tile.enumerate() {
        let (whole, rest) = blocks::<N, f32>(&x[row * k..][columns.clone()]);
        let last = filled(rest);
        let all = whole.iter().chain((!rest.is_empty()).then_some(&last));
        for (pairs, to) in all.zip(values.chunks_exact_mut(2 * rows)) {
            for (p, pair) in pairs.iter().enumerate() {
                to[i][p] = pair[0];
                to[rows + i][p] = pair[1];
            }
        }
    }
}

/// Cuts a row into blocks of `N` pairs, and the rest.
#[inline(always)]
fn blocks<const N: usize, T>(row: &[T]) -> (&[[[T; 2]; N]], &[T]) {
    let whole = row.as_chunks::<2>().0.as_chunks::<N>().0;
    (whole, &row[2 * N * whole.len()..])
}

/// A block that ends in zeros.
#[inline(always)]
fn filled<const N: usize, T: Copy + Default>(rest: &[T]) -> [[T; 2]; N] {
    let mut block = [[T::default(); 2]; N];
    for (to, from) in block.as_flattened_mut().iter_mut().zip(rest) {
        *to = *from;
    }
    block
}

/// Writes the columns `columns` of the product to `out`, of which `out[i]` is that part of row `i`.
#[inline(always)]
pub(crate) fn dots<const N: usize, S: Lanes<N>>(
    s: S,
    x: &Packed<N>,
    weight: &Weight<'_>,
    columns: Range<usize>,
    out: &mut [&mut [f32]],
) {
    for start in (0..weight.k).step_by(DEPTH) {
        let depth = DEPTH.min(weight.k - start);
        for rows in &x.tiles {
            let x = x.tile(start, rows);
            let apart = columns.len().div_ceil(GROUP);
            for first in 0..apart {
                let last = columns.len() - 1;
                let mut at = [0; GROUP];
                let mut w: [&[bf16]; GROUP] = [&[]; GROUP];
                for j in 0..GROUP {
                    at[j] = first + j * apart;
                    w[j] = &weight.row(columns.start + last.min(at[j]))[start..start + depth];
                }
                macro_rules! tile {
                    ($($rows:literal)*) => {
                        match rows.len() {
                            $($rows if $rows <= S::ROWS => {
                                tile::<N, $rows, S>(s, w, x, &mut out[rows.clone()], at, start == 0);
                            })*
                            _ => unreachable!("a tile has at most ROWS rows"),
                        }
                    };
                }
                tile!(1 2 3 4 5 6);
            }
        }
    }
}

/// Writes the dot products of rows of the weight with `M` rows of `x` to `out[..][at]`, or adds them where these are not
/// `fresh`.
#[inline(always)]
fn tile<const N: usize, const M: usize, S: Lanes<N>>(
    s: S,
    w: [&[bf16]; GROUP],
    x: &[[f32; N]],
    out: &mut [&mut [f32]],
    at: [usize; GROUP],
    fresh: bool,
) {
    let x = x.as_chunks::<M>().0.as_chunks::<2>().0;
    let (body0, rest0) = blocks(w[0]);
    let (body1, rest1) = blocks(w[1]);
    let (body2, rest2) = blocks(w[2]);
    let (body3, rest3) = blocks(w[3]);
    let mut sums = [[s.splat(0.0); GROUP]; M];
    let body = body0.iter().zip(body1).zip(body2).zip(body3);
    for ((((w0, w1), w2), w3), x) in body.zip(x) {
        step(s, [w0, w1, w2, w3], x, &mut sums);
    }
    if let Some(x) = x.get(body0.len()) {
        step(s, [&filled(rest0), &filled(rest1), &filled(rest2), &filled(rest3)], x, &mut sums);
    }
    for i in 0..M {
        let dots = s.sums(sums[i]);
        for j in 0..GROUP {
            if let Some(to) = out[i].get_mut(at[j]) {
                // Fresh memory is not read: pages of zeros would be faulted in twice.
                *to = if fresh { dots[j] } else { *to + dots[j] };
            }
        }
    }
}

#[inline(always)]
fn step<const N: usize, const M: usize, S: Lanes<N>>(
    s: S,
    w: [&[[bf16; 2]; N]; GROUP],
    x: &[[[f32; N]; M]; 2],
    sums: &mut [[S::Floats; GROUP]; M],
) {
    for j in 0..GROUP {
        let pairs = s.load_pairs(w[j]);
        let first = s.first(pairs);
        for i in 0..M {
            sums[i][j] = s.mul_add(first, s.load(&x[0][i]), sums[i][j]);
        }
        let second = s.second(pairs);
        for i in 0..M {
            sums[i][j] = s.mul_add(second, s.load(&x[1][i]), sums[i][j]);
        }
    }
}
