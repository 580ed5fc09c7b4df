//! A low-rank map of a block of rows, in whatever layout they are.

use faer::{MatMut, MatRef};

use crate::gate::Gate;
use crate::kernel::{GROUP, LARGEST_RANK, Projection, Step};
use crate::lanes::Number;
use crate::{Affine, Mixture};

/// Fewer rows than this are not worth going through by columns.
const FEWEST: usize = 8;

/// All that a map with few directions does to rows, ready for blocks of them.
pub(crate) struct Plan<'a> {
    projection: Projection<'a>,
    /// Turns coordinates into steps, where they are not the same.
    mixture: Option<&'a Mixture>,
    step: Step<'a>,
    gate: Option<(&'a Gate, Projection<'a>)>,
    strength: f64,
}

/// What is added to every row, for [`Plan::new`]: the plan borrows it.
pub(crate) fn constant(affine: &Affine) -> Vec<f64> {
    match affine {
        // Around the mean, T(x) - x = (T(m) - m) + ((a - 1) I + U V^T)(x - m): nothing large cancels.
        Affine::LowRank(map) => {
            let grow = map.scale - 1.0;
            map.mean.iter().zip(&map.offset).map(|(mean, offset)| grow * mean + offset).collect()
        }
        Affine::Mixture(map) => map.offset.clone(),
        Affine::Symmetric(_) | Affine::Diagonal(_) | Affine::Dense(_) => vec![],
    }
}

impl<'a> Plan<'a> {
    /// None where a map is of another form, or has so many directions that matrix products are the faster way.
    pub(crate) fn new(
        affine: &'a Affine,
        gate: Option<&'a Gate>,
        constant: &'a [f64],
        strength: f64,
    ) -> Option<Self> {
        let (projection, step, mixture) = match affine {
            Affine::LowRank(map) => {
                let step = Step::new(map.scale - 1.0, &map.mean, constant, &map.u);
                (Projection::new(&map.mean, &map.v), step, None)
            }
            Affine::Mixture(map) => {
                let step = Step::new(0.0, &map.center, constant, &map.u);
                (Projection::new(&map.center, &map.v), step, Some(map))
            }
            // Fits make these with as many directions as rows.
            Affine::Symmetric(_) | Affine::Diagonal(_) | Affine::Dense(_) => return None,
        };
        let gate = gate.map(|gate| (gate, gate.projection()));
        (projection.rank() <= LARGEST_RANK).then_some(Self { projection, mixture, step, gate, strength })
    }

    /// Maps the rows of a block in place.
    pub(crate) fn apply<T: Number>(&self, block: MatMut<'_, T>) {
        if block.col_stride() == 1 {
            if let Some(mut rows) = columns_mut(block.transpose_mut()) {
                self.apply_rows(&mut rows);
            }
            return;
        }
        let n = block.nrows();
        if block.row_stride() == 1 && n >= FEWEST {
            if let Some(mut columns) = columns_mut(block) {
                let (z, weight) =
                    self.coordinates(n, |projection, z| projection.of_columns(&shared(&columns), z));
                self.step.move_columns(&mut columns, &z, &weight);
            }
            return;
        }
        let mut gathered = gather(block.as_ref());
        let mut rows: Vec<&mut [T]> = gathered.chunks_exact_mut(block.ncols()).collect();
        self.apply_rows(&mut rows);
        for (j, column) in block.col_iter_mut().enumerate() {
            for (x, row) in column.iter_mut().zip(&rows) {
                *x = row[j];
            }
        }
    }

    fn apply_rows<T: Number>(&self, mut rows: &mut [&mut [T]]) {
        while !rows.is_empty() {
            let (group, after) = rows.split_at_mut(GROUP.min(rows.len()));
            let (z, weight) = self.coordinates(group.len(), |projection, z| projection.of_rows(group, z));
            self.step.move_rows(group, &after[..GROUP.min(after.len())], &z, &weight);
            rows = after;
        }
    }

    /// Steps along the directions, and how much of them a row gets, for `n` rows that `project` knows.
    fn coordinates(&self, n: usize, project: impl Fn(&Projection<'a>, &mut [f64])) -> (Vec<f64>, Vec<f64>) {
        let along = |projection: &Projection<'a>| {
            let mut z = vec![0.0; n * projection.rank()];
            project(projection, &mut z);
            z
        };
        let weight = match &self.gate {
            Some((gate, projection)) => {
                let z = along(projection);
                (0..n)
                    .map(|i| self.strength * gate.share_at(&z[i * gate.linear.len()..][..gate.linear.len()]))
                    .collect()
            }
            None => vec![self.strength; n],
        };
        let mut z = along(&self.projection);
        if let Some(mixture) = self.mixture {
            z = mixture.steps_at(n, &z);
        }
        (z, weight)
    }
}

/// Coordinates of rows in whatever layout; result: `[n, K]`, row after row.
pub(crate) fn coordinates<T: Number>(block: MatRef<'_, T>, projection: &Projection<'_>) -> Vec<f64> {
    let n = block.nrows();
    let mut z = vec![0.0; n * projection.rank()];
    if let Some(rows) = columns(block.transpose()) {
        projection.of_rows(&rows, &mut z);
    } else if n >= FEWEST
        && let Some(columns) = columns(block)
    {
        projection.of_columns(&columns, &mut z);
    } else {
        let gathered = gather(block);
        let rows: Vec<&[T]> = gathered.chunks_exact(block.ncols()).collect();
        projection.of_rows(&rows, &mut z);
    }
    z
}

/// Row after row.
fn gather<T: Number>(block: MatRef<'_, T>) -> Vec<T> {
    block.row_iter().flat_map(|row| row.iter().copied()).collect()
}

fn shared<'a, T>(columns: &'a [&mut [T]]) -> Vec<&'a [T]> {
    columns.iter().map(|column| &**column).collect()
}

/// Each column as a slice, where its values lie one after the other.
fn columns<T>(block: MatRef<'_, T>) -> Option<Vec<&[T]>> {
    block.col_iter().map(|column| Some(column.try_as_col_major()?.as_slice())).collect()
}

/// Each column as a slice, where its values lie one after the other.
fn columns_mut<T>(block: MatMut<'_, T>) -> Option<Vec<&mut [T]>> {
    block.col_iter_mut().map(|column| Some(column.try_as_col_major_mut()?.as_slice_mut())).collect()
}
