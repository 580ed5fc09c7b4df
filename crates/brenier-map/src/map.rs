//! A map of rows: an affine map and, where there is one, its gate.

use faer::{Mat, MatMut, MatRef};
use rayon::prelude::*;

use crate::affine::{Affine, LowRank};
use crate::coordinates::{Number, RowViewMut, Step, along, apply_steps};
use crate::error::MapError;
use crate::gate::Gate;
use crate::rows_mut::RowsMut;

/// Rows mapped at once by a thread: what it holds beside the rows is two blocks of so many in f64 at most.
const BLOCK: usize = 32;

/// Above this rank matrix products are the faster way.
const FEW: usize = 16;

/// Columns that are turned into pieces of rows at once, where rows are stored in columns.
const TILE: usize = 8;

/// A checked map of rows, `x + s p(x) (T(x) - x)`; the strength `s` is given at use.
///
/// There is no way to one whose parts do not fit each other or are not finite.
#[derive(Debug, Clone, PartialEq)]
pub struct RowMap {
    affine: Affine,
    gate: Option<Gate>,
}

impl RowMap {
    /// A map without a gate.
    ///
    /// # Errors
    /// Parts that do not fit each other, width 0, or numbers that are not finite.
    pub fn new(affine: Affine) -> Result<Self, MapError> {
        affine.check()?;
        Ok(Self { affine, gate: None })
    }

    /// The map `x + vector`: a plain steering vector.
    ///
    /// ```
    /// use brenier_map::RowMap;
    /// use faer::mat;
    ///
    /// let mut rows = mat![[1.0, 2.0], [3.0, 4.0]];
    /// RowMap::shift(vec![10.0, -1.0])?.apply_rows(rows.as_mut(), 0.5)?;
    /// assert_eq!(rows, mat![[6.0, 1.5], [8.0, 3.5]]);
    /// assert!(RowMap::shift(vec![]).is_err() && RowMap::shift(vec![f64::NAN]).is_err());
    /// # Ok::<(), brenier_map::MapError>(())
    /// ```
    ///
    /// # Errors
    /// A vector without entries, or with one that is not finite.
    pub fn shift(vector: Vec<f64>) -> Result<Self, MapError> {
        let d = vector.len();
        let (u, v) = (Mat::zeros(d, 0), Mat::zeros(d, 0));
        Self::new(Affine::LowRank(LowRank { scale: 1.0, mean: vec![0.0; d], offset: vector, u, v }))
    }

    /// The same map with this gate, which replaces any other.
    ///
    /// # Errors
    /// A gate of another width than the map, parts that do not fit each other, numbers that are not finite,
    /// a temperature of 0 or less, a threshold outside 0 to 1.
    pub fn with_gate(self, gate: Gate) -> Result<Self, MapError> {
        gate.check(self.dim())?;
        Ok(Self { gate: Some(gate), ..self })
    }

