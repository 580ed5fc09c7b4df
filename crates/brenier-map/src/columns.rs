//! Both halves of a low-rank map for rows that are stored in columns, with the very bits of [`crate::kernel`].
//!
//! The lanes of a sum are its columns modulo [`LANES`], so a lane is summed for all rows of a block before the next.

use crate::kernel::{Projection, Step};
use crate::lanes::{LANES, Number, Wide, Work, work};

/// A block's part of a column is short: memory is asked for it by so many columns before it is read.
const AHEAD: usize = 4;

impl Projection<'_> {
    /// Coordinates of rows from their columns; `z`: `[n, K]`, row after row.
    pub(crate) fn of_columns<T: Number>(&self, columns: &[&[T]], z: &mut [f64]) {
        let rank = self.rank();
        if rank == 0 {
            return;
        }
        let n = z.len() / rank;
        let mut sums = vec![0.0; z.len()];
        let mut totals = vec![0.0; z.len()];
        for lane in 0..LANES.min(columns.len()) {
            sums.fill(0.0);
            work(Lane { projection: self, columns, lane, sums: &mut sums });
            if lane == 0 {
                totals.copy_from_slice(&sums);
            } else {
                totals.iter_mut().zip(&sums).for_each(|(total, sum)| *total += sum);
            }
        }
        for (i, z) in z.chunks_exact_mut(rank).enumerate() {
            z.iter_mut().enumerate().for_each(|(k, z)| *z = totals[k * n + i]);
        }
    }
}

struct Lane<'a, T> {
    projection: &'a Projection<'a>,
    columns: &'a [&'a [T]],
    lane: usize,
    /// `[K, n]`, direction after direction.
    sums: &'a mut [f64],
}

impl<T: Number> Work for Lane<'_, T> {
    #[inline(always)]
    fn on<S: Wide>(self, simd: S) {
        let n = self.sums.len() / self.projection.rank();
        for j in (self.lane..self.columns.len()).step_by(LANES) {
            if let Some(ahead) = self.columns.get(j + LANES * AHEAD) {
                simd.fetch(ahead);
            }
            let (x, center) = (self.columns[j], self.projection.center.values[j]);
            for (line, sums) in self.projection.basis.iter().zip(self.sums.chunks_exact_mut(n)) {
                let slope = line.values[j];
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum += (x.widen() - center) * slope;
                }
            }
        }
    }
}

impl Step<'_> {
    /// Moves rows in their columns; `z`: `[n, K]`, row after row.
    pub(crate) fn move_columns<T: Number>(&self, columns: &mut [&mut [T]], z: &[f64], weight: &[f64]) {
        let (n, rank) = (weight.len(), self.u.len());
        let z: Vec<f64> = (0..rank * n).map(|at| z[at % n * rank + at / n]).collect();
        let mut moved = vec![0.0; n];
        work(Columns { step: self, columns, z: &z, weight, moved: &mut moved });
    }
}

struct Columns<'a, 'b, T> {
    step: &'a Step<'a>,
    columns: &'a mut [&'b mut [T]],
    /// `[K, n]`, direction after direction.
    z: &'a [f64],
    weight: &'a [f64],
    /// Room for a column.
    moved: &'a mut [f64],
}

impl<T: Number> Work for Columns<'_, '_, T> {
    #[inline(always)]
    fn on<S: Wide>(self, simd: S) {
        let Step { grow, mean, constant, u } = self.step;
        let moved = self.moved;
        for j in 0..self.columns.len() {
            if let Some(ahead) = self.columns.get(j + AHEAD) {
                simd.fetch(ahead);
            }
            let x = &mut *self.columns[j];
            let (mean, constant) = (mean.values[j], constant.values[j]);
            if *grow == 0.0 {
                moved.fill(constant);
            } else {
                for (moved, x) in moved.iter_mut().zip(x.iter()) {
                    *moved = grow * (x.widen() - mean) + constant;
                }
            }
            for (line, z) in u.iter().zip(self.z.chunks_exact(moved.len())) {
                let slope = line.values[j];
                for (moved, z) in moved.iter_mut().zip(z) {
                    *moved += z * slope;
                }
            }
            for ((x, moved), weight) in x.iter_mut().zip(&*moved).zip(self.weight) {
                *x = if *weight == 0.0 { *x } else { T::narrow(x.widen() + weight * moved) };
            }
        }
    }
}
