//! Composition, inversion and strength, inside the family.

use std::borrow::Cow;

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{DenseSolveCore, FullPivLu, Solve};
use faer::{Accum, Mat, MatRef, Par, Scale};

use crate::affine::{Affine, Dense, Diagonal, LowRank, Symmetric};
use crate::error::MapError;
use crate::map::{RowMap, check_strength};

impl RowMap {
    /// The map that applies `inner` first and then this one, each at strength 1.
    ///
    /// Two low-rank maps make one whose rank is the sum of theirs, two diagonal ones a diagonal one; what
    /// would cost more than a dense map, and every other pair, makes a dense one (`d x d`).
    ///
    /// # Errors
    /// Maps of different widths; a gate, a range or several pieces on either; a product beyond the range of f64.
    pub fn compose(&self, inner: &RowMap) -> Result<RowMap, MapError> {
        let (outer, within) = (self.plain("compose")?, inner.plain("compose")?);
        if self.dim() != inner.dim() {
            return Err(MapError::Width { expected: self.dim(), found: inner.dim() });
        }
        RowMap::new(match (&outer, &within) {
            (Plain::LowRank(outer), Plain::LowRank(inner))
                if 2 * (outer.u.ncols() + inner.u.ncols()) <= self.dim() =>
            {
                Affine::LowRank(compose_low_rank(outer, inner))
            }
            (Plain::Diagonal(outer), Plain::Diagonal(inner)) => Affine::Diagonal(Diagonal {
                weight: outer.weight.iter().zip(&inner.weight).map(|(a, b)| a * b).collect(),
                bias: (0..self.dim()).map(|j| outer.weight[j] * inner.bias[j] + outer.bias[j]).collect(),
                range: None,
            }),
            (outer, inner) => {
                let (outer, inner) = (outer.to_dense(), inner.to_dense());
                let moved = times(outer.matrix.as_ref(), &inner.bias);
                Affine::Dense(Dense {
                    matrix: product(outer.matrix.as_ref(), inner.matrix.as_ref()),
                    bias: outer.bias.iter().zip(moved).map(|(b, moved)| b + moved).collect(),
                })
            }
        })
    }

    /// The map that undoes this one.
    ///
    /// A low-rank map stays one, and a symmetric one symmetric, by the matrix inversion lemma \[1\]:
    /// `(a I + U V^T)^-1 = (I - U (a I + V^T U)^-1 V^T) / a`.
    ///
    /// # Errors
    /// A gate, a range or several pieces; a map that takes some direction to nothing (up to `d eps` of its size).
    ///
    /// # References
    /// 1. Woodbury, *Inverting modified matrices*, 1950.
    pub fn inverse(&self) -> Result<RowMap, MapError> {
        if let (Affine::Symmetric(map), None) = (self.affine(), self.gate()) {
            return RowMap::new(Affine::Symmetric(invert_symmetric(map)?));
        }
        RowMap::new(match self.plain("invert")? {
            Plain::LowRank(map) => Affine::LowRank(invert_low_rank(&map)?),
            Plain::Diagonal(map) => {
                let largest = map.weight.iter().fold(0.0, |max: f64, w| max.max(w.abs()));
                let smallest = map.weight.iter().fold(f64::INFINITY, |min: f64, w| min.min(w.abs()));
                check_pivot(smallest, f64::EPSILON * largest)?;
                Affine::Diagonal(Diagonal {
                    weight: map.weight.iter().map(|w| 1.0 / w).collect(),
                    bias: map.weight.iter().zip(&map.bias).map(|(w, b)| -b / w).collect(),
                    range: None,
                })
            }
            Plain::Dense(map) => {
                let lu = factor(map.matrix.as_ref(), self.dim(), map.matrix.norm_l2())?;
                let matrix = lu.inverse();
                let bias = times(matrix.as_ref(), &map.bias).into_iter().map(|b| -b).collect();
                Affine::Dense(Dense { matrix, bias })
            }
        })
    }