    /// Width of the rows that the map takes.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.affine.dim()
    }

    /// The map `T` without its gate.
    #[must_use]
    pub fn affine(&self) -> &Affine {
        &self.affine
    }

    /// The gate, where there is one.
    #[must_use]
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_ref()
    }

    /// Maps rows in place at a strength, whatever holds them: [`apply_rows`](Self::apply_rows) for anything that is
    /// [`RowsMut`].
    ///
    /// # Errors
    /// As [`apply_rows`](Self::apply_rows); [`MapError::Steps`] for rows that do not lie in regular steps.
    pub fn apply(&self, rows: &mut impl RowsMut, strength: f64) -> Result<(), MapError> {
        match rows.rows_mut().ok_or(MapError::Steps)? {
            RowViewMut::F32(rows) => self.move_view(rows, strength),
            RowViewMut::F64(rows) => self.move_view(rows, strength),
        }
    }

    /// Maps rows in place at a strength. At strength 0, and where the gate is 0, rows keep every bit.
    ///
    /// A NaN in a row makes NaN of that row (of that coordinate, under a diagonal map), not of others.
    ///
    /// # Shapes
    /// `rows`: `[n, d]`, in any layout.
    ///
    /// # Errors
    /// Rows of another width, a strength that is not finite; [`MapError::Overflow`] names the first finite row that the map
    /// takes beyond the range of its numbers, and the rows are then mapped in part.
    pub fn apply_rows(&self, rows: MatMut<'_, f64>, strength: f64) -> Result<(), MapError> {
        self.move_view(rows, strength)
    }

    /// Maps rows in f32 in place, as [`apply_rows`](Self::apply_rows) does: computed in f64 and rounded once.
    ///
    /// # Errors
    /// As [`apply_rows`](Self::apply_rows).
    pub fn apply_rows_f32(&self, rows: MatMut<'_, f32>, strength: f64) -> Result<(), MapError> {
        self.move_view(rows, strength)
    }

    /// The share `p(x)` of the map that each row gets: 1 where the map has no gate.
    ///
    /// # Shapes
    /// `rows`: `[n, d]`; result: `n`.
    ///
    /// # Errors
    /// Rows of another width.
    pub fn gate_rows(&self, rows: MatRef<'_, f64>) -> Result<Vec<f64>, MapError> {
        self.check_width(rows.ncols())?;
        match &self.gate {
            Some(gate) => Ok(gate.log_odds(rows)?.into_iter().map(|odds| gate.probability(odds)).collect()),
            None => Ok(vec![1.0; rows.nrows()]),
        }
    }

    fn move_view<T: Number>(&self, rows: MatMut<'_, T>, strength: f64) -> Result<(), MapError> {
        self.check_width(rows.ncols())?;
        check_strength(strength)?;
        if strength == 0.0 {
            return Ok(());
        }
        // Blocks of rows do not know of each other: which thread maps which changes no bit.
        let blocks = rows.par_row_chunks_mut(BLOCK).enumerate().filter_map(|(index, block)| {
            self.apply_block(block, strength).map(|(i, j)| (index * BLOCK + i, j))
        });
        match blocks.min() {
            None => Ok(()),
            Some((row, column)) => Err(MapError::Overflow { row, column, number: T::NAME }),
        }
    }

    /// Maps a few rows; row and column of the first value that leaves the range of `T`, if one does.
    fn apply_block<T: Number>(&self, mut block: MatMut<'_, T>, strength: f64) -> Option<(usize, usize)> {
        if let Some(mut rows) = in_one_piece(block.as_mut()) {
            return self.move_rows(&mut rows, strength);
        }
        let (n, d) = block.shape();
        let mut copy = vec![T::ZERO; n * d];
        let tiles = (0..d).step_by(TILE).map(|start| start..d.min(start + TILE));
        for columns in tiles.clone() {
            for i in 0..n {
                columns.clone().for_each(|j| copy[i * d + j] = block[(i, j)]);
            }
        }
        let overflow = self.move_rows(&mut copy.chunks_exact_mut(d).collect::<Vec<_>>(), strength);
        for columns in tiles {
            for i in 0..n {
                columns.clone().for_each(|j| block[(i, j)] = copy[i * d + j]);
            }
        }
        overflow
    }

    fn move_rows<T: Number>(&self, rows: &mut [&mut [T]], strength: f64) -> Option<(usize, usize)> {
        let weights: Vec<f64> = match &self.gate {
            Some(gate) => {
                let odds = gate.log_odds_of(rows);
                odds.into_iter().map(|odds| strength * gate.probability(odds)).collect()
            }
            None => vec![strength; rows.len()],
        };
        let row = match &self.affine {
            Affine::LowRank(map) if map.u.ncols() <= FEW => {
                let (grow, constant) = (map.scale - 1.0, map.constant());
                let grow = (grow != 0.0).then_some((grow, map.mean.as_slice()));
                let z = along(map.v.as_ref(), &map.mean, rows);
                let step = Step { grow, constant: &constant, directions: map.u.as_ref() };
                step.apply(rows, &weights, z.as_ref())
            }
            Affine::Mixture(map) => {
                let z = map.steps(rows);
                let step = Step { grow: None, constant: &map.offset, directions: map.u.as_ref() };
                step.apply(rows, &weights, z.as_ref())
            }
            affine => {
                let mut x = Mat::zeros(self.dim(), rows.len());
                for (i, row) in rows.iter().enumerate() {
                    x.col_as_slice_mut(i).iter_mut().zip(&**row).for_each(|(wide, x)| *wide = x.widen());
                }
                apply_steps(rows, &weights, affine.displacement(x).as_ref())
            }
        }?;
        let column = rows[row].iter().position(|x| !x.is_finite())?;
        Some((row, column))
    }

    fn check_width(&self, found: usize) -> Result<(), MapError> {
        let expected = self.dim();
        if found == expected { Ok(()) } else { Err(MapError::Width { expected, found }) }
    }
}

pub(crate) fn check_strength(value: f64) -> Result<(), MapError> {
    let (part, expected) = ("strength", "a finite number");
    if value.is_finite() { Ok(()) } else { Err(MapError::OutOfRange { part, value, expected }) }
}

/// Each row as a slice, where its values lie one after the other.
fn in_one_piece<T>(block: MatMut<'_, T>) -> Option<Vec<&mut [T]>> {
    block.row_iter_mut().map(|row| Some(row.try_as_row_major_mut()?.as_slice_mut())).collect()
}