    /// The map whose full application is this one's at a strength: `x + p(x) strength (T(x) - x)`, in the same
    /// form. Gate and range stay as they are.
    ///
    /// # Errors
    /// A strength that is not finite, or one that takes the map beyond the range of f64.
    pub fn at_strength(&self, strength: f64) -> Result<RowMap, MapError> {
        check_strength(strength)?;
        let toward = |weight: f64| 1.0 + strength * (weight - 1.0);
        let scaled = |values: &[f64]| values.iter().map(|value| strength * value).collect::<Vec<_>>();
        let affine = match self.affine() {
            // The formula rounds: full strength is to be the map itself.
            affine if strength == 1.0 => affine.clone(),
            Affine::LowRank(map) => Affine::LowRank(LowRank {
                scale: toward(map.scale),
                mean: map.mean.clone(),
                offset: scaled(&map.offset),
                u: Mat::from_fn(map.u.nrows(), map.u.ncols(), |i, j| strength * map.u[(i, j)]),
                v: map.v.clone(),
            }),
            Affine::Symmetric(map) => Affine::Symmetric(Symmetric {
                scale: toward(map.scale),
                mean: map.mean.clone(),
                offset: scaled(&map.offset),
                basis: map.basis.clone(),
                core: Scale(strength) * &map.core,
            }),
            Affine::Diagonal(map) => Affine::Diagonal(Diagonal {
                weight: map.weight.iter().map(|&weight| toward(weight)).collect(),
                bias: scaled(&map.bias),
                range: map.range.clone(),
            }),
            Affine::Dense(map) => Affine::Dense(Dense {
                matrix: Mat::from_fn(self.dim(), self.dim(), |i, j| {
                    let value = map.matrix[(i, j)];
                    if i == j { toward(value) } else { strength * value }
                }),
                bias: scaled(&map.bias),
            }),
            Affine::Mixture(map) => Affine::Mixture(map.at_strength(strength)),
        };
        let map = RowMap::new(affine)?;
        match self.gate() {
            Some(gate) => map.with_gate(gate.clone()),
            None => Ok(map),
        }
    }

    /// The map, where it is affine; a mixture of one piece is, and comes to a low-rank map.
    fn plain(&self, operation: &'static str) -> Result<Plain<'_>, MapError> {
        let refuse = |cause| Err(MapError::NotAffine { operation, cause });
        match self.affine() {
            _ if self.gate().is_some() => refuse("gate"),
            Affine::Diagonal(Diagonal { range: Some(_), .. }) => refuse("range"),
            Affine::LowRank(map) => Ok(Plain::LowRank(Cow::Borrowed(map))),
            Affine::Symmetric(map) => Ok(Plain::LowRank(Cow::Owned(map.to_low_rank()))),
            Affine::Diagonal(map) => Ok(Plain::Diagonal(map)),
            Affine::Dense(map) => Ok(Plain::Dense(map)),
            Affine::Mixture(map) => match map.single() {
                Some(map) => Ok(Plain::LowRank(Cow::Owned(map))),
                None => refuse("mixture"),
            },
        }
    }
}

/// An affine map in the strict sense.
enum Plain<'a> {
    LowRank(Cow<'a, LowRank>),
    Diagonal(&'a Diagonal),
    Dense(&'a Dense),
}

impl Plain<'_> {
    /// The same map as `A x + b`.
    fn to_dense(&self) -> Dense {
        match self {
            Plain::LowRank(map) => {
                let mut matrix = product(map.u.as_ref(), map.v.transpose());
                for j in 0..matrix.ncols() {
                    matrix[(j, j)] += map.scale;
                }
                let back = times(map.u.as_ref(), &times(map.v.transpose(), &map.mean));
                let bias = map.offset.iter().zip(back).map(|(offset, back)| offset - back).collect();
                Dense { matrix, bias }
            }
            Plain::Diagonal(map) => {
                let dim = map.weight.len();
                Dense {
                    matrix: Mat::from_fn(dim, dim, |i, j| if i == j { map.weight[j] } else { 0.0 }),
                    bias: map.bias.clone(),
                }
            }
            Plain::Dense(map) => (*map).clone(),
        }
    }
}

/// With `T_i(x) = a_i x + c_i + U_i V_i^T (x - m_i)`, around the inner map's mean:
/// `T_2(T_1(x)) = a_2 a_1 x + a_2 c_1 + T_2's low-rank part at T_1(m_1)'s identity part + c_2
/// + [a_2 U_1 + U_2 V_2^T U_1, U_2] [V_1, a_1 V_2]^T (x - m_1)`.
fn compose_low_rank(outer: &LowRank, inner: &LowRank) -> LowRank {
    let (dim, r_outer, r_inner) = (outer.mean.len(), outer.u.ncols(), inner.u.ncols());
    let through = product(outer.u.as_ref(), product(outer.v.transpose(), inner.u.as_ref()).as_ref());
    let from_mean: Vec<f64> =
        (0..dim).map(|j| inner.scale * inner.mean[j] + inner.offset[j] - outer.mean[j]).collect();
    let lifted = times(outer.u.as_ref(), &times(outer.v.transpose(), &from_mean));
    LowRank {
        scale: outer.scale * inner.scale,
        mean: inner.mean.clone(),
        offset: (0..dim).map(|j| outer.scale * inner.offset[j] + lifted[j] + outer.offset[j]).collect(),
        u: Mat::from_fn(dim, r_inner + r_outer, |i, j| {
            if j < r_inner {
                outer.scale * inner.u[(i, j)] + through[(i, j)]
            } else {
                outer.u[(i, j - r_inner)]
            }
        }),
        v: Mat::from_fn(dim, r_inner + r_outer, |i, j| {
            if j < r_inner { inner.v[(i, j)] } else { inner.scale * outer.v[(i, j - r_inner)] }
        }),
    }
}

/// `y = B (x - m) + n` with `B = a I + U V^T`, `n = a m + c`; so `x = m + B^-1 (y - n)`, whose mean is `n`.
fn invert_low_rank(map: &LowRank) -> Result<LowRank, MapError> {
    let (dim, a) = (map.mean.len(), map.scale);
    let mut core = product(map.v.transpose(), map.u.as_ref());
    let size = a.abs() + core.norm_l2();
    check_pivot(a.abs(), dim as f64 * f64::EPSILON * size)?;
    for j in 0..core.ncols() {
        core[(j, j)] += a;
    }
    let solved = factor(core.as_ref(), dim, size)?.rsolve(map.u.as_ref());
    let mean: Vec<f64> = map.mean.iter().zip(&map.offset).map(|(m, c)| a * m + c).collect();
    Ok(LowRank {
        scale: 1.0 / a,
        offset: map.mean.iter().zip(&mean).map(|(m, n)| m - n / a).collect(),
        mean,
        u: Mat::from_fn(dim, map.u.ncols(), |i, j| -solved[(i, j)] / a),
        v: map.v.clone(),
    })
}

/// With `B = a I + Q C Q^T`: `B^-1 = (I - Q (a I + C Q^T Q)^-1 C Q^T) / a`.
fn invert_symmetric(map: &Symmetric) -> Result<Symmetric, MapError> {
    let (dim, a, rank) = (map.mean.len(), map.scale, map.core.ncols());
    let mut inner = product(map.core.as_ref(), product(map.basis.transpose(), map.basis.as_ref()).as_ref());
    let size = a.abs() + inner.norm_l2();
    check_pivot(a.abs(), dim as f64 * f64::EPSILON * size)?;
    for j in 0..rank {
        inner[(j, j)] += a;
    }
    let solved = factor(inner.as_ref(), dim, size)?.solve(&map.core);
    let mean: Vec<f64> = map.mean.iter().zip(&map.offset).map(|(m, c)| a * m + c).collect();
    Ok(Symmetric {
        scale: 1.0 / a,
        offset: map.mean.iter().zip(&mean).map(|(m, n)| m - n / a).collect(),
        mean,
        basis: map.basis.clone(),
        // Symmetric but for rounding.
        core: Mat::from_fn(rank, rank, |i, j| -(solved[(i, j)] + solved[(j, i)]) / (2.0 * a)),
    })
}

/// LU with full pivoting, whose pivots show a singular matrix; `size` is what rounding is measured by.
fn factor(matrix: MatRef<'_, f64>, dim: usize, size: f64) -> Result<FullPivLu<f64>, MapError> {
    let lu = FullPivLu::new(matrix);
    let pivots = lu.U().diagonal();
    let smallest = (0..matrix.ncols()).map(|j| pivots[j].abs()).fold(f64::INFINITY, f64::min);
    check_pivot(smallest, dim as f64 * f64::EPSILON * size)?;
    Ok(lu)
}

fn check_pivot(smallest: f64, tolerance: f64) -> Result<(), MapError> {
    if smallest > tolerance { Ok(()) } else { Err(MapError::Singular { smallest, tolerance }) }
}

fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut result = Mat::zeros(a.nrows(), b.ncols());
    matmul(result.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    result
}

fn times(a: MatRef<'_, f64>, x: &[f64]) -> Vec<f64> {
    (0..a.nrows()).map(|i| (0..a.ncols()).map(|j| a[(i, j)] * x[j]).sum()).collect()
}
